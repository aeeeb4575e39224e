"""The latency tables: what they say against networks timed whole, and that they are measured only once."""

import json
import statistics
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Generator
from vaenas.networks.image_spaces import IMAGE_SPACES

from vaenas.networks.cost import ABSENT
from vaenas.networks.latency import LatencyTable, latency_table, timed

CPU = torch.device("cpu")
GEOMETRIES = {"shufflenet": (32, 3, 10, 0.25, 5), "nasnet": (16, 3, 10, 4, 3)}


@pytest.mark.parametrize("space", GEOMETRIES)
def test_the_table_knows_how_long_networks_take(space: str, tmp_path: Path) -> None:
    """Ten random networks against their sums. Far wider than what holds on a quiet machine: this one may be busy."""
    image_space = IMAGE_SPACES[space]
    geometry = image_space.geometry(*GEOMETRIES[space])
    table = latency_table(space, geometry, CPU, tmp_path)
    cost = table.added_to(image_space.cost(geometry))
    population = image_space.space(geometry).uniform(10, Generator().manual_seed(1))
    predicted = cost.totals(population)[2] / 1e6
    assert torch.equal(cost(population).flops, image_space.cost(geometry)(population).flops)
    image, networks = torch.zeros(1, 3, *2 * [geometry.image_size]), []
    for architecture in population.tolist():
        networks.append(partial(image_space.network(geometry, [[o] for o in architecture]).eval(), image))
    with torch.inference_mode():
        rounds = [[statistics.median(timed(network, 5, warmup=1)) for network in networks] for _ in range(5)]
    ratio = predicted / torch.tensor(rounds).amin(0)
    assert 0.3 < float(ratio.median()) < 3  # other work may have come or gone since the table was measured
    assert float((ratio / ratio.median() - 1).abs().median()) < 0.2
    assert 0 <= table.error < 0.5
    offered = table.table < ABSENT
    assert (table.table[offered] >= 0).all()
    if image_space.none is not None:
        assert (table.table[:, image_space.none] == 0).all()
    assert_it_is_measured_once(space, table, tmp_path)


def assert_it_is_measured_once(space: str, table: LatencyTable, cache: Path) -> None:
    geometry = IMAGE_SPACES[space].geometry(*GEOMETRIES[space])
    (file,) = cache.rglob("*.json")
    content = json.loads(file.read_text())
    assert LatencyTable.from_json(file.read_bytes(), space, geometry).to_json() == table.to_json() == content
    file.write_text(json.dumps({**content, "constant": 12345}))
    assert latency_table(space, geometry, CPU, cache).constant == 12345
