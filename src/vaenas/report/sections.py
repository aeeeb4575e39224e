"""The report's figures with their captions, in sections; a figure that cannot be is one sentence that says why."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from vaenas.records import CellDrawing, printable
from vaenas.report import figures
from vaenas.report.drawing import draw_architecture
from vaenas.report.figures import Summary, mean_difference, summarise
from vaenas.report.run_data import OF_WEIGHTS, RunData
from vaenas.report.svg import to_svg
from vaenas.report.truth import truth_part

Part = tuple[str, Figure, str] | str  # id, figure and caption (plain text), or why there is none ("": nothing to say)


class Block(NamedTuple):
    """A figure of the page."""

    id: str
    svg: Markup
    headline: str
    caption: str


def sections(data: RunData) -> list[tuple[str, list[Block | str]]]:
    """Title and blocks of all sections of the page; equal sentences of one section are said once."""
    numbers = itertools.count(1)
    parts = []
    for title, makers in SECTIONS:
        blocks: list[Block | str] = []
        for part in (make(data) for make in makers):
            if isinstance(part, str):
                blocks += [part] if part and part not in blocks else []
                continue
            name, figure, caption = part
            headline, _, rest = caption.partition(". ")
            blocks.append(Block(name, to_svg(figure, name), f"Figure {next(numbers)}. {headline}.", rest))
        if blocks:
            parts.append((title, blocks))
    return parts


def compared(data: RunData) -> tuple[Summary, Summary] | None:
    """Learned and uniform draws on the final supernet: from the scores, else from the result; None if not compared."""
    record = data.comparisons[-1] if data.comparisons else None
    if record and record.sampler and record.uniform:
        return summarise(record.sampler), summarise(record.uniform)
    draws = data.result.draws if data.result else None
    if draws and draws.sampler.n and draws.uniform.n:
        learned, uniform = (Summary(d.mean, d.std, d.n) for d in (draws.sampler, draws.uniform))
        return learned, uniform
    return None


def difference_words(learned: Summary, uniform: Summary) -> str:
    """Difference of the means in percentage points, with its 95 % interval if both have two scores or more."""
    difference, half = mean_difference(learned, uniform)
    if math.isnan(half):
        return f"{100 * difference:+.2f} points (no interval: fewer than two draws on one side)"
    low, high = 100 * (difference - half), 100 * (difference + half)
    return f"{100 * difference:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}"


def _training(data: RunData) -> Part:
    if not data.train:
        return "No figure of training: metrics.jsonl has no train record yet, or this method trains no supernet."
    last = data.train[-1]
    return (
        "fig-training",
        figures.training(data.train),
        f"Training of the supernet. Loss (left axis) and accuracy (right axis) of single training batches, each "
        f"on {'all operations, mixed' if data.settings.sampler == 'full' else 'the path drawn for it'}, "
        f"{len(data.train)} records up to epoch {last.epoch:.4g}. The thin dashed line is "
        + (
            "the loss of the architecture weights on images of their own (Eq. 4)."
            if data.gradient
            else "ε, the probability of a draw from the learned sampler instead of a uniform one (Eq. 5)."
        ),
    )


def _learned(make: Callable[[RunData], Part]) -> Callable[[RunData], Part]:
    """A figure that needs update records, or why there are none."""

    def guarded(data: RunData) -> Part:
        if data.updates:
            return make(data)
        if data.fixed_sampler:
            name = data.settings.sampler
            return f"No figures of the sampler: “{name}” is fixed, it never learns and so has no updates to show."
        if data.settings.sampler in OF_WEIGHTS:
            return "No figures of a sampler: architectures come from softmax(w), the architecture weights; see below."
        return "No figures of the sampler: metrics.jsonl has no update record yet."

    return guarded


def _when(data: RunData) -> str:
    first, last = data.updates[0], data.updates[-1]
    if len(data.updates) == 1:
        return f"the only update, at epoch {last.epoch:.4g}"
    return f"{len(data.updates)} updates from epoch {first.epoch:.4g} to {last.epoch:.4g}"


def _sampler(data: RunData) -> Part:
    vae = any(u.kl is not None for u in data.updates)
    rest = (
        "KL is the distance of the VAE's code from its prior and active units are the code's dimensions that carry any "
        "of it: near 0, the VAE has collapsed to one categorical per slot. Reconstruction is the share of slots that "
        "the decoder gives back."
        if vae
        else "A sampler without a latent code has no KL, active units or reconstruction to show."
    )
    return (
        "fig-sampler",
        figures.sampler(data.updates),
        f"What the sampler has learned. After each update ({_when(data)}): entropy of the draws' marginals, mean over "
        f"slots of 1000 draws; the dashed line is log k, a sampler that still draws uniformly. {rest}",
    )


def _probabilities(data: RunData) -> Part:
    if not any(data.updates[-1].probabilities):
        return "No figure of the probabilities: the update records hold none."
    if len({tuple(map(len, u.probabilities)) for u in data.updates}) > 1:
        return "No figure of the probabilities: their number of slots or operations changes between update records."
    return (
        "fig-probabilities",
        figures.probabilities(data.updates, data.operations),
        f"Where the sampler puts its draws. Each slot has one row per operation, each column is the state after one "
        f"update ({_when(data)}); the stronger the colour, the more often the sampler's draws have that operation in "
        f"that slot.",
    )


def _scores(data: RunData) -> Part:
    if not any(u.scores for u in data.updates):
        return "No figure of the sampled scores: the update records hold no scores."
    learned = np.mean([flag for u in data.updates for flag in u.learned])
    return (
        "fig-scores",
        figures.scores(data.updates, data.ranking_metric),
        f"{data.ranking_metric.capitalize()} of the architectures drawn at each update. Each point is one "
        f"architecture, scored with the weights of that moment and before the sampler learned from it; ring: median, "
        f"thick bar: quartiles, thin bar: 10 % to 90 %. {100 * learned:.0f} % of all draws came from the learned "
        f"part of the mixture, the others were uniform. The weights differ between updates, so only the "
        "distance within one tells about the sampler.",
    )


def _draws(data: RunData) -> Part:
    pair = compared(data)
    if pair is None:
        if data.fixed_sampler and not data.updates:
            return _learned(_draws)(data)  # the same sentence, said once
        return "No comparison with uniform draws: metrics.jsonl has no comparison record yet."
    points = (data.comparisons[-1].sampler, data.comparisons[-1].uniform) if data.comparisons else None
    return (
        "fig-draws",
        figures.draws(*pair, points, data.ranking_metric),
        f"Learned against uniform draws on the same final supernet. {pair[0].n} learned and {pair[1].n} uniform "
        f"architectures; dots: single scores, bars: mean with 95 % interval. Difference of the means, learned − "
        f"uniform: {difference_words(*pair)} (Welch's standard error, normal approximation: ± 1.96 errors). The "
        f"interval covers the choice of architectures, not another seed of the whole search.",
    )


def _evolution(data: RunData) -> Part:
    if data.gradient:
        return "No evolutionary search: the gradient-based method derives its answer from the architecture weights."
    if not data.generations:
        return "No figure of the evolutionary search: metrics.jsonl has no generation record yet."
    best = max(g.best for g in data.generations)
    return (
        "fig-evolution",
        figures.evolution(data.generations, data.ranking_metric),
        f"Evolutionary search. Best and mean {data.ranking_metric} by generation, as the search scored them; "
        f"{len(data.generations)} generations, highest {100 * best:.2f} %.",
    )


def _pareto(data: RunData) -> Part:
    if data.result is None:
        return "No Pareto front: the search has written no result.json yet."
    limit = data.settings.max_flops
    result = data.result
    limited = "" if limit is None else " The dotted vertical line is the limit max_flops."
    if data.settings.surrogate == "ridge" and not data.gradient:
        limited = f" The {data.ranking_metric} is what a ridge surrogate to uniform draws predicts.{limited}"
    return (
        "fig-pareto",
        figures.pareto(result, limit, data.ranking_metric),
        f"{data.ranking_metric.capitalize()} against cost. Each of the {len(result.evaluations)} dots is an "
        f"architecture that the search evaluated; no other is both cheaper and better than one on the "
        "stepped front. The star is "
        f"{'what the architecture weights say, whatever its score' if data.gradient else 'the best'}.{limited}",
    )


def _architecture(data: RunData) -> Part:
    if data.drawing is None:
        return "No drawing of the best architecture: the search has written no drawing.json yet."
    if isinstance(data.drawing, CellDrawing):
        return (
            "fig-architecture",
            draw_architecture(data.drawing),
            f"The {'derived' if data.gradient else 'best'} architecture. Data flows from left to right: grey boxes are "
            "the cell's inputs, the sums of its nodes and its output; each coloured block is the operation on one "
            "edge (its number is below the symbol).",
        )
    return (
        "fig-architecture",
        draw_architecture(data.drawing),
        f"The best architecture. Read it like text; each of the {len(data.drawing.slots)} coloured blocks is the "
        f"operation chosen for one slot (its number is below the symbol), grey boxes are fixed layers, and the "
        f"highlighted pills are the shapes (channels × height × width) of the tensor at that point.",
    )


def _diversity(data: RunData) -> Part:
    if not data.gradient:
        return ""  # a claim of Sec. 4.3, on the gradient-based search
    if not data.weights:
        return "No figure of diversity: metrics.jsonl has no weights record yet."
    if any(len({len(w.entropy_of_weights) for w in run.weights}) > 1 for run in (data, *data.against)):
        return "No figure of diversity: the number of edges changes between weights records."
    runs = {_name(run, data.against): (run.weights, run.updates) for run in (data, *data.against)}
    return (
        "fig-diversity",
        figures.diversity(runs),
        f"Diversity. The claims of Section 4.3 in numbers; left: entropy per edge, mean over the "
        f"{len(data.weights[-1].entropy_of_weights)} edges, on a logarithmic axis; of softmax(w), whose range over "
        f"edges is the band, and, as a solid line beside a dashed one, of the learned sampler's draws: the lower, the "
        f"more the winner takes all. Then: different architectures trained so far; share of the derived network's "
        f"operations that have no parameters; the derived network's parameters. Entropies below {figures.FLOOR:g} are "
        f"drawn there.",
    )


def _name(run: RunData, others: tuple[RunData, ...]) -> str:
    """What a run is called in a legend: its sampler, and its folder where that is not enough."""
    sampler = run.settings.sampler
    alike = sum(other.settings.sampler == sampler for other in others)
    return f"{sampler}, {printable(run.folder.resolve().name)}" if alike > (run in others) or alike > 1 else sampler


SECTIONS: list[tuple[str, list[Callable[[RunData], Part]]]] = [
    ("Training the supernet", [_training]),
    ("The sampler", [_learned(_sampler), _learned(_probabilities), _learned(_scores), _draws]),
    ("Diversity", [_diversity]),
    ("The search", [_evolution, _pareto]),
    ("The truth", [truth_part]),
    ("The best architecture", [_architecture]),
]
