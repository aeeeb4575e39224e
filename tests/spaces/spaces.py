"""Every space that the contract suite runs on: a new space adds a line."""

from vaenas.spaces.macro import macro_space
from vaenas.spaces.nasbench101 import NASBench101Space
from vaenas.spaces.nasbench201 import NASBench201Space
from vaenas.spaces.nasnet import NASNetSpace
from vaenas.spaces.shufflenet import shufflenet_space
from vaenas.spaces.space import SearchSpace

SPACES = {
    "shufflenet": shufflenet_space(),
    "shufflenet-10": shufflenet_space(10),
    "nasnet": NASNetSpace(),
    "nasbench101": NASBench101Space(),
    "nasbench101-full": NASBench101Space(only_full=True),
    "nasbench201": NASBench201Space(),
    "macro": macro_space(),
    "uneven": SearchSpace("uneven", operations=("ab", "xyz", "1", "pqrst"), groups=(1, 3)),
}

# Those where every combination of operations is valid and slots are drawn, mutated and crossed one by one.
PLAIN = {name: space for name, space in SPACES.items() if type(space) is SearchSpace}
