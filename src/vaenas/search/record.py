"""What a search tells about itself, step by step."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Record:
    """One thing that happened: `kind` is train, evaluation, update, generation or comparison; values are JSON."""

    kind: str
    values: dict[str, Any]
