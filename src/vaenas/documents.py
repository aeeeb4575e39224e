"""YAML and JSON from outside: read strictly, bounded in size and depth, and what is wrong said in one line."""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from reprlib import Repr
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from vaenas.errors import UserError

LARGEST_YAML, LARGEST_JSON = 2**16, 2**22  # bytes; PyYAML reads some 100 KB a second
DEEPEST = 20  # levels of lists and mappings

_bounded = Repr()
_bounded.maxstring = _bounded.maxother = _bounded.maxlong = 60
short = _bounded.repr
"""`repr` of at most some 60 characters a part, whatever the value."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without what surprises: references, tags, dates, octal numbers, "yes", names given twice.

    What stays a number, a truth value or null is so in PyYAML's dumper, too: what that writes comes back as it was.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's name
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if event.anchor is not None:
            raise _wrong("references (& and *) are not read: write the value out", event)
        if getattr(event, "tag", None) is not None:
            raise _wrong(f"tags such as {short(event.tag)} are not read: write the value alone", event)
        self.depth += 1
        if self.depth > DEEPEST:
            raise _wrong(f"more than {DEEPEST} levels of brackets", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text: str = super().construct_scalar(node)
        try:
            usable = "\0" not in text and os.fsencode(text) is not None
        except UnicodeEncodeError:
            usable = False
        if not usable:
            raise _wrong("a character that no text may have", node)
        if getattr(node, "style", None) is None and re.fullmatch("[-+]?0[0-9_]+", text) and not re.search("[89]", text):
            raise _wrong(f"{short(text)} would be octal: leave the zeros out, or quote it if it is text", node)
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _wrong("a name must be text", key)
            if key.value in seen:
                raise _wrong(f"{short(key.value)} stands there twice: leave one out", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _kind, _pattern, _first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "[-+]?(?:0|[1-9][0-9]{0,24})", list("-+0123456789")),
    ("float", r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)", list("-+0123456789.")),
    ("float", r"\.(?:nan|NaN|NAN)", ["."]),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)


def _wrong(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping by names, in strict YAML; an empty file gives an empty one.

    Raises:
        UserError: names the file, the line and what is wrong.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_YAML + 1)
        if len(content) > LARGEST_YAML:
            raise UserError(f"{path}: more than {LARGEST_YAML} bytes, too long for settings; give another file")
        values = yaml.load(content.decode(), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold settings as 'name: value', one a line")
    return values


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names: {"vae": {"latent": 8}} -> {"vae.latent": 8}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {prefix + name: value}
    return flat


def from_json(kind: Any, content: str | bytes) -> Any:
    """What a JSON text says, as the type `kind`, by pydantic.

    Raises:
        ValueError: one short line, the place and what is wrong there.
    """
    if len(content) > LARGEST_JSON:
        raise ValueError(f"more than {LARGEST_JSON} bytes of JSON")
    try:
        return _adapter(kind).validate_json(content)
    except ValidationError as error:
        raise ValueError(first_of(error)) from None


_adapter = cache(TypeAdapter)


def first_of(error: ValidationError) -> str:
    """The first thing that pydantic finds wrong, where it is, and its value."""
    first = error.errors(include_url=False)[0]
    place = ".".join(
        short(part) if isinstance(part, str) and not part.isidentifier() else str(part) for part in first["loc"]
    )
    message = first["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    value = "" if first["type"] in ("json_invalid", "missing", "value_error") else f" ({short(first['input'])})"
    return f"{place}: {message}{value}" if place else f"{message}{value}"
