"""What a search is made of, from its settings: images in parts, sampler, algorithm."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator

from vaenas.constraints import Constraints
from vaenas.data.images import ImageData
from vaenas.data.subsets import Subset, split, train_and_test
from vaenas.errors import UserError
from vaenas.evaluation.supernet import Evaluate
from vaenas.runs.config import SearchConfig
from vaenas.samplers.categorical import CategoricalSampler, MultinomialSampler
from vaenas.samplers.sampler import Sampler
from vaenas.samplers.uniform import FairSampler, UniformSampler
from vaenas.samplers.vae import VAESampler
from vaenas.search.architecture_weights import ArchitectureWeights
from vaenas.search.gradient import GradientSearch
from vaenas.search.one_shot import OneShot
from vaenas.search.supernet_training import SupernetTrainer
from vaenas.spaces.space import SearchSpace


@dataclass(frozen=True)
class SearchImages:
    """The training set in disjoint parts; the test set stays untouched."""

    training: Subset
    ranking: Subset
    validation: Subset | None  # for the architecture weights of Algorithm 3
    recalibration: int  # so many of the training images, for batch norm


def split_images(config: SearchConfig, data: ImageData, rng: Generator) -> SearchImages:
    usable, _, _ = train_and_test(data)
    held_out = config.ranking.images
    if held_out is None:
        held_out = max(1, min(1000, len(usable) // 5))
    try:
        parts = split(usable.labels, held_out, rng)
    except UserError as error:
        raise UserError(f"--ranking.images {held_out}: {error}") from None
    training, ranking = (Subset(data.train, usable.rows[rows]) for rows in parts)
    # split sorts; what is taken from the front, for batch norm, must be a random sample
    rows = training.rows[torch.randperm(len(training), generator=rng)]
    if config.train_images is not None and config.train_images > len(rows):
        raise UserError(
            f"--train-images {config.train_images}: there are only {len(rows)} after {held_out} for "
            f"ranking; lower it, or leave it out for all"
        )
    training = replace(training, rows=rows[: config.train_images])
    validation, left = None, f"are left to train on after {held_out} for ranking"
    if config.method == "gradient":
        ours = len(training) - round(config.gradient.arch_data_fraction * len(training))
        training, validation = (replace(training, rows=rows) for rows in (training.rows[:ours], training.rows[ours:]))
        left = f"{left}, beside {len(validation)} for the architecture weights (--gradient.arch-data-fraction)"
    fewest = min(len(part) for part in (training, validation) if part is not None)
    if fewest < config.supernet.batch_size:
        raise UserError(
            f"--batch-size {config.supernet.batch_size}: only {len(training)} images {left}; lower --batch-size or "
            f"--ranking.images"
        )
    recalibration = config.ranking.recalibration_images
    if recalibration is None:
        recalibration = min(256, len(training))
    if len(training) < recalibration:
        raise UserError(
            f"--ranking.recalibration-images {recalibration}: there are only {len(training)} to train on; lower it"
        )
    return SearchImages(training, ranking, validation, recalibration)


def make_sampler(config: SearchConfig, space: SearchSpace, rng: Generator) -> Sampler:
    """The sampler that the settings name, unless it draws from architecture weights."""
    match config.sampler:
        case "uniform":
            return UniformSampler(space)
        case "fair":
            return FairSampler(space)
        case "categorical":
            return CategoricalSampler(space, config.categorical)
        case "vae":
            return VAESampler(space, rng, config.vae)


def make_search(
    config: SearchConfig,
    space: SearchSpace,
    constraints: Constraints,
    trainer: SupernetTrainer,
    evaluate: Evaluate,
    validation: Subset | None,
    rng: Generator,
) -> OneShot | GradientSearch:
    """Algorithm 2, or 3 where there are images for the architecture weights.

    Raises:
        UserError: the sampler would never learn.
    """
    parts: dict[str, Any] = {
        "space": space, "trainer": trainer, "evaluate": evaluate, "rng": rng,
        "is_feasible": constraints.is_feasible, "constraints": str(constraints),
        "training": config.update, "surrogate": config.surrogate,
    }  # fmt: skip
    if validation is None:
        search = OneShot(**parts, sampler=make_sampler(config, space, rng), evolution=config.evolution)
    else:
        settings = config.gradient
        w = ArchitectureWeights(space, settings.arch_learning_rate, settings.arch_update, validation, trainer)
        sampler = MultinomialSampler(space, w.values) if config.mixes else make_sampler(config, space, rng)
        search = GradientSearch(**parts, sampler=sampler, weights=w, draws=config.evolution.population)
    if search.learned and search.n_vae > trainer.steps:
        raise UserError(
            f"--update.vae-interval {config.update.vae_interval:g}: the sampler would never learn in "
            f"{config.supernet.epochs} epochs; lower it, or raise --epochs"
        )
    return search
