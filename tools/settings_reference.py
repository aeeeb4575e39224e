"""Prints docs/reference/settings.md from the settings' types:

    python tools/settings_reference.py > docs/reference/settings.md
"""

import dataclasses
import html
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vaenas.runs.config import SearchConfig
from vaenas.training.config import TrainConfig

HEAD = """# Settings

<!-- Written by tools/settings_reference.py from the types; do not edit. -->

Each is a key of the YAML file that `--config` names (a run's `config.yaml` is one) and an option of the command line.
A dot is a level of the file: `vae.keep_ratio` stands there as `keep_ratio` under `vae`, and is `--vae.keep-ratio` on the
command line. `vaenas search --help` and `vaenas train --help` say which have a short name. Options come before the file.
"""


MOST = 1e15  # as good as no bound


def fields(kind: type) -> Iterator[tuple[str, FieldInfo]]:
    """Of a pydantic model or a dataclass with annotated fields."""
    if issubclass(kind, BaseModel):
        yield from kind.model_fields.items()
        return
    hints = get_type_hints(kind, include_extras=True)
    for part in dataclasses.fields(kind):
        yield part.name, FieldInfo.from_annotated_attribute(hints[part.name], part.default)


def limits(field: FieldInfo) -> str:
    """one-shot, gradient; >= 1, <= 100"""
    for kind in (field.annotation, *get_args(field.annotation)):
        if get_origin(kind) is Literal:
            return ", ".join(map(str, get_args(kind)))
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [(signs[sign], getattr(rule, sign)) for rule in rules(field) for sign in signs if hasattr(rule, sign)]
    return ", ".join(f"{sign} {value:.10g}" for sign, value in found if value is not None and value < MOST)


def rules(field: FieldInfo) -> Iterator[Any]:
    """Of the field, and of the type inside `Annotated[...] | None`."""
    yield from field.metadata
    for kind in get_args(field.annotation):
        for rule in getattr(kind, "__metadata__", ()):
            yield from rule.metadata if isinstance(rule, FieldInfo) else [rule]


def rows(kind: type, prefix: str = "") -> Iterator[str]:
    for name, field in fields(kind):
        if not nests(field.annotation):
            default = "" if field.is_required() or field.default in (None, "") else f"`{field.default}`"
            said = html.escape(field.description or "", quote=False).replace("|", "\\|")
            yield f"| `{prefix}{name}` | {default} | {limits(field)} | {said} |"


def nests(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel))


def section(title: str, kind: type) -> Iterator[str]:
    head = "| setting | default | allowed | what |\n| --- | --- | --- | --- |"
    yield f"\n## {title}\n\n{head}"
    yield from rows(kind)
    for name, field in fields(kind):
        if nests(field.annotation):
            yield f"\n### {title}: {name}\n\n{head}"
            yield from rows(field.annotation, f"{name}.")


def page() -> str:
    lines = [*section("vaenas search", SearchConfig), *section("vaenas train", TrainConfig)]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
