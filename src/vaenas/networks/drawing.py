"""Architectures as `report.draw_architecture` draws them: chains in stages, cells as graphs; the JSON of `Drawing`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from vaenas.networks.supernet import Supernet
from vaenas.spaces.space import SearchSpace

Drawing = dict[str, Any]
"""`drawings.Drawing`, as JSON has it."""


def draw_chain(
    title: str, network: Supernet, space: SearchSpace, names: Sequence[str], architecture: Int64[Tensor, "s"]
) -> Drawing:
    """A sequence of layers, one for each slot, in stages of one output's shape.

    Args:
        network: the architecture's, on torch's meta device; what is the same in all architectures is read off it.
        names: of the operations, in the order of the slots' symbols, each once; none = the symbols are the names.
    """
    is_chain, shapes = type(network).steps is Supernet.steps, [""] * (space.slots + 2)
    if is_chain:
        x = torch.empty(1, *network.input_shape, device="meta")
        for i, step in enumerate(network.steps(network.path(architecture))):
            x = step.run(x)
            shapes[i] = _shape(x.shape[1:])
    symbols, groups = "".join(dict.fromkeys("".join(space.operations))), []
    for slot, operation in enumerate(architecture.tolist()):
        if not groups or groups[-1]["output"] != shapes[slot + 1]:
            groups.append({"name": f"stage {len(groups) + 1}", "output": shapes[slot + 1], "slots": []})
        groups[-1]["slots"].append({"slot": slot, "operation": symbols.index(space.operations[slot][operation])})
    return {
        "title": title,
        "input": _shape(network.input_shape),
        "before": _layers(network.stem) if is_chain else [],
        "groups": groups,
        "after": [*_layers(network.head), *_layers(network.classifier)] if is_chain else [],
        "operations": _operations(symbols, names or symbols),
    }


def _shape(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))


def _layers(part: nn.Module) -> list[str]:
    """In words; batch norm and activations go without saying."""
    texts = []
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            kernel, stride = module.kernel_size[0], module.stride[0]
            texts.append(f"Conv {kernel}×{kernel}, {module.out_channels}" + f", stride {stride}" * (stride > 1))
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            texts.append("Global pool")
        elif isinstance(module, nn.Dropout):
            texts.append(f"Dropout {module.p}")
        elif isinstance(module, nn.Linear):
            texts.append(f"Linear {module.out_features}")
    return texts


def _operations(symbols: str, names: Sequence[str]) -> list[dict[str, str]]:
    return [{"symbol": symbol, "name": name} for symbol, name in zip(symbols, names, strict=True)]


def draw_cells(title: str, drawn: Sequence[Drawing], symbols: str, names: Sequence[str]) -> Drawing:
    """Cells whose `nodes` are slots or texts, and whose `edges` are pairs of their indices."""
    return {"title": title, "cells": list(drawn), "operations": _operations(symbols, names)}


def draw_cell(
    name: str, inputs: Sequence[str], nodes: Mapping[str, Sequence[tuple[int, int, int]]], output: str = ""
) -> Drawing:
    """A cell whose edges carry operations.

    Args:
        nodes: of each the (source, slot, operation) of what it sums; sources count the inputs, then the nodes.
        output: gathers all nodes; none = the last one is the output.
    """
    drawn: list[dict[str, Any]] = [{"text": text} for text in inputs]
    edges, places = [], list(range(len(drawn)))  # where inputs and nodes stand among what is drawn
    for text, into in nodes.items():
        boxes = range(len(drawn), len(drawn) + len(into))
        edges += [[places[source], box] for box, (source, _, _) in zip(boxes, into, strict=True)]
        edges += [[box, boxes.stop] for box in boxes]
        places.append(boxes.stop)
        drawn += [*({"slot": slot, "operation": operation} for _, slot, operation in into), {"text": text}]
    if output:
        edges += [[place, len(drawn)] for place in places[len(inputs) :]]
        drawn.append({"text": output})
    return {"name": name, "nodes": drawn, "edges": edges}
