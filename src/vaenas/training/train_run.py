"""A training as a run: builds everything from the settings, iterates, writes down, resumes."""

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Generator, nn

import vaenas
from vaenas import machine, parallel
from vaenas.data import Augment
from vaenas.data.cache import file_digest
from vaenas.data.files import FileSet
from vaenas.data.shards import ShardSet, open_shards
from vaenas.errors import UserError
from vaenas.networks.image_spaces import IMAGE_SPACES
from vaenas.networks.nasnet import NASNet
from vaenas.networks.weights import NetworkInfo, save_weights
from vaenas.records import Images, NetworkSize, Record, TrainingResult
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.runs.images import Subset, fingerprint, load_data, notes, skipped, train_and_test
from vaenas.training.config import TrainConfig
from vaenas.training.teacher import load_teacher
from vaenas.training.train import (
    Training,
    TrainState,
    augmentation,
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
        fabric = parallel.make_fabric(config.device, config.precision, directory.threads)
        parallel.check_batch_size(config.batch_size)
        torch.manual_seed(config.seed)
        rng = Generator().manual_seed(config.seed)
        self.data = load_data(config)
        train = self.data.train
        assert config.width is not None
        assert config.layers is not None
        self.info = NetworkInfo(
            config.space, config.code, train.image_size, train.channels, config.width, config.layers,
            tuple(train.classes), self.data.mean, self.data.std,
        )  # fmt: skip
        geometry, space = self.info.geometry, IMAGE_SPACES[config.space].space(self.info.geometry)
        (self.architecture,) = space.decode([config.code])
        if not bool(space.is_valid(self.architecture[None])[0]):
            raise UserError(f"architecture {config.code}: not valid in space {config.space}, so it has no network")
        self.costs = IMAGE_SPACES[config.space].cost(geometry)(self.architecture[None])

        images, test, self.test_split = train_and_test(self.data)
        if len(test) == 0:
            raise UserError(f"--data {config.data}: too few images to hold one out for testing; add some, or val/")
        images = self._chosen(images, rng)
        if config.shards is not None:
            classes, index = tuple(train.classes), Path(config.shards)
            images = open_shards(index, classes, train.image_size, config.workers, config.background)
        self.shards = images if isinstance(images, ShardSet) else None
        self.inputs = {f"the images of {config.data}": fingerprint(self.data, self.shards)}
        if len(images) < config.batch_size:
            raise UserError(f"--batch-size {config.batch_size}: there are only {len(images)} images to train on")
        allowed = [[operation] for operation in self.architecture.tolist()]
        network = (
            NASNet(geometry, allowed, auxiliary=config.auxiliary > 0) if config.space == "nasnet" else self.info.build()
        )
        teacher = None
        if config.teacher is not None and config.teacher_weights is not None:
            weights, mean, std = Path(config.teacher_weights), self.data.mean, self.data.std
            teacher = load_teacher(config.teacher, weights, len(train.classes), mean, std).to(fabric.device)
            self.inputs[f"the teacher's weights {weights}"] = file_digest(weights, "sha256")
        wrapped, optimizer = fabric.setup(*trained(network, config))
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

        transform, in_files = (
            random_transform(config, train.image_size),
            isinstance(train, FileSet) or config.shards is not None,
        )
        self.training = Training(
            config,
            fabric,
            images,
            augmentation(config, self.data.mean, self.data.std, None if in_files else transform),
            evaluate,
            len(train.classes),
            config.log_interval,
            config.evaluate_every,
            transform if in_files else None,
            config.seed,
            teacher,
        )
        self.state = TrainState(wrapped, optimizer, average_of(network, config), rng)
        self.test_images = len(test)

        self.environment = machine.environment(fabric.device)
        if isinstance(directory, NewRun):
            self.directory = RunDirectory.create(directory, "training", config, self.environment, {})
        else:
            self.directory = directory
            self._seconds_before = directory.resume(config, self.inputs, self.environment, self.state)
        fabric.barrier()  # before the first writes a checkpoint again

    @property
    def seconds(self) -> float:
        """Time spent on this run, earlier sittings included up to their last checkpoint."""
        return self._seconds_before + time.monotonic() - self._began

    def save(self) -> None:
        """Writes the checkpoint; of several processes the first does."""
        self.directory.save_checkpoint(self.config, self.inputs, self.seconds, self.state)

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

    def _result(self) -> TrainingResult:
        config, last = self.config, self.state.history[-1]
        assert config.width is not None
        assert config.layers is not None
        return TrainingResult(
            space=config.space,
            code=config.code,
            recipe=config.recipe,
            network=NetworkSize(
                image_size=self.info.image_size,
                image_channels=self.info.image_channels,
                classes=len(self.info.classes),
                width=config.width,
                layers=config.layers,
            ),
            accuracy=last["accuracy"],
            top5=last["top5"],
            params=int(self.costs.params),
            flops=int(self.costs.flops),
            epochs=config.epochs,
            seed=config.seed,
            search=config.search,
            images=Images(
                training=len(self.training.images),
                test=self.test_images,
                test_split=self.test_split,
                skipped=skipped(self.data),
                notes=notes(self.data, self.shards),
            ),
            seconds=round(self.seconds, 3),
            version=vaenas.__version__,
            environment=self.environment,
        )
