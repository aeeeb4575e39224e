"""A trained network for others: ONNX, a plain state dict, timm, safetensors, each with a model card."""

import io
import json
import logging
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

import vaenas
from vaenas.documents import dotted, read_json, read_yaml
from vaenas.errors import UserError, require
from vaenas.export import ENDINGS
from vaenas.files import refuse_to_replace, write_atomically
from vaenas.networks.supernet import Supernet
from vaenas.networks.weights import NetworkInfo, load_weights
from vaenas.records import TrainingResult

TOLERANCE = 1e-4  # largest difference of a logit between ONNX Runtime and PyTorch


def weights_file(source: Path) -> Path:
    """The weights of a training run's folder, or the file itself."""
    return source / "weights.safetensors" if source.is_dir() else source


def check_format(kind: str) -> None:
    """Raises `UserError` for a form that there is not, or whose packages are missing."""
    if kind not in ENDINGS:
        raise UserError(f"--format {kind}: choose {', '.join(ENDINGS)}")
    for package in ("onnx", "onnxruntime", "onnxscript") if kind == "onnx" else ():
        require(package, "onnx", "--format onnx")


def export(source: Path, kind: str, output: Path | None = None, force: bool = False) -> Path:
    """Writes the network in another form, and its model card beside it: model.onnx has model.md.

    Args:
        source: a training run's folder, or a file that `networks.weights.save_weights` wrote.
        kind: a key of `ENDINGS`. "torch" is a dictionary {"info", "state_dict"} that `torch.load(weights_only=True)`
            reads; not a `torch.export` program, which other versions of torch need not read. "timm" and "safetensors"
            are the weights' own file: `timm.create_model` builds from it (see `integrations.timm`).
        output: the file; None = beside the weights, named after them.
        force: whether files that are there already are replaced; those in a training's folder, named by default, are.

    Raises `UserError`: the weights are not whole, a package is missing, a file is there or can't be written.
    """
    check_format(kind)
    weights = weights_file(source)
    target = weights.with_suffix(ENDINGS[kind]) if output is None else output
    if target.suffix == ".md":
        raise UserError(f"--output {target}: the model card ends so; choose another ending, such as {ENDINGS[kind]}")
    if target.resolve() == weights.resolve():
        target = weights  # nothing to do but the card
    card = target.with_suffix(".md")
    for path in {target, card} - {weights}:
        refuse_to_replace(path, "--output", force or (output is None and source.is_dir()))
    network, info = load_weights(weights)
    if kind == "onnx":
        content = _onnx(network, info)
    elif kind == "torch":
        buffer = io.BytesIO()
        torch.save({"info": asdict(info), "state_dict": network.state_dict()}, buffer)
        content = buffer.getvalue()
    else:
        content = weights.read_bytes()
    if target != weights:
        write_atomically(target, content)
    write_atomically(card, model_card(weights, info, target.name, kind).encode())
    return target


def _onnx(network: Supernet, info: NetworkInfo) -> bytes:
    """The model's bytes, after ONNX Runtime has given PyTorch's logits for random images of batches 1 and 3."""
    import onnxruntime

    shape = (info.image_channels, info.image_size, info.image_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter about itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            network, (torch.zeros(2, *shape),), dynamo=True, input_names=["images"], output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces, which name folders of this machine
    facts = {
        "preprocessing": {
            "layout": "NCHW", "channels": "RGB" if info.image_channels == 3 else "grey", "size": info.image_size,
            "range": "pixels / 255, then (x - mean) / std", "mean": info.mean, "std": info.std,
        },
        "classes": info.classes,
        "architecture": {name: getattr(info, name) for name in ("space", "code", "width", "layers")},
    }  # fmt: skip
    texts = {name: json.dumps(fact) for name, fact in facts.items()} | {"producer": f"vaenas {vaenas.__version__}"}
    for name, value in texts.items():
        model.metadata_props.add(key=name, value=value)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    rng = torch.Generator().manual_seed(0)
    for batch in (1, 3):
        images = torch.randn(batch, *shape, generator=rng)
        (ours,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            difference = float((torch.from_numpy(ours) - network(images)).abs().max())
        if not difference <= TOLERANCE:
            raise UserError(f"ONNX Runtime's logits differ from PyTorch's by {difference:.2g}: nothing was written")
    return content


def onnx_runner(path: Path) -> dict[str, Callable[[torch.Tensor], Any]]:
    """{"onnx": what runs the exported model}, or nothing where there is none or no ONNX Runtime."""
    if find_spec("onnxruntime") is None or not path.is_file():
        return {}
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # the same for both
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return {"onnx": lambda images: session.run(None, {"images": images.numpy()})}


def model_card(weights: Path, info: NetworkInfo, name: str, kind: str) -> str:
    """A model card in the form of Hugging Face's cards: data, recipe, accuracy, costs, seed, how to load it."""
    config, result = {}, None
    with suppress(UserError):  # weights may have been moved away from their run
        config = dotted(read_yaml(weights.with_name("config.yaml")))
    with suppress(UserError):
        result = read_json(TrainingResult, weights.with_name("result.json"))
    unknown = "not recorded beside the weights"

    def known(path: str) -> str:
        return str(config[path]) if config.get(path) is not None else unknown

    return CARDS.get_template("model_card.md.j2").render(
        info=info, costs=info.costs(), version=vaenas.__version__, unknown=unknown, known=known, name=name, kind=kind,
        result=result, source=Path(known("data.source")).name,
    )  # fmt: skip


def _cell(value: Any) -> Any:
    """A text in a table of Markdown."""
    return " ".join(value.replace("|", "\\|").split()) if type(value) is str else value


CARDS = Environment(
    loader=PackageLoader("vaenas.export", ""), undefined=StrictUndefined, finalize=_cell, trim_blocks=True,
    keep_trailing_newline=True,
)  # fmt: skip
CARDS.filters["numbers"] = lambda values: ", ".join(f"{value:.4g}" for value in values)
