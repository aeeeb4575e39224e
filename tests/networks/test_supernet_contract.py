"""What every supernet keeps: one class for supernet and final network, gates, exact costs."""

import pytest
import torch
from torch import Tensor

from tests.networks.networks import make
from vaenas.evaluation.supernet import SupernetEvaluator
from vaenas.networks import ImageSpace, space_class, space_names
from vaenas.networks.cost import count
from vaenas.networks.supernet import Supernet


@pytest.fixture(params=space_names())
def case(request: pytest.FixtureRequest) -> ImageSpace:
    return make(request.param)


@pytest.fixture(params=[name for name in space_names() if space_class(name).additive])
def mixed(request: pytest.FixtureRequest) -> ImageSpace:
    """Of spaces whose operations can be mixed by gates."""
    return make(request.param)


def built(case: ImageSpace) -> Supernet:
    torch.manual_seed(0)
    return case.supernet().eval()


@pytest.fixture
def supernet(case: ImageSpace) -> Supernet:
    return built(case)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def mixtures(case: ImageSpace, m: int, rng: torch.Generator) -> Tensor:
    """m different operations of each slot, (s, m)."""
    return torch.rand(case.space.slots, case.space.max_choices, generator=rng).argsort(-1)[:, :m]


def test_final_network_gives_the_supernets_outputs(
    case: ImageSpace, supernet: Supernet, images: Tensor, rng: torch.Generator
) -> None:
    for architecture in case.space.uniform(4, rng):
        final = supernet.subnet(architecture).eval()
        assert torch.equal(final(images), supernet(images, architecture))
        assert torch.equal(final(images), final(images, architecture))
        assert set(final.state_dict()) < set(supernet.state_dict())


def test_a_supernet_needs_an_architecture(supernet: Supernet, images: Tensor) -> None:
    with pytest.raises(ValueError, match="needs an architecture"):
        supernet(images)


def test_an_architectures_output_depends_on_its_images_alone(
    case: ImageSpace, supernet: Supernet, images: Tensor, rng: torch.Generator
) -> None:
    a, b = case.space.uniform(2, rng)
    first = supernet(images, a)
    other = supernet(images, b)
    assert torch.equal(supernet(images, a), first)
    assert not torch.allclose(first, other)
    assert first.shape == (4, 10)


def test_gates_of_one_change_nothing(mixed: ImageSpace, images: Tensor, rng: torch.Generator) -> None:
    supernet = built(mixed)
    for architecture in mixed.space.uniform(4, rng):
        gated = supernet(images, architecture[:, None], torch.ones(mixed.space.slots, 1))
        assert torch.equal(gated, supernet(images, architecture))


def test_a_mixture_with_all_gates_on_one_path_is_that_path(
    mixed: ImageSpace, images: Tensor, rng: torch.Generator
) -> None:
    supernet = built(mixed)
    every = torch.arange(mixed.space.max_choices).expand(mixed.space.slots, -1)
    for architecture in mixed.space.uniform(3, rng):
        gates = torch.nn.functional.one_hot(architecture, mixed.space.max_choices).float()
        torch.testing.assert_close(supernet(images, every, gates), supernet(images, architecture))


@pytest.mark.parametrize("m", [1, 2])
def test_gradients_reach_the_gates_and_only_the_named_operations(
    mixed: ImageSpace, images: Tensor, rng: torch.Generator, m: int
) -> None:
    """ "none" has no output, so its gate's gradient is 0."""
    supernet = built(mixed)
    named = mixed.space.uniform(1, rng)[0][:, None] if m == 1 else mixtures(mixed, m, rng)
    gates = torch.ones(named.shape, requires_grad=True)
    computed = []
    for layer, slot in zip(supernet.choice_blocks, supernet.layer_slots, strict=True):
        for operation, module in layer.operations.items():
            module.register_forward_hook(lambda *_, s=slot, o=int(operation): computed.append((s, o)))
    torch.nn.functional.cross_entropy(supernet(images, named, gates), torch.arange(4)).backward()

    silent = named == mixed.none if mixed.none is not None else named < 0
    assert gates.grad is not None
    assert torch.equal(gates.grad == 0, silent)
    wanted = {
        (slot, int(o)) for slot, row in enumerate(named) for o, none in zip(row, silent[slot], strict=True) if not none
    }
    assert set(computed) == wanted
    assert len(computed) == sum([*supernet.layer_slots].count(slot) for slot, _ in wanted)
    for layer, slot in zip(supernet.choice_blocks, supernet.layer_slots, strict=True):
        for operation, module in layer.operations.items():
            for parameter in module.parameters():
                assert (parameter.grad is not None) == (int(operation) in named[slot])


