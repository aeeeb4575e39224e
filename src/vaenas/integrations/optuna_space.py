"""Parameters of an Optuna study as slots of a search space, and its trials as labelled architectures."""

import bisect
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from torch import Generator, Tensor

from vaenas.spaces.space import Population, Scores, SearchSpace

BINS = 32  # operations of an integer slot at most: with a hundred labels more of them would hardly be met twice
PROPOSED = "vaenas:proposed"  # system attribute: what a trial was given, which reaches `params` only bit by bit
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
Row = tuple[int, ...]
Group = tuple["Slot", ...]


@dataclass(frozen=True)
class Slot:
    """A parameter as a slot of a search space; its values are counted from 0, an integer's in steps from `low`."""

    name: str
    distribution: CategoricalDistribution | IntDistribution

    @property
    def values(self) -> int:
        """The number of values."""
        d = self.distribution
        return len(d.choices) if isinstance(d, CategoricalDistribution) else (d.high - d.low) // d.step + 1

    @cached_property
    def starts(self) -> list[int]:
        """The first value of each operation: of an integer there may be several, a bin."""
        d, values = self.distribution, self.values
        if isinstance(d, CategoricalDistribution):
            return list(range(values))
        bins = min(values, BINS)
        if d.log:  # Optuna: step 1, low >= 1
            return sorted({math.floor(d.low * ((d.high + 1) / d.low) ** (i / bins)) - d.low for i in range(bins)})
        return [i * values // bins for i in range(bins)]

    @property
    def choices(self) -> int:
        """The number of operations."""
        return len(self.starts)

    @property
    def exact(self) -> bool:
        """Whether each operation stands for one value."""
        return self.choices == self.values

    def operation(self, trial: FrozenTrial) -> int | None:
        """The operation that a trial used or was given; None without such a parameter or with a value out of range."""
        params = trial.params
        if trial.state == TrialState.RUNNING:
            params = trial.system_attrs.get(PROPOSED, {}) | params
        if self.name not in params:
            return None
        d, value = self.distribution, params[self.name]
        if isinstance(d, CategoricalDistribution):
            return int(d.to_internal_repr(value)) if value in d.choices else None
        if not d.low <= value <= d.high or (value - d.low) % d.step:
            return None
        return bisect.bisect_right(self.starts, (value - d.low) // d.step) - 1

    def value(self, operation: int, rng: Generator) -> Any:
        """The parameter's value; uniform inside a bin."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return d.choices[operation]
        start, end = [*self.starts, self.values][operation : operation + 2]
        return d.low + d.step * int(torch.randint(start, end, (), generator=rng))


def is_learned(distribution: BaseDistribution) -> TypeGuard[CategoricalDistribution | IntDistribution]:
    return isinstance(distribution, CategoricalDistribution | IntDistribution) and not distribution.single()


def groups_of(slots: list[Slot], trials: list[FrozenTrial]) -> list[Group]:
    """Slots that occur in the same trials, as in `TPESampler(group=True)`."""
    groups: dict[frozenset[int], list[Slot]] = {}
    for slot in slots:
        together = frozenset(trial.number for trial in trials if slot.name in trial.params)
        groups.setdefault(together, []).append(slot)
    return [tuple(group) for group in groups.values()]


@dataclass(frozen=True)
class ParameterSpace(SearchSpace):
    """A group's search space: a predictor sees how far apart integers are, too.

    Args:
        ordinal: for each slot, whether its operations have an order.
    """

    ordinal: tuple[bool, ...] = ()

    @classmethod
    def of(cls, group: Group) -> "ParameterSpace":
        """Operations are written as letters from U+0100 on: there may be many of them."""
        operations = tuple("".join(chr(0x100 + i) for i in range(slot.choices)) for slot in group)
        ordinal = tuple(isinstance(slot.distribution, IntDistribution) for slot in group)
        return cls("optuna", operations, (len(group),), ordinal)

    def features(self, population: Population) -> list[Float[Tensor, "n _"]]:
        """Those of any sequence space, and of each ordinal slot its place in the range, in [0, 1]."""
        places = population / (torch.tensor(self.choices) - 1).clamp(min=1)
        return super().features(population) + [places[:, slot : slot + 1] for slot, o in enumerate(self.ordinal) if o]


@dataclass(frozen=True)
class History:
    """What a study's trials say about one group."""

    population: Population  # (n, s): of the finished trials that have all of the group's parameters
    scores: Scores  # (n,) in [0, 1]: their ranks, 1 is the best, equal trials have equal ranks
    taken: set[Row]  # finished, failed or running
    finished: int  # finished trials of the study
    decides: bool  # whether a row of the group is all that a trial depends on


def read_history(study: Study, trial: FrozenTrial, group: Group) -> History:
    """The history of the group but for `trial` itself."""
    trials = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.FAIL, TrialState.RUNNING))
    rows: list[tuple[FrozenTrial, Row]] = []
    for other in trials:
        row = tuple(operation for slot in group if (operation := slot.operation(other)) is not None)
        if other.number != trial.number and len(row) == len(group):
            rows.append((other, row))
    finished = [(other, row) for other, row in rows if other.state in FINISHED]
    keys = [_rank(other, study.direction) for other, _ in finished]
    position = {key: i for i, key in enumerate(sorted(set(keys), reverse=True))}
    names = {slot.name for slot in group}
    others = ((name, d) for other, _ in finished for name, d in other.distributions.items())
    return History(
        population=torch.tensor([row for _, row in finished], dtype=torch.int64).reshape(-1, len(group)),
        scores=torch.tensor([position[key] for key in keys]) / max(1, len(position) - 1),
        taken={row for _, row in rows},
        finished=sum(other.state in FINISHED for other in trials),
        decides=all(slot.exact for slot in group) and all(name in names or d.single() for name, d in others),
    )


def _rank(trial: FrozenTrial, direction: StudyDirection) -> tuple[int, float, float]:
    """Sorts finished trials, the best first: the order that Optuna's TPE uses."""
    # `FrozenTrial.constraints` is of Optuna 5; both have what `constraints_func` gave under "constraints"
    stored = trial.system_attrs.get("constraints") or ()
    violation = sum(v for v in (trial.constraints.values() if hasattr(trial, "constraints") else stored) if v > 0)
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
    if violation:
        return 2, 0.0, violation
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return 0, 0.0, sign * trial.value
    if not trial.intermediate_values:
        return 1, math.inf, 0.0
    step, value = max(trial.intermediate_values.items())
    return 1, -step, math.inf if math.isnan(value) else sign * value
