"""VAENAS as a sampler of Optuna (`pip install 'vaenas[optuna]'`): the learned sampler for a user's own parameters.

Categorical and integer parameters are the slots of a search space and their values its operations; finished trials are
labelled architectures. All of it is read anew from the study's storage, so that studies can be resumed and shared.
"""

import bisect
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
import torch
from jaxtyping import Float
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.samplers._base import _process_constraints_after_trial  # as every sampler with constraints does
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from torch import Generator, Tensor

from vaenas.blackbox.vae_search import BlackBoxSettings, VAESearch
from vaenas.spaces.space import Population, Scores, SearchSpace

TRIES = 5  # for a trial that differs from all others
_proposing = threading.Lock()  # threads of a study use the same models
BINS = 32  # operations of an integer slot at most: with a hundred labels more of them would hardly be met twice
PROPOSED = "vaenas:proposed"  # system attribute: what a trial was given, which reaches `params` only bit by bit
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
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
        bins = values if isinstance(d, CategoricalDistribution) else min(values, BINS)
        if isinstance(d, IntDistribution) and d.log:  # Optuna: step 1, low >= 1
            return sorted({math.floor(d.low * ((d.high + 1) / d.low) ** (i / bins)) - d.low for i in range(bins)})
        return [i * values // bins for i in range(bins)]

    @property
    def choices(self) -> int:
        """The number of operations; each stands for one value where there are as many values."""
        return len(self.starts)

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


@dataclass(frozen=True)
class ParameterSpace(SearchSpace):
    """A group's search space: a predictor sees how far apart integers are, too."""

    group: Group = ()

    @classmethod
    def of(cls, group: Group) -> "ParameterSpace":
        """Operations are written as letters from U+0100 on: there may be many of them."""
        symbols = tuple("".join(map(chr, range(0x100, 0x100 + slot.choices))) for slot in group)
        return cls("optuna", symbols, (len(group),), group)

    def features(self, population: Population) -> list[Float[Tensor, "n _"]]:
        """Those of any sequence space, and of each integer its place in the range, in [0, 1]."""
        places = population / (torch.tensor(self.choices) - 1).clamp(min=1)
        ordered = [i for i, slot in enumerate(self.group) if isinstance(slot.distribution, IntDistribution)]
        return super().features(population) + [places[:, i : i + 1] for i in ordered]


@dataclass(frozen=True)
class History:
    """What a study's trials say about one group."""

    population: Population  # (n, s): of the finished trials that have all of the group's parameters
    scores: Scores  # (n,) in [0, 1]: their ranks, 1 is the best, equal trials have equal ranks
    taken: set[tuple[Any, ...]]  # finished, failed or running
    finished: int  # finished trials of the study
    decides: bool  # whether a row of the group is all that a trial depends on


def read_history(study: Study, trial: FrozenTrial, group: Group) -> History:
    """The history of the group but for `trial` itself."""
    states = (*FINISHED, TrialState.FAIL, TrialState.RUNNING)
    trials = [other for other in study.get_trials(deepcopy=False, states=states) if other.number != trial.number]
    every = [(other, tuple(slot.operation(other) for slot in group)) for other in trials]
    rows = [(other, row) for other, row in every if None not in row]
    finished = [(other, row) for other, row in rows if other.state in FINISHED]
    keys = [_rank(other, study.direction) for other, _ in finished]
    position = {key: i for i, key in enumerate(sorted(set(keys), reverse=True))}
    exact = {slot.name for slot in group if slot.choices == slot.values}
    used = {name for other, _ in finished for name, d in other.distributions.items() if not d.single()}
    return History(
        population=torch.tensor([row for _, row in finished], dtype=torch.int64).reshape(-1, len(group)),
        scores=torch.tensor([position[key] for key in keys]) / max(1, len(position) - 1),
        taken={row for _, row in rows},
        finished=sum(other.state in FINISHED for other in trials),
        decides=len(exact) == len(group) and used <= exact,
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


class VAENASSampler(BaseSampler):
    """Proposes categorical, integer and boolean parameters by a VAE that is trained on the best trials (Algorithm 1).

    Parameters that occur in the same trials form a group: one search space, one `VAESearch`. A conditional space has
    several. Proposals of a group are new (not finished, failed or running) as long as it has new ones. Where a trial
    depends on more (floats, other groups, integers in bins) they may come again, with other values of the rest.
    Integers of more than 32 values, or with `log`, are learned in at most 32 bins, equally wide (with `log` in the
    logarithm); inside a bin values are drawn uniformly.

    Trials rank as in Optuna's TPE: feasible complete ones by value, then pruned ones by last step and its value, then
    infeasible ones by the sum of their violations. Failed trials are no labels.

    Args:
        n_startup_trials: proposals are uniform until so many trials have finished, >= 0.
        interval: the models of a group learn anew after so many new labels, >= 1.
        seed: >= 0; None takes one from the system. A proposal depends on it, on the trial's number (so workers may
            share a seed) and on the history when the models last learned.
        settings: of the search, but for `initial` and `repeats`.
        independent_sampler: for floats, and for all parameters until a trial has finished; by default Optuna's TPE.
        constraints_func: as in Optuna's `TPESampler`: a value > 0 is a violation. `Trial.set_constraint` (Optuna 5)
            works without.

    Raises:
        ValueError: in studies of several objectives.

    Example:
        >>> study = optuna.create_study(sampler=VAENASSampler(seed=0))
        >>> study.optimize(lambda trial: trial.suggest_int("x", 0, 9), n_trials=30)
        >>> study.best_value
        0.0
    """

    def __init__(
        self,
        *,
        n_startup_trials: int = 20,
        interval: int = 10,
        seed: int | None = None,
        settings: BlackBoxSettings | None = None,
        independent_sampler: BaseSampler | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        if n_startup_trials < 0 or interval < 1:
            raise ValueError(f"n_startup_trials {n_startup_trials} must be >= 0, interval {interval} >= 1")
        self._startup, self._interval = n_startup_trials, interval
        self._independent = independent_sampler or TPESampler(n_startup_trials=n_startup_trials, seed=seed)
        self._constraints_func = constraints_func
        self._entropy = np.random.SeedSequence(seed).entropy
        self._settings = replace(settings or BlackBoxSettings(), initial=0, repeats=True)
        self._searches: dict[tuple[str, Group], VAESearch] = {}

    def reseed_rng(self) -> None:
        """Takes a new seed from the system; Optuna calls it in workers that were copied."""
        self._entropy = np.random.SeedSequence().entropy
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The categorical and integer parameters of the finished trials, each with its latest range."""
        latest: dict[str, BaseDistribution] = {}
        for finished in study.get_trials(deepcopy=False, states=FINISHED):
            latest |= finished.distributions
        return {name: distribution for name, distribution in latest.items() if is_learned(distribution)}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A value for each name in `search_space`, by the independent sampler for what the VAE can't learn."""
        self._raise_error_if_multi_objective(study)
        slots = [Slot(name, d) for name, d in search_space.items() if is_learned(d)]
        params = self._propose(study, trial, slots) if slots else {}
        independent = self.sample_independent
        return params | {n: independent(study, trial, n, d) for n, d in search_space.items() if n not in params}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """By the independent sampler."""
        self._raise_error_if_multi_objective(study)
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._independent.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        if self._constraints_func is not None:
            _process_constraints_after_trial(self._constraints_func, study, trial, state)
        self._independent.after_trial(study, trial, state, values)

    def _propose(self, study: Study, trial: FrozenTrial, slots: list[Slot]) -> dict[str, Any]:
        """Learned values that no other trial has, if that can be; they are stored with the trial."""
        finished = study.get_trials(deepcopy=False, states=FINISHED)
        groups: dict[frozenset[int], Group] = {}  # of what occurs in the same trials, as in `TPESampler(group=True)`
        for slot in slots:
            together = frozenset(other.number for other in finished if slot.name in other.params)
            groups[together] = (*groups.get(together, ()), slot)
        number = np.random.SeedSequence(self._entropy, spawn_key=(trial.number,)).generate_state(1, np.uint64)
        rng = Generator().manual_seed(int(number[0]))
        params: dict[str, Any] = {}
        with _proposing:
            for i in range(TRIES):
                for group in groups.values():
                    row = self._row(study, trial, group, rng, repeat=i == 0)
                    params |= {slot.name: slot.value(o, rng) for slot, o in zip(group, row, strict=True)}
                # told first and looked after then, so that of two workers with one proposal at least one sees the other
                study._storage.set_trial_system_attr(trial._trial_id, PROPOSED, params)
                others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
                if not any(_is_same(params, other) for other in others):
                    break
        return params

    def _row(self, study: Study, trial: FrozenTrial, group: Group, rng: Generator, repeat: bool) -> list[int]:
        """The group's operations in this trial; `repeat`: may they come again where the trial depends on more?"""
        key, history = (study.study_name, group), read_history(study, trial, group)
        search, labels = self._searches.get(key), len(history.population) if history.finished >= self._startup else 0
        told = len(search.scores) if search else 0
        if search is None or not 0 <= labels - told < self._interval or (labels and not told):
            search = VAESearch(ParameterSpace.of(group), rng, self._settings)
            if labels:
                search.tell(history.population, history.scores)
                search.ask(1)  # the models learn, which takes a while: others go on
                history = read_history(study, trial, group)
            # groups and ranges change as a study goes on, and models are large: only this study's are kept
            self._searches = {k: v for k, v in self._searches.items() if k[0] == key[0]} | {key: search}

        space, search.rng = search.space, rng
        taken = space.keys(torch.tensor(sorted(history.taken), dtype=torch.int64).reshape(-1, space.slots))
        anything = len(taken) == space.size or (repeat and labels > 0 and not history.decides)
        return search.ask(1, None if anything else lambda rows: ~torch.isin(space.keys(rows), taken))[0].tolist()


def _is_same(params: dict[str, Any], trial: FrozenTrial) -> bool:
    """Whether these parameters hold all that a finished trial depended on, or were given to a running one."""
    if trial.state not in FINISHED:
        return trial.state == TrialState.RUNNING and trial.system_attrs.get(PROPOSED) == params
    depended = {name: value for name, value in trial.params.items() if not trial.distributions[name].single()}
    return bool(depended) and depended.items() <= params.items()