def test_a_step_leaves_what_it_is_given_as_it_is(
    case: ImageSpace, supernet: Supernet, images: Tensor, rng: torch.Generator
) -> None:
    """What one branch of a trie computes must not change what the next one starts from."""
    (architecture,) = case.space.uniform(1, rng)
    with torch.no_grad():
        given = [images]
        steps = list(supernet.steps(supernet.path(architecture)))
        for step in steps:
            given.append(step.run(given[-1]))
        for step, x, y in zip(reversed(steps), reversed(given[:-1]), reversed(given[1:]), strict=True):
            torch.testing.assert_close(step.run(x), y, rtol=0, atol=0, check_stride=False)
    assert torch.equal(given[-1], supernet(images, architecture))


def test_together_architectures_have_the_scores_that_they_have_alone(
    case: ImageSpace, supernet: Supernet, rng: torch.Generator
) -> None:
    """Mutants of one architecture: many equal steps, also between different ones."""
    pixels = torch.randint(256, (64, 3, 16, 16), generator=rng, dtype=torch.uint8)
    batches = [(pixels[part], torch.randint(10, (16,), generator=rng)) for part in torch.arange(64).chunk(4)]
    evaluate = SupernetEvaluator(supernet, batches[:2], batches[2:], lambda images: images.float() / 255)
    parents = case.space.uniform(2, rng).repeat(8, 1)
    population = torch.cat([case.space.mutate(parents, 0.1, rng), parents[:2]])
    alone = [evaluate(row[None]) for row in population]
    assert torch.equal(evaluate(population), torch.cat(alone))
    for row, score in zip(parents[:2], alone[-2:], strict=True):
        final = SupernetEvaluator(supernet.subnet(row), batches[:2], batches[2:], evaluate.prepare)
        torch.testing.assert_close(final(row[None]), score, atol=1e-5, rtol=0)


def test_costs_are_those_of_the_built_network(case: ImageSpace, rng: torch.Generator) -> None:
    population = case.space.uniform(6, rng)
    costs = case.cost(population)
    for architecture, flops, params in zip(population, *costs[:2], strict=True):
        with torch.device("meta"):
            final = case.network(architecture).eval()
            image = torch.empty(1, *final.input_shape)
        assert count(final, image) == (int(flops), int(params))


def test_cheapest_is_valid_and_no_dearer_than_any(case: ImageSpace, rng: torch.Generator) -> None:
    costs = case.cost(case.space.uniform(5000, rng))
    for name in ("multiply_adds", "params"):
        values, (architecture, least) = getattr(costs, name), case.cost.cheapest(name)
        assert int(values.max()) <= case.cost.most(name)
        assert case.space.is_valid(architecture[None]).all()
        assert int(getattr(case.cost(architecture[None]), name)) == least <= int(values.min())
        near = case.space.neighbours(architecture)
        assert least <= int(getattr(case.cost(near), name).min())


def test_gradients_of_a_path_are_those_of_its_final_network(
    case: ImageSpace, supernet: Supernet, images: Tensor, rng: torch.Generator
) -> None:
    (architecture,) = case.space.uniform(1, rng)
    final = supernet.subnet(architecture).eval()
    for network in (supernet, final):
        torch.nn.functional.cross_entropy(network(images, architecture), torch.arange(4)).backward()
    parameters = dict(supernet.named_parameters())
    for name, parameter in final.named_parameters():
        assert parameter.grad is not None
        assert parameters[name].grad is not None
        torch.testing.assert_close(parameters[name].grad, parameter.grad)
