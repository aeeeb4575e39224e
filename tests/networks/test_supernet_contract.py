"""What every supernet keeps: one class for supernet and final network, gates, exact costs."""

import pytest
import torch
from torch import Tensor

from tests.networks.networks import NETWORKS, Case
from vaenas.networks.cost import count
from vaenas.networks.supernet import ChoiceLayer, Supernet


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def supernet(case: Case) -> Supernet:
    torch.manual_seed(0)
    return case.build(None).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def mixtures(case: Case, m: int, rng: torch.Generator) -> Tensor:
    """m different operations of each slot, (s, m)."""
    return torch.rand(case.space.slots, case.space.max_choices, generator=rng).argsort(-1)[:, :m]


def test_final_network_gives_the_supernets_outputs(
    case: Case, supernet: Supernet, images: Tensor, rng: torch.Generator
) -> None:
    for architecture in case.space.uniform(4, rng):
        final = supernet.subnet(architecture).eval()  # pyright: ignore[reportCallIssue]
        assert torch.equal(final(images), supernet(images, architecture))
        assert torch.equal(final(images), final(images, architecture))
        assert set(final.state_dict()) < set(supernet.state_dict())


def test_a_supernet_needs_an_architecture(supernet: Supernet, images: Tensor) -> None:
    with pytest.raises(ValueError, match="needs an architecture"):
        supernet(images)


def test_an_architectures_output_depends_on_its_images_alone(
    case: Case, supernet: Supernet, images: Tensor, rng: torch.Generator
) -> None:
    a, b = case.space.uniform(2, rng)
    first = supernet(images, a)
    other = supernet(images, b)
    assert torch.equal(supernet(images, a), first)
    assert not torch.allclose(first, other)
    assert first.shape == (4, 10)


def test_gates_of_one_change_nothing(case: Case, supernet: Supernet, images: Tensor, rng: torch.Generator) -> None:
    for architecture in case.space.uniform(4, rng):
        gated = supernet(images, architecture[:, None], torch.ones(case.space.slots, 1))
        assert torch.equal(gated, supernet(images, architecture))


def test_a_mixture_with_all_gates_on_one_path_is_that_path(
    case: Case, supernet: Supernet, images: Tensor, rng: torch.Generator
) -> None:
    every = torch.arange(case.space.max_choices).expand(case.space.slots, -1)
    for architecture in case.space.uniform(3, rng):
        gates = torch.nn.functional.one_hot(architecture, case.space.max_choices).float()
        torch.testing.assert_close(supernet(images, every, gates), supernet(images, architecture))


@pytest.mark.parametrize("m", [1, 2])
def test_gradients_reach_the_gates_and_only_the_named_operations(
    case: Case, supernet: Supernet, images: Tensor, rng: torch.Generator, m: int
) -> None:
    """ "none" has no output, so its gate's gradient is 0."""
    named = case.space.uniform(1, rng)[0][:, None] if m == 1 else mixtures(case, m, rng)
    gates = torch.ones(named.shape, requires_grad=True)
    computed = []
    for layer, slot in zip(supernet.layers, case.layer_slots, strict=True):
        assert isinstance(layer, ChoiceLayer)
        for operation, module in layer.operations.items():
            module.register_forward_hook(lambda *_, s=slot, o=int(operation): computed.append((s, o)))
    torch.nn.functional.cross_entropy(supernet(images, named, gates), torch.arange(4)).backward()

    silent = torch.zeros_like(named, dtype=torch.bool) if case.space.name == "shufflenet" else named == 0
    assert gates.grad is not None
    assert torch.equal(gates.grad == 0, silent)
    wanted = {
        (slot, int(o)) for slot, row in enumerate(named) for o, none in zip(row, silent[slot], strict=True) if not none
    }
    assert set(computed) == wanted
    assert len(computed) == sum(case.layer_slots.count(slot) for slot, _ in wanted)
    for layer, slot in zip(supernet.layers, case.layer_slots, strict=True):
        for operation, module in layer.operations.items():
            for parameter in module.parameters():
                assert (parameter.grad is not None) == (int(operation) in named[slot])


def test_costs_are_those_of_the_built_network(case: Case, rng: torch.Generator) -> None:
    population = case.space.uniform(6, rng)
    costs = case.cost(population)
    for architecture, flops, params in zip(population, *costs, strict=True):
        with torch.device("meta"):
            final = case.build([[o] for o in architecture.tolist()]).eval()
            image = torch.empty(1, *final.input_shape)
        assert count(final, image) == (int(flops), int(params))


def test_cheapest_is_valid_and_no_dearer_than_any(case: Case, rng: torch.Generator) -> None:
    for which, values in enumerate(case.cost(case.space.uniform(5000, rng))):
        architecture, least = case.cost.cheapest(which)
        assert case.space.is_valid(architecture[None]).all()
        assert int(case.cost(architecture[None])[which]) == least <= int(values.min())
        near = case.space.neighbours(architecture)
        assert least <= int(case.cost(near)[which].min())


def test_gradients_of_a_path_are_those_of_its_final_network(
    case: Case, supernet: Supernet, images: Tensor, rng: torch.Generator
) -> None:
    (architecture,) = case.space.uniform(1, rng)
    final = supernet.subnet(architecture).eval()  # pyright: ignore[reportCallIssue]
    for network in (supernet, final):
        torch.nn.functional.cross_entropy(network(images, architecture), torch.arange(4)).backward()
    parameters = dict(supernet.named_parameters())
    for name, parameter in final.named_parameters():
        assert parameter.grad is not None
        assert parameters[name].grad is not None
        torch.testing.assert_close(parameters[name].grad, parameter.grad)
