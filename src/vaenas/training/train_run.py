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
from vaenas.training.teacher import load_teacher
from vaenas.training.train import Training, random_transform, top1_and_top5


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
        channels, classes = train.channels, len(train.classes)
        sizes = config.image_space(train.image_size, channels, classes).config
        self.info = NetworkInfo(
            config.space, config.code, train.image_size, channels, sizes.width, sizes.layers, train.classes, mean, std
        )
        self.costs = self.info.costs()
        images, test = self._images()
        options = {"auxiliary": True} if recipe.auxiliary else {}  # which the settings allow where the space has it
        network, teacher = self.info.image_space.network(self.info.architecture(), **options), None
        if config.teacher.model is not None and config.teacher.weights is not None:
            weights = Path(config.teacher.weights)
            teacher = load_teacher(config.teacher.model, weights, classes, mean, std).to(fabric.device)
            session.inputs[f"the teacher's weights {weights}"] = file_digest(weights, "sha256")
        augment = Augment(mean, std, recipe.padding, flip=True, cutout=recipe.cutout)
        self.training = Training(
            recipe=recipe, fabric=fabric, network=network, images=images, augment=augment, classes=classes,
            evaluate=lambda network: top1_and_top5(network, test, augment.plain, fabric.device), rng=session.rng,
            log_interval=config.log_interval, evaluate_every=config.evaluate_every, seed=config.seed, teacher=teacher,
            transform=random_transform(recipe, train.image_size),
        )  # fmt: skip
        session.begin("training", self.training, {})
        self.directory, self.save, self.test = session.directory, session.save, test

    def _images(self) -> tuple[Subset | ShardSet, Subset]:
        """Those to train on, and those that test."""
        config, data = self.config, self.data
        images, test, _ = train_and_test(data)
        if len(test) == 0:
            raise UserError(
                f"--data {config.data.source}: too few images to hold one out for testing; add some, or val/"
            )
        wanted, size = config.train_images, config.training.batch_size
        if wanted is not None:
            if wanted > len(images):
                raise UserError(f"--train-images {wanted}: there are only {len(images)}; leave it out for all")
            chosen = torch.randperm(len(images), generator=self.session.rng)[:wanted]
            images = Subset(images.data, images.rows[chosen])
        if config.shards is not None:
            train, workers = data.train, config.data.workers
            images = open_shards(Path(config.shards), train.classes, train.image_size, workers, data.findings)
            self.session.inputs[f"the list of shards {config.shards}"] = images.content
        if len(images) < size:
            raise UserError(f"--batch-size {size}: there are only {len(images)} images to train on")
        return images, test

    def records(self) -> Iterator[Record]:
        """Trains to the end: metrics, checkpoints and at last weights and result are written as it goes."""
        yield from self.session.kept(self.training.run(), self._log)
        if not parallel.is_main():
            return
        final, kept = self.info.build(), self.training.final_network.state_dict()
        final.load_state_dict({name: kept[name] for name in final.state_dict()})  # without the auxiliary tower
        save_weights(self.directory.path / "weights.safetensors", final, self.info)
        self.directory.write_json("result.json", self._result())

    def _log(self, record: Record) -> None:
        epoch = self.training.step / self.training.steps_per_epoch
        self.session.append_metrics(record.kind, self.training.step, epoch, record.values)

    def _result(self) -> TrainingResult:
        """`result.json`."""
        config, last = self.config, self.training.history[-1]
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
