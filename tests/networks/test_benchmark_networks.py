"""The benchmarks' supernets: each cut to one architecture is the published network of that architecture."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import torch

from vaenas.networks import NetworkConfig, space_class
from vaenas.networks.cost import count
from vaenas.networks.nasbench101 import vertex_channels
from vaenas.norm import SlicedBatchNorm2d
from vaenas.spaces.cells import edge, embed
from vaenas.spaces.macro import macro_space
from vaenas.spaces.nasbench201 import parse

PUBLISHED = {"nasbench101": (128, 3), "nasbench201": (16, 5), "macro": (1.0, 8)}  # width, layers


@pytest.fixture(scope="module")
def rows(
    cells_parquet: Path, nasbench201_csv: Path, macro_json: Path
) -> dict[str, tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Of each benchmark every architecture and what is published of it."""
    table = parquet.read_table(cells_parquet)
    vertices, bits, params101 = (torch.tensor(table[k].to_numpy()).long() for k in ("vertices", "edge_bits", "params"))
    with nasbench201_csv.open() as file:
        of201 = list(csv.DictReader(file))
    params201 = torch.tensor([int(row["params"]) for row in of201])
    of_macro = json.loads(macro_json.read_text())
    counts = {k: torch.tensor([int(row[k]) for row in of_macro.values()]) for k in ("params", "flops")}
    counts["multiply_adds"] = counts.pop("flops")
    return {
        "nasbench101": (embed(vertices, bits, table["ops"].to_pylist()), {"params": params101}),
        "nasbench201": (torch.tensor([parse(row["cell"]) for row in of201]), {"params": params201}),
        "macro": (macro_space().decode(list(of_macro)), counts),
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_architecture_has_the_published_costs(name: str, rows) -> None:
    population, published = rows[name]
    found = space_class(name)(NetworkConfig(32, 3, 10, *PUBLISHED[name])).cost(population)._asdict()
    for what, values in published.items():
        assert torch.equal(found[what], values)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_supernet_cut_to_one_architecture_has_its_published_parameters(name: str, rows, rng) -> None:
    """700 of each space are built; a dozen also have the costs of which the test above compares all there are."""
    population, published = rows[name]
    space = space_class(name)(NetworkConfig(32, 3, 10, *PUBLISHED[name]))
    chosen = torch.randint(len(population), (700,), generator=rng)
    with torch.device("meta"):
        whole = {key: value.shape for key, value in space.supernet().state_dict().items()}
    for i, (architecture, params) in enumerate(zip(population[chosen], published["params"][chosen], strict=True)):
        with torch.device("meta"):
            final = space.network(architecture)
            image = torch.empty(1, *final.input_shape)
        assert sum(p.numel() for p in final.parameters()) == int(params)
        if i >= 12:
            continue
        assert count(final, image, architecture) == tuple(map(int, space.cost(architecture[None])[:2]))
        # each of its tensors is the first part of one of the supernet's
        for key, value in final.state_dict().items():
            assert all(mine <= theirs for mine, theirs in zip(value.shape, whole[key], strict=True))


def test_channels_of_a_cell_of_nasbench101() -> None:
    """Three vertices into the output, 128 channels: 43, 43 and 42; a vertex before them has as many as the widest."""
    edges = {(0, 1), (1, 2), (1, 3), (1, 4), (2, 6), (3, 6), (4, 6)}
    cell = torch.zeros(1, 26, dtype=torch.int64)
    for source, target in edges:
        cell[0, edge(source, target)] = 1
    assert vertex_channels(cell, torch.tensor([128])).tolist() == [[0, 43, 43, 43, 42, 0, 128]]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_of_a_part_is_a_smaller_batch_norm(momentum: float | None, rng) -> None:
    whole, part = SlicedBatchNorm2d(7, momentum=momentum), torch.nn.BatchNorm2d(3, momentum=momentum)
    with torch.no_grad():
        whole.weight.copy_(torch.rand(7, generator=rng))
        part.weight.copy_(whole.weight[:3])
    for training in (True, True, False):
        x = torch.randn(4, 3, 5, 5, generator=rng)
        torch.testing.assert_close(whole.train(training)(x), part.train(training)(x))
    for name, value in part.state_dict().items():
        torch.testing.assert_close(whole.state_dict()[name][:3] if value.ndim else whole.state_dict()[name], value)
    assert whole.running_mean is not None
    assert torch.equal(whole.running_mean[3:], torch.zeros(4))
