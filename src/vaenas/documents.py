"""YAML and JSON from outside: read strictly, bounded in size and depth, and what is wrong said in one line."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from reprlib import Repr
from typing import Any, BinaryIO, TypeVar

import yaml
from pydantic import GetPydanticSchema, TypeAdapter, ValidationError
from pydantic_core import core_schema

from vaenas.errors import UserError

T = TypeVar("T")
LARGEST_YAML, LARGEST_JSON = 2**16, 2**23  # bytes; PyYAML reads some 100 KB a second
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
        # not the surrogates that stand for bytes in names of files
        if re.search("[\0\ud800-\udc7f\udd00-\udfff]", text):
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
    ("float", r"[-+]?([0-9]+\.[0-9]*([eE][-+][0-9]+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)", list("-+0123456789.")),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)


def _wrong(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping by names, in strict YAML, empty for an empty file; a `UserError` names the line and what is wrong."""
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
    if not isinstance(values, dict | None):
        raise UserError(f"{path}: must hold settings as 'name: value', one a line")
    return values or {}


@contextmanager
def regular_file(path: Path) -> Iterator[BinaryIO]:
    """Open for reading; raises `UserError` where it can't be read, or could hang (a FIFO, a device)."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file, or it is not a regular one")
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give another file") from None


def read_json(kind: type[T], path: Path, fix: str = "fix or remove it, or give another") -> T:
    """What a JSON file says, as the type `kind`.

    Raises:
        UserError: names the file, the place in it, what must be there and what is.
    """
    with regular_file(path) as file:
        content = file.read(LARGEST_JSON + 1)
    try:
        return from_json(kind, content)
    except ValueError as error:
        raise UserError(f"{path}: {error}; {fix}") from None


def checked(kind: type[T], content: Any, where: str) -> T:
    """Values that are read already, as the type `kind`; `where` opens the message of the `UserError`."""
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as error:
        raise UserError(f"{where}: {first_of(error)}; fix or remove it") from None


def between(low: float, high: float, slack: float = 0.0) -> GetPydanticSchema:
    """Checked by pydantic's core, as there may be millions, with a message of ours."""
    number = core_schema.float_schema(strict=True, allow_inf_nan=False, ge=low - slack, le=high + slack)
    message = f"must be a number in [{low:g}, {high:g}]"
    checked = core_schema.custom_error_schema(number, "between", custom_error_message=message)
    return GetPydanticSchema(lambda _source, _handler: checked)


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names: {"vae": {"latent": 8}} -> {"vae.latent": 8}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {prefix + name: value}
    return flat


def from_json(kind: Any, content: str | bytes) -> Any:
    """What a JSON text says, as the type `kind`; raises `ValueError` with the place and what is wrong there."""
    if len(content) > LARGEST_JSON:
        raise ValueError(f"more than {LARGEST_JSON >> 20} MiB of JSON")
    try:
        value = _adapter(kind).validate_json(content)
    except ValidationError as error:
        raise ValueError(first_of(error)) from None
    json.loads(content, object_pairs_hook=_unique)  # of two values of one name pydantic takes the last
    return value


_adapter = cache(TypeAdapter)


def _unique(pairs: list[tuple[str, Any]]) -> None:
    names = Counter(name for name, _ in pairs)
    if len(names) < len(pairs):
        raise ValueError(f"{short(names.most_common(1)[0][0])} stands in it twice")


def first_of(error: ValidationError) -> str:
    """The first thing that pydantic finds wrong in one line: "place: what must be (what is)"."""
    place, said, value = first_problem(error)
    said += f" ({value})" if value else ""
    return f"{place}: {said}" if place else said


def first_problem(error: ValidationError) -> tuple[str, str, str]:
    """The place of the first thing that pydantic finds wrong, what must be there, and what is; "" where nothing is."""
    first = error.errors(include_url=False, include_context=False)[0]
    names = (short(part) if isinstance(part, str) and not part.isidentifier() else str(part) for part in first["loc"])
    message = first["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    nothing = first["type"] in ("json_invalid", "missing", "value_error")
    return ".".join(names), message, "" if nothing else short(first["input"])
