"""What each sampler is by itself."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.spaces.spaces import SPACES
from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.samplers.mixture import Mixture, linear_epsilon
from vaenas.samplers.uniform import FairSampler, UniformSampler
from vaenas.samplers.vae import PAPER, SequenceVAE, VAESampler

SPACE = SPACES["shufflenet-10"]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_strict_fairness_whatever_the_sizes_of_the_calls(sizes: list[int], seed: int) -> None:
    """FairNAS: in each round of four every operation of a slot is used exactly once."""
    sampler, rng = FairSampler(SPACE), torch.Generator().manual_seed(seed)
    drawn = torch.cat([sampler.sample(n, rng) for n in sizes])
    for start in range(0, len(drawn) - 3, 4):
        assert torch.equal(drawn[start : start + 4].sort(0).values, torch.arange(4)[:, None].expand(-1, 10))


def test_a_round_of_an_uneven_space_uses_every_operation_equally_often(rng: torch.Generator) -> None:
    sampler = FairSampler(SPACES["uneven"])  # 2, 3, 1, 5 operations: rounds of 30
    drawn = sampler.sample(30, rng)
    for slot, choices in enumerate(SPACES["uneven"].choices):
        assert drawn[:, slot].bincount().tolist() == [30 // choices] * choices


def test_fair_rounds_are_random(rng: torch.Generator) -> None:
    drawn = FairSampler(SPACE).sample(400, rng)
    assert len(drawn.unique(dim=0)) > 390


def test_categorical_smooths_between_old_probabilities_and_elite_frequencies(rng: torch.Generator) -> None:
    sampler = CategoricalSampler(SPACE, CategoricalSettings(keep_ratio=0.5, smoothing=0.5, floor=0.0))
    population = torch.zeros(4, 10, dtype=torch.int64)
    population[1] = 1
    sampler.update(population, torch.tensor([0.9, 0.8, 0.1, 0.1]), rng)  # elite: one all-0, one all-1
    expected = torch.tensor([0.5 * 0.25 + 0.5 * 0.5] * 2 + [0.5 * 0.25] * 2)
    assert torch.allclose(sampler.probabilities, expected.expand(10, -1))


def test_categorical_never_loses_an_operation(rng: torch.Generator) -> None:
    sampler = CategoricalSampler(SPACE)
    for _ in range(50):
        sampler.update(torch.zeros(4, 10, dtype=torch.int64), torch.ones(4), rng)
    assert (sampler.probabilities > 0.004).all()


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_mixture_draws_the_learned_share(epsilon: float, rng: torch.Generator) -> None:
    learned = CategoricalSampler(SPACE)
    learned.probabilities = torch.tensor([1.0, 0, 0, 0]).expand(10, -1).clone()
    population, from_learned = Mixture(UniformSampler(SPACE), learned).sample(torch.full((4000,), epsilon), rng)
    share = float(from_learned.float().mean())
    assert abs(share - epsilon) <= 5 * (epsilon * (1 - epsilon) / 4000) ** 0.5  # 5 sigma: 6e-7
    assert (population[from_learned] == 0).all()
    assert SPACE.is_valid(population).all()


def test_mixture_under_a_limit_keeps_it_and_keeps_the_shares(rng: torch.Generator) -> None:
    sampler = UniformSampler(SPACE)
    epsilon = torch.full((1000,), 0.5)
    population, from_learned = Mixture(sampler, sampler).sample(epsilon, rng, lambda p: p[:, 0] == 1)
    assert (population[:, 0] == 1).all()
    assert 400 < int(from_learned.sum()) < 600


@given(inc=st.floats(0, 2), limit=st.floats(0, 1), step=st.integers(0, 10**6))
def test_epsilon_grows_by_its_increment_and_stays_a_probability(inc: float, limit: float, step: int) -> None:
    epsilon = linear_epsilon(inc, limit)
    assert 0 <= epsilon(step) <= limit
    assert epsilon(0) == 0
    assert epsilon(step + 1) == pytest.approx(min(limit, epsilon(step) + inc), abs=1e-6)


def test_encoder_and_decoder_are_lstms_and_kl_is_that_of_gaussians(rng: torch.Generator) -> None:
    vae = SequenceVAE(SPACE, PAPER, rng)
    assert isinstance(vae.encoder, torch.nn.LSTM)
    assert isinstance(vae.decoder, torch.nn.LSTM)
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(vae.kl(mean, log_variance), expected, atol=1e-6)


def test_the_loss_is_the_negative_of_equation_2(rng: torch.Generator) -> None:
    """With the posterior's variance at zero the expectation is exact and can be written down."""
    sampler = VAESampler(SPACE, rng, PAPER)
    with torch.no_grad():
        d = PAPER.latent
        sampler.vae.posterior.weight[d:] = 0
        sampler.vae.posterior.bias[d:] = -40.0
    batch = SPACE.uniform(7, rng)
    mean, log_variance = sampler.vae.encode(batch)
    log_p = sampler.vae.decode(mean).log_softmax(-1).gather(-1, batch[..., None]).sum((1, 2))
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1)
    assert float(sampler._loss(batch, rng).detach()) == pytest.approx(float((kl - log_p).mean().detach()), rel=1e-4)


def test_free_bits_stop_the_collapse_that_the_paper_literal_setting_shows(rng: torch.Generator) -> None:
    """Elites in two clusters: all latent information is which cluster, and only free bits force it through z."""
    population = torch.zeros(200, 10, dtype=torch.int64)
    population[100:] = 3
    kls = {}
    for name, free_bits in (("paper", 0.0), ("free", 0.1)):
        settings = replace(PAPER, iterations=60, free_bits=free_bits)
        sampler = VAESampler(SPACE, torch.Generator().manual_seed(0), settings)
        stats = sampler.update(population[torch.randperm(200, generator=rng)], torch.ones(200), rng)
        kls[name] = stats.kl
    assert kls["free"] > 1.0 > 0.0


def test_a_vae_learns_what_no_product_of_categoricals_can(rng: torch.Generator) -> None:
    """All slots equal, half the time all 0 and half all 3: draws must agree across slots far beyond chance."""
    population = torch.zeros(200, 10, dtype=torch.int64)
    population[100:] = 3
    settings = replace(PAPER, keep_ratio=1.0, iterations=200)
    sampler = VAESampler(SPACE, torch.Generator().manual_seed(0), settings)
    for _ in range(2):
        stats = sampler.update(population, torch.ones(200), rng)
    drawn = sampler.sample(1000, rng)
    mixed = ((drawn != drawn[:, :1]).any(-1)).float().mean()
    assert mixed < 0.3  # a product of categoricals with these marginals mixes 99.8 %
    assert 0.3 < float((drawn[:, 0] == 0).float().mean()) < 0.7
    assert stats.active_units is not None
    assert stats.active_units >= 1
    assert stats.reconstruction is not None
    assert stats.reconstruction > 0.95
