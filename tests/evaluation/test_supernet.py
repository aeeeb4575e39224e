"""Scores by shared weights: recalibrated for each architecture, leaving no trace in the supernet."""

import copy

import pytest
import torch
from torch import nn

from tests.shared_fixtures import Problem, tiny_problem
from vaenas.evaluation.supernet import SupernetEvaluator, recalibrate
from vaenas.spaces.shufflenet import shufflenet_space


@pytest.fixture(scope="module")
def problem() -> Problem:
    return tiny_problem()


def test_recalibration_is_the_mean_over_batches_of_the_batch_statistics(problem: Problem) -> None:
    network = copy.deepcopy(problem.network)
    images = [problem.prepare(batch) for batch, _ in problem.recalibration]
    architecture = torch.zeros(5, dtype=torch.int64)
    recalibrate(network, architecture, images)
    stem = [network.stem[0](x) for x in images]
    expected = torch.stack([x.mean((0, 2, 3)) for x in stem]).mean(0)
    assert torch.allclose(network.stem[1].running_mean, expected, atol=1e-4)
    assert not any(module.training for module in network.modules())


def test_scores_are_those_of_the_final_network_with_its_own_statistics(problem: Problem) -> None:
    """The built network, its batch norm computed another way, classifies the same images right."""
    population = shufflenet_space(5).uniform(3, torch.Generator().manual_seed(0))
    scores = problem.evaluate(population)
    for architecture, score in zip(population, scores, strict=True):
        final = problem.network.subnet(architecture)
        for norm in final.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.reset_running_stats()
                norm.momentum = None
        final.train()
        final.classifier.eval()
        with torch.no_grad():
            for images, _ in problem.recalibration:
                final(problem.prepare(images))
            final.eval()
            right = [final(problem.prepare(images)).argmax(-1) == labels for images, labels in problem.ranking]
        assert float(score) == pytest.approx(float(torch.cat(right).float().mean()), abs=1e-6)


def test_scores_depend_on_the_architecture_alone_and_leave_the_supernet_as_it_was(problem: Problem) -> None:
    """No statistics leak from one architecture to the next, or into training."""
    network, population = problem.network, shufflenet_space(5).uniform(4, torch.Generator().manual_seed(1))
    network.train()
    weights = {name: p.clone() for name, p in network.named_parameters()}
    state = torch.get_rng_state()
    together = problem.evaluate(population)
    apart = torch.cat([problem.evaluate(row[None]) for row in population.flip(0)]).flip(0)
    assert torch.equal(together, apart)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(p, weights[name]) for name, p in network.named_parameters())
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert ((together >= 0) & (together <= 1)).all()


def test_an_empty_population_has_no_scores(problem: Problem) -> None:
    assert isinstance(problem.evaluate, SupernetEvaluator)
    assert problem.evaluate(torch.empty(0, 5, dtype=torch.int64)).shape == (0,)
