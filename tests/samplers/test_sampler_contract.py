"""What every sampler keeps, and what every learned one must be able to learn."""

import copy
import io
import math

import pytest
import torch

from tests.samplers.samplers import LEARNED, SAMPLERS, Make
from tests.spaces.spaces import PLAIN, SPACES
from vaenas.samplers.sampler import LearnedSampler, Sampler, UpdateStats, elite
from vaenas.spaces.space import Population, Scores, SearchSpace

# One long, one with rules of its own, one with uneven slots: what differs between spaces, for a sampler.
SAMPLED = {name: SPACES[name] for name in ("shufflenet-10", "nasbench101", "uneven")}
spaces = pytest.mark.parametrize("space", SAMPLED.values(), ids=SAMPLED.keys())
samplers = pytest.mark.parametrize(("make", "space"), [
    pytest.param(make, space, id=f"{name}-{space_name}")
    for name, make in SAMPLERS.items()
    for space_name, space in SAMPLED.items()
    if name != "fair" or space_name in PLAIN  # strict fairness: every combination of operations is valid
])  # fmt: skip
learned = pytest.mark.parametrize("make", LEARNED.values(), ids=LEARNED.keys())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def good_is_first_operation(population: Population) -> Scores:
    """A score that is best where the last five slots have operation 0, in [0, 1].

    In NAS-Bench-101 they are the operations; edges could not all be 0.
    """
    return (population[:, -5:] == 0).float().mean(-1)


@samplers
def test_samples_are_valid_populations_of_any_size(make: Make, space: SearchSpace) -> None:
    sampler, rng = make(space, seeded()), seeded(1)
    assert isinstance(sampler, Sampler)
    for n in (0, 1, 3, 1500):
        population = sampler.sample(n, rng)
        assert population.shape == (n, space.slots)
        assert population.dtype == torch.int64
        assert space.is_valid(population).all()


@samplers
def test_the_same_seed_gives_the_same_samples_whatever_torchs_own_state(make: Make, space: SearchSpace) -> None:
    drawn = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        sampler = make(space, seeded(3))
        drawn.append(sampler.sample(40, seeded(4)))
    assert torch.equal(*drawn)


@samplers
def test_a_saved_and_loaded_sampler_goes_on_in_step(make: Make, space: SearchSpace) -> None:
    first, rng = make(space, seeded()), seeded(1)
    for _ in range(2):  # twice, so that the optimizer has state of its own
        population = first.sample(33, rng)
        if isinstance(first, LearnedSampler):
            first.update(population, good_is_first_operation(population), rng)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second = make(space, seeded(99))
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    ours, theirs = seeded(5), seeded(5)
    for _ in range(2):
        a, b = first.sample(21, ours), second.sample(21, theirs)
        assert torch.equal(a, b)
        if isinstance(first, LearnedSampler) and isinstance(second, LearnedSampler):
            assert first.update(a, good_is_first_operation(a), ours) == second.update(
                b, good_is_first_operation(b), theirs
            )


@samplers
def test_before_any_update_every_operation_is_drawn(make: Make, space: SearchSpace) -> None:
    population = make(space, seeded()).sample(2000, seeded(1))
    for slot, choices in enumerate(space.choices):
        assert len(population[:, slot].unique()) == choices


@spaces
@learned
def test_updates_move_the_draws_towards_good_architectures(make: Make, space: SearchSpace) -> None:
    sampler, rng = make(space, seeded()), seeded(1)
    assert isinstance(sampler, LearnedSampler)
    before = sampler.sample(1000, rng)
    for _ in range(6):
        population = sampler.sample(100, rng)
        stats = sampler.update(population, good_is_first_operation(population), rng)
    after = sampler.sample(1000, rng)
    gain = good_is_first_operation(after).mean() - good_is_first_operation(before).mean()
    assert gain > 0.15
    assert stats.entropy < math.log(space.max_choices)


@learned
def test_update_goes_on_and_never_restarts(make: Make) -> None:
    """With nothing to rank the second update keeps what the first had learned."""
    space, rng = SPACES["shufflenet-10"], seeded(1)
    sampler = make(space, seeded())
    assert isinstance(sampler, LearnedSampler)
    for _ in range(8):
        population = sampler.sample(100, rng)
        sampler.update(population, good_is_first_operation(population), rng)
    learned_score = good_is_first_operation(sampler.sample(1000, rng)).mean()
    population = sampler.sample(100, rng)
    sampler.update(population, torch.full((100,), 0.5), rng)
    assert good_is_first_operation(sampler.sample(1000, rng)).mean() > learned_score - 0.1


@spaces
@learned
def test_statistics_are_what_they_say(make: Make, space: SearchSpace) -> None:
    sampler, rng = make(space, seeded()), seeded(1)
    assert isinstance(sampler, LearnedSampler)
    population = sampler.sample(60, rng)
    stats = sampler.update(population, good_is_first_operation(population), rng)
    assert isinstance(stats, UpdateStats)
    probabilities = torch.tensor(stats.probabilities)
    assert probabilities.shape == (space.slots, space.max_choices)
    assert torch.allclose(probabilities.sum(-1), torch.ones(space.slots))
    assert (probabilities[~space.on_offer] == 0).all()
    assert stats.entropy == pytest.approx(float(torch.special.entr(probabilities).sum(-1).mean()), abs=1e-6)
    assert 0 < stats.distinct <= 1
    fresh = torch.nn.functional.one_hot(sampler.sample(20_000, rng), space.max_choices).float().mean(0)
    # 1000 draws: a share is within 5.5 sigma of the truth; over 44 slots and 5 operations 1e-5 false alarms
    assert ((fresh - probabilities).abs() < 5.5 * 0.5 / 1000**0.5).all()


@learned
def test_sampling_does_not_depend_on_the_mode_of_any_module(make: Make) -> None:
    sampler = make(SPACES["shufflenet-10"], seeded())
    modules = [value for value in vars(sampler).values() if isinstance(value, torch.nn.Module)]
    other = copy.deepcopy(sampler)
    for module in modules:
        module.eval()
    assert torch.equal(sampler.sample(50, seeded(2)), other.sample(50, seeded(2)))


def test_elite_are_the_top_k_in_order_and_at_least_one() -> None:
    population = torch.arange(5)[:, None]
    scores = torch.tensor([0.1, 0.9, 0.5, 0.9, 0.2])
    assert elite(population, scores, 0.6).flatten().tolist() == [1, 3, 2]
    assert elite(population, scores, 0.01).flatten().tolist() == [1]
