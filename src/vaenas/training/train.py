"""The training of a final network: one loop for every recipe."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms import v2

from vaenas import parallel
from vaenas.data.decode import Batch, Transform
from vaenas.data.shards import ShardSet
from vaenas.data.subsets import EVALUATION_BATCH, Subset
from vaenas.errors import UserError
from vaenas.networks.ops import DropPath
from vaenas.networks.supernet import Supernet
from vaenas.optimizers import load_optimizer
from vaenas.records import Record
from vaenas.training.config import Recipe

PLAIN = ("step", "order", "evaluated", "sums", "history")  # what of a training changes, beside tensors of torch


class Trained(nn.Module):
    """A final network with what training adds: its auxiliary tower's logits beside its own, dropout, drop path."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.drop_paths = [module for module in network.modules() if isinstance(module, DropPath)]
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = recipe.dropout

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(b, c, h, w) -> logits (b, classes), and the tower's while training."""
        if self.training and isinstance(self.network, Supernet):
            return self.network.with_auxiliary(images)
        return self.network(images), None


@dataclass(kw_only=True)
class Training:
    """One training. Saved at any record and loaded again, it goes on to the same bits.

    Args:
        network: a final one, as it was built.
        images: to train on.
        augment: uint8 images and a generator -> normalised floats.
        evaluate: a network -> (top-1, top-5) on images that training does not see, in [0, 1].
        log_interval: steps between "train" records; only then does the device's loss come to the host.
        evaluate_every: epochs between evaluations; the last epoch always has one.
        transform: of one image, before `augment`; of images in files the workers that decode do it.
        seed: of their random numbers, with the epoch and the image.
        teacher: a network on the same device whose answers are learned, too.
        order: this epoch's rows.
        evaluated: the step after which the epoch's record was told.
        history: the epochs' records.
    """

    recipe: Recipe
    fabric: Fabric
    network: nn.Module
    images: Subset | ShardSet
    augment: Callable[[Tensor, Generator], Float32[Tensor, "b c h w"]]
    evaluate: Callable[[nn.Module], tuple[float, float]]
    classes: int
    rng: Generator
    log_interval: int = 10
    evaluate_every: int = 5
    transform: Transform | None = None
    seed: int = 0
    teacher: nn.Module | None = None
    step: int = 0
    order: Int64[Tensor, "_"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    evaluated: int = -1
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("loss", "accuracy", "steps"), 0.0))
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.trained = Trained(self.network, recipe)
        parallel.synchronize(self.trained)
        sgd = torch.optim.SGD(
            self.trained.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )  # fmt: skip
        self.wrapped, self.optimizer = self.fabric.setup(self.trained, sgd)
        self.average: AveragedModel | None = None  # of weights and batch norm statistics
        if recipe.ema > 0:
            averaging = get_ema_multi_avg_fn(recipe.ema)
            self.average = AveragedModel(self.network, multi_avg_fn=averaging, use_buffers=True)

    @property
    def final_network(self) -> nn.Module:
        """What is evaluated and kept: the averaged network where there is one."""
        return self.network if self.average is None else self.average.module

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and containers of them, random states included."""
        return {
            "trained": self.trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average and self.average.state_dict(),
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),  # dropout's, drop path's and torchvision's
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            **{name: getattr(self, name) for name in PLAIN},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.trained.load_state_dict(state["trained"])
        load_optimizer(self.optimizer, state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.rng.set_state(state["rng"])
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"]:
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        for name in PLAIN:
            setattr(self, name, state[name])

    @property
    def steps_per_epoch(self) -> int:
        return len(self.images) // self.recipe.batch_size

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    def run(self) -> Iterator[Record]:
        """Trains to the end. At each record the state is whole: save it or stop as you like."""
        sums = torch.zeros(2, device=self.fabric.device)  # loss and correct answers since the last record
        waited, began, done = 0.0, time.perf_counter(), 0
        ahead: Iterator[Batch] | None = None  # this epoch's batches
        while self.step < self.steps or self.evaluated < self.step:
            if self.step > 0 and self.step % self.steps_per_epoch == 0 and self.evaluated < self.step:
                ahead = None
                yield self._end_of_epoch()
                began = time.perf_counter()
                continue
            started = time.perf_counter()
            ahead = ahead or self._ahead()
            inputs, targets = self._prepared(*next(ahead))
            waited += time.perf_counter() - started
            sums += self._step(inputs, targets)
            self.step, done = self.step + 1, done + 1
            if self.step % self.log_interval == 0 or self.step % self.steps_per_epoch == 0:
                loss, accuracy = (parallel.all_reduce_mean(sums) / done).tolist()
                rate = self.rate(self.step - 1)
                if not math.isfinite(loss):
                    raise UserError(
                        f"step {self.step}: the loss is {loss:g}: training diverged at learning rate {rate:.3g}; begin "
                        "a new run with a lower --learning-rate"
                    )
                for name, value in (("loss", loss), ("accuracy", accuracy), ("steps", 1)):
                    self.sums[name] += done * value
                seconds = time.perf_counter() - began
                speed = {"images_per_second": done * self.recipe.batch_size / seconds, "loader_share": waited / seconds}
                sums.zero_()
                waited, began, done = 0.0, time.perf_counter(), 0
                yield Record("train", {"loss": loss, "accuracy": accuracy, "lr": rate, **speed})

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        recipe = self.recipe
        warmup = recipe.warmup_epochs * self.steps_per_epoch
        if step < warmup:
            return recipe.learning_rate * (step + 1) / warmup
        left = 1 - (step - warmup) / max(1.0, self.steps - warmup)  # 1 to 0
        return recipe.learning_rate * (left if recipe.schedule == "linear" else 0.5 - 0.5 * math.cos(math.pi * left))

    def _ahead(self) -> Iterator[Batch]:
        """The batches that are left of this epoch, this process's part of each; what does not fill one is left out."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        if done == 0:
            self.order = torch.randperm(len(self.images), generator=self.rng)
        chunks = self.order.split(self.recipe.batch_size)[done : self.steps_per_epoch]
        return self.images.stream([*map(parallel.local_chunk, chunks)], self.transform, 2**20 * self.seed + epoch)

    def _prepared(self, images: Tensor, labels: Tensor) -> tuple[Float32[Tensor, "b c h w"], Tensor]:
        """Augmented images and their targets: class indices, or mixed shares of classes (b, classes)."""
        device = self.fabric.device
        inputs, targets = self.augment(images.to(device), self.rng), labels.to(device)
        mixers = [(v2.MixUp, self.recipe.mixup), (v2.CutMix, self.recipe.cutmix)]
        kinds = [kind(alpha=alpha, num_classes=self.classes) for kind, alpha in mixers if alpha > 0]
        return v2.RandomChoice(kinds)(inputs, targets) if kinds else (inputs, targets)

    def _step(self, inputs: Tensor, targets: Tensor) -> Float[Tensor, "2"]:
        """One step of SGD; gives loss and accuracy on the device, so that nothing waits for it."""
        recipe, network, optimizer = self.recipe, self.wrapped, self.optimizer
        for group in optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        for drop_path in self.trained.drop_paths:
            drop_path.probability = recipe.drop_path * (self.step // self.steps_per_epoch) / recipe.epochs
        logits, tower = network(inputs)
        criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        loss = criterion(logits, targets)
        if tower is not None:
            loss = loss + recipe.auxiliary * criterion(tower, targets)
        if self.teacher is not None:
            loss = (1 - recipe.distillation) * loss + recipe.distillation * self._divergence(inputs, logits)
        self.fabric.backward(loss)
        parallel.reduce_gradients(network)
        if recipe.clip_norm > 0:
            self.fabric.clip_gradients(network, optimizer, max_norm=recipe.clip_norm, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.network)
        hard = targets if targets.ndim == 1 else targets.argmax(-1)
        return torch.stack([loss.detach(), (logits.detach().argmax(-1) == hard).float().mean()])

    def _divergence(self, inputs: Tensor, logits: Tensor) -> Float[Tensor, ""]:
        """From the teacher's answers to the network's, KL in nats; T^2 keeps the gradient's size."""
        assert self.teacher is not None
        heat = self.recipe.temperature
        with torch.no_grad(), self.fabric.autocast():
            wanted = (self.teacher(inputs).float() / heat).log_softmax(-1)
        found = (logits.float() / heat).log_softmax(-1)
        return heat**2 * nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True)

    def _end_of_epoch(self) -> Record:
        epoch = self.step // self.steps_per_epoch
        means = {f"train_{name}": self.sums[name] / self.sums["steps"] for name in ("loss", "accuracy")}
        values: dict[str, Any] = {"epoch": epoch, **means}
        if epoch % self.evaluate_every == 0 or self.step == self.steps:
            values["accuracy"], values["top5"] = self.evaluate(self.final_network)
        self.sums, self.evaluated = dict.fromkeys(self.sums, 0.0), self.step
        self.history.append(values)
        return Record("epoch", values)


