"""What every search space keeps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.spaces.spaces import PLAIN, SPACES
from vaenas.errors import UserError
from vaenas.spaces.space import ConstraintTooTight, SearchSpace, draw_valid, rows_in

seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(params=SPACES.values(), ids=SPACES.keys())
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return request.param


@pytest.fixture(params=PLAIN.values(), ids=PLAIN.keys())
def plain(request: pytest.FixtureRequest) -> SearchSpace:
    return request.param


@given(seed=seeds, prob=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", SPACES)
def test_draw_mutation_and_crossover_keep_validity(name: str, seed: int, prob: float) -> None:
    space, rng = SPACES[name], torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(40, space.slots, space.max_choices, generator=rng)
    drawn = space.draw(logits, rng)
    others = space.uniform(40, rng)
    for population in (drawn, others, space.mutate(drawn, prob, rng), space.crossover(drawn, others, rng)):
        assert population.dtype == torch.int64
        assert population.shape == (40, space.slots)
        assert space.is_valid(population).all()


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", SPACES)
def test_text_code_is_an_exact_inverse(name: str, seed: int) -> None:
    space = SPACES[name]
    population = space.uniform(20, torch.Generator().manual_seed(seed))
    codes = space.encode(population)
    assert torch.equal(space.decode(codes), population)
    assert space.encode(space.decode(codes)) == codes
    assert len(set(codes)) == len(torch.unique(population, dim=0))


def test_is_valid_tells_rows_out_of_range(space: SearchSpace, rng: torch.Generator) -> None:
    population = space.uniform(3, rng)
    population[0, 0], population[2, 1] = -1, space.choices[1]
    assert space.is_valid(population).tolist() == [False, True, False]
    assert not space.is_valid(population[:, :-1]).any()


def test_draw_follows_the_softmax_of_its_logits(plain: SearchSpace, rng: torch.Generator) -> None:
    """Chi-square test over all slots; false-alarm rate about 1e-6 with the fixed seed's draw."""
    n = 20_000
    logits = torch.randn(plain.slots, plain.max_choices, generator=rng).masked_fill(~plain.on_offer, -torch.inf)
    drawn = plain.draw(logits.expand(n, -1, -1), rng)
    seen = torch.nn.functional.one_hot(drawn, plain.max_choices).sum(0).double()
    expected = n * logits.double().softmax(-1)
    chi2 = float((((seen - expected) ** 2 / expected)[plain.on_offer]).sum())
    freedom = sum(plain.choices) - plain.slots
    # Wilson-Hilferty: (chi2 / f)^(1/3) is close to normal; 4.9 sigma is 5e-7 on one side
    z = ((chi2 / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5
    assert z < 4.9


def test_zero_logits_are_uniform(space: SearchSpace) -> None:
    a = space.draw(torch.zeros(50, space.slots, space.max_choices), torch.Generator().manual_seed(1))
    assert torch.equal(a, space.uniform(50, torch.Generator().manual_seed(1)))


def test_without_probability_mutation_changes_nothing(space: SearchSpace, rng: torch.Generator) -> None:
    population = space.uniform(500, rng)
    assert torch.equal(space.mutate(population, 0.0, rng), population)


def test_mutation_probability(plain: SearchSpace, rng: torch.Generator) -> None:
    population = plain.uniform(4000, rng)
    changed = (plain.mutate(population, 0.3, rng) != population).double().mean(0)
    expected = 0.3 * (1 - 1 / torch.tensor(plain.choices).double())
    # 5 sigma of a share over 4000 rows; over 58 slots the false-alarm rate is below 4e-5
    assert ((changed - expected).abs() <= 5 * (expected * (1 - expected) / 4000).sqrt() + 1e-12).all()


def test_crossover_takes_each_slot_from_a_parent(plain: SearchSpace, rng: torch.Generator) -> None:
    mothers, fathers = plain.uniform(200, rng), plain.uniform(200, rng)
    children = plain.crossover(mothers, fathers, rng)
    assert ((children == mothers) | (children == fathers)).all()
    assert not torch.equal(children, mothers)
    assert not torch.equal(children, fathers)


def test_neighbours_are_valid_different_and_mutual(space: SearchSpace, rng: torch.Generator) -> None:
    architecture = space.uniform(1, rng)[0]
    near = space.neighbours(architecture)
    assert near.dtype == torch.int64
    assert space.is_valid(near).all()
    assert len(torch.unique(near, dim=0)) == len(near) > 0
    assert not rows_in(architecture[None], near)
    for other in near[torch.randperm(len(near), generator=rng)[:5]]:
        assert rows_in(architecture[None], space.neighbours(other))


def test_neighbours_of_a_plain_space_differ_in_one_slot(plain: SearchSpace, rng: torch.Generator) -> None:
    architecture = plain.uniform(1, rng)[0]
    near = plain.neighbours(architecture)
    assert len(near) == sum(plain.choices) - plain.slots
    assert ((near != architecture).sum(-1) == 1).all()


def test_wrong_codes_are_named(space: SearchSpace, rng: torch.Generator) -> None:
    code = space.encode(space.uniform(1, rng))[0]
    with pytest.raises(UserError, match="slot 0 has '#'; allowed are"):
        space.decode(["#" + code[1:]])
    with pytest.raises(UserError, match=f"{code + '-'!r}: space {space.name} writes {space.slots} operations as"):
        space.decode([code + "-"])


def test_decode_of_nothing_is_an_empty_population(space: SearchSpace) -> None:
    assert space.decode([]).shape == (0, space.slots)


def test_draw_valid_gives_the_uniform_distribution_on_what_is_accepted(rng: torch.Generator) -> None:
    space = SPACES["uneven"]
    drawn = draw_valid(lambda n: space.uniform(n, rng), lambda p: p[:, 3] >= 3, 5000)
    assert (drawn[:, 3] >= 3).all()
    share = float((drawn[:, 3] == 3).double().mean())
    assert abs(share - 0.5) < 5 * 0.5 / 5000**0.5  # 5 sigma: 6e-7


def test_draw_valid_gives_up_and_counts(rng: torch.Generator) -> None:
    space = SPACES["uneven"]
    with pytest.raises(
        ConstraintTooTight, match=r"of 12295 architectures drawn only 0 keep --max-flops 1K; 7 are needed"
    ):
        draw_valid(lambda n: space.uniform(n, rng), lambda p: p[:, 0] > 9, 7, "--max-flops 1K", max_proposals=12_000)


def test_draw_valid_finds_a_thousand_where_it_finds_64(rng: torch.Generator) -> None:
    """One in 1,024 passes: 409,600 proposals hold 400 of them."""
    space = SearchSpace("plain", ("01",) * 10, (10,))
    drawn = draw_valid(lambda n: space.uniform(n, rng), lambda p: p.all(-1), 1000)
    assert drawn.shape == (1000, 10)
    assert drawn.all()


def test_rows_in() -> None:
    a = torch.tensor([[0, 1], [1, 1], [0, 1]])
    assert rows_in(a, torch.tensor([[0, 1], [2, 2]])).tolist() == [True, False, True]
    assert rows_in(a, a[:0]).tolist() == [False, False, False]


@pytest.mark.parametrize(
    ("operations", "groups"), [(("ab",), (2,)), (("ab", "c"), (2, 0)), (("aa",), (1,)), (("a-",), (1,)), (("",), (1,))]
)
def test_impossible_spaces_are_refused(operations: tuple[str, ...], groups: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"slot|groups"):
        SearchSpace("bad", operations, groups)
