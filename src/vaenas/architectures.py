"""`vaenas show` and `vaenas draw`: one architecture, by its code, its genotype or the run that found it."""

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.figure import Figure

from vaenas.errors import UserError
from vaenas.files import refuse_to_replace, write_atomically
from vaenas.networks.image_spaces import IMAGE_SPACES
from vaenas.records import SearchResult, read_result_of
from vaenas.spaces.cells import module_hash
from vaenas.spaces.nasnet import NASNetSpace
from vaenas.spaces.shufflenet import shufflenet_space
from vaenas.spaces.space import SearchSpace

SPACES = tuple(IMAGE_SPACES)


@dataclass(frozen=True)
class Chosen:
    """An architecture (s,) of a space, and the geometry of its network."""

    name: str
    space: SearchSpace
    architecture: torch.Tensor
    geometry: Any

    def drawing(self) -> dict[str, Any]:
        """What `report.draw_architecture` takes."""
        return IMAGE_SPACES[self.name].drawing(self.geometry, self.architecture)

    def facts(self) -> dict[str, Any]:
        """What `vaenas show` prints; None where the space does not say."""
        valid = bool(self.space.is_valid(self.architecture[None])[0])
        facts: dict[str, Any] = {
            "space": self.name,
            "code": self.space.encode(self.architecture[None])[0],
            "architecture": self.architecture.tolist(),
            "valid": valid,
            "params": None,
            "flops": None,
            "genotype": None,
        }
        if valid:
            costs = IMAGE_SPACES[self.name].cost(self.geometry)(self.architecture[None])
            facts |= {"params": int(costs.params), "flops": int(costs.flops)}
        for name in ("layers", "width", "image_size", "classes"):
            facts[name] = getattr(self.geometry, name)
        if isinstance(self.space, NASNetSpace) and valid:
            with contextlib.suppress(UserError):  # it has none: another number of edges than two into some node
                facts["genotype"] = self.space.genotype(self.architecture)
        facts["cell"] = self.space.own_text(self.architecture)
        if self.name == "nasbench101":
            facts["hash"] = module_hash(self.architecture[None])[0] if valid else None
        return facts


def choose(
    code_or_run: str | None,
    space: str | None,
    genotype: str | None,
    layers: int | None,
    width: float | None,
    image_size: int | None,
    classes: int | None,
) -> Chosen:
    """The architecture that the options name; raises `UserError` where they name none, or contradict each other."""
    if space is not None and space not in SPACES:
        raise UserError(f"--space {space}: there is no such space; choose {', '.join(SPACES)}")
    if (genotype is None) == (code_or_run is None):
        raise UserError("give an architecture's code, a run's folder, or --genotype TEXT: one of the three")
    found: dict[str, Any] = {}
    folder = None if code_or_run is None else run_folder(code_or_run)
    if folder is not None:
        code_or_run, space, found = _of_run(folder, space)
    if genotype is not None:
        space = space or "nasnet"
    elif space is None:
        assert code_or_run is not None
        space = guess(code_or_run)

    image_space = IMAGE_SPACES[space]
    if layers is None and space == "shufflenet" and code_or_run is not None and not found:
        layers = sum(map(len, code_or_run.split("-")))
    defaults = {"layers": image_space.layers, "width": image_space.width, "image_size": 32, "classes": 10}
    given = {"layers": layers, "width": width, "image_size": image_size, "classes": classes}
    values = {**defaults, **found, **{name: value for name, value in given.items() if value is not None}}
    geometry = image_space.geometry(
        values["image_size"], values.get("image_channels", 3), values["classes"], values["width"], values["layers"]
    )
    made = image_space.space(geometry)
    if genotype is not None:
        if not isinstance(made, NASNetSpace):
            raise UserError(f"--genotype: space {space} has none; leave --space out, or give nasnet")
        return Chosen(space, made, made.from_genotype(genotype), geometry)
    return Chosen(space, made, made.decode([str(code_or_run)])[0], geometry)


def run_folder(code_or_run: str) -> Path | None:
    """The folder that is meant, None for a code; raises `UserError` where it looks like a folder and is none."""
    if os.path.isdir(code_or_run):
        return Path(code_or_run)
    if os.path.lexists(code_or_run):
        raise UserError(f"{code_or_run}: not a folder: give that of a run, or an architecture's code")
    if os.sep in code_or_run:
        raise UserError(f"{code_or_run}: there is no such folder")
    return None


