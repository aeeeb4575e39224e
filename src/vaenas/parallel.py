"""Several processes, as `torchrun` starts them. In a single one every function here does nothing.

All processes draw the same random numbers, so they agree on architectures, rows and augmentation without a word. Each
works on its own part of a batch, or of a population that is ranked, and the parts are put together.
"""

import atexit
import os
import re
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch import distributed as dist

from vaenas.errors import UserError
from vaenas.norm import SlicedBatchNorm2d

LOST = re.compile(r"closed by peer|reset by peer|broken pipe|connection refused|gloo|nccl|timed? ?out", re.IGNORECASE)


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This one's number."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this one writes files and speaks."""
    return int(os.environ.get("RANK", 0)) == 0


class _Processes(DDPStrategy):
    """Fabric's processes without DistributedDataParallel, which would reduce what is off the path, too."""

    def setup_module(self, module: nn.Module) -> nn.Module:  # pyright: ignore[reportIncompatibleMethodOverride]
        return module


def make_fabric(device: Literal["auto", "cpu", "cuda"], precision: Literal["32-true", "bf16-mixed"]) -> Fabric:
    """The device of this process, and the others where `torchrun` has started some.

    Raises:
        UserError: a device that is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device that PyTorch can use; choose --device cpu")
    processes, here = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if processes == 1:
        return Fabric(accelerator=device, devices=1, precision=precision)
    # Scores and counts are on the CPU, gradients on the device.
    strategy = _Processes(process_group_backend="cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    nodes = processes // here
    fabric = Fabric(accelerator=device, devices=here, num_nodes=nodes, strategy=strategy, precision=precision)
    fabric.launch()
    # Fabric does so for NCCL alone. Gloo's threads need the interpreter: one that outlives it aborts the process.
    atexit.register(_leave)
    return fabric


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def check_batch_size(size: int) -> None:
    """Raises `UserError` if a batch cannot be divided equally."""
    if size % world_size():
        raise UserError(f"--batch-size {size}: {world_size()} processes need a multiple of {world_size()}")


def local_chunk(x: Shaped[Tensor, "..."], dim: int = 0) -> Shaped[Tensor, "..."]:
    """This process's part of what all have, along `dim`: equal shares, or nearly."""
    return x.tensor_split(world_size(), dim)[rank()]


def reduce_gradients(module: nn.Module) -> None:
    """The mean over processes of the gradients that there are: those of the active path, the same in all."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    mean = all_reduce_mean(torch.cat([g.flatten() for g in gradients]))
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def all_reduce_mean(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The mean over processes."""
    return all_reduce_sum(x) / world_size()


def all_reduce_sum(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The sum over processes."""
    if world_size() == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def all_reduce_max(number: int) -> int:
    """The highest of the processes' numbers."""
    if world_size() == 1:
        return number
    found = torch.tensor(number)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return int(found)


class _Total(torch.autograd.Function):
    """The sum over processes, and of its gradients backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return all_reduce_sum(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return all_reduce_sum(gradient)


class _SyncBatchNorm2d(SlicedBatchNorm2d):
    """Batch norm over the whole batch of a training step (torch's own runs on GPUs alone).

    Without gradients, as where batch norm is recalibrated for one architecture, processes work on different ones and
    the statistics stay this one's.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(input)
        count = input.numel() // input.shape[1] * world_size()
        x = input if input.dtype == torch.float64 else input.float()
        mean = _Total.apply(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = _Total.apply((centred * centred).sum((0, 2, 3))) / count
        first = slice(input.shape[1])
        if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
            with torch.no_grad():
                self.running_mean[first].lerp_(mean, self.momentum)
                self.running_var[first].lerp_(variance * count / (count - 1), self.momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked += 1
        scale = self.weight[first] * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[first, None, None]).to(input.dtype)


class _SharedDropout(nn.Dropout):
    """Dropout whose mask is drawn for the whole batch, so that it doesn't depend on how many processes share it."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        kept = 1 - self.p
        whole = input.new_empty(world_size() * len(input), *input.shape[1:]).bernoulli_(kept)
        return input * local_chunk(whole).div_(kept)


def synchronize(network: nn.Module) -> nn.Module:
    """The network as several processes need it; its weights and their names stay."""
    if world_size() == 1:
        return network
    for module in network.modules():
        if type(module) in (nn.BatchNorm2d, SlicedBatchNorm2d):
            module.__class__ = _SyncBatchNorm2d
        elif type(module) is nn.Dropout:
            module.__class__ = _SharedDropout
    return network


class LostProcess(UserError):
    """What the others say when one process of a job has ended."""


def is_lost_process(error: RuntimeError) -> bool:
    """Whether torch's error means that another process has ended."""
    return world_size() > 1 and LOST.search(str(error)) is not None
