"""VAENAS - Gradient-Based: Algorithm 3 as printed. Comments give its lines."""

from collections.abc import Generator
from dataclasses import dataclass, field

import torch
from jaxtyping import Int64
from torch import Tensor

from vaenas.records import Record
from vaenas.samplers.categorical import MultinomialSampler
from vaenas.samplers.sampler import Prefetched
from vaenas.samplers.uniform import UniformSampler
from vaenas.search.architecture_weights import ArchitectureWeights
from vaenas.search.evaluated_set import EvaluatedSet, score
from vaenas.search.search import Found, Search


@dataclass(kw_only=True)
class GradientSearch(Search):
    """Of Algorithm 3."""

    parts, plain = ("trainer", "sampler", "weights"), ("step", "seen")

    weights: ArchitectureWeights  # w
    draws: int  # of the sampler, evaluated at the end beside α* and as many uniform ones
    # Keys of the architectures drawn so far, each once up to the last description.
    seen: Int64[Tensor, "_"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        """Draws from softmax(w) are made one by one, since w moves at every step."""
        interval = 1 if isinstance(self.sampler, MultinomialSampler) else self.n_vae
        self.ahead = Prefetched(
            lambda steps, rng: self.sampler.sample(len(steps), rng), self.space.slots, interval, self.trainer.steps
        )

    def describe(self) -> Record:
        """Sec. 4.3's claims in numbers: does the winner take all, how many architectures were trained so far."""
        self.seen, w = self.seen.unique(), self.weights
        entropy = torch.special.entr(w.values.detach().cpu().softmax(-1)).sum(-1).tolist()
        values = {"entropy_of_weights": entropy, "distinct_so_far": len(self.seen)}
        return Record("weights", {**values, "derived": w.derive(self.is_feasible, self.constraints)[0].tolist()})


def run(search: GradientSearch) -> Generator[Record, None, Found]:
    """Algorithm 3, from the last boundary on that `search` was saved at."""
    space, trainer, w, n_iters, n_s = (
        search.space, search.trainer, search.weights, search.trainer.steps, search.training.ranking_size
    )  # fmt: skip
    for step in range(search.step, n_iters):  # line 1
        architecture = search.ahead.at(step, search.rng)  # line 2: α ~ p_θ
        search_loss = w.step(architecture)  # line 3
        trained = trainer.step(*w.trained(architecture), search_loss=search_loss)  # line 4
        search.seen = torch.cat([search.seen, space.keys(architecture[None])])
        if search.ranks(step):  # line 5
            population = search.draw(UniformSampler(space), n_s)  # line 6: from U, where Algorithm 2 draws from Γ
            scores = yield from score(population, search.evaluate, "ranking")  # lines 7, 8: S
            yield search.learn(population, torch.zeros(n_s, dtype=torch.bool), scores)  # line 9
        if search.ends_interval(step):
            yield search.describe()
        search.step = step + 1  # lines 10, 11
        yield trained

    derived = w.derive(search.is_feasible, search.constraints)  # line 12
    drawn = search.draw(search.sampler, search.draws)
    evaluated = EvaluatedSet(space.slots)
    yield from score(torch.cat([derived, drawn]), search.evaluate, "derived", evaluated)
    draws = yield from search.compare(evaluated, drawn)
    best = int((evaluated.population == derived).all(-1).nonzero()[0])
    return Found(evaluated.population, evaluated.scores, evaluated.scores, best, draws)
