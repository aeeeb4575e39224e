"""Named tensors in one safetensors file that says what it is, and by a checksum whether it is whole.

The metadata has two entries beside safetensors' own: the format's name with a JSON text, and "sha256", the checksum of
the whole file with zeros in the checksum's place. It finds damage; it is no signature.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vaenas.errors import UserError
from vaenas.files import write_atomically

_CHECKSUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')  # a quote inside another entry would have a backslash before it
_BLANK = "0" * 64


class Format(NamedTuple):
    """The name with its version, what such a file holds in words, and how to get another one."""

    name: str
    what: str
    again: str


def write_tensors(path: Path, tensors: dict[str, Tensor], form: Format, facts: str) -> None:
    """Writes a file whose JSON is `facts`, in one move; needs thrice their memory. Equal ones give equal bytes."""
    content = save(tensors, {form.name: facts, "sha256": _BLANK, "format": "pt"})
    start = 8 + int.from_bytes(content[:8], "little")
    # safetensors writes the metadata in an order that each process draws anew.
    head = json.dumps(json.loads(content[8:start]), sort_keys=True, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    head = len(head).to_bytes(8, "little") + head
    digest = hashlib.sha256(head)
    digest.update(content[start:])
    head = head.replace(b'"sha256":"' + _BLANK.encode(), b'"sha256":"' + digest.hexdigest().encode(), 1)
    write_atomically(path, head + content[start:])


def read_tensors(path: Path, form: Format) -> tuple[dict[str, Tensor], str]:
    """Tensors, memory-mapped, and JSON; raises `UserError` where there is no such file of this format."""
    if not path.is_file():
        raise UserError(f"no {form.what.removeprefix('a ')} at {path}: give the path of a file; {form.again}")
    try:
        with safe_open(path, framework="pt") as file:
            facts = (file.metadata() or {}).get(form.name)
            if facts is not None:
                return {key: file.get_tensor(key) for key in file.keys()}, facts  # noqa: SIM118  # not a dict
            reason = f"it is not in the format {form.name!r}"
    except SafetensorError as error:
        reason = f"it is not whole: {error}"
    except OSError as error:
        reason = error.strerror or str(error)
    raise UserError(f"{path}: not a file of {form.what}: {reason}; {form.again}")


def check_whole(path: Path, form: Format) -> None:
    """Raises `UserError` unless the checksum in a file that `read_tensors` takes is that of its content."""
    with path.open("rb") as file:
        head = file.read(8)
        head += file.read(int.from_bytes(head, "little"))
        found = _CHECKSUM.search(head)
        start, end = found.span(1) if found else (0, 0)
        content = hashlib.sha256(head[:start] + _BLANK.encode() + head[end:])
        while block := file.read(2**20):
            content.update(block)
    if found is None or found[1].decode() != content.hexdigest():
        raise UserError(f"{path}: damaged: its checksum is not that of its content; {form.again}")
