"""Prints docs/reference/settings.md from the settings' types:

python tools/settings_reference.py > docs/reference/settings.md
"""

import html
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vaenas.runs.config import SearchConfig
from vaenas.runs.settings import option, settings_of
from vaenas.training.config import TrainConfig

HEAD = """# Settings

<!-- Written by tools/settings_reference.py from the types; do not edit. -->

Each is a key of the YAML file that `--config` names (a run's `config.yaml` is one) and an option of the command line.
A dot is a level of the file: `vae.keep_ratio` stands there as `keep_ratio` under `vae`. Options come before the file,
the file before the preset, the preset before the defaults. `vaenas run` has the settings of `vaenas search`.
"""
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
MOST = 1e15  # as good as no bound


def rules(field: FieldInfo) -> Iterator[Any]:
    """Bounds of the field, and of the type inside `Annotated[...] | None`."""
    yield from field.metadata
    for kind in get_args(field.annotation):
        for rule in getattr(kind, "__metadata__", ()):
            yield from rule.metadata if isinstance(rule, FieldInfo) else [rule]


def allowed(field: FieldInfo) -> str:
    """one-shot, gradient; >= 1, <= 100"""
    for kind in (field.annotation, *get_args(field.annotation)):
        if get_origin(kind) is Literal:
            return ", ".join(map(str, get_args(kind)))
    bounds = {sign: getattr(rule, sign) for rule in reversed([*rules(field)]) for sign in SIGNS if hasattr(rule, sign)}
    return ", ".join(f"{SIGNS[sign]} {bounds[sign]:.10g}" for sign in SIGNS if abs(bounds.get(sign, MOST)) < MOST)


def rows(model: type[BaseModel]) -> Iterator[str]:
    settings = sorted(settings_of(model).items(), key=lambda item: "." in item[0])  # those without a part first
    for part, group in groupby(settings, key=lambda item: item[0].rpartition(".")[0]):
        if part:
            yield f"\n### {part}"
        yield "\n| setting | option | default | allowed | what |\n| --- | --- | --- | --- | --- |"
        for path, field in group:
            default = "" if field.is_required() or field.default in (None, "") else f"`{field.default}`"
            what = html.escape(field.description or "", quote=False).replace("|", "\\|")
            yield f"| `{path}` | `{option(path)}` | {default} | {allowed(field)} | {what} |"


if __name__ == "__main__":
    print(HEAD)
    print("## Of a search", *rows(SearchConfig), "\n## Of a training", *rows(TrainConfig), sep="\n")
