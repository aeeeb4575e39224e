"""Algorithm 3, line by line, and the updates that it is compared with."""

import io
from collections import Counter

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from tests.samplers.samplers import SAMPLERS
from tests.shared_fixtures import Images, tiny_problem
from vaenas.networks.supernet import ChoiceBlock, Supernet
from vaenas.samplers.multinomial import MultinomialSampler, entropy
from vaenas.samplers.uniform import UniformSampler
from vaenas.search.gradient import GradientInputs, GradientSearch, GradientState, Update, architecture_weights
from vaenas.spaces.space import IsFeasible, Population, SearchSpace

UPDATES: tuple[Update, ...] = ("path", "two-path", "mixture")
SETTINGS = {
    "steps": 12, "vae_interval": 4, "ranking_size": 8, "batch_size": 16, "learning_rate": 0.05,
    "label_smoothing": 0.1, "clip_norm": 5.0, "draws": 5,
}  # fmt: skip


def anything(population: Population) -> torch.Tensor:
    return torch.ones(len(population), dtype=torch.bool)


def tiny(
    sampler: str = "vae", is_feasible: IsFeasible = anything, seed: int = 0, **changes: object
) -> tuple[GradientSearch, GradientState]:
    """Algorithm 3 on the smallest supernet: 12 steps, an update every 4."""
    problem, rng = tiny_problem(seed), torch.Generator().manual_seed(7)
    fabric = Fabric(accelerator="cpu", devices=1)
    network, optimizer = fabric.setup(problem.network, torch.optim.SGD(problem.network.parameters(), 0.05, 0.9))
    weights = architecture_weights(problem.space)
    made = (
        MultinomialSampler(problem.space, weights)
        if sampler == "multinomial"
        else SAMPLERS[sampler](problem.space, rng)
    )
    search = GradientSearch(
        problem.space, GradientInputs(**{**SETTINGS, **changes}), fabric, problem.training,
        Images(torch.arange(200, 400)), problem.augment, problem.evaluate, is_feasible,
    )  # fmt: skip
    return search, GradientState(network, optimizer, made, rng, weights, torch.optim.Adam([weights], 0.01))


def test_a_whole_search_says_what_the_lines_say() -> None:
    search, state = tiny()
    records = list(search.run(state))
    kinds = Counter(record.kind for record in records)
    assert (kinds["train"], kinds["update"], kinds["weights"], kinds["comparison"]) == (12, 3, 3, 1)
    for record in records:
        if record.kind == "update":
            assert len(record.values["scores"]) == 8  # N_s
            assert not any(record.values["learned"])  # line 6: from U
    assert state.derived is not None
    assert torch.equal(state.derived[0], state.weights.argmax(-1))  # line 12
    assert state.evaluated is not None
    assert 0 <= float(state.evaluated.lookup(state.derived)) <= 1
    assert len(records[-1].values["sampler"]) == len(records[-1].values["uniform"]) == 5
    last = [record for record in records if record.kind == "weights"][-1].values
    assert len(last["entropy_of_weights"]) == search.space.slots
    assert 0 < last["distinct_so_far"] <= 12
    assert last["derived"] == state.derived[0].tolist()


