"""Training-free measures: of whole populations as of each network alone, and as their papers define them."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from tests.networks.networks import SIZES, make
from vaenas.data.augment import Augment
from vaenas.data.load import load
from vaenas.data.settings import DataSettings
from vaenas.evaluation.rank import mean_rank
from vaenas.evaluation.training_free import TrainingFree, expressivity, meco, patterns


def measured(name: str) -> tuple[Any, TrainingFree]:
    space, data = make(name), load(DataSettings(image_size=16))
    torch.manual_seed(0)
    images = Augment(data.mean, data.std).plain(data.train.images[:16]).expand(-1, 3, -1, -1)
    return space, TrainingFree(space.supernet(), images, data.train.labels[:16])


def hooked(network: nn.Module, images: Tensor) -> dict[str, float]:
    """MeCo and SWAP of one network by forward hooks on its modules, NumPy-like and slow."""
    found: dict[str, Any] = {"meco": 0.0, "swap": set()}

    def convolution(module: nn.Module, _: Any, y: Tensor) -> None:
        rows = y.double().transpose(0, 1).flatten(1)
        if len(rows) < rows.shape[1]:
            found["meco"] += max(0.0, float(torch.linalg.eigvalsh(torch.corrcoef(rows).nan_to_num(0.0)).min()))

    def activation(module: nn.Module, _: Any, y: Tensor) -> None:
        found["swap"].update(map(tuple, (y > 0).flatten(1).t().tolist()))

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(convolution)
        elif isinstance(module, nn.ReLU | nn.SiLU):
            module.register_forward_hook(activation)
    with torch.no_grad():
        network(images)
    return {"meco": found["meco"], "swap": len(found["swap"])}


@pytest.mark.parametrize("name", ["shufflenet", "macro", "nasbench201", "nasnet"])
def test_a_population_is_measured_as_each_network_alone(name: str) -> None:
    space, measures = measured(name)
    population = space.space.uniform(4, Generator().manual_seed(1))
    found = measures.features(population)
    for row, architecture in enumerate(population):
        final = measures.network.subnet(architecture).train()
        for module in final.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        expected = hooked(final, measures.images)
        assert float(found["meco"][row]) == pytest.approx(expected["meco"], rel=1e-3, abs=1e-6)
        assert float(found["swap"][row]) == pytest.approx(
            expected["swap"], rel=0.01
        )  # a sum near 0 may have either sign
        alone = TrainingFree(measures.network, measures.images, measures.labels).features(architecture[None])
        assert float(alone["expressivity"][0]) == pytest.approx(float(found["expressivity"][row]), rel=1e-5)


@pytest.mark.parametrize("name", list(SIZES))
def test_every_space_is_measured_and_its_supernet_left_as_it_was(name: str) -> None:
    space, measures = measured(name)
    before = {key: value.clone() for key, value in measures.network.state_dict().items()}
    population = space.space.uniform(6, Generator().manual_seed(2))
    found = {**measures.features(population), **measures.gradients(population)}
    for values in found.values():
        assert values.shape == (6,)
        assert values.isfinite().all()
        assert len(values.unique()) > 1
    assert all(torch.equal(value, before[key]) for key, value in measures.network.state_dict().items())
    assert measures.network.training
    assert all(torch.equal(values, found[key]) for key, values in measures.features(population).items())


def test_expressivity_is_the_entropy_of_the_spectrum() -> None:
    """Uncorrelated channels of equal variance: log c. One direction alone: 0. Shares 3/4 and 1/4 by hand."""
    rng = Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(64, 5, generator=rng))[0]
    basis = torch.linalg.qr(basis - basis.mean(0))[0].t()  # 5 orthonormal rows
    basis = basis - basis.mean(1, keepdim=True)

    def maps(rows: Tensor) -> Tensor:
        return rows.reshape(len(rows), 4, 4, 4).transpose(0, 1)  # (b, c, h, w)

    assert expressivity(maps(basis[:4])) == pytest.approx(math.log(4), abs=1e-2)
    assert expressivity(maps(basis[:1].repeat(6, 1))) == pytest.approx(0.0, abs=1e-6)
    two = torch.stack([math.sqrt(3) * basis[0], basis[1]])
    assert expressivity(maps(two)) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), abs=1e-2)


def test_meco_is_the_smallest_eigenvalue_of_the_correlations() -> None:
    """Of two channels with correlation r it is 1 - |r|; 0 for copies, and for more channels than pixels."""
    x = torch.randn(2, 1, 8, 8, generator=Generator().manual_seed(0))
    y = torch.randn(2, 1, 8, 8, generator=Generator().manual_seed(1))
    r = float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1])
    assert meco(torch.cat([x, y], dim=1)) == pytest.approx(1 - abs(r), abs=1e-6)
    assert meco(torch.cat([x, 2 * x + 1], dim=1)) == pytest.approx(0.0, abs=1e-9)
    assert meco(torch.randn(1, 5, 2, 2)) == 0.0


def test_patterns_say_which_images_activate_a_neuron() -> None:
    assert patterns(torch.tensor([[1.0, -1.0, 0.0], [1.0, 2.0, 0.0]])).tolist() == [3, 2, 0]


def test_synflow_follows_from_its_conservation_law() -> None:
    """In a chain of layers without bias each layer's Σ |θ ∂R/∂θ| is R itself (Tanaka et al. 2020, thm. 2)."""
    _, measures = measured("macro")
    architecture = torch.ones(8, dtype=torch.int64)  # no skip in the stages' first layers; residuals add paths
    positive = measures._positive
    ones = torch.ones_like(measures.images[:1], dtype=torch.float64)
    classifier: Any = positive.classifier
    with torch.no_grad():
        classifier[-1].bias.zero_()
        total = float(positive(ones, architecture).sum().detach())
    stem: Any = positive.stem
    weight = stem[0].weight
    (gradient,) = torch.autograd.grad(positive(ones, architecture).sum(), [weight])
    assert float((weight.detach() * gradient).sum()) == pytest.approx(total, rel=1e-9)
    layers = math.exp(float(measures.gradients(architecture[None])["synflow"][0])) / total
    assert layers > 2  # at least the stem and the classifier carry all of R each


def test_the_mean_rank_is_high_where_all_measures_are() -> None:
    measures = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [3.0, 5.0]])
    expected = [math.sqrt(1 / 4 * 2 / 4), math.sqrt(2 / 4 * 3 / 4), math.sqrt(3.5 / 4 * 1), math.sqrt(3.5 / 4 * 1 / 4)]
    assert mean_rank(measures).tolist() == pytest.approx(expected)
