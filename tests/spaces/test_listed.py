"""A space of listed rows: whatever it gives is listed."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vaenas.spaces.listed import ListedSpace
from vaenas.spaces.space import SearchSpace, rows_in

PLAIN = SearchSpace("plain", operations=("abc", "de", "fghi", "abc"), groups=(4,))
EVERYTHING = torch.cartesian_prod(*[torch.arange(n) for n in PLAIN.choices])


def listed(n: int, seed: int) -> ListedSpace:
    rows = EVERYTHING[torch.randperm(len(EVERYTHING), generator=torch.Generator().manual_seed(seed))[:n]]
    return ListedSpace(PLAIN.name, PLAIN.operations, PLAIN.groups, rows)


@given(n=st.integers(1, 40), seed=st.integers(0, 2**31 - 1), prob=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_all_it_gives_is_listed(n: int, seed: int, prob: float) -> None:
    space, rng = listed(n, seed), torch.Generator().manual_seed(seed)
    drawn = space.draw(3 * torch.randn(20, 4, 4, generator=rng), rng)
    others = space.uniform(20, rng)
    for population in (drawn, others, space.mutate(drawn, prob, rng), space.crossover(drawn, others, rng)):
        assert population.shape == (20, 4)
        assert space.is_valid(population).all()
    assert space.size == n
    assert space.is_valid(EVERYTHING).sum() == n


@given(n=st.integers(2, 40), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_neighbours_and_nearest_have_the_most_in_common(n: int, seed: int) -> None:
    space = listed(n, seed)
    distances = (EVERYTHING[:, None] != space.rows[None]).sum(-1)
    chosen = space.nearest(EVERYTHING)
    assert torch.equal((chosen != EVERYTHING).sum(-1), distances.min(1).values)
    assert torch.equal(space.nearest(space.rows), space.rows)
    near = space.neighbours(space.rows[0])
    assert rows_in(near, space.rows).all()
    own = (space.rows[1:] != space.rows[0]).sum(-1)
    assert len(near) == int((own == own.min()).sum())
    assert ((near != space.rows[0]).sum(-1) == own.min()).all()


def test_uniform_takes_every_row_alike(rng: torch.Generator) -> None:
    space = listed(10, 0)
    counts = torch.stack([(space.uniform(5000, rng) == row).all(-1).sum() for row in space.rows]).double()
    # a share of 0.1 over 5,000 draws: 5.5 sigma for each of ten, 4e-7 false alarms
    assert ((counts / 5000 - 0.1).abs() < 5.5 * (0.09 / 5000) ** 0.5).all()
