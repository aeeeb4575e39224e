"""The latency tables: what they say against networks timed whole, and that they are measured only once."""

import json
import statistics
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Generator

from vaenas.networks import ImageSpace, NetworkConfig, space_class
from vaenas.networks.cost import ABSENT, AdditiveCost
from vaenas.networks.latency import LatencyTable, latency_table, timed

CPU = torch.device("cpu")
SIZES = {"shufflenet": (32, 3, 10, 0.25, 5), "nasnet": (16, 3, 10, 4, 3)}


@pytest.mark.parametrize("space", SIZES)
def test_the_table_knows_how_long_networks_take(space: str, tmp_path: Path) -> None:
    """Ten random networks against their sums. Far wider than what holds on a quiet machine: this one may be busy."""
    image_space = space_class(space)(NetworkConfig(*SIZES[space]))
    table = latency_table(image_space, CPU, tmp_path)
    assert isinstance(image_space.cost, AdditiveCost)
    population = image_space.space.uniform(10, Generator().manual_seed(1))
    costs = table.added_to(image_space.cost)(population)
    assert costs.latency is not None
    predicted = costs.latency / 1e6
    assert torch.equal(costs.multiply_adds, image_space.cost(population).multiply_adds)
    image, networks = torch.zeros(1, 3, *2 * [image_space.config.image_size]), []
    for architecture in population:
        networks.append(partial(image_space.network(architecture).eval(), image))
    with torch.inference_mode():
        rounds = [[statistics.median(timed(network, 5, warmup=1)) for network in networks] for _ in range(5)]
    ratio = predicted / torch.tensor(rounds).amin(0)
    assert 0.3 < float(ratio.median()) < 3  # other work may have come or gone since the table was measured
    assert float((ratio / ratio.median() - 1).abs().median()) < 0.2
    assert 0 <= table.error < 0.5
    nanoseconds = torch.tensor(table.table)
    assert (nanoseconds[nanoseconds < ABSENT] >= 0).all()
    if image_space.none is not None:
        assert (nanoseconds[:, image_space.none] == 0).all()
    assert_it_is_measured_once(image_space, table, tmp_path)


def assert_it_is_measured_once(space: ImageSpace, table: LatencyTable, cache: Path) -> None:
    (file,) = cache.rglob("*.json")
    content = json.loads(file.read_text())
    assert LatencyTable.from_json(file.read_bytes(), space) == table
    assert table.to_json() == file.read_bytes()
    file.write_text(json.dumps({**content, "constant": 12345}))
    assert latency_table(space, CPU, cache).constant == 12345
