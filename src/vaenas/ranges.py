"""What a setting may be: numbers with their ranges, and the texts that stand for them ("300M", "8ms")."""

import re
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


def parse_count(value: Any) -> Any:
    """ "300M", "0.3G" or "3e8" -> 300000000; anything that is no whole count is left for the validation to name."""
    number = r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)(e[+]?[0-9]{1,2})?\s*([KMG]?)\s*"
    match = re.fullmatch(number, value, re.IGNORECASE) if isinstance(value, str) else None
    if match is None:
        return value
    count = Decimal(match[1] + (match[2] or "")) * int(UNITS[match[3].upper()])
    return int(count) if count == int(count) else value


def parse_milliseconds(value: Any) -> Any:
    """ "8ms", "500us", "0.1s" or 8 -> milliseconds; anything else is left for the validation to name."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*(us|ms|s|)\s*", value, re.IGNORECASE) if isinstance(value, str) else None
    if match is None:
        return value
    try:
        return float(match[1]) * {"us": 1e-3, "ms": 1.0, "": 1.0, "s": 1e3}[match[2].lower()]
    except ValueError:
        return value


def absolute(path: str) -> str:
    """Saved settings must hold from any folder; ValueError for what is no path."""
    try:
        return str(Path(path).expanduser().resolve()) if path else path
    except (OSError, RuntimeError) as error:  # no such user, a circle of links
        raise ValueError(f"is no path that can be followed: {error}") from None


Place = Annotated[str, AfterValidator(absolute)]
Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0, lt=2**63)]
Milliseconds = Annotated[float, BeforeValidator(parse_milliseconds), Field(gt=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
# Beyond a million nothing is meant, and torch's 32-bit numbers or the memory come to their end.
Positive = Annotated[float, Field(gt=0, le=1e6)]
NotNegative = Annotated[float, Field(ge=0, le=1e6)]
Number = Annotated[int, Field(ge=1, le=10**6)]
Pixels = Annotated[int, Field(ge=0, le=10**6)]
Images = Annotated[int, Field(ge=1, le=10**9)]
