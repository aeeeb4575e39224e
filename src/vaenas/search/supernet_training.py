"""The training of the supernet's weights, which Algorithms 2 and 3 share (App. A.1)."""

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Int64
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn

from vaenas import parallel
from vaenas.errors import UserError
from vaenas.evaluation.supernet import Batch
from vaenas.optimizers import load_optimizer
from vaenas.records import Record
from vaenas.search.settings import SupernetTraining

Augment = Callable[[Tensor, Generator], Float32[Tensor, "b c h w"]]


@runtime_checkable
class TrainingImages(Protocol):
    """Images that train weights, disjoint from those that rank."""

    def __len__(self) -> int: ...

    def batch(self, indices: Int64[Tensor, "b"]) -> Batch: ...


class ShuffledBatches:
    """Batches of augmented images on the device: each image once an epoch; what is left and fills no batch is left out.

    Of several processes each gets its part of the batch.
    """

    def __init__(self, images: TrainingImages, size: int, augment: Augment, fabric: Fabric, rng: Generator) -> None:
        self.images, self.size, self.augment, self.device, self.rng = images, size, augment, fabric.device, rng
        self.order: Int64[Tensor, " rows"] = torch.empty(0, dtype=torch.int64)  # rows left in this epoch: to be saved

    def next(self) -> tuple[Float32[Tensor, "b c h w"], Int64[Tensor, "b"]]:
        """Images and labels."""
        if len(self.order) < self.size:
            self.order = torch.randperm(len(self.images), generator=self.rng)
        rows, self.order = self.order[: self.size], self.order[self.size :]
        images, labels = self.images.batch(parallel.local_chunk(rows))
        return self.augment(images.to(self.device), self.rng), labels.to(self.device)


class SupernetTrainer:
    """The supernet's weights W, what trains them, and how many steps are done.

    `rng` is the search's, for rows and augmentation; who has it saves it.
    """

    def __init__(
        self,
        supernet: nn.Module,
        settings: SupernetTraining,
        images: TrainingImages,
        augment: Augment,
        fabric: Fabric,
        rng: Generator,
    ) -> None:
        self.settings, self.fabric = settings, fabric
        self.batches = ShuffledBatches(images, settings.batch_size, augment, fabric, rng)
        self.steps_per_epoch = len(images) // settings.batch_size
        self.steps, self.step_count = settings.epochs * self.steps_per_epoch, 0
        sgd = torch.optim.SGD(
            parallel.synchronize(supernet).parameters(), settings.learning_rate, settings.momentum,
            weight_decay=settings.weight_decay,
        )  # fmt: skip
        self.network, self.optimizer = fabric.setup(supernet, sgd)

    def step(
        self,
        architecture: Int64[Tensor, "s"] | Int64[Tensor, "s m"],
        gates: Float[Tensor, "s m"] | None = None,
        **told: float,
    ) -> Record:
        """One step of SGD on W_α, and the record of it with `told`. What is off the path has no gradient and stays.

        Raises `UserError` where the loss or the gradient is not finite; W is left as it was.
        """
        inputs, targets = self.batches.next()
        settings, network, optimizer = self.settings, self.network, self.optimizer
        rate = settings.learning_rate * (1 - self.step_count / self.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = network(inputs, architecture) if gates is None else network(inputs, architecture, gates)
        loss = nn.functional.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)
        self.fabric.backward(loss)
        parallel.reduce_gradients(network)
        norm = self.fabric.clip_gradients(network, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
        right = (logits.detach().argmax(-1) == targets).float().mean()
        value, accuracy = parallel.all_reduce_mean(torch.stack([loss.detach().float(), right])).tolist()
        if not (math.isfinite(value) and norm is not None and torch.isfinite(norm)):
            optimizer.zero_grad(set_to_none=True)
            raise UserError(
                f"step {self.step_count + 1}: the loss is {value:g} and the gradient's norm {float(norm or 0):g}: "
                f"training diverged at learning rate {rate:.3g}; the last checkpoint is kept; begin a new run with a "
                f"lower --learning-rate"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # None, not 0: SGD then skips the path's weights when it is not sampled
        self.step_count += 1
        return Record("train", {"loss": value, "accuracy": accuracy, "lr": rate, **told})

    def state_dict(self) -> dict[str, Any]:
        """Torch's own random states included, which dropout uses."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.batches.order,
            "step_count": self.step_count,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        load_optimizer(self.optimizer, state["optimizer"])
        self.batches.order, self.step_count = state["order"], state["step_count"]
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"]:
            torch.cuda.set_rng_state_all(state["cuda_rng"])
