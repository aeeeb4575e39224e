"""Every space that the contract suite runs on: a new space adds a line."""

from vaenas.spaces.macro import macro_space
from vaenas.spaces.nasbench101 import nasbench101_space
from vaenas.spaces.nasbench201 import nasbench201_space
from vaenas.spaces.nasnet import nasnet_space
from vaenas.spaces.shufflenet import shufflenet_space
from vaenas.spaces.space import SearchSpace

SPACES = {
    "shufflenet": shufflenet_space(),
    "shufflenet-10": shufflenet_space(10),
    "nasnet": nasnet_space(),
    "nasbench101": nasbench101_space(),
    "nasbench101-full": nasbench101_space(full_cells=True),
    "nasbench201": nasbench201_space(),
    "macro": macro_space(),
    "uneven": SearchSpace("uneven", operations=("ab", "xyz", "1", "pqrst"), groups=(1, 3)),
}

# Those where every combination of operations is valid and slots are drawn, mutated and crossed one by one.
PLAIN = {name: space for name, space in SPACES.items() if type(space) is SearchSpace}
