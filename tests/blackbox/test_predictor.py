"""The Gaussian process against its equations written down densely, and what it can predict."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vaenas.blackbox.predictor import JITTER, PRIOR_MEAN, PRIOR_STD, GaussianProcess, warp
from vaenas.spaces.space import Population, SearchSpace

SPACE = SearchSpace("six", operations=("abc",) * 6, groups=(6,))


def additive(population: Population) -> Tensor:
    """A sum of one number per slot and operation, the same in every test; not in [0, 1]."""
    table = torch.randn(SPACE.slots, 3, generator=torch.Generator().manual_seed(5))
    return table.expand(len(population), -1, -1).gather(2, population[:, :, None]).sum((1, 2))


def different(n: int, rng: torch.Generator) -> Population:
    """n different architectures."""
    population = SPACE.uniform(20 * n, rng).unique(dim=0)
    return population[torch.randperm(len(population), generator=rng)[:n]]


def fitted(population: Population, scores: Tensor, times: int = 1) -> GaussianProcess:
    process = GaussianProcess(SPACE.slots)
    for _ in range(times):
        process.fit(SPACE.features(population), SPACE.keys(population), scores)
    return process


def kernel(process: GaussianProcess, a: Population, b: Population) -> Tensor:
    """Amplitude · exp(-Σ_g weight_g [slots g differ]) + own · [same architecture], entry by entry."""
    weights, amplitude, own = (process.log[name].exp() for name in ("weights", "amplitude", "own"))
    rows = [[float(amplitude * (-(weights * (x != y)).sum()).exp() + own * bool((x == y).all())) for y in b] for x in a]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(a), len(b))


def dense(process: GaussianProcess, known: Population, scores: Tensor, asked: Population) -> tuple[Tensor, Tensor]:
    """Mean k* K^-1 y and covariance k** - k* K^-1 k*^T, by the inverse (Rasmussen & Williams 2006, eq. 2.25-2.26)."""
    noise = process.log["noise"].exp() + JITTER
    inverse = (kernel(process, known, known) + noise * torch.eye(len(known), dtype=torch.float64)).inverse()
    cross = kernel(process, asked, known)
    return cross @ inverse @ warp(scores.double()), kernel(process, asked, asked) - cross @ inverse @ cross.T


def log_posterior(process: GaussianProcess, known: Population, scores: Tensor) -> float:
    """Log marginal likelihood (eq. 2.30) and log-normal priors of the hyperparameters, up to a constant."""
    noise = process.log["noise"].exp() + JITTER
    covariance = kernel(process, known, known) + noise * torch.eye(len(known), dtype=torch.float64)
    targets = warp(scores.double())
    prior = sum(float((((v - PRIOR_MEAN[k]) / PRIOR_STD[k]) ** 2).sum()) for k, v in process.log.items())
    return -0.5 * float(targets @ covariance.inverse() @ targets + torch.logdet(covariance)) - 0.5 * prior


def rank_correlation(a: Tensor, b: Tensor) -> float:
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_mean_and_deviation_are_those_of_the_equations(noise: float, rng: torch.Generator) -> None:
    """Some architectures have several labels, and some of those asked for have labels."""
    known = different(20, rng)
    known = torch.cat([known, known[:6], known[:3]])
    scores = additive(known) + noise * torch.randn(len(known), generator=rng)
    asked = torch.cat([known[:5], different(15, rng)])
    process = fitted(known, scores, times=2)
    told, deviation, _ = process.posterior(SPACE.features(asked), SPACE.keys(asked))
    mean, covariance = dense(process, known, scores, asked)
    for found in (told, process.mean(SPACE.features(asked), SPACE.keys(asked))):
        torch.testing.assert_close(found, mean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(deviation, covariance.diagonal().sqrt(), atol=1e-5, rtol=1e-5)


def test_labels_without_noise_are_met(rng: torch.Generator) -> None:
    known = different(60, rng)
    scores = additive(known)
    process = fitted(known, scores, times=5)
    mean, deviation, _ = process.posterior(SPACE.features(known), SPACE.keys(known))
    # in units of the labels' own standard deviation
    assert float((mean - warp(scores.double())).abs().max()) < 0.1
    assert float(deviation.max()) < 0.15
    fresh = different(200, torch.Generator().manual_seed(1))
    fresh = fresh[~torch.isin(SPACE.keys(fresh), SPACE.keys(known))]
    unsure = process.posterior(SPACE.features(fresh), SPACE.keys(fresh))[1]
    assert float(unsure.min()) > float(deviation.max())


@pytest.mark.parametrize("seed", range(3))
def test_sixty_labels_of_an_additive_function_rank_what_has_no_label(seed: int) -> None:
    """60 of 729: 13 numbers make the function, and no pair of slots has been seen in all combinations often."""
    rng = torch.Generator().manual_seed(seed)
    known = different(60, rng)
    process = fitted(known, additive(known))
    fresh = different(300, rng)
    fresh = fresh[~torch.isin(SPACE.keys(fresh), SPACE.keys(known))]
    mean = process.mean(SPACE.features(fresh), SPACE.keys(fresh))
    assert rank_correlation(mean, additive(fresh)) > 0.9


def test_repeated_labels_of_one_architecture_are_averaged(rng: torch.Generator) -> None:
    """Two labels, well apart, of one of two equal best: the mean lies between them, and it is surer than of one."""
    known = different(40, rng)
    scores = additive(known).sort().values
    known = torch.cat([known, known[-1:].repeat(8, 1)])
    spread = 0.5 * scores.std() * torch.tensor([1.0, -1.0] * 4)
    scores = torch.cat([scores, scores[-1] + spread])
    process = fitted(known, scores, times=3)
    once, often = known[-10:-9], known[-1:]
    asked = torch.cat([once, often])
    mean, deviation, _ = process.posterior(SPACE.features(asked), SPACE.keys(asked))
    labels = warp(scores.double())[-9:]  # of `often`
    assert abs(float(mean[1] - labels.mean())) < 0.2 * float(labels.max() - labels.min())
    assert float(deviation[1]) < 0.8 * float(deviation[0])


def test_a_fit_makes_the_labels_likelier(rng: torch.Generator) -> None:
    known = different(40, rng)
    scores = additive(known)
    before = log_posterior(GaussianProcess(SPACE.slots), known, scores)
    assert log_posterior(fitted(known, scores), known, scores) > before + 1


def test_a_later_fit_goes_on_from_the_last_one(rng: torch.Generator) -> None:
    """What 80 labels told of the slots is still known after a fit on five others, which alone cannot tell it."""
    matter = torch.tensor([True, False, False, True, False, False])

    def known_slots(process: GaussianProcess) -> bool:
        weights = process.log["weights"]
        return float(weights[matter].min()) > float(weights[~matter].max())

    many, few = different(80, rng), different(5, rng)
    process = fitted(many, (many[:, 0] + 2 * many[:, 3]).float(), times=3)
    assert known_slots(process)
    scores = (few[:, 0] + 2 * few[:, 3]).float()
    process.fit(SPACE.features(few), SPACE.keys(few), scores)
    assert known_slots(process)
    assert not known_slots(fitted(few, scores))


def test_at_most_so_many_labels_fit_the_hyperparameters_but_all_count(rng: torch.Generator) -> None:
    known = different(60, rng)
    scores = additive(known)
    process = GaussianProcess(SPACE.slots)
    process.fit(SPACE.features(known), SPACE.keys(known), scores, most=20)
    asked = different(10, rng)
    mean, _ = dense(process, known, scores, asked)
    told = process.posterior(SPACE.features(asked), SPACE.keys(asked))[0]
    torch.testing.assert_close(told, mean, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 10, 50])
def test_thompson_picks_different_ones(n: int, rng: torch.Generator) -> None:
    known = different(20, rng)
    process = fitted(known, additive(known))
    asked = different(50, rng)
    chosen = process.thompson(SPACE.features(asked), SPACE.keys(asked), n, rng)
    assert chosen.dtype == torch.int64
    assert len(chosen) == len(chosen.unique()) == n
    assert 0 <= int(chosen.min()) <= int(chosen.max()) < 50


def test_thompson_picks_each_as_often_as_it_is_the_best(rng: torch.Generator) -> None:
    """Of two: P(f_1 > f_0) = Φ((m_1 - m_0) / σ), σ² the difference's variance. 5 sigma: false-alarm rate 6e-7."""
    known, n = different(12, rng), 2000
    scores = additive(known)
    process = fitted(known, scores)
    asked = different(40, rng)
    mean, covariance = dense(process, known, scores, asked)
    pair = mean.argsort(descending=True)[[12, 0]]  # close, not equal
    (a, b), (aa, ab), (bb,) = mean[pair], covariance[pair[0], pair], covariance[pair[1], pair[1:]]
    z = float((b - a) / (aa + bb - 2 * ab + 2 * JITTER).sqrt())
    expected = 0.5 * (1 + math.erf(z / 2**0.5))
    assert 0.55 < expected < 0.95  # else the test shows nothing
    features, keys = SPACE.features(asked[pair]), SPACE.keys(asked[pair])
    seen = sum(int(process.thompson(features, keys, 1, rng)) for _ in range(n))
    assert abs(seen / n - expected) < 5 * (expected * (1 - expected) / n) ** 0.5


