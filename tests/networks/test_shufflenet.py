"""The network is App. A.4's, and supernet and final network are one class."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import SqueezeExcitation

from vaenas.networks import NetworkConfig
from vaenas.networks.cost import count
from vaenas.networks.shufflenet import ShuffleBlock, ShuffleNetImageSpace, channel_split, channels_of
from vaenas.spaces.shufflenet import shufflenet_space

SMALL = NetworkConfig(image_size=32, image_channels=3, classes=10, width=0.25, layers=10)
CONFIGS = {
    "imagenet": NetworkConfig(224, 3, 1000, 1.0, 20),
    "cifar": NetworkConfig(32, 3, 10, 0.5, 20),
    "fashion": NetworkConfig(28, 1, 10, 0.25, 5),
    "folder": NetworkConfig(64, 3, 37, 1.0, 15),
}


def hand_count(config: NetworkConfig, architecture: list[int]) -> tuple[int, int]:
    """Multiply-adds and parameters from the formulas alone, written a second time, layer by layer."""
    macs = params = 0

    def conv(size: int, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        nonlocal macs, params
        weights = kernel * kernel * inputs // groups * outputs
        macs, params = macs + size * size * weights, params + weights + 2 * outputs  # batch norm: scale and shift

    size = config.image_size // (2 if config.image_size >= 96 else 1)
    channels = channels_of(16, config.width)
    conv(size, config.image_channels, channels, 3)
    slots = iter(architecture)
    shares = {64: 1, 160: 1, 320: 2, 640: 1}
    for paper, share in shares.items():
        width = channels_of(paper, config.width)
        for i in range(share * config.layers // 5):
            operation = next(slots)
            kernel, before = (3, 5, 7, 3)[operation], size
            if i == 0:
                size = (size + 1) // 2
                entering = channels
                conv(size, entering, entering, kernel, groups=entering)
                conv(size, entering, entering, 1)
            else:
                entering = width // 2
            middle, leaving = width // 2, width - entering
            if operation == 3:
                conv(size, entering, entering, 3, groups=entering)
                conv(size, entering, middle, 1)
                conv(size, middle, middle, 3, groups=middle)
                conv(size, middle, middle, 1)
                conv(size, middle, middle, 3, groups=middle)
                conv(size, middle, leaving, 1)
            else:
                conv(before, entering, middle, 1)
                conv(size, middle, middle, kernel, groups=middle)
                conv(size, middle, leaving, 1)
            if operation >= 2:
                squeezed = max(1, leaving // 4)
                macs += 2 * leaving * squeezed
                params += 2 * leaving * squeezed + squeezed + leaving
            channels = width
    conv(size, channels, channels_of(1024, config.width), 1)
    macs += channels_of(1024, config.width) * config.classes
    params += channels_of(1024, config.width) * config.classes + config.classes
    return macs, params


@pytest.mark.parametrize("name", ["imagenet"])
def test_costs_are_those_of_the_built_network_for_every_operation(name: str, rng: torch.Generator) -> None:
    config = CONFIGS[name]
    space = shufflenet_space(config.layers)
    pure = torch.arange(4)[:, None].expand(-1, space.slots)  # each operation everywhere
    population = torch.cat([pure, space.uniform(8, rng)])
    costs = ShuffleNetImageSpace(config).cost(population)
    for architecture, flops, params in zip(population, *costs[:2], strict=True):
        with torch.device("meta"):
            final = ShuffleNetImageSpace(config).network(architecture).eval()
            image = torch.empty(1, *final.input_shape)
        with FlopCounterMode(display=False) as counter:
            final(image)
        assert int(flops) == counter.get_total_flops() // 2
        assert int(params) == sum(p.numel() for p in final.parameters())
        assert (int(flops), int(params)) == hand_count(config, architecture.tolist())


def test_single_path_one_shots_released_network_costs_what_its_authors_say() -> None:
    """323M multiply-adds (SinglePathOneShot's README); A.4's squeeze-and-excitation adds a quarter of a million."""
    released = torch.tensor([[2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3]])
    flops, params, _ = ShuffleNetImageSpace(CONFIGS["imagenet"]).cost(released)
    assert round(int(flops) / 1e6) == 323
    assert 3.5e6 < int(params) < 3.9e6


def test_cheapest_is_no_dearer_than_any(rng: torch.Generator) -> None:
    cost = ShuffleNetImageSpace(SMALL).cost
    population = shufflenet_space(10).uniform(5000, rng)
    for name, values in zip(("multiply_adds", "params"), cost(population), strict=False):
        architecture, least = cost.cheapest(name)
        assert int(getattr(cost(architecture[None]), name)) == least
        assert least <= int(values.min())


def test_swish_and_squeeze_stand_exactly_where_appendix_a4_puts_them() -> None:
    for operation in range(4):
        for stride in (1, 2):
            block = ShuffleBlock(16, 32 if stride == 2 else 16, stride, operation)
            kinds = [type(module) for module in block.modules()]
            # torchvision's squeeze-and-excitation has a ReLU of its own, inside
            inside = [type(m) for m in block.modules() if isinstance(m, SqueezeExcitation) for m in m.modules()]
            assert (nn.SiLU in kinds) == (operation in (1, 2, 3))
            assert (kinds.count(nn.ReLU) > inside.count(nn.ReLU)) == (operation == 0)
            assert (SqueezeExcitation in kinds) == (operation in (2, 3))
    assert [m.p for m in ShuffleNetImageSpace(SMALL).supernet().modules() if isinstance(m, nn.Dropout)] == [0.5]


def test_channel_split_is_the_shuffle_of_two_groups() -> None:
    x = torch.arange(2 * 8 * 3 * 3.0).view(2, 8, 3, 3)
    shuffled = x.view(2, 4, 2, 3, 3).transpose(1, 2).reshape(2, 8, 3, 3)
    for layout in (torch.contiguous_format, torch.channels_last):
        first, second = channel_split(x.contiguous(memory_format=layout))
        assert torch.equal(torch.cat([first, second], dim=1), shuffled)


def test_final_network_gives_the_supernets_outputs(rng: torch.Generator) -> None:
    torch.manual_seed(0)
    supernet = ShuffleNetImageSpace(SMALL).supernet().eval()
    images = torch.randn(4, 3, 32, 32)
    for architecture in shufflenet_space(10).uniform(5, rng):
        final = supernet.subnet(architecture).eval()
        assert torch.equal(final(images), supernet(images, architecture))
        assert torch.equal(final(images), final(images, architecture))
        assert set(final.state_dict()) < set(supernet.state_dict())


def test_a_supernet_needs_an_architecture() -> None:
    with pytest.raises(ValueError, match="needs an architecture"):
        ShuffleNetImageSpace(SMALL).supernet()(torch.zeros(1, 3, 32, 32))


def test_imagenet_network_halves_five_times_and_small_images_four() -> None:
    for config, size in ((NetworkConfig(224, 3, 1000, width=0.125, layers=5), 7), (SMALL, 2)):
        shapes: list[torch.Size] = []
        network = ShuffleNetImageSpace(config).supernet().eval()
        network.layers[-1].register_forward_hook(lambda *args, s=shapes: s.append(args[2].shape[-2:]))
        network(torch.zeros(1, *network.input_shape), torch.zeros(config.layers, dtype=torch.int64))
        assert shapes == [(size, size)]


def test_operations_of_a_layer_start_from_one_function() -> None:
    """Stride 1, no activation between: a 5x5 starts as the 3x3 with Swish for ReLU, so their convolutions agree."""
    torch.manual_seed(0)
    layer = ShuffleNetImageSpace(SMALL).supernet().layers[1]
    three, five, seven = (layer.operations[o].branch for o in "012")
    x = torch.randn(2, 8, 8, 8)
    for i in (0, 3, 5):  # the convolutions of the branch
        assert torch.allclose(three[i](x), five[i](x), atol=1e-6)
        assert torch.allclose(three[i](x), seven[i](x), atol=1e-6)


def test_count_is_of_multiply_adds() -> None:
    assert count(nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.zeros(1, 3, 10, 10)) == (100 * 27 * 8, 27 * 8)
