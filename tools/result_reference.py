"""Prints docs/reference/result.md from the models of `vaenas.records`:

python tools/result_reference.py > docs/reference/result.md
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from vaenas import drawings, records

HEAD = """# `result.json`, `metrics.jsonl`, `drawing.json`

<!-- Written by tools/result_reference.py from vaenas.records; do not edit. -->

What runs write and what the report reads is one schema. Scores and accuracies are shares in [0, 1], `flops` are
multiply-adds, entropies and KL are in nats, seconds are those of the run so far. An architecture is its operations'
indices. From Python: `documents.read_json(records.SearchResult, path)`, `records.read_metrics(path)`.
"""
PARTS = (
    ("`result.json` of a search", (records.SearchResult,)),
    ("`result.json` of a training", (records.TrainingResult,)),
    ("A line of `metrics.jsonl`, by its `kind`", tuple(records.METRICS.values())),
    ("`drawing.json`", (drawings.Drawing,)),
)


MOST = 1e18  # as good as no bound


def kind_of(schema: dict[str, Any]) -> str:
    """A JSON schema's type in words: 'list of Architecture', 'number or null'."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(kind_of(choice) for choice in schema["anyOf"])
    match schema.get("type"):
        case "array":
            return f"list of {kind_of(schema.get('items', {}))}"
        case "object":
            of = schema.get("additionalProperties")
            return f"names to {kind_of(of)}" if isinstance(of, dict) else "object"
        case "number" | "integer" as kind if schema.get("maximum", MOST) < MOST and "minimum" in schema:
            return f"{kind} in [{shown(schema['minimum'])}, {shown(schema['maximum'])}]"
        case str(kind):
            return kind
    return "any"


def shown(bound: float) -> str:
    """Without the slack of a rounded sum."""
    return f"{round(bound, 3) + 0:.7g}"


def table(schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("description"):
        yield " ".join(schema["description"].split()) + "\n"
    yield "| key | type | always there |\n| --- | --- | --- |"
    for key, value in schema.get("properties", {}).items():
        yield f"| `{key}` | {kind_of(value)} | {'yes' if key in schema.get('required', ()) else ''} |"


def page() -> str:
    lines, known = [HEAD], set()
    for title, models in PARTS:
        lines.append(f"## {title}\n")
        for model in models:
            lines += of_model(model, known)
    return "\n".join(lines).rstrip() + "\n"


def of_model(model: type[BaseModel], known: set[str]) -> Iterator[str]:
    """The model, and below it each part of it that no model before had."""
    schema = model.model_json_schema(mode="validation")
    parts = schema.pop("$defs", {})
    for name, part in ({model.__name__: schema} | parts).items():
        if name not in known:
            known.add(name)
            yield f"### {name}\n"
            yield from table(part)
            yield ""


if __name__ == "__main__":
    print(page(), end="")
