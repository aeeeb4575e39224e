"""Scores by shared weights: recalibrated for each architecture, leaving no trace in the supernet."""

import dataclasses
import weakref

import pytest
import torch
from torch import nn

from tests.shared_fixtures import Problem, tiny_problem
from vaenas.evaluation.settings import SupernetMetric
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.evaluation.trie import Node, walk
from vaenas.networks.supernet import Step
from vaenas.spaces.shufflenet import shufflenet_space


@pytest.fixture(scope="module")
def problem() -> Problem:
    return tiny_problem()


def scores_of_final_networks(
    problem: Problem, population: torch.Tensor, ranking_metric: SupernetMetric
) -> torch.Tensor:
    """Each network built and run alone, its batch norm computed another way."""
    scores = []
    for architecture in population:
        final = problem.network.subnet(architecture)
        for norm in final.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.reset_running_stats()
                norm.momentum = None
        final.train()
        final.classifier.eval()
        with torch.no_grad():
            for images, _ in problem.evaluate.recalibration:
                final(problem.prepare(images))
            if problem.evaluate.recalibration:
                final.eval()
            logits = torch.cat([final(problem.prepare(images)) for images, _ in problem.ranking])
        labels = torch.cat([labels for _, labels in problem.ranking])
        if ranking_metric == "accuracy":
            scores.append((logits.argmax(-1) == labels).float().mean())
        elif ranking_metric == "quadratic":
            p, truth = logits.double().softmax(-1), torch.eye(logits.shape[-1])[labels]
            scores.append(((p * truth).sum(-1) + 0.5 - 0.5 * p.square().sum(-1)).mean().float())
        else:
            right = logits.double().softmax(-1)[torch.arange(len(labels)), labels]
            scores.append((right.prod() ** (1 / len(labels))).float())
    return torch.stack(scores)


@pytest.mark.parametrize(
    ("batches", "ranking_metric"),
    [(2, "accuracy"), (1, "accuracy"), (0, "accuracy"), (2, "likelihood"), (2, "quadratic")],
)
def test_scores_are_those_of_the_final_network_with_its_own_statistics(
    problem: Problem, batches: int, ranking_metric: SupernetMetric
) -> None:
    """Without recalibration every ranking batch has its own statistics."""
    evaluate = SupernetEvaluator(
        problem.network,
        problem.recalibration[:batches],
        problem.ranking,
        problem.prepare,
        ranking_metric=ranking_metric,
    )
    population = shufflenet_space(5).uniform(8, torch.Generator().manual_seed(0))
    population[4:, :3] = population[:4, :3]  # equal beginnings
    expected = scores_of_final_networks(dataclasses.replace(problem, evaluate=evaluate), population, ranking_metric)
    assert torch.allclose(evaluate(population), expected, atol=1e-5)


def test_equal_beginnings_are_computed_once(problem: Problem) -> None:
    """For each batch as many operations as the population has different beginnings of each length."""
    population = shufflenet_space(5).uniform(12, torch.Generator().manual_seed(3))
    population = torch.cat([population, population[:6]])
    population[6:12, :4] = population[:6, :4]
    beginnings = sum(len(population[:, :length].unique(dim=0)) for length in range(1, 6))
    computed = []
    hooks = [
        module.register_forward_hook(lambda *_: computed.append(1))
        for layer in problem.network.layers
        for module in layer.operations.values()
    ]
    scores = problem.evaluate(population)
    for hook in hooks:
        hook.remove()
    assert len(computed) == beginnings * (len(problem.recalibration) + len(problem.ranking))
    assert torch.equal(scores[:6], scores[12:])


def test_an_activation_is_kept_only_while_a_branch_is_open() -> None:
    """What one chain of steps is given is gone when its second step runs."""
    alive: list[weakref.ref] = []

    def run(x: torch.Tensor) -> torch.Tensor:
        assert sum(ref() is not None for ref in alive) <= 1
        y = x + 1
        alive.append(weakref.ref(y))
        return y

    nodes: dict = {}
    for i in range(6):
        nodes = {i: Node(Step(i, run, []), nodes, [] if nodes else [0])}
    ((row, x),) = walk(nodes.values(), torch.zeros(1))
    assert (row, float(x)) == (0, 6)


def test_scores_depend_on_the_architecture_alone_and_leave_the_supernet_as_it_was(problem: Problem) -> None:
    """No statistics leak from one architecture to the next, or into training."""
    network, population = problem.network, shufflenet_space(5).uniform(4, torch.Generator().manual_seed(1))
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    together = problem.evaluate(population)
    apart = torch.cat([problem.evaluate(row[None]) for row in population.flip(0)]).flip(0)
    assert torch.equal(together, apart)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert ((together >= 0) & (together <= 1)).all()


def test_an_empty_population_has_no_scores(problem: Problem) -> None:
    assert isinstance(problem.evaluate, SupernetEvaluator)
    assert problem.evaluate(torch.empty(0, 5, dtype=torch.int64)).shape == (0,)
