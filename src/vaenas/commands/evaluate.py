"""`vaenas eval`."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from vaenas.commands.options import OF_IMAGES, Force, Json, SpaceFile, Trained, given, setting_options, with_options
from vaenas.commands.show import check_picture, print_table, write_figure
from vaenas.data.settings import DataSettings
from vaenas.errors import UserError, printable
from vaenas.runs import config
from vaenas.runs.settings import Configuration, make


class EvaluationConfig(Configuration):
    """Which images test a network."""

    idle: ClassVar = config.OF_IMAGES

    data: DataSettings = DataSettings()


@with_options(setting_options(EvaluationConfig, {"Images": (*OF_IMAGES, "data.background")}))
def evaluate(
    source: Trained,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a batch, also the larger one of the latency.")] = 64,
    as_json: Json = False,
    picture: Annotated[Path | None, typer.Option(help="Draw the confusion matrix here: FILE.svg or .png.")] = None,
    force: Force = False,
    space_file: SpaceFile = None,
    **options: Any,
) -> None:
    """Test a trained network: accuracy, calibration, confusion, costs, latency on this machine."""
    from vaenas.networks.space_file import load_space_of
    from vaenas.parallel import take_threads

    images = make(EvaluationConfig, given(options)).data
    if picture is not None:
        check_picture(picture, "--picture", force)
    take_threads()
    load_space_of(source if source.is_dir() else source.parent, space_file)
    figures = evaluation_of(source, images, batch_size, picture)
    print(json.dumps(figures)) if as_json else print_evaluation(figures)


def evaluation_of(
    source: Path, settings: DataSettings, batch_size: int, picture: Path | None = None, onnx: Path | None = None
) -> dict[str, Any]:
    """All figures of a trained network on its test images; raises `UserError` where these are not the network's.

    `picture` is drawn of the confusion matrix; the model in `onnx` (or beside the weights), if there is one, is timed.
    """
    import torch

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
    _check_images(f"--data {settings.source}", len(test), images.train, info)
    plain = Augment(info.mean, info.std).plain
    parts = torch.arange(len(test)).split(batch_size)
    answers = [(logits_of(network, plain(pixels)), labels) for pixels, labels in map(test.batch, parts)]
    figures = asdict(quality(*map(torch.cat, zip(*answers, strict=True))))
    figures |= {"test_split": test_split, "skipped": images.skipped, "notes": images.notes}
    costs = info.costs()
    figures |= {"params": int(costs.params), "flops": int(costs.multiply_adds), "classes": list(info.classes)}
    shape = (info.image_channels, info.image_size, info.image_size)
    exported = weights_file(source).with_suffix(".onnx") if onnx is None else onnx
    runners = {"torch": lambda x: logits_of(network, x)} | onnx_runner(exported)
    figures["latency_ms"] = {
        name: [latency(run, shape, batch) for batch in dict.fromkeys((1, batch_size))] for name, run in runners.items()
    }
    if picture is not None:
        write_figure(picture, confusion(figures["confusion"], info.classes))
    return figures


def _check_images(given: str, tested: int, images: Any, info: Any) -> None:
    if tested == 0:
        raise UserError(f"{given}: too few images to hold one out for testing; add some, or val/")
    classes, own = tuple(images.classes), info.classes
    if classes != own:
        named = next((f"{c!r} is in one alone" for c in (*own, *classes) if (c in own) != (c in classes)), None)
        why = named or "their order differs"
        raise UserError(f"{given}: its {len(classes)} classes are not the network's {len(own)}; {why}")
    if images.channels != info.image_channels:
        raise UserError(
            f"{given}: images of {images.channels} channels; the network takes {info.image_channels}: choose the data "
            "that it was trained on"
        )


def print_evaluation(figures: dict[str, Any]) -> None:
    """On the terminal, with what was noted of the folder of images."""
    if figures["skipped"]:
        print(f"{len(figures['skipped'])} unreadable images are left out")
    for note in figures["notes"]:
        print(printable(note))
    rows = [("images", f"{figures['images']:,}")]
    rows += [(name.replace("_", " "), _percent(figures[name])) for name in ("top1", "top5", "calibration_error")]
    per_class = zip(figures["classes"], figures["per_class"], strict=True)
    rows += [(f"  {name}", "no images" if share is None else _percent(share)) for name, share in per_class]
    rows += [("parameters", f"{figures['params']:,}"), ("multiply-adds", f"{figures['flops']:,}")]
    for name, times in figures["latency_ms"].items():
        for time in times:
            ms = f"{time['median']:.2f} ms, p95 {time['p95']:.2f} ms"
            rows.append((f"latency, {name}, batch {time['batch']}", ms))
    print_table(rows)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