@torch.no_grad()
def top1_and_top5(
    network: nn.Module,
    test: Subset,
    prepare: Callable[[UInt8[Tensor, "b c h w"]], Float32[Tensor, "b c h w"]],
    device: torch.device,
) -> tuple[float, float]:
    """Top-1 and top-5 on images that several processes share; bad ones that are left out do not count."""
    was_training, counts = network.training, torch.zeros(3, dtype=torch.int64)
    network.eval()
    for rows in torch.arange(len(test)).split(EVALUATION_BATCH)[parallel.rank() :: parallel.world_size()]:
        pixels, labels = test.batch(rows)
        logits = network(prepare(pixels.to(device))).cpu()
        best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
        counts += torch.tensor([int(best[:, 0].sum()), int(best.sum()), len(labels)])
    network.train(was_training)
    right, among_five, seen = parallel.all_reduce_sum(counts).tolist()
    return right / seen, among_five / seen


def random_transform(recipe: Recipe, size: int) -> Transform | None:
    """What torchvision does to one image, of any size if it is a PIL image; None where the recipe has nothing of it."""
    each: list[nn.Module] = []
    if recipe.inception:
        each += [v2.RandomResizedCrop(size, antialias=True), v2.ColorJitter(0.4, 0.4, 0.4)]
    elif recipe.rand_augment:
        each += [v2.Resize(size, antialias=True), v2.CenterCrop(size)]
    if recipe.rand_augment:
        each.append(v2.RandAugment(2, recipe.rand_augment))
    return v2.Compose(each) if each else None
