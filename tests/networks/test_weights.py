"""What a file of weights says of itself is not believed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vaenas.errors import UserError
from vaenas.networks.weights import FORMAT, NetworkInfo, load_weights, save_weights
from vaenas.tensors import read_tensors, write_tensors

INFO = NetworkInfo("shufflenet", "3-5-7x-3", 28, 1, 0.125, 5, ("a", "b", "c"), (0.5,), (0.25,))
Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]
HOSTILE = {
    "space": (lambda f, t: f.update(space="x"), "space 'x': choose shufflenet"),
    "code": (lambda f, t: f.update(code=7), "code: must be a valid string .7."),
    "code of another": (lambda f, t: f.update(code="02012100"), "architecture '02012100'"),
    "width": (lambda f, t: f.update(width=[]), "width: must be a valid number"),
    "NaN": (lambda f, t: f.update(width=float("nan")), "width: must be a finite number"),
    "as wide as memory": (lambda f, t: f.update(width=1000.0), "must be torch.float32"),
    "as deep as time": (lambda f, t: f.update(layers=1000), "1000 layers, but only"),
    "channels": (lambda f, t: f.update(mean=[]), "mean and std of 0 and 1 channels"),
    "missing": (lambda f, t: f.pop("std"), "std: Field required"),
    "tensor missing": (lambda f, t: t.popitem(), "is missing, must be"),
    "type": (lambda f, t: t.update({k: v.double() for k, v in t.items()}), "torch.float64"),
    "no numbers": (lambda f, t: [v.fill_(torch.nan) for v in t.values() if v.is_floating_point()], "are no numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_weights(change: Change, said: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, INFO.build(), INFO)
    assert load_weights(path)[1] == INFO
    tensors, text = read_tensors(path, FORMAT)
    facts, copies = json.loads(text), {name: tensor.clone() for name, tensor in tensors.items()}
    change(facts, copies)
    write_tensors(path, copies, FORMAT, json.dumps(facts))
    with pytest.raises(UserError, match=said):
        load_weights(path)


def test_half_zeroed_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, INFO.build(), INFO)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises(UserError, match="damaged: its checksum is not that of its content"):
        load_weights(path)