@pytest.mark.parametrize(("sampler", "update"), [("vae", "path")])
def test_saved_at_any_record_and_loaded_it_ends_in_the_same_bits(sampler: str, update: Update) -> None:
    search, state = tiny(sampler, update=update)
    saved: list[bytes] = []
    for _ in search.run(state):
        file = io.BytesIO()
        torch.save(state.state_dict(), file)
        saved.append(file.getvalue())
    expected = end(state)
    for content in saved[:: max(1, len(saved) // 3)]:
        search, other = tiny(sampler, seed=5, update=update)
        torch.manual_seed(99)
        other.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
        for _ in search.run(other):
            pass
        found = end(other)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def end(state: GradientState) -> dict[str, torch.Tensor]:
    assert state.evaluated is not None
    assert state.derived is not None
    assert state.compared is not None
    return {
        **state.network.state_dict(), "rng": state.rng.get_state(), "weights": state.weights.detach(),
        "derived": state.derived, "scores": state.evaluated.scores, "compared": state.compared.scores,
    }  # fmt: skip


@pytest.mark.parametrize("update", UPDATES)
def test_line_3_moves_the_architecture_weights_alone_and_line_4_the_path_alone(update: Update) -> None:
    search, state = tiny("uniform", update=update)
    before = {name: value.clone() for name, value in state.network.named_parameters()}
    architecture = search.space.uniform(1, state.rng)[0]
    search._update_weights(state, architecture)
    assert all(torch.equal(value, before[name]) for name, value in state.network.named_parameters())
    assert all(value.grad is None and value.requires_grad for value in state.network.parameters())
    assert not torch.equal(state.weights, torch.zeros_like(state.weights))


def test_only_the_sampled_operations_are_computed() -> None:
    search, state = tiny("uniform")
    called: list[int] = []
    for layer in state.network.layers:
        for operation, module in layer.operations.items():
            module.register_forward_hook(lambda *_, o=int(operation): called.append(o))
    architecture = search.space.uniform(1, state.rng)[0]
    search._update_weights(state, architecture)
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
        super().__init__()
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


def by_hand(
    update: Update, rate: float = 0.05, optimizer: type = torch.optim.Adam, seed: int = 0
) -> tuple[GradientSearch, GradientState]:
    """Two slots of three operations that scale the logits by -1, 0.5 and 2: the last is best in both."""
    space, rng = SearchSpace("sum", ("abc",) * 2, (2,)), torch.Generator().manual_seed(seed)
    network = Sum([[-1.0, 0.5, 2.0], [2.0, -1.0, 0.5]])
    fabric = Fabric(accelerator="cpu", devices=1)
    network, sgd = fabric.setup(network, torch.optim.SGD(network.parameters(), 0.1))
    weights = architecture_weights(space)
    sampler = UniformSampler(space) if update == "path" else MultinomialSampler(space, weights)
    search = GradientSearch(
        space, GradientInputs(**{**SETTINGS, "label_smoothing": 0.0, "update": update}), fabric,
        Constant(), Constant(),
        lambda images, _: images.float(), lambda p: p[:, 0].float(), anything,
    )  # fmt: skip
    return search, GradientState(network, sgd, sampler, rng, weights, optimizer([weights], rate))


def test_the_gradient_of_a_sampled_path_is_that_of_the_formula() -> None:
    """dL/dw_i = dL/dg · p_a (δ_ia - p_i), ProxylessNAS eq. 4 with one path: by hand for SGD with rate 1."""
    search, state = by_hand("path", 1.0, torch.optim.SGD)
    search._update_weights(state, torch.tensor([2, 1]))
    total = 2.0 - 1.0  # logit of class 0; class 1's is 0
    d_logit = torch.tensor(total).sigmoid() - 1
    p = torch.full((3,), 1 / 3)
    for slot, (chosen, factor) in enumerate(((2, 2.0), (1, -1.0))):
        d_gate = d_logit * factor
        expected = -d_gate * p[chosen] * (torch.eye(3)[chosen] - p)
        assert torch.allclose(state.weights[slot], expected, atol=1e-6)


@pytest.mark.parametrize("update", UPDATES)
def test_the_best_operation_of_every_slot_is_found(update: Update) -> None:
    """Every update sees that the operation that scales most is best; 300 steps, fixed seeds 0-2, all must find it."""
    for seed in range(3):
        search, state = by_hand(update, seed=seed)
        for _ in range(300):
            search._update_weights(state, search.space.uniform(1, state.rng)[0])
        assert search.derive(state).tolist() == [[2, 0]]
        assert float(entropy(state.weights.detach()).max()) < 0.9 * torch.log(torch.tensor(3.0))


def test_two_paths_leave_the_other_operations_probabilities() -> None:
    search, state = by_hand("two-path")
    for _ in range(20):
        before = state.weights.softmax(-1).detach()
        search._update_weights(state, torch.tensor([0, 0]))
        same = torch.isclose(before, state.weights.softmax(-1), atol=1e-6).sum(-1)
        assert (same >= 1).all()


def test_line_12_keeps_the_limits_and_prefers_the_likeliest() -> None:
    search, state = by_hand("path")
    with torch.no_grad():
        state.weights.copy_(torch.tensor([[0.0, 1.0, 3.0], [2.0, 1.9, 0.0]]))
    assert search.derive(state).tolist() == [[2, 0]]
    search.is_feasible = lambda population: ~((population[:, 0] == 2) & (population[:, 1] == 0))
    assert search.derive(state).tolist() == [[2, 1]]  # 0.1 less; [1, 0] would be 2 less
    search.is_feasible = lambda population: population.sum(-1) <= 1
    assert search.derive(state).tolist() == [[1, 0]]


def test_multinomial_draws_follow_the_weights_as_they_are(rng: torch.Generator) -> None:
    """Shares of 20,000 draws within 5 standard errors: false-alarm rate below 1e-5; later weights count at once."""
    space = SearchSpace("two", ("ab", "abc"), (1, 1))
    weights = architecture_weights(space)
    sampler = MultinomialSampler(space, weights)
    with torch.no_grad():
        weights[0, 1], weights[1, 2] = 1.0, -1.0
    drawn = sampler.sample(20_000, rng)
    for slot in range(2):
        p = weights[slot].softmax(-1)
        seen = torch.nn.functional.one_hot(drawn[:, slot], 3).float().mean(0)
        assert ((seen - p).abs() <= 5 * (p * (1 - p) / 20_000).sqrt() + 1e-12).all()


def test_every_ranked_and_returned_architecture_keeps_the_limit() -> None:
    search, state = tiny(is_feasible=lambda population: population[:, 0] != 2)
    for record in search.run(state):
        if record.kind == "update":
            assert all(row[0] != 2 for row in record.values["population"])
    assert state.evaluated is not None
    assert (state.evaluated.population[:, 0] != 2).all()
