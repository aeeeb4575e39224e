"""NAS-Bench-Macro (Su et al. 2021): 8 layers, each one of three blocks: 6,561 networks."""

from vaenas.spaces.space import SearchSpace

OPERATIONS = ("Identity", "MB3_K3", "MB6_K5")  # inverted bottlenecks: expansion 3, kernel 3; expansion 6, kernel 5
LAYERS = 8


def macro_space() -> SearchSpace:
    """The search space; codes are the table's own keys, like "02012100"."""
    return SearchSpace("macro", operations=("012",) * LAYERS, groups=(LAYERS,))
