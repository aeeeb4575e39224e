"""Four steps of training three kinds of network, alone or as one of several processes; prints sums of all weights.

Ends with code 9 if the process group outlives make_fabric's handler: its threads would abort the process at times.
"""

import atexit
import json
import os

import pytest
import torch
from torch import nn

from vaenas import parallel
from vaenas.errors import UserError
from vaenas.networks import NetworkConfig
from vaenas.networks.nasbench101 import NASBench101ImageSpace
from vaenas.networks.nasnet import NASNet
from vaenas.networks.shufflenet import ShuffleNet

atexit.register(lambda: os._exit(9) if torch.distributed.is_initialized() else None)  # called last
parallel.make_fabric("cpu", "32-true")
if parallel.world_size() == 1:
    parallel.check_batch_size(21)
else:
    with pytest.raises(UserError, match="--batch-size 21: 2 processes need a multiple of 2"):
        parallel.check_batch_size(21)
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
nasnet = NASNet(NetworkConfig(16, 3, 3, 4, 3), [[4]] * 28, auxiliary=True, drop_path=0.2)
shufflenet = ShuffleNet(NetworkConfig(16, 3, 3, width=0.25, layers=5), [[2]] * 5)
# a supernet, whose steps use different parts of its weights
of_cells = NASBench101ImageSpace(NetworkConfig(16, 3, 3, 6, 1))
nasbench101 = of_cells.supernet()
cells = of_cells.space.uniform(4, torch.Generator().manual_seed(0))
images, labels = torch.randn(20, 3, 16, 16), torch.randint(3, (20,))
for network in (nasnet, shufflenet, nasbench101):
    parallel.synchronize(network)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    for cell in cells:
        x, y = parallel.local_chunk(images), parallel.local_chunk(labels)
        architecture = cell if network is nasbench101 else None
        outputs = network.with_auxiliary(x) if isinstance(network, NASNet) else (network(x, architecture),)
        sum(nn.functional.cross_entropy(logits, y) for logits in outputs).backward()
        parallel.reduce_gradients(network)
        optimizer.step()
        optimizer.zero_grad()
if parallel.is_main():
    tensors = [tensor for network in (nasnet, shufflenet, nasbench101) for tensor in network.state_dict().values()]
    print(json.dumps([float(tensor.double().square().sum()) for tensor in tensors]))
