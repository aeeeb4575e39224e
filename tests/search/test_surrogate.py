"""The ridge surrogate: exact where the truth is additive, quieter than noisy scores, its penalty chosen as promised."""

import pytest
import torch

from tests.spaces.spaces import SPACES
from vaenas.evaluation.rank import kendall_tau
from vaenas.search.surrogate import PENALTIES, Fusion, RidgeSurrogate
from vaenas.spaces.space import Population, Scores, SearchSpace

SPACE = SPACES["shufflenet-10"]


def additive(space: SearchSpace, population: Population) -> torch.Tensor:
    predicted = torch.randn(space.slots, space.max_choices, generator=torch.Generator().manual_seed(8))
    return predicted.expand(len(population), -1, -1).gather(2, population[:, :, None])[:, :, 0].sum(1)


def predicted_scores(space: SearchSpace, population: Population, scores: Scores) -> Scores:
    return RidgeSurrogate(space, population, scores)(population)


def test_it_finds_an_additive_function_from_fewer_architectures_than_it_ranks(rng: torch.Generator) -> None:
    seen, others = SPACE.uniform(200, rng), SPACE.uniform(500, rng)
    fit = RidgeSurrogate(SPACE, seen, additive(SPACE, seen))
    torch.testing.assert_close(fit(others), additive(SPACE, others), atol=0.02, rtol=0)


def test_it_ranks_better_than_the_noisy_scores_that_it_was_fitted_to(rng: torch.Generator) -> None:
    """Noise as large as the signal: the scores' tau is about 0.5; 100 of 100 seeds gave at least 0.25 more."""
    population = SPACE.uniform(300, rng)
    truth = additive(SPACE, population)
    scores = truth + float(truth.std()) * torch.randn(300, generator=rng)
    before, after = kendall_tau(scores, truth), kendall_tau(predicted_scores(SPACE, population, scores), truth)
    assert after > before + 0.1


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_every_space_has_features_to_fit(space: SearchSpace, rng: torch.Generator) -> None:
    population = space.uniform(40, rng)
    found = predicted_scores(space, population, torch.rand(40, generator=rng))
    assert found.shape == (40,)
    assert found.isfinite().all()


def test_few_or_equal_scores(rng: torch.Generator) -> None:
    one = SPACE.uniform(1, rng)
    assert float(predicted_scores(SPACE, one, torch.tensor([0.25]))) == pytest.approx(0.25)
    many = SPACE.uniform(30, rng)
    torch.testing.assert_close(predicted_scores(SPACE, many, torch.full((30,), 0.5)), torch.full((30,), 0.5))


def test_the_penalty_minimises_the_generalised_cross_validation_error(rng: torch.Generator) -> None:
    """GCV(λ) = n ‖y - Hy‖² / (n - tr H)², with the hat matrix written out."""
    population = SPACE.uniform(60, rng)
    y = additive(SPACE, population).double() + torch.randn(60, generator=rng).double()
    x = torch.cat(SPACE.features(population), dim=1).double()
    x = x - x.mean(0)
    errors, fits = [], []
    for penalty in PENALTIES:
        hat = x @ torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T) + 1 / 60
        fits.append(hat @ y)
        errors.append(float((y - fits[-1]).square().sum() / (60 - hat.trace()) ** 2))
    expected = fits[errors.index(min(errors))].float()
    torch.testing.assert_close(predicted_scores(SPACE, population, y.float()), expected, atol=1e-5, rtol=1e-5)


def test_fused_ranks_see_what_neither_the_scores_nor_the_measures_see_alone(rng: torch.Generator) -> None:
    """Truth is the sum of three parts, of which the scores know one and each measure another; fixed seed."""
    population = SPACE.uniform(200, rng)
    weights = torch.randn(3, SPACE.slots, SPACE.max_choices, generator=rng)
    parts = weights[:, torch.arange(SPACE.slots), population].sum(-1)  # (3, n)
    truth, asked = parts.sum(0), []

    def measures(new: Population) -> torch.Tensor:
        asked.append(new)
        return weights[1:, torch.arange(SPACE.slots), new].sum(-1).t()

    fuse = Fusion(SPACE, measures, 2)
    fused = fuse(population, parts[0])
    assert ((fused > 0) & (fused <= 1)).all()
    assert kendall_tau(fused, truth) > max(kendall_tau(part, truth) for part in parts) + 0.1
    assert torch.equal(fuse(population, parts[0]), fused)
    assert len(torch.cat(asked)) == len(population.unique(dim=0))  # each is measured once
