"""One architecture, by its code, its genotype or the run that found it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from vaenas.documents import read_json
from vaenas.errors import UserError
from vaenas.networks import ImageSpace, NetworkConfig, space_class, space_names
from vaenas.networks.space_file import load_space_file, load_space_of
from vaenas.records import SearchResult


def choose(
    code: str | None = None, space: str | None = None, genotype: str | None = None, space_file: Path | None = None,
    **sizes: int | float | None,
) -> tuple[ImageSpace, Int64[Tensor, "s"]]:  # fmt: skip
    """The architecture that the options name, and its space; raises `UserError` where they contradict each other.

    `code` may be a run's folder; `sizes` are fields of `NetworkConfig`, before the run's and the defaults.
    """
    if space_file is not None:
        names = load_space_file(space_file, given=True)
        space = names[0] if space is None and len(names) == 1 else space
    if (genotype is None) == (code is None):
        raise UserError("give an architecture's code, a run's folder, or --genotype TEXT: one of the three")
    found: dict[str, Any] = {}
    if code is not None and (result := result_of(code, space_file)) is not None:
        if space not in (None, result.space):
            raise UserError(f"--space {space}: the run in {code} is of space {result.space}; leave --space out")
        code, space, found = result.best.code, result.space, result.network.model_dump()
    if space is not None:
        kind = space_class(space)
    elif code is not None:
        kind = space_class(guess(code))
    else:  # that of DARTS's genotypes
        kind = next(kind for kind in map(space_class, space_names()) if kind(_usual(kind, "")).space.has_genotype)
    given = {name: value for name, value in sizes.items() if value is not None}
    bound = kind(replace(_usual(kind, code or ""), **{**found, **given}))
    if genotype is not None:
        return bound, bound.space.from_genotype(genotype)
    return bound, bound.space.decode([str(code)])[0]


def facts(image_space: ImageSpace, architecture: Int64[Tensor, "s"]) -> dict[str, Any]:
    """What `vaenas show` prints; None where the space does not say."""
    population, space = architecture[None], image_space.space
    valid = bool(space.is_valid(population)[0])
    costs = image_space.cost(population) if valid else None
    return {
        "space": image_space.name,
        "code": space.encode(population)[0],
        "architecture": architecture.tolist(),
        "valid": valid,
        "params": None if costs is None else int(costs.params),
        "flops": None if costs is None else int(costs.multiply_adds),
        **{name: getattr(image_space.config, name) for name in ("layers", "width", "image_size", "classes")},
        **space.facts(architecture),
    }


def _usual(kind: type[ImageSpace], code: str) -> NetworkConfig:
    """The network that is meant where nothing is said of it: as deep as the code tells."""
    return NetworkConfig(32, 3, 10, kind.default_width, kind.layers_of(code) or kind.default_layers)


def guess(code: str) -> str:
    """The space whose codes look like this one."""
    names = []
    for name in space_names():
        kind = space_class(name)
        try:
            kind(_usual(kind, code)).space.decode([code])
        except UserError:
            continue
        names.append(name)
    if len(names) != 1:
        found = f"fits {' and '.join(names)}" if names else "fits no space, and there is no such run folder"
        raise UserError(f"{code!r} {found}; name the space with --space ({', '.join(space_names())})")
    return names[0]


def result_of(code_or_run: str, space_file: Path | None) -> SearchResult | None:
    """What a search has found, its space made known, None for a code; raises `UserError` for what is neither."""
    if not os.path.isdir(code_or_run):
        if os.path.lexists(code_or_run):
            raise UserError(f"{code_or_run}: not a folder: give that of a run, or an architecture's code")
        if os.sep in code_or_run:
            raise UserError(f"{code_or_run}: there is no such folder")
        return None
    folder = Path(code_or_run)
    load_space_of(folder, space_file)
    if not (folder / "result.json").is_file():
        raise UserError(f"{folder}: no result.json: the search has not ended; resume it")
    result = read_json(SearchResult, folder / "result.json")
    if result.space not in space_names():
        raise UserError(f"{folder}: space {result.space} is not one of vaenas's own: give its --space-file")
    return result
