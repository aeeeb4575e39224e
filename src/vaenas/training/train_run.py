"""A training as a run: builds everything from the settings, iterates, writes down, resumes."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Generator, nn

import vaenas
from vaenas import machine, parallel
from vaenas.data.augment import Augment
from vaenas.data.cache import file_digest
from vaenas.data.load import load
from vaenas.data.shards import ShardSet, open_shards
from vaenas.data.subsets import Subset, train_and_test
from vaenas.errors import UserError
from vaenas.networks.space_file import digest_of
from vaenas.networks.weights import NetworkInfo, save_weights
from vaenas.runs.directory import Checkpoint, NewRun, RunDirectory
from vaenas.search.record import Record
from vaenas.training.config import TrainConfig
from vaenas.training.teacher import load_teacher
from vaenas.training.train import (
    Training,
    TrainState,
    average_of,
    final_network,
    random_transform,
    trained,
)


class TrainRun:
    """One training. Iterate `records()`; stop at any record and `save()`, or be killed: it resumes to the same bits."""

    def __init__(self, config: TrainConfig, directory: NewRun | RunDirectory) -> None:
        """Loads the data and builds everything; only then is the directory made or changed.

        Args:
            directory: one that is still to be made, or that of the run to go on with (`RunDirectory.open`).

        Raises:
            UserError: whatever of the settings, data or directory cannot work.
        """
        self.config = config
        if isinstance(directory, NewRun):
            directory.check()  # early; `create` makes sure
        self._began, self._seconds_before = time.monotonic(), 0.0
        fabric = parallel.make_fabric(config.machine.device, config.machine.precision, directory.threads)
        parallel.check_batch_size(config.training.batch_size)
        torch.manual_seed(config.seed)
        rng = Generator().manual_seed(config.seed)
        self.data = load(config.data)
        train = self.data.train
        sizes = config.image_space(train.image_size, train.channels, len(train.classes)).config
        self.info = NetworkInfo(
            config.space, config.code, train.image_size, train.channels, sizes.width, sizes.layers,
            tuple(train.classes), self.data.mean, self.data.std,
        )  # fmt: skip
        self.architecture, self.costs = self.info.architecture(), self.info.costs()

        images, test, self.test_split = train_and_test(self.data)
        if len(test) == 0:
            raise UserError(
                f"--data {config.data.source}: too few images to hold one out for testing; add some, or val/"
            )
        images = self._chosen(images, rng)
        if config.shards is not None:
            classes, index = tuple(train.classes), Path(config.shards)
            images = open_shards(index, classes, train.image_size, config.data.workers, self.data.findings)
        self.inputs = {f"the images of {config.data.source}": self.data.fingerprint(), **digest_of(config.space_file)}
        if isinstance(images, ShardSet):
            self.inputs[f"the list of shards {config.shards}"] = images.content
        recipe = config.training
        if len(images) < recipe.batch_size:
            raise UserError(f"--batch-size {recipe.batch_size}: there are only {len(images)} images to train on")
        options = {"auxiliary": True} if recipe.auxiliary else {}  # which the settings allow where the space has it
        network = self.info.image_space.network(self.architecture, **options)
        teacher = None
        if config.teacher.model is not None and config.teacher.weights is not None:
            weights, mean, std = Path(config.teacher.weights), self.data.mean, self.data.std
            teacher = load_teacher(config.teacher.model, weights, len(train.classes), mean, std).to(fabric.device)
            self.inputs[f"the teacher's weights {weights}"] = file_digest(weights, "sha256")
        wrapped, optimizer = fabric.setup(*trained(network, recipe))
        plain = Augment(self.data.mean, self.data.std)
        batches = range(0, len(test), 256)

        @torch.no_grad()
        def evaluate(network: nn.Module) -> tuple[float, float]:
            was_training, right, among_five, seen = network.training, 0, 0, 0
            network.eval()
            for start in batches[parallel.rank() :: parallel.world_size()]:
                pixels, labels = test.batch(torch.arange(start, min(start + 256, len(test))))
                logits = network(plain.plain(pixels.to(fabric.device))).cpu()
                best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
                right, among_five = right + int(best[:, 0].sum()), among_five + int(best.sum())
                seen += len(labels)  # bad images are left out
            network.train(was_training)
            all_right, all_five, all_seen = parallel.all_reduce_sum(torch.tensor([right, among_five, seen])).tolist()
            return all_right / all_seen, all_five / all_seen

        self.training = Training(
            recipe,
            fabric,
            images,
            Augment(self.data.mean, self.data.std, recipe.padding, flip=True, cutout=recipe.cutout),
            evaluate,
            len(train.classes),
            config.log_interval,
            config.evaluate_every,
            random_transform(recipe, train.image_size),
            config.seed,
            teacher,
        )
        self.state = TrainState(wrapped, optimizer, average_of(network, recipe), rng)
        self.test_images = len(test)

        self.environment = machine.environment(fabric.device)
        if isinstance(directory, NewRun):
            self.directory = RunDirectory.create(directory, "training", config, self.environment, {})
        else:
            self.directory = directory
            self.directory.warn_of_changes(self.environment)
            checkpoint = self.directory.resume(config, self.inputs)
            if checkpoint is not None:
                self.directory.restore(checkpoint, self.state)
                self._seconds_before = checkpoint.seconds
        fabric.barrier()  # before the first writes a checkpoint again

    @property
    def seconds(self) -> float:
        """Time spent on this run, earlier sittings included up to their last checkpoint."""
        return self._seconds_before + time.monotonic() - self._began

    def save(self) -> None:
        """Writes the checkpoint; of several processes the first does."""
        if not parallel.is_main():
            return
        self.directory.save_checkpoint(
            Checkpoint(
                config=self.config.model_dump(),
                inputs=self.inputs,
                seconds=self.seconds,
                state=self.state.state_dict(),
            )
        )

    def records(self) -> Iterator[Record]:
        """Trains to the end: metrics, checkpoints and at last weights and result are written as it goes."""
        self.save()
        last_save = time.monotonic()
        for record in self.training.run(self.state):
            if parallel.is_main():
                self._log(record)
                if time.monotonic() - last_save >= self.config.checkpoint_seconds:
                    self.save()
                    last_save = time.monotonic()
            yield record
        if not parallel.is_main():
            return
        self.save()
        final = self.info.build()
        kept = final_network(self.state).state_dict()
        final.load_state_dict({name: kept[name] for name in final.state_dict()})  # without the auxiliary tower
        save_weights(self.directory.path / "weights.safetensors", final, self.info)
        self.directory.write_json("result.json", self._result())

    def _log(self, record: Record) -> None:
        epoch = round(self.state.step / self.training.steps_per_epoch, 4)
        line = {"kind": record.kind, "step": self.state.step, "epoch": epoch, "seconds": round(self.seconds, 3)}
        self.directory.append_metrics({**line, **record.values})

    def _chosen(self, images: Subset, rng: Generator) -> Subset:
        """As many of the training images as are asked for."""
        n = self.config.train_images
        if n is None:
            return images
        if n > len(images):
            raise UserError(f"--train-images {n}: there are only {len(images)}; leave it out for all")
        return Subset(images.data, images.rows[torch.randperm(len(images), generator=rng)[:n]])

    def _result(self) -> dict[str, Any]:
        """`result.json`."""
        config, last = self.config, self.state.history[-1]
        return {
            "space": config.space,
            "code": config.code,
            "recipe": config.recipe,
            "network": asdict(self.info.image_space.config),
            "accuracy": last["accuracy"],
            "top5": last["top5"],
            "params": int(self.costs.params),
            "flops": int(self.costs.multiply_adds),
            "epochs": config.training.epochs,
            "seed": config.seed,
            "search": config.search,
            "images": {
                "training": len(self.training.images),
                "test": self.test_images,
                "test_split": self.test_split,
                "skipped": self.data.skipped,
                "notes": self.data.notes,
            },
            "seconds": round(self.seconds, 3),
            "version": vaenas.__version__,
            "environment": self.environment,
        }
