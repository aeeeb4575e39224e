"""Populations as a trie of steps: what architectures have in common from the input on is computed once."""

from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from vaenas.networks.supernet import Step, Supernet
from vaenas.spaces.space import Population

S = TypeVar("S")


@dataclass(eq=False)
class Node:
    """A step that architectures with equal steps before it share, and its batch norm's statistics after those."""

    step: Step
    after: "dict[Hashable, Node]" = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)  # the architectures that end here

    def __post_init__(self) -> None:
        self.statistics = [
            (norm, {name: torch.full_like(x, name == "running_var") for name, x in norm.named_buffers()})
            for part in self.step.parts
            for norm in batch_norms(part)
        ]

    def run(self, x: Any) -> Any:
        for norm, buffers in self.statistics:
            norm._buffers.update(buffers)
        return self.step.run(x)


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def trie_of(network: Supernet, population: Population) -> Node:
    """The steps of all architectures, those that are equal from the beginning on only once."""
    root = Node(Step("images", lambda x: x, []))
    for row, architecture in enumerate(population):
        node = root
        for step in network.steps(network.path(architecture)):
            node = node.after.get(step.key) or node.after.setdefault(step.key, Node(step))
        node.rows.append(row)
    return root


def walk(nodes: Collection[Node], state: S, run: Callable[[Node, S], S] = Node.run) -> Iterator[tuple[int, S]]:
    """Runs every step once; yields each architecture's row, and its logits or what else `run` makes of a state.

    An activation is kept only while another branch still needs it, so no more are held than branches are open.
    """
    while nodes:
        *others, last = nodes
        for node in others:
            yield from walk([node], state, run)
        state = run(last, state)
        for row in last.rows:
            yield row, state
        nodes = last.after.values()


@contextmanager
def only_batch_norm_changes(network: nn.Module) -> Iterator[list[nn.BatchNorm2d]]:
    """Evaluation mode, and the batch norms in training mode with plain means; afterwards all is as it was."""
    was_training = network.training
    norms = batch_norms(network)
    before = [(norm.momentum, dict(norm._buffers)) for norm in norms]
    network.eval()
    for norm in norms:
        norm.momentum = None  # the plain mean over batches
        norm.train()
    try:
        yield norms
    finally:
        for norm, (momentum, buffers) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm._buffers.update(buffers)
        network.train(was_training)