def unknown_space(folder: Path, name: object) -> UserError:
    """A run of a space that this process doesn't know; what can be done then."""
    return UserError(
        f"{folder}: space {name} is not one of vaenas's own ({', '.join(SPACES)}): see its report.html, or enter it in "
        f"IMAGE_SPACES and call the functions of vaenas (docs/howto/own-space.md)"
    )


def _of_run(folder: Path, space: str | None) -> tuple[str, str, dict[str, Any]]:
    """Code, space and geometry of what a search has found."""
    file = folder / "result.json"
    if not file.is_file():
        raise UserError(
            f"{folder}: no result.json: the search has not ended, so there is no architecture yet; resume it"
        )
    result = read_result_of(SearchResult, file)
    if result.space not in IMAGE_SPACES:
        raise unknown_space(folder, result.space)
    if space not in (None, result.space):
        raise UserError(f"--space {space}: the run in {folder} is of space {result.space}; leave --space out")
    return result.best.code, result.space, result.geometry.model_dump()


def guess(code: str) -> str:
    """The space whose codes look like this one."""
    symbols = sum(map(len, code.split("-")))
    spaces = {name: s.space(s.geometry(32, 3, 10, s.width, s.layers)) for name, s in IMAGE_SPACES.items()}
    if symbols % 5 == 0 and symbols:
        spaces["shufflenet"] = shufflenet_space(symbols)  # as deep as the code is long
    fits = []
    for name, space in spaces.items():
        try:
            space.decode([code])
        except UserError:
            continue
        fits.append(name)
    if len(fits) != 1:
        found = f"fits {' and '.join(fits)}" if fits else "fits no space, and there is no such run folder"
        raise UserError(f"{code!r} {found}; name the space with --space ({', '.join(SPACES)})")
    return fits[0]


CODE = Annotated[str | None, typer.Argument(metavar="CODE|RUN", help="An architecture's code, or a run directory.")]
SPACE = Annotated[str | None, typer.Option(help=f"{', '.join(SPACES)} (default: the one whose codes look so).")]
GENOTYPE = Annotated[str | None, typer.Option(help='DARTS\'s form: "Genotype(normal=[...], ...)".')]
LAYERS = Annotated[int | None, typer.Option(min=1, max=1000, help="Of the network.")]
WIDTH = Annotated[float | None, typer.Option(help="shufflenet, macro: multiplies all channels; others: channels.")]
SIZE = Annotated[int | None, typer.Option(max=1024, help="Side of the images in pixels [32].")]
FORCE = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]
CLASSES = Annotated[int | None, typer.Option(max=10**6, help="Number of classes [10].")]


def show(
    code: CODE = None,
    space: SPACE = None,
    genotype: GENOTYPE = None,
    layers: LAYERS = None,
    width: WIDTH = None,
    image_size: SIZE = None,
    classes: CLASSES = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print an architecture's parameters, multiply-adds, genotype."""
    facts = choose(code, space, genotype, layers, width, image_size, classes).facts()
    if as_json:
        print(json.dumps(facts))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, value in facts.items():
        shown = "none" if value is None else f"{value:,}" if type(value) is int else str(value)
        table.add_row(name, shown)
    Console(markup=False).print(table)


def draw(
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.svg or FILE.png.")],
    code: CODE = None,
    space: SPACE = None,
    genotype: GENOTYPE = None,
    layers: LAYERS = None,
    width: WIDTH = None,
    image_size: SIZE = None,
    classes: CLASSES = None,
    force: FORCE = False,
) -> None:
    """Draw an architecture: cells as graphs, sequences as blocks in stages."""
    from vaenas.report import draw_architecture

    check_picture(output)
    refuse_to_replace(output, "--output", force)
    chosen = choose(code, space, genotype, layers, width, image_size, classes)
    write_figure(output, draw_architecture(chosen.drawing()))
    print(output)


def check_picture(path: Path) -> str:
    """How the path ends, "svg" or "png"; raises `UserError` if it ends otherwise."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise UserError(f"{path}: a picture must end in .svg or .png")
    return kind


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a figure atomically, on white."""
    kind, buffer = check_picture(path), io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, facecolor="white", metadata={"Date": None} if kind == "svg" else None)
    write_atomically(path, buffer.getvalue())
