"""Algorithm 3, line by line, and the updates that it is compared with."""

import io
from collections import Counter

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from tests.samplers.samplers import SAMPLERS
from tests.shared_fixtures import (
    BY_SCORES,
    TRAINING,
    Images,
    anything,
    finish,
    numbered_lines,
    tiny_problem,
    tiny_trainer,
)
from vaenas.networks import NetworkConfig
from vaenas.networks.supernet import ChoiceBlock, Supernet
from vaenas.samplers.categorical import MultinomialSampler
from vaenas.search import gradient
from vaenas.search.architecture_weights import ArchitectureWeights, initial_weights
from vaenas.search.gradient import GradientSearch
from vaenas.search.search import Found
from vaenas.search.settings import ArchUpdate, SupernetTraining
from vaenas.search.supernet_training import SupernetTrainer
from vaenas.spaces.space import IsFeasible, SearchSpace

UPDATES: tuple[ArchUpdate, ...] = ("path", "two-path", "mixture")


def tiny(
    sampler: str = "vae", is_feasible: IsFeasible = anything, seed: int = 0, update: ArchUpdate = "path"
) -> GradientSearch:
    """Algorithm 3 on the smallest supernet: 12 steps, an update every 4."""
    problem, rng = tiny_problem(seed), torch.Generator().manual_seed(7)
    trainer = tiny_trainer(problem, rng)
    w = ArchitectureWeights(problem.space, 0.01, update, Images(torch.arange(200, 400)), trainer)
    return GradientSearch(
        space=problem.space, trainer=trainer, sampler=SAMPLERS[sampler](problem.space, rng), evaluate=problem.evaluate,
        rng=rng, training=TRAINING, surrogate=BY_SCORES, is_feasible=is_feasible, weights=w, draws=5,
    )  # fmt: skip


def test_a_whole_search_says_what_the_lines_say() -> None:
    search = tiny()
    records, found, _ = finish(gradient.run(search))
    kinds = Counter(record.kind for record in records)
    assert (kinds["train"], kinds["update"], kinds["weights"], kinds["comparison"]) == (12, 3, 3, 1)
    for record in records:
        if record.kind == "update":
            assert len(record.values["scores"]) == 8  # N_s
            assert not any(record.values["learned"])  # line 6: from U
    derived = found.population[found.best]
    assert torch.equal(derived, search.weights.values.argmax(-1))  # line 12
    assert 0 <= float(found.scores[found.best]) <= 1
    assert len(records[-1].values["sampler"]) == len(records[-1].values["uniform"]) == 5
    last = [record for record in records if record.kind == "weights"][-1].values
    assert len(last["entropy_of_weights"]) == search.space.slots
    assert 0 < last["distinct_so_far"] <= 12
    assert last["derived"] == derived.tolist()


def test_the_lines_stand_in_the_order_of_the_paper() -> None:
    assert numbered_lines(gradient.run) == [*range(1, 13)]


@pytest.mark.parametrize(("sampler", "update"), [("vae", "path")])
def test_saved_at_any_boundary_and_loaded_it_ends_in_the_same_bits(sampler: str, update: ArchUpdate) -> None:
    search = tiny(sampler, update=update)
    _, found, saved = finish(gradient.run(search), search)
    expected = end(search, found)
    assert len(saved) == 12
    for content in (saved[2], saved[3], saved[-1]):  # before and after a ranking, after training
        other = tiny(sampler, seed=5, update=update)
        torch.manual_seed(99)
        other.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
        again = end(other, finish(gradient.run(other))[1])
        assert all(torch.equal(again[name], expected[name]) for name in expected)


def end(search: GradientSearch, found: Found) -> dict[str, torch.Tensor]:
    return {
        **search.trainer.network.state_dict(), "rng": search.rng.get_state(), "weights": search.weights.values.detach(),
        "population": found.population, "scores": found.scores,
    }  # fmt: skip


@pytest.mark.parametrize("update", UPDATES)
def test_line_3_moves_the_architecture_weights_alone_and_line_4_the_path_alone(update: ArchUpdate) -> None:
    search = tiny("uniform", update=update)
    network, w = search.trainer.network, search.weights
    before = {name: value.clone() for name, value in network.named_parameters()}
    architecture = search.space.uniform(1, search.rng)[0]
    w.step(architecture)
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert all(value.grad is None and value.requires_grad for value in network.parameters())
    assert not torch.equal(w.values, torch.zeros_like(w.values))


def test_only_the_sampled_operations_are_computed() -> None:
    search = tiny("uniform")
    called: list[int] = []
    for layer in search.trainer.network.layers:
        for operation, module in layer.operations.items():
            module.register_forward_hook(lambda *_, o=int(operation): called.append(o))
    architecture = search.space.uniform(1, search.rng)[0]
    search.weights.step(architecture)
    assert called == architecture.tolist()


