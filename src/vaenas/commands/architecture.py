"""One architecture, by its code, its genotype or the run that found it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from vaenas.documents import read_json
from vaenas.errors import UserError
from vaenas.networks import ImageSpace, NetworkConfig, space_class, space_names
from vaenas.networks.space_file import load_space_file, load_space_of
from vaenas.records import SearchResult


@dataclass(frozen=True)
class Chosen:
    """An architecture of a space."""

    space: ImageSpace
    architecture: Int64[Tensor, "s"]

    def facts(self) -> dict[str, Any]:
        """What `vaenas show` prints; None where the space does not say."""
        population, space, config = self.architecture[None], self.space.space, self.space.config
        valid = bool(space.is_valid(population)[0])
        costs = self.space.cost(population) if valid else None
        return {
            "space": self.space.name,
            "code": space.encode(population)[0],
            "architecture": self.architecture.tolist(),
            "valid": valid,
            "params": None if costs is None else int(costs.params),
            "flops": None if costs is None else int(costs.multiply_adds),
            **{name: getattr(config, name) for name in ("layers", "width", "image_size", "classes")},
            **space.facts(self.architecture),
        }


def choose(
    code_or_run: str | None,
    space: str | None,
    genotype: str | None,
    sizes: Mapping[str, int | float | None],
    space_file: Path | None = None,
) -> Chosen:
    """The architecture that the options name; raises `UserError` where they name none, or contradict each other.

    Args:
        sizes: fields of `NetworkConfig`, before the run's and the defaults; None = not given.
    """
    if space_file is not None:
        names = load_space_file(space_file, given=True)
        space = names[0] if space is None and len(names) == 1 else space
    if space is not None:
        space_class(space)  # there is one
    if (genotype is None) == (code_or_run is None):
        raise UserError("give an architecture's code, a run's folder, or --genotype TEXT: one of the three")
    found: dict[str, Any] = {}
    folder = None if code_or_run is None else run_folder(code_or_run)
    if folder is not None:
        load_space_of(folder, space_file)
        result = search_result(folder)
        if space not in (None, result.space):
            raise UserError(f"--space {space}: the run in {folder} is of space {result.space}; leave --space out")
        code_or_run, space, found = result.best.code, result.space, result.network.model_dump()
    if space is None:
        space = guess(code_or_run) if code_or_run is not None else _with_genotypes()
    kind = space_class(space)
    given = {name: value for name, value in sizes.items() if value is not None}
    bound = kind(replace(_usual(kind, code_or_run or ""), **{**found, **given}))
    if genotype is not None:
        return Chosen(bound, bound.space.from_genotype(genotype))
    return Chosen(bound, bound.space.decode([str(code_or_run)])[0])


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


def _with_genotypes() -> str:
    """The space of DARTS's genotypes."""
    kinds = map(space_class, space_names())
    return next(kind.name for kind in kinds if kind(_usual(kind, "")).space.has_genotype)


def run_folder(code_or_run: str) -> Path | None:
    """The folder that is meant, None for a code; raises `UserError` where it looks like a folder and is none."""
    if os.path.isdir(code_or_run):
        return Path(code_or_run)
    if os.path.lexists(code_or_run):
        raise UserError(f"{code_or_run}: not a folder: give that of a run, or an architecture's code")
    if os.sep in code_or_run:
        raise UserError(f"{code_or_run}: there is no such folder")
    return None


def search_result(folder: Path) -> SearchResult:
    """What a search has found; raises `UserError` where it has not ended, or its space is not known here."""
    file = folder / "result.json"
    if not file.is_file():
        raise UserError(
            f"{folder}: no result.json: the search has not ended, so there is no architecture yet; resume it"
        )
    result = read_json(SearchResult, file)
    if result.space not in space_names():
        raise UserError(
            f"{folder}: space {result.space} is not one of vaenas's own ({', '.join(space_names())}): give the file "
            f"that registers it with --space-file"
        )
    return result
