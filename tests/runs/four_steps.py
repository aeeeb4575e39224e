"""Four steps of training both kinds of network, alone or as one of several processes; prints sums of all weights."""

import json

import pytest
import torch
from torch import nn

from vaenas import parallel
from vaenas.errors import UserError
from vaenas.networks.nasnet import NASNet
from vaenas.networks.shufflenet import ShuffleNet
from vaenas.spaces.nasnet import NASNetGeometry
from vaenas.spaces.shufflenet import ShuffleNetGeometry

parallel.make_fabric("cpu", "32-true")
if parallel.world_size() == 1:
    parallel.check_batch_size(21)
else:
    with pytest.raises(UserError, match="--batch-size 21: 2 processes need a multiple of 2"):
        parallel.check_batch_size(21)
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
nasnet = NASNet(NASNetGeometry(16, 3, 3, 4, 3), [[4]] * 28, auxiliary=True, drop_path=0.2)
shufflenet = ShuffleNet(ShuffleNetGeometry(16, 3, 3, width=0.25, layers=5), [[2]] * 5)
images, labels = torch.randn(20, 3, 16, 16), torch.randint(3, (20,))
for network in (nasnet, shufflenet):
    parallel.synchronize(network)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    for _ in range(4):
        x, y = parallel.local_chunk(images), parallel.local_chunk(labels)
        outputs = network.with_auxiliary(x) if isinstance(network, NASNet) else (network(x),)
        sum(nn.functional.cross_entropy(logits, y) for logits in outputs).backward()
        parallel.reduce_gradients(network)
        optimizer.step()
        optimizer.zero_grad()
if parallel.is_main():
    state = {**nasnet.state_dict(), **shufflenet.state_dict()}
    print(json.dumps([float(tensor.double().square().sum()) for tensor in state.values()]))