def test_thompson_of_one_architecture_twice(rng: torch.Generator) -> None:
    """Equal rows have a singular covariance; the draws still come."""
    known = different(20, rng)
    process = fitted(known, additive(known))
    asked = different(1, rng).repeat(5, 1)
    chosen = process.thompson(SPACE.features(asked), SPACE.keys(asked), 5, rng)
    assert chosen.sort().values.tolist() == [0, 1, 2, 3, 4]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
@settings(max_examples=100, deadline=None)
def test_warp_keeps_the_order_and_is_finite(values: list[float]) -> None:
    scores = torch.tensor(values, dtype=torch.float64)
    warped = warp(scores)
    assert warped.isfinite().all()
    order = scores.argsort(stable=True)
    assert (warped[order].diff() >= 0).all()


@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(1e-3, 1e3), offset=st.floats(-1e3, 1e3))
@settings(max_examples=30, deadline=None)
def test_warp_does_not_depend_on_units(seed: int, scale: float, offset: float) -> None:
    scores = torch.randn(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    warped = warp(scores)
    torch.testing.assert_close(warp(offset + scale * scores), warped, atol=1e-6, rtol=1e-6)
    assert float(warped.mean()) == pytest.approx(0, abs=1e-9)
    assert float(warped.std()) == pytest.approx(1, abs=1e-9)


def test_warp_brings_bad_scores_together() -> None:
    """Above the median distances keep their proportions, below they shrink the more the further down."""
    steps = warp(torch.linspace(0, 1, 101, dtype=torch.float64)).diff()
    above, below = steps[50:], steps[:50]
    torch.testing.assert_close(above, above[:1].expand_as(above))
    assert (below.diff() > 0).all()
    assert float(below[-1]) < float(above[0])


def test_two_equal_labels_can_be_learnt() -> None:
    known = torch.tensor([[0] * 6, [1] * 6])
    process = fitted(known, torch.full((2,), 0.5))
    mean, deviation, _ = process.posterior(SPACE.features(known), SPACE.keys(known))
    assert mean.tolist() == [0, 0]
    assert (deviation > 0).all()
