"""NAS-Bench-Macro (Su et al. 2021): 8 layers, each one of three blocks: 6,561 networks."""

from typing import Any

from jaxtyping import Int64
from torch import Tensor

from vaenas.spaces.space import SearchSpace

OPERATIONS = ("Identity", "MB3_K3", "MB6_K5")  # inverted bottlenecks: expansion 3, kernel 3; expansion 6, kernel 5


def nasbench_macro_space() -> SearchSpace:
    """The search space; codes are the table's own keys, like "02012100"."""
    return SearchSpace("nasbench-macro", operations=("012",) * 8, groups=(8,))


def drawing(architecture: Int64[Tensor, "8"]) -> dict[str, Any]:
    """What a picture of a network needs; the table does not say its shapes."""
    slots = [{"slot": slot, "operation": operation} for slot, operation in enumerate(architecture.tolist())]
    return {
        "title": "NAS-Bench-Macro network",
        "input": "3 × 32 × 32",
        "before": ["Stem"],
        "groups": [{"name": "layers", "output": "features", "slots": slots}],
        "after": ["Global pool", "Linear 10"],
        "operations": [{"symbol": str(i), "name": name} for i, name in enumerate(OPERATIONS)],
    }
