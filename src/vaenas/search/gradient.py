"""VAENAS - Gradient-Based: Algorithm 3, line by line. Comments cite its lines."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from lightning_fabric import Fabric
from torch import Tensor, nn

from vaenas import parallel
from vaenas.evaluation.supernet import Evaluate
from vaenas.optimizers import load_optimizer
from vaenas.records import Record
from vaenas.samplers.multinomial import MultinomialSampler, entropy
from vaenas.samplers.sampler import LearnedSampler, Sampler
from vaenas.samplers.uniform import UniformSampler
from vaenas.search import supernet_training
from vaenas.search.evaluated_set import EvaluatedSet, score
from vaenas.search.supernet_training import Augment, Ranking, SurrogateSettings, TrainingImages
from vaenas.spaces.space import IsFeasible, Population, Scores, SearchSpace, draw_valid, gumbel

Update = Literal["path", "two-path", "mixture"]
LOOKAHEAD = 256  # architectures drawn at once, as in Algorithm 2
MORE = ("validation_order", "upcoming", "seen", "described", "derived", "drawn")  # of the state, saved as they are
STARTS = 1000  # draws, of which line 12 climbs from the likeliest where the plain answer is not allowed


@dataclass(frozen=True)
class GradientSettings:
    """Inputs of Algorithm 3 and the optimizers."""

    steps: int  # n_iters
    vae_interval: int  # n_vae, in iterations
    ranking_size: int  # N_s
    batch_size: int
    learning_rate: float  # of W at the first step; falls linearly to 0 after the last (App. A.1)
    label_smoothing: float
    clip_norm: float
    draws: int  # of the sampler, evaluated at the end beside α* and as many uniform ones
    surrogate: SurrogateSettings | None = None  # line 8: the sampler learns from a ridge surrogate to S
    update: Update = "path"
    """How a step of w sees the network.

    path: the sampled architecture alone, gate 1 + p - sg(p) on each operation (straight-through, p = softmax(w)).
    two-path: ProxylessNAS (Cai et al. 2018, Sec. 3.2): two operations a slot from softmax(w), one of them open.
    mixture: DARTS (Liu et al. 2018b): every operation, weighed by softmax(w); W is trained so, too.
    """


@dataclass
class GradientState:
    """All that changes during a search. Saved at any record and loaded again, the search goes on to the same bits.

    Args:
        weights: w, the architecture weights, (s, k); -inf where a slot does not offer an operation.
        weights_optimizer: Adam on `weights`.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    sampler: Sampler
    rng: torch.Generator
    weights: nn.Parameter
    weights_optimizer: torch.optim.Optimizer
    step: int = 0
    order: Int64[Tensor, "_"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    validation_order: Int64[Tensor, "_"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    upcoming: Population | None = None  # drawn for the next steps
    seen: Int64[Tensor, "_"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # keys, each once
    described: int = 0  # the step whose "weights" record has been told
    ranking: Ranking | None = None
    derived: Population | None = None  # α*, (1, s)
    drawn: Population | None = None  # by the sampler, to be compared with uniform draws
    evaluated: EvaluatedSet | None = None  # scores of both on the final weights
    uniform: Population | None = None
    compared: EvaluatedSet | None = None
    ended: bool = False

    def predicted_score(self, space: SearchSpace, population: Population, scores: Scores) -> Scores:
        """What the Pareto front goes by."""
        return scores

    def answer(self, population: Population, predicted: Scores) -> int:
        """The row that the search returns, line 12: α*, whatever the scores are."""
        assert self.derived is not None
        return int((population == self.derived).all(-1).nonzero()[0])

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and dictionaries of them, random states included."""
        return supernet_training.state_dict(self) | {
            "weights": self.weights.detach().clone(),
            "weights_optimizer": self.weights_optimizer.state_dict(),
            "evaluated": self.evaluated and self.evaluated.state_dict(),
            **{name: getattr(self, name) for name in MORE},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        supernet_training.load_state_dict(self, state)
        with torch.no_grad():
            self.weights.copy_(state["weights"])
        load_optimizer(self.weights_optimizer, state["weights_optimizer"])
        if state["evaluated"] is not None:
            self.evaluated = EvaluatedSet.from_state_dict(state["evaluated"])
        for name in MORE:
            setattr(self, name, state[name])


def architecture_weights(space: SearchSpace) -> nn.Parameter:
    """w = 0: every operation of a slot equally likely; -inf where it is not on offer."""
    return nn.Parameter(torch.zeros(space.slots, space.max_choices).masked_fill(~space.on_offer, -torch.inf))


@dataclass
class GradientSearch:
    """What Algorithm 3 works on: everything that does not change during the search."""

    space: SearchSpace
    settings: GradientSettings
    fabric: Fabric
    images: TrainingImages  # for W
    validation: TrainingImages  # for w (eq. 4), disjoint from them
    augment: Augment
    evaluate: Evaluate
    is_feasible: IsFeasible  # kept by what is ranked and returned
    constraints: str = "the limits"

    def run(self, state: GradientState) -> Iterator[Record]:
        """Algorithm 3 from `state` on. At each record the state is whole: save it or stop as you like."""
        settings, sampler = self.settings, state.sampler
        learned = sampler if isinstance(sampler, LearnedSampler) else None
        while state.step < settings.steps or state.ranking or self._due(state):  # line 1
            if self._due(state):
                state.described = state.step
                yield Record("weights", self._diversity(state))
                continue
            if state.ranking and learned:
                yield from supernet_training.rank_and_learn(self, state, state.ranking, learned, 0.0)  # lines 7-9
                continue
            architecture = self._next_architecture(state)  # line 2
            search_loss = self._update_weights(state, architecture)  # line 3
            if settings.update == "mixture":
                everything, gates = self._mixture(state)
                values = supernet_training.train_step(self, state, everything, gates.detach())
            else:
                values = supernet_training.train_step(self, state, architecture)  # line 4
            values["search_loss"] = search_loss
            state.step += 1
            if learned and state.step % settings.vae_interval == 0:  # line 5
                # line 6: from U, where Algorithm 2 ranks draws from Γ
                population = supernet_training.draw(self, UniformSampler(self.space), settings.ranking_size, state.rng)
                state.ranking = Ranking(
                    population, torch.zeros(len(population), dtype=torch.bool), EvaluatedSet(self.space.slots)
                )
            yield Record("train", values)

        if state.derived is None or state.drawn is None or state.evaluated is None:
            state.derived = self.derive(state)  # line 12
            state.drawn = supernet_training.draw(self, sampler, settings.draws, state.rng)
            state.evaluated = EvaluatedSet(self.space.slots)
        for done, total in score(torch.cat([state.derived, state.drawn]), state.evaluated, self.evaluate):
            yield Record("evaluation", {"of": "derived", "done": done, "total": total})
        if not state.ended:
            yield from supernet_training.compare(self, state, state.evaluated.lookup(state.drawn))

    def _due(self, state: GradientState) -> bool:
        """Whether the weights are to be described: as often as the sampler learns, and at the end."""
        at = state.step % self.settings.vae_interval == 0 or state.step == self.settings.steps
        return at and state.described < state.step

    def _next_architecture(self, state: GradientState) -> Int64[Tensor, "s"]:
        """Line 2, α ~ p_θ(α|z). Draws from softmax(w) are made one by one, since w moves at every step."""
        if state.upcoming is None or len(state.upcoming) == 0:
            ahead = self.settings.vae_interval - state.step % self.settings.vae_interval
            fixed = not isinstance(state.sampler, MultinomialSampler)
            state.upcoming = state.sampler.sample(min(ahead, LOOKAHEAD) if fixed else 1, state.rng)
        architecture, state.upcoming = state.upcoming[0], state.upcoming[1:]
        state.seen = torch.cat([state.seen, self.space.keys(architecture[None])])
        return architecture

    def _update_weights(self, state: GradientState, architecture: Int64[Tensor, "s"]) -> float:
        """Line 3: one step of Adam on w by the loss on the validation split; W stays."""
        rows, state.validation_order = supernet_training.next_rows(
            state.validation_order, self.validation, self.settings.batch_size, state.rng
        )
        images, labels = self.validation.batch(parallel.local_chunk(rows))
        inputs = self.augment(images.to(self.fabric.device), state.rng)
        with torch.no_grad():
            before = state.weights.clone()
        match self.settings.update:
            case "path":
                operations = architecture[:, None]
                chosen = state.weights.softmax(-1).gather(1, operations.to(state.weights.device))
                gates = 1 + chosen - chosen.detach()  # value 1, gradient of p
            case "two-path":
                operations = self._two(state)
                shares = state.weights.gather(1, operations.to(state.weights.device)).softmax(-1)  # of the two
                first = torch.rand(len(shares), generator=state.rng).to(shares.device) < shares[:, 0].detach()
                hard = torch.stack([first, ~first], dim=1).float()
                gates = hard + shares - shares.detach()
            case "mixture":
                operations, gates = self._mixture(state)
        for parameter in state.network.parameters():
            parameter.requires_grad_(False)  # no gradient of W is computed or held
        loss = nn.functional.cross_entropy(
            state.network(inputs, operations, gates), labels.to(self.fabric.device),
            label_smoothing=self.settings.label_smoothing,
        )  # fmt: skip
        self.fabric.backward(loss)
        for parameter in state.network.parameters():
            parameter.requires_grad_(True)
        assert state.weights.grad is not None
        state.weights.grad.nan_to_num_(0.0)  # of operations that are not on offer
        state.weights.grad.copy_(parallel.all_reduce_mean(state.weights.grad))
        state.weights_optimizer.step()
        state.weights_optimizer.zero_grad(set_to_none=True)
        if self.settings.update == "two-path":
            self._keep_total(state, before, operations)
        return float(parallel.all_reduce_mean(loss.detach()))

    def _two(self, state: GradientState) -> Int64[Tensor, "s 2"]:
        """Two different operations of each slot, drawn from softmax(w) (Gumbel top-2)."""
        noisy = state.weights.detach().cpu() + gumbel(tuple(state.weights.shape), state.rng)
        return noisy.topk(2, dim=-1).indices

    def _keep_total(self, state: GradientState, before: Float[Tensor, "s k"], operations: Int64[Tensor, "s 2"]) -> None:
        """ProxylessNAS, App.: the two weights are shifted so that the other operations' probabilities stay."""
        pair = operations.to(state.weights.device)
        with torch.no_grad():
            others = before.scatter(1, pair, state.weights.gather(1, pair))
            shift = before.gather(1, pair).logsumexp(-1) - others.gather(1, pair).logsumexp(-1)
            others.scatter_add_(1, pair, shift[:, None].expand(-1, 2))
            state.weights.copy_(others)

    def _mixture(self, state: GradientState) -> tuple[Int64[Tensor, "s k"], Float[Tensor, "s k"]]:
        """All operations of every slot, and softmax(w)."""
        if not bool(self.space.on_offer.all()):
            raise ValueError(f"space {self.space.name}: the full mixture needs equally many operations in every slot")
        operations = torch.arange(self.space.max_choices).expand(self.space.slots, -1)
        return operations, state.weights.softmax(-1)

    def derive(self, state: GradientState) -> Population:
        """Line 12: α* (1, s), the valid architecture within the limits that softmax(w) makes likeliest.

        The operation with the largest weight in each slot, if that is allowed. Else it climbs from the likeliest of
        uniform draws that are: to the likeliest allowed neighbour as long as there is one.
        """
        plain = state.weights.detach().cpu().argmax(-1)[None]
        if self._allowed(plain)[0]:
            return plain
        drawn = draw_valid(
            lambda n: self.space.uniform(n, state.rng), self._allowed, STARTS, constraints=self.constraints
        )
        best = drawn[self._likelihood(state, drawn).argmax()]
        while True:
            near = torch.cat([best[None], self.space.neighbours(best)])
            near = near[self._allowed(near)]
            likeliest = near[self._likelihood(state, near).argmax()]
            if torch.equal(likeliest, best):
                return best[None]
            best = likeliest

    def _allowed(self, population: Population) -> Bool[Tensor, "n"]:
        return self.space.is_valid(population) & self.is_feasible(population)

    def _likelihood(self, state: GradientState, population: Population) -> Float[Tensor, "n"]:
        """log Π_j softmax(w_j)[o_j] of (n, s)."""
        log_p = state.weights.detach().cpu().log_softmax(-1)
        return log_p[torch.arange(self.space.slots), population].sum(-1)

    def _diversity(self, state: GradientState) -> dict[str, Any]:
        """Sec. 4.3's claims in numbers: does the winner take all, how many architectures were trained so far."""
        state.seen = state.seen.unique()
        return {
            "entropy_of_weights": entropy(state.weights.detach().cpu()).tolist(),  # per slot, nats
            "distinct_so_far": len(state.seen),
            "derived": self.derive(state)[0].tolist(),
        }
