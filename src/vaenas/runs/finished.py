"""What a finished search says of architectures that it has not found, and of other budgets."""

from functools import partial

from jaxtyping import Num
from torch import Generator, Tensor

from vaenas.constraints import Constraints
from vaenas.data.cache import cache_dir
from vaenas.errors import UserError
from vaenas.networks.cost import AdditiveCost
from vaenas.networks.latency import latency_table
from vaenas.runs.config import ConstraintSettings
from vaenas.runs.search_run import SearchRun
from vaenas.search.evolution import Evolution
from vaenas.search.settings import EvolutionSettings
from vaenas.search.surrogate import PREDICTED_GENERATIONS, SurrogateSearch
from vaenas.spaces.space import Population, draw_valid

CHOSEN_FROM = 100  # architectures in each generation on predicted scores, which cost nothing


def rank(run: SearchRun, population: Population) -> dict[str, Num[Tensor, "n"]]:
    """What a finished search knows of (n, s): the supernet's score, the surrogate's prediction, measures, costs."""
    found: dict[str, Tensor] = {"score": run.search.evaluate(population)}
    final = getattr(run.search, "final", None)
    if isinstance(final, SurrogateSearch):
        found["predicted_score"] = final.surrogate()(population)
    costs = run.cost(population)
    return {**found, **run.untrained().features(population), "flops": costs.multiply_adds, "params": costs.params}


def choose(run: SearchRun, budget: ConstraintSettings, n: int) -> Population:
    """The n architectures within a budget, whatever the search's was, that its surrogate predicts to be best.

    Raises `UserError` where the search has no surrogate, or nothing keeps the budget.
    """
    final, seed, cost, nanoseconds = getattr(run.search, "final", None), run.config.seed, run.cost, None
    if not isinstance(final, SurrogateSearch):
        raise UserError(f"{run.directory.path}: a search without a surrogate has nothing to choose by")
    if budget.max_latency is not None:
        if not isinstance(cost, AdditiveCost):
            raise UserError(f"--max-latency: has no meaning in space {run.config.space}; limit --max-flops")
        table = run.latency or latency_table(run.image_space, run.session.fabric.device, cache_dir())
        cost, nanoseconds = table.added_to(cost), round(1e6 * budget.max_latency)
    constraints = Constraints(cost, budget.max_flops, budget.max_params, nanoseconds)
    settings = EvolutionSettings(max(CHOSEN_FROM, n), PREDICTED_GENERATIONS, max(CHOSEN_FROM, n) // 4)
    constraints.check(run.space, seed, settings.population)
    rng = Generator().manual_seed(seed)
    uniform = partial(run.space.uniform, rng=rng)
    first = draw_valid(uniform, constraints.is_feasible, settings.population, str(constraints))
    evolution = Evolution(run.space, settings, final.surrogate(), constraints.is_feasible, rng, first)
    for _ in evolution.run():
        pass
    return evolution.evaluated.best(n)
