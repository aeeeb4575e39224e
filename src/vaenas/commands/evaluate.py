"""`vaenas eval`."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from vaenas.commands.options import OF_IMAGES, Force, SpaceFile, given, with_settings
from vaenas.data.settings import DataSettings
from vaenas.errors import UserError
from vaenas.files import refuse_to_replace
from vaenas.runs import config
from vaenas.runs.settings import Configuration, make


class EvaluationConfig(Configuration):
    """Which images test a network."""

    idle: ClassVar = config.OF_IMAGES

    data: DataSettings = DataSettings()


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A training's folder, or a file of weights.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Images a batch, also the larger one of the latency.")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw the confusion matrix here: FILE.svg or .png.")] = None,
    force: Force = False,
    space_file: SpaceFile = None,
    **options: Any,
) -> None:
    """Test a trained network: accuracy, calibration, confusion, costs, latency on this machine."""
    from vaenas.commands.draw import check_picture
    from vaenas.networks.space_file import load_space_of
    from vaenas.parallel import take_threads

    images = make(EvaluationConfig, given(options)).data
    if picture is not None:
        check_picture(picture)
        refuse_to_replace(picture, "--picture", force)
    take_threads()
    load_space_of(source if source.is_dir() else source.parent, space_file)
    figures = evaluation_of(source, images, batch_size, picture)
    if as_json:
        print(json.dumps(figures))
    else:
        print_evaluation(figures)


with_settings(evaluate, EvaluationConfig, {"Images": (*OF_IMAGES, "data.background")})


def evaluation_of(
    source: Path, settings: DataSettings, batch_size: int, picture: Path | None = None, onnx: Path | None = None
) -> dict[str, Any]:
    """All figures of a trained network on its test images; `picture` is drawn of the confusion matrix.

    The time of the exported model in `onnx` (default: beside the weights), where there is one, stands beside PyTorch's.

    Raises:
        UserError: images or classes that are not the network's.
    """
    import torch

    from vaenas.commands.draw import write_figure
    from vaenas.data.augment import Augment
    from vaenas.data.load import load
    from vaenas.data.subsets import train_and_test
    from vaenas.evaluation.final import latency, logits_of, quality
    from vaenas.export.export import onnx_runner, weights_file
    from vaenas.networks.weights import load_weights
    from vaenas.report.figures import confusion

    network, info = load_weights(weights_file(source))
    images = load(replace(settings, image_size=settings.image_size or info.image_size))
    _, test, test_split = train_and_test(images)
    kind = images.train
    _check_images(settings.source, len(test), kind, info)
    plain = Augment(info.mean, info.std).plain
    parts = torch.arange(len(test)).split(batch_size)
    answers = [(logits_of(network, plain(pixels)), labels) for pixels, labels in map(test.batch, parts)]
    figures = asdict(quality(*map(torch.cat, zip(*answers, strict=True))))
    figures |= {"test_split": test_split, "skipped": images.skipped, "notes": images.notes}
    costs = info.costs()
    shape = (info.image_channels, info.image_size, info.image_size)
    exported = weights_file(source).with_suffix(".onnx") if onnx is None else onnx
    runners = {"torch": lambda x: logits_of(network, x)} | onnx_runner(exported)
    figures |= {"params": int(costs.params), "flops": int(costs.multiply_adds), "classes": list(info.classes)}
    figures["latency_ms"] = {
        name: [latency(run, shape, batch) for batch in dict.fromkeys((1, batch_size))] for name, run in runners.items()
    }
    if picture is not None:
        write_figure(picture, confusion(figures["confusion"], info.classes))
    return figures


def _check_images(source: str, tested: int, kind: Any, info: Any) -> None:
    if tested == 0:
        raise UserError(f"--data {source}: too few images to hold one out for testing; add some, or val/")
    if tuple(kind.classes) != info.classes:
        named = next((c for c in (*info.classes, *kind.classes) if c not in info.classes or c not in kind.classes), "")
        raise UserError(
            f"--data {source}: its {len(kind.classes)} classes are not the network's {len(info.classes)}"
            + (f"; {named!r} is in one alone" if named else "; their order differs")
        )
    if kind.channels != info.image_channels:
        raise UserError(
            f"--data {source}: images of {kind.channels} channels; the network takes {info.image_channels}: "
            "choose the data that it was trained on"
        )


def print_evaluation(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

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
