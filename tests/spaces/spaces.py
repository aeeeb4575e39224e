"""Every space that the contract suite runs on: a new space adds a line."""

from vaenas.spaces.shufflenet import shufflenet_space
from vaenas.spaces.space import SearchSpace

SPACES = {
    "shufflenet": shufflenet_space(),
    "shufflenet-10": shufflenet_space(10),
    "uneven": SearchSpace("uneven", operations=("ab", "xyz", "1", "pqrst"), groups=(1, 3)),
}
