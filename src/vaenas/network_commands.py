"""`vaenas train`, `vaenas eval` and `vaenas export`: what comes after a search."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from vaenas.architectures import FORCE, check_picture, guess, run_folder, unknown_space, write_figure
from vaenas.data.folder import Background
from vaenas.documents import read_json, read_yaml
from vaenas.errors import UserError
from vaenas.export.export import ENDINGS, onnx_runner, weights_file
from vaenas.export.export import export as write_export
from vaenas.files import refuse_to_replace
from vaenas.networks.image_spaces import IMAGE_SPACES
from vaenas.networks.weights import load_weights
from vaenas.parallel import is_main, take_threads
from vaenas.records import SearchResult
from vaenas.runs.command import free_folder, resume_command, to_its_end, unchanged, with_settings
from vaenas.runs.config import OF_IMAGES, checked_geometry, option, refuse_idle
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.images import notes, skipped, train_and_test
from vaenas.training.config import TrainConfig, make_train_config

OF_DATA = ("data", "data_root", "skip_bad_images", "image_size", "workers", "background")
OF_SEARCH = ("space", "width", "layers", *OF_DATA)


def train(
    code_or_run: Annotated[
        str | None, typer.Argument(metavar="CODE|RUN", help="An architecture's code, or the run that found one.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Run directory (default: a new one under runs/).")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; options given here come first.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this training.")] = None,
    **options: Any,
) -> None:
    """Train one architecture from scratch; every setting may stand in the YAML file, too."""
    from vaenas.commands.progress import print_trained

    given = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        if code_or_run is not None or output not in (None, resume):
            raise UserError(f"--resume {resume}: a resumed run keeps its architecture and folder; leave the others out")
        directory, folder = RunDirectory.open(resume, "training"), resume
        settings = unchanged(directory, given, config, make_train_config)
    else:
        if code_or_run is not None:
            if "code" in given:
                raise UserError(f"--code {given['code']}: {code_or_run} names the architecture already; leave one out")
            found = found_by(code_or_run)
            if "data" in given:  # the search's say nothing of other images
                found = {name: value for name, value in found.items() if name not in OF_DATA}
            named = {*found, *given, *(read_yaml(config) if config else ())}
            if "space" not in named and code_or_run.startswith(("|", "{")):  # a benchmark's own text
                found["space"] = guess(code_or_run)
            given = {**found, **given}
        settings = make_train_config(given, config)
        if settings.code == code_or_run:
            geometry = checked_geometry(settings.space, settings.width, settings.layers)
            try:
                IMAGE_SPACES[settings.space].space(geometry).decode([settings.code])
            except UserError as error:
                raise UserError(f"{error}; nor is there a run's folder of that name") from None
        folder = output or free_folder("train")
        directory = NewRun(folder)
    train_to_its_end(settings, directory, resume_command("train", folder))
    if is_main():
        print_trained(RunDirectory(folder))


def train_to_its_end(settings: TrainConfig, directory: NewRun | RunDirectory, again: str) -> None:
    """Trains; `again` is what to call to go on after a stop."""
    from vaenas.commands.progress import TrainProgress
    from vaenas.training.train_run import TrainRun

    if isinstance(directory, NewRun) or not directory.ended:
        to_its_end(again, lambda: TrainRun(settings, directory), TrainProgress)


with_settings(train, TrainConfig)


def found_by(code_or_run: str) -> dict[str, Any]:
    """The settings that an architecture, or the search that found it, decides."""
    folder = run_folder(code_or_run)
    if folder is None:
        return {"code": code_or_run}
    directory = RunDirectory(folder)
    if not directory.result_file.is_file():
        raise UserError(f"{folder}: no result.json: the search has not ended; resume it first")
    result = read_json(SearchResult, directory.result_file)
    if result.space not in IMAGE_SPACES:
        raise unknown_space(folder, result.space)
    settings = read_yaml(directory.config_file)
    found = {name: settings[name] for name in OF_SEARCH if settings.get(name) is not None}
    return {**found, "space": result.space, "code": result.best.code, "search": folder.resolve().name}


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A training's folder, or a file of weights.")],
    form: Annotated[str, typer.Option("-f", "--format", metavar="|".join(ENDINGS), help="What to write.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: beside the weights.")] = None,
    force: FORCE = False,
) -> None:
    """Write a trained network for others, with a model card (model.md for model.onnx) beside it."""
    print(write_export(source, form, output, force))


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A training's folder, or a file of weights.")],
    data: Annotated[str, typer.Option(help="builtin, cifar10, or a folder with train/ and val/.")] = "builtin",
    data_root: Annotated[Path | None, typer.Option(help="Where CIFAR-10 is.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a batch, also the larger one of the latency.")] = 64,
    workers: Annotated[int, typer.Option(min=0, help="As in training.")] = 0,
    skip_bad_images: Annotated[bool, typer.Option(help="Leave out images that cannot be read.")] = False,
    background: Annotated[Background, typer.Option(help="As in training.")] = "white",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw the confusion matrix here: FILE.svg or .png.")] = None,
    force: FORCE = False,
) -> None:
    """Test a trained network: accuracy, calibration, confusion, costs, latency on this machine."""
    usual = {"data_root": None, "workers": 0, "skip_bad_images": False, "background": "white", "download": False}
    given = {"data_root": data_root, "workers": workers, "skip_bad_images": skip_bad_images, "background": background}
    try:
        refuse_idle(SimpleNamespace(data=data, **{**usual, **given}), OF_IMAGES, usual)
    except ValueError as error:
        name, why = str(error).split(": ", 1)
        raise UserError(f"{option(name)}: {why}") from None
    if picture is not None:
        check_picture(picture)
        refuse_to_replace(picture, "--picture", force)
    take_threads()
    figures = evaluation_of(source, data, data_root, batch_size, workers, skip_bad_images, background, picture)
    if as_json:
        print(json.dumps(figures))
    else:
        print_evaluation(figures)


def evaluation_of(
    source: Path,
    data: str,
    data_root: Path | None,
    batch_size: int,
    workers: int,
    skip_bad_images: bool,
    background: Background,
    picture: Path | None = None,
    onnx: Path | None = None,
) -> dict[str, Any]:
    """All figures of a trained network on its test images; `picture` is drawn of the confusion matrix.

    The time of the exported model in `onnx` (default: beside the weights), where there is one, stands beside PyTorch's.

    Raises:
        UserError: images or classes that are not the network's.
    """
    from vaenas.data import Augment, load
    from vaenas.evaluation.final import latency, logits_of, quality
    from vaenas.report.confusion import confusion

    network, info = load_weights(weights_file(source))
    images = load(
        data, data_root, info.image_size, skip_bad_images=skip_bad_images, workers=workers, background=background
    )
    _, test, test_split = train_and_test(images)
    kind = images.train
    if len(test) == 0:
        raise UserError(f"--data {data}: too few images to hold one out for testing; add some, or val/")
    if tuple(kind.classes) != info.classes:
        named = next((c for c in (*info.classes, *kind.classes) if c not in info.classes or c not in kind.classes), "")
        raise UserError(
            f"--data {data}: its {len(kind.classes)} classes are not the network's {len(info.classes)}"
            + (f"; {named!r} is in one alone" if named else "; their order differs")
        )
    if kind.channels != info.image_channels:
        raise UserError(
            f"--data {data}: images of {kind.channels} channels; the network takes {info.image_channels}: "
            "choose the data that it was trained on"
        )
    plain = Augment(info.mean, info.std).plain
    parts = torch.arange(len(test)).split(batch_size)
    answers = [(logits_of(network, [plain(pixels)]), labels) for pixels, labels in map(test.batch, parts)]
    figures = asdict(quality(*map(torch.cat, zip(*answers, strict=True))))
    figures |= {"test_split": test_split, "skipped": skipped(images), "notes": notes(images)}
    space = IMAGE_SPACES[info.space]
    costs = space.cost(info.geometry)(space.space(info.geometry).decode([info.code]))
    shape = (info.image_channels, info.image_size, info.image_size)
    exported = weights_file(source).with_suffix(".onnx") if onnx is None else onnx
    runners = {"torch": lambda x: logits_of(network, [x])} | onnx_runner(exported)
    figures |= {"params": int(costs.params), "flops": int(costs.flops), "classes": list(info.classes)}
    figures["latency_ms"] = {
        name: [asdict(latency(run, shape, batch)) for batch in dict.fromkeys((1, batch_size))]
        for name, run in runners.items()
    }
    if picture is not None:
        write_figure(picture, confusion(figures["confusion"], info.classes))
    return figures


def print_evaluation(figures: dict[str, Any]) -> None:
    table = Table(show_header=False)
    table.add_row("images", f"{figures['images']:,}")
    for name in ("top1", "top5", "calibration_error"):
        table.add_row(name.replace("_", " "), f"{100 * figures[name]:.2f} %")
    for name, share in zip(figures["classes"], figures["per_class"], strict=True):
        table.add_row(f"  {name}", "no images" if share is None else f"{100 * share:.2f} %")
    table.add_row("parameters", f"{figures['params']:,}")
    table.add_row("multiply-adds", f"{figures['flops']:,}")
    for name, rows in figures["latency_ms"].items():
        for row in rows:
            table.add_row(f"latency, {name}, batch {row['batch']}", f"{row['median']:.2f} ms, p95 {row['p95']:.2f} ms")
    Console(markup=False).print(table)
