"""Several processes, as `torchrun` starts them. In a single one every function here does nothing.

All processes draw the same random numbers, so they agree on architectures, rows and augmentation without a word. Each
works on its own part of a batch, or of a population that is ranked, and the parts are put together.
"""

import atexit
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce as total  # whose gradient is a sum over processes, too

from vaenas import machine
from vaenas.errors import UserError
from vaenas.norm import SlicedBatchNorm2d

# Lightning reads these as it is imported, and fails on what is no number; `processes` says it in one line.
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
_odd = {name: os.environ.pop(name) for name in RANKS if not os.environ.get(name, "0").isdecimal()}
try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy
finally:
    os.environ.update(_odd)

LOST = re.compile(r"closed by peer|reset by peer|broken pipe|connection refused|gloo|nccl|timed? ?out", re.IGNORECASE)


NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")


class Processes(NamedTuple):
    """Which process this is of how many: in all, and on this machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


@cache
def processes() -> Processes:
    """What `torchrun` has set in this process's environment; a single one if nothing is set.

    Raises `UserError`: some of its variables are missing, or they contradict each other.
    """
    given = {name: os.environ[name] for name in (*NUMBERS, "MASTER_ADDR") if name in os.environ}
    if wrong := next(_wrong(given), None) if given else None:
        found = " ".join(f"{name}={value!r}" for name, value in given.items())
        fix = f"start several processes by torchrun, or unset {' '.join(given)} for one"
        raise UserError(f"{found} in the environment: {wrong}; {fix}")
    return Processes(*(int(given[name]) for name in NUMBERS[:4] if given))


def _wrong(given: dict[str, str]) -> Iterator[str]:
    if missing := [name for name in (*NUMBERS, "MASTER_ADDR") if name not in given]:
        yield f"{', '.join(missing)} missing"
    yield from (f"{name} is no number" for name in NUMBERS if not re.fullmatch("[0-9]{1,9}", given[name]))
    if not given["MASTER_ADDR"]:
        yield "MASTER_ADDR is no address"
    rank, size, local_rank, local_size, _ = (int(given[name]) for name in NUMBERS)
    if rank >= size:
        yield "RANK must be below WORLD_SIZE"
    if local_rank >= local_size:
        yield "LOCAL_RANK must be below LOCAL_WORLD_SIZE"
    if size % local_size:
        yield "WORLD_SIZE must be a multiple of LOCAL_WORLD_SIZE"


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This one's number."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this one writes files and speaks."""
    return processes().rank == 0


class _Processes(DDPStrategy):
    """Fabric's processes without DistributedDataParallel, which would reduce what is off the path, too."""

    def setup_module(self, module: nn.Module) -> nn.Module:  # pyright: ignore[reportIncompatibleMethodOverride]
        return module


def make_fabric(
    device: Literal["auto", "cpu", "cuda"], precision: Literal["32-true", "bf16-mixed"], threads: int | None = None
) -> Fabric:
    """The device of this process, and the others where `torchrun` has started some; takes its threads.

    `threads`: how many the run began with that is resumed.

    Raises `UserError`: a device that is not there, or an environment that is not torchrun's.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device that PyTorch can use; choose --device cpu")
    job = processes()
    # The environment is named to Fabric, which would else believe any scheduler's variables.
    if job.world_size == 1:
        take_threads(threads)
        return Fabric(accelerator=device, devices=1, precision=precision, plugins=[LightningEnvironment()])
    # Scores and counts are on the CPU, gradients on the device.
    strategy = _Processes(process_group_backend="cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    nodes = job.world_size // job.local_world_size
    fabric = Fabric(
        accelerator=device, devices=job.local_world_size, num_nodes=nodes, strategy=strategy, precision=precision,
        plugins=[TorchElasticEnvironment()],
    )  # fmt: skip
    fabric.launch()
    # Fabric does so for NCCL alone. Gloo's threads need the interpreter: one that outlives it aborts the process.
    atexit.register(lambda: dist.destroy_process_group() if dist.is_initialized() else None)
    take_threads(threads)  # while the others of this machine do the same, not while they start
    return fabric


def take_threads(recorded: int | None = None) -> None:
    """Sets how many threads torch uses in this process, the same in all, and says it; see `machine.choose_threads`."""
    threads, reason = machine.choose_threads(recorded, processes().local_world_size)
    threads = -all_reduce_max(-threads)  # the fewest: bits depend on it
    torch.set_num_threads(threads)
    if reason and is_main():
        print(f"{threads} thread{'s' * (threads > 1)}: {reason}; set OMP_NUM_THREADS to choose", file=sys.stderr)


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


def all_reduce_sum(x: Shaped[Tensor, "..."], op: Any = dist.ReduceOp.SUM) -> Shaped[Tensor, "..."]:
    """The sum over processes."""
    if world_size() > 1:
        x = x.detach().clone()
        dist.all_reduce(x, op)
    return x


def all_reduce_max(number: int) -> int:
    """The highest of the processes' numbers."""
    return int(all_reduce_sum(torch.tensor(number), dist.ReduceOp.MAX))


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
        mean = total(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = total((centred * centred).sum((0, 2, 3))) / count
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


def speaks(error: UserError) -> bool:
    """Whether this process prints the error: what all find wrong the first one says, if it can be known which it is."""
    try:
        return is_main() or isinstance(error, LostProcess)
    except UserError:
        return True


class LostProcess(UserError):
    """What the others say when one process of a job has ended."""


def is_lost_process(error: RuntimeError) -> bool:
    """Whether torch's error means that another process has ended."""
    return world_size() > 1 and LOST.search(str(error)) is not None
