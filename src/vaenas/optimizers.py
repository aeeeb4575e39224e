"""Loading an optimizer's state from a file that may be of another."""

from typing import Any

import torch
from torch import Tensor


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """`optimizer.load_state_dict`, which takes nearly everything.

    Raises:
        ValueError: what is saved is not of an optimizer like this one.
    """
    kinds = [
        [{name: type(value) for name, value in group.items()} for group in groups["param_groups"]]
        for groups in (saved, optimizer.state_dict())
    ]
    if kinds[0] != kinds[1]:
        raise ValueError("other groups of parameters")
    optimizer.load_state_dict(saved)
    names = {"momentum_buffer"} if isinstance(optimizer, torch.optim.SGD) else {"step", "exp_avg", "exp_avg_sq"}
    for parameter, state in optimizer.state.items():
        fit = (isinstance(v, Tensor) and v.shape in (parameter.shape, ()) for v in state.values() if v is not None)
        if state.keys() != names or not all(fit):
            raise ValueError("another state of a parameter")
