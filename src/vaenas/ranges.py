"""What a setting may be: numbers with their ranges, and the texts that stand for them ("300M", "8ms")."""

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

UNITS = {"G": 1e9, "M": 1e6, "K": 1e3, "": 1}


def readable(count: int | float) -> str:
    """365000000 -> "365M", as `parse_count` reads it."""
    for unit, size in UNITS.items():
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return str(count)


def _in(units: Mapping[str, float], kind: type[int | float]) -> BeforeValidator:
    """Reads "0.3G", "3e8", "8ms"; what is not whole, and anything else, is left for the validation to name."""
    number = rf"\s*([0-9]+\.?[0-9]*|\.[0-9]+)(e[+]?[0-9]{{1,2}})?\s*({'|'.join(units)})\s*"
    by_name = {name.lower(): Decimal(str(size)) for name, size in units.items()}

    def parse(value: Any) -> Any:
        match = re.fullmatch(number, value, re.IGNORECASE) if isinstance(value, str) else None
        if match is None:
            return value
        read = Decimal(match[1] + (match[2] or "")) * by_name[match[3].lower()]
        return kind(read) if kind is float or read == int(read) else value

    return BeforeValidator(parse)


def absolute(path: str) -> str:
    """Saved settings must hold from any folder; ValueError for what is no path."""
    try:
        return str(Path(path).expanduser().resolve()) if path else path
    except (OSError, RuntimeError) as error:  # no such user, a circle of links
        raise ValueError(f"must be a path that can be followed: {error}") from None


Place = Annotated[str, AfterValidator(absolute)]
Count = Annotated[int, _in(UNITS, int), Field(gt=0, lt=2**63)]
Milliseconds = Annotated[float, _in({"us": 1e-3, "ms": 1, "s": 1e3, "": 1}, float), Field(gt=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
# Beyond a million nothing is meant, and torch's 32-bit numbers or the memory come to their end.
Positive = Annotated[float, Field(gt=0, le=1e6)]
NotNegative = Annotated[float, Field(ge=0, le=1e6)]
Number = Annotated[int, Field(ge=1, le=10**6)]
Pixels = Annotated[int, Field(ge=0, le=10**6)]
Images = Annotated[int, Field(ge=1, le=10**9)]