class Sum(Supernet):
    """Slots whose operation o multiplies the input by its own number; logits are the sum: gradients by hand."""

    class Times(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(factor))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.factor * x

    def __init__(self, factors: list[list[float]]) -> None:
        super().__init__(NetworkConfig(1, 2, 2, 1, len(factors)))
        self.layers = nn.ModuleList(ChoiceBlock({o: Sum.Times(f) for o, f in enumerate(row)}) for row in factors)

    def forward(
        self, images: torch.Tensor, architecture: torch.Tensor | None = None, gates: torch.Tensor | None = None
    ) -> torch.Tensor:
        path = self.path(architecture)
        parts = [
            layer(images.flatten(1), operations, None if gates is None else gates[slot])
            for slot, (layer, operations) in enumerate(zip(self.layers, path, strict=True))
        ]
        return torch.stack(parts).sum(0)


class Constant:
    """Images (2, 1, 1), which are the logits of the right class and the wrong one."""

    def __len__(self) -> int:
        return 8

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([1, 0], dtype=torch.uint8).view(1, 2, 1, 1).expand(len(indices), -1, -1, -1), (0 * indices)


def by_hand(update: ArchUpdate, rate: float = 0.05, seed: int = 0) -> ArchitectureWeights:
    """Two slots of three operations that scale the logits by -1, 0.5 and 2: the last is best in both."""
    space, rng = SearchSpace("sum", ("abc",) * 2, (2,)), torch.Generator().manual_seed(seed)
    network, fabric = Sum([[-1.0, 0.5, 2.0], [2.0, -1.0, 0.5]]), Fabric(accelerator="cpu", devices=1)
    settings = SupernetTraining(batch_size=8, label_smoothing=0.0)
    trainer = SupernetTrainer(network, settings, Constant(), lambda images, _: images.float(), fabric, rng)
    return ArchitectureWeights(space, rate, update, Constant(), trainer)


def test_the_gradient_of_a_sampled_path_is_that_of_the_formula() -> None:
    """dL/dw_i = dL/dg · p_a (δ_ia - p_i), ProxylessNAS eq. 4 with one path: by hand for SGD with rate 1."""
    w = by_hand("path")
    w.optimizer = torch.optim.SGD([w.values], 1.0)
    w.step(torch.tensor([2, 1]))
    total = 2.0 - 1.0  # logit of class 0; class 1's is 0
    d_logit = torch.tensor(total).sigmoid() - 1
    p = torch.full((3,), 1 / 3)
    for slot, (chosen, factor) in enumerate(((2, 2.0), (1, -1.0))):
        d_gate = d_logit * factor
        expected = -d_gate * p[chosen] * (torch.eye(3)[chosen] - p)
        assert torch.allclose(w.values[slot], expected, atol=1e-6)


@pytest.mark.parametrize("update", UPDATES)
def test_the_best_operation_of_every_slot_is_found(update: ArchUpdate) -> None:
    """Every update sees that the operation that scales most is best; 300 steps, fixed seeds 0-2, all must find it."""
    for seed in range(3):
        w = by_hand(update, seed=seed)
        for _ in range(300):
            w.step(w.space.uniform(1, w.batches.rng)[0])
        assert w.derive(anything, "").tolist() == [[2, 0]]
        assert float(torch.special.entr(w.values.detach().softmax(-1)).sum(-1).max()) < 0.9 * torch.log(
            torch.tensor(3.0)
        )


def test_two_paths_leave_the_other_operations_probabilities() -> None:
    w = by_hand("two-path")
    for _ in range(20):
        before = w.values.softmax(-1).detach()
        w.step(torch.tensor([0, 0]))
        same = torch.isclose(before, w.values.softmax(-1), atol=1e-6).sum(-1)
        assert (same >= 1).all()


def test_line_12_keeps_the_limits_and_prefers_the_likeliest() -> None:
    w = by_hand("path")
    with torch.no_grad():
        w.values.copy_(torch.tensor([[0.0, 1.0, 3.0], [2.0, 1.9, 0.0]]))
    assert w.derive(anything, "").tolist() == [[2, 0]]
    # [2, 1] is 0.1 less; [1, 0] would be 2 less.
    assert w.derive(lambda rows: ~((rows[:, 0] == 2) & (rows[:, 1] == 0)), "").tolist() == [[2, 1]]
    assert w.derive(lambda rows: rows.sum(-1) <= 1, "").tolist() == [[1, 0]]


def test_multinomial_draws_follow_the_weights_as_they_are(rng: torch.Generator) -> None:
    """Shares of 20,000 draws within 5 standard errors: false-alarm rate below 1e-5; later weights count at once."""
    space = SearchSpace("two", ("ab", "abc"), (1, 1))
    weights = initial_weights(space)
    sampler = MultinomialSampler(space, weights)
    with torch.no_grad():
        weights[0, 1], weights[1, 2] = 1.0, -1.0
    drawn = sampler.sample(20_000, rng)
    for slot in range(2):
        p = weights[slot].softmax(-1)
        seen = torch.nn.functional.one_hot(drawn[:, slot], 3).float().mean(0)
        assert ((seen - p).abs() <= 5 * (p * (1 - p) / 20_000).sqrt() + 1e-12).all()


def test_every_ranked_and_returned_architecture_keeps_the_limit() -> None:
    search = tiny(is_feasible=lambda population: population[:, 0] != 2)
    records, found, _ = finish(gradient.run(search))
    for record in records:
        if record.kind == "update":
            assert all(row[0] != 2 for row in record.values["population"])
    assert (found.population[:, 0] != 2).all()
