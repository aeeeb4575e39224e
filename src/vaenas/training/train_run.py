"""A training as a run: builds everything from the settings, iterates, writes down, resumes."""

from collections.abc import Iterator
from pathlib import Path

import torch

from vaenas import parallel
from vaenas.data.augment import Augment
from vaenas.data.cache import file_digest
from vaenas.data.shards import ShardSet, open_shards
from vaenas.data.subsets import Subset, train_and_test
from vaenas.errors import UserError
from vaenas.networks.weights import NetworkInfo, save_weights
from vaenas.records import Record, TrainingResult
from vaenas.runs.directory import RunDirectory
from vaenas.runs.session import Session
from vaenas.training.config import TrainConfig
from vaenas.training.teacher import Teacher, load_teacher
from vaenas.training.train import (
    Training,
    TrainState,
    average_of,
    final_network,
    random_transform,
    top1_and_top5,
    trained,
)


class TrainRun:
    """One training. Iterate `records()`; stop at any record and `save()`, or be killed: it resumes to the same bits."""

    def __init__(self, config: TrainConfig, directory: RunDirectory) -> None:
        """Loads the data and builds everything; only then is the directory made or changed.

        Raises `UserError` for whatever of the settings, data or directory cannot work.
        """
        self.config, recipe = config, config.training
        self.session = session = Session(config, directory, recipe.batch_size)
        self.data, fabric = session.data, session.fabric
        train, mean, std = self.data.train, self.data.mean, self.data.std
        sizes = config.image_space(train.image_size, train.channels, len(train.classes)).config
        self.info = NetworkInfo(
            config.space, config.code, train.image_size, train.channels, sizes.width, sizes.layers,
            tuple(train.classes), mean, std,
        )  # fmt: skip
        self.architecture, self.costs = self.info.architecture(), self.info.costs()
        images, test = self._images()
        self.test = test
        options = {"auxiliary": True} if recipe.auxiliary else {}  # which the settings allow where the space has it
        network = self.info.image_space.network(self.architecture, **options)
        teacher = self._teacher()
        wrapped, optimizer = fabric.setup(*trained(network, recipe))
        augment = Augment(mean, std, recipe.padding, flip=True, cutout=recipe.cutout)
        self.training = Training(
            recipe,
            fabric,
            images,
            augment,
            lambda network: top1_and_top5(network, test, augment.plain, fabric.device),
            len(train.classes),
            config.log_interval,
            config.evaluate_every,
            random_transform(recipe, train.image_size),
            config.seed,
            teacher,
        )
        self.state = TrainState(wrapped, optimizer, average_of(network, recipe), session.rng)
        session.begin("training", self.state, {})
        self.directory = session.directory

    def _images(self) -> tuple[Subset | ShardSet, Subset]:
        """Those to train on, and those that test."""
        config, data = self.config, self.data
        images, test, _ = train_and_test(data)
        if len(test) == 0:
            raise UserError(
                f"--data {config.data.source}: too few images to hold one out for testing; add some, or val/"
            )
        if config.train_images is not None:
            if config.train_images > len(images):
                raise UserError(
                    f"--train-images {config.train_images}: there are only {len(images)}; leave it out for all"
                )
            chosen = torch.randperm(len(images), generator=self.session.rng)[: config.train_images]
            images = Subset(images.data, images.rows[chosen])
        if config.shards is not None:
            size, classes = data.train.image_size, tuple(data.train.classes)
            images = open_shards(Path(config.shards), classes, size, config.data.workers, data.findings)
            self.session.inputs[f"the list of shards {config.shards}"] = images.content
        size = config.training.batch_size
        if len(images) < size:
            raise UserError(f"--batch-size {size}: there are only {len(images)} images to train on")
        return images, test

    def _teacher(self) -> Teacher | None:
        """Whose answers are learned, too."""
        config, data = self.config, self.data
        if config.teacher.model is None or config.teacher.weights is None:
            return None
        weights = Path(config.teacher.weights)
        teacher = load_teacher(config.teacher.model, weights, len(data.train.classes), data.mean, data.std)
        self.session.inputs[f"the teacher's weights {weights}"] = file_digest(weights, "sha256")
        return teacher.to(self.session.fabric.device)

    def save(self) -> None:
        """Writes the checkpoint."""
        self.session.save()

    def records(self) -> Iterator[Record]:
        """Trains to the end: metrics, checkpoints and at last weights and result are written as it goes."""
        yield from self.session.kept(self.training.run(self.state), self._log)
        if not parallel.is_main():
            return
        final = self.info.build()
        kept = final_network(self.state).state_dict()
        final.load_state_dict({name: kept[name] for name in final.state_dict()})  # without the auxiliary tower
        save_weights(self.directory.path / "weights.safetensors", final, self.info)
        self.directory.write_json("result.json", self._result())

    def _log(self, record: Record) -> None:
        epoch = self.state.step / self.training.steps_per_epoch
        self.session.append_metrics(record.kind, self.state.step, epoch, record.values)

    def _result(self) -> TrainingResult:
        """`result.json`."""
        config, last = self.config, self.state.history[-1]
        images = {"training": len(self.training.images), "test": len(self.test)}
        return TrainingResult.model_validate(
            {
                **self.session.facts(self.info.image_space.config, **images),
                "code": config.code,
                "recipe": config.recipe,
                "accuracy": last["accuracy"],
                "top5": last["top5"],
                "params": int(self.costs.params),
                "flops": int(self.costs.multiply_adds),
                "epochs": config.training.epochs,
                "search": config.search,
            }
        )
