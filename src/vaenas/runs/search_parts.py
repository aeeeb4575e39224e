"""What a search is made of, from its settings: space, images in parts, sampler, algorithm."""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Generator

from vaenas.constraints import Constraints
from vaenas.data import ImageData, split
from vaenas.errors import UserError
from vaenas.evaluation.supernet import Evaluate
from vaenas.networks.image_spaces import IMAGE_SPACES
from vaenas.runs.config import SearchConfig
from vaenas.runs.images import Subset, train_and_test
from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.samplers.multinomial import MultinomialSampler
from vaenas.samplers.sampler import Sampler
from vaenas.samplers.uniform import FairSampler, UniformSampler
from vaenas.samplers.vae import VAESampler, VAESettings
from vaenas.search.architecture_weights import ArchitectureWeights, ArchUpdate
from vaenas.search.evolution import EvolutionSettings
from vaenas.search.gradient import GradientSearch
from vaenas.search.one_shot import OneShot
from vaenas.search.supernet_training import SamplerTraining, SupernetTrainer
from vaenas.search.surrogate import SurrogateSettings
from vaenas.spaces.space import SearchSpace

S = TypeVar("S")


@dataclass(frozen=True)
class SearchImages:
    """The training set in disjoint parts; the test set stays untouched."""

    training: Subset
    ranking: Subset
    validation: Subset | None  # for the architecture weights of Algorithm 3
    recalibration: int  # so many of the training images, for batch norm


def search_space(config: SearchConfig, geometry: Any) -> SearchSpace:
    """What is searched: the space of such networks, with `full_cells` its part in which nothing is pruned."""
    image_space = IMAGE_SPACES[config.space]
    make = image_space.full if config.full_cells else image_space.space
    assert make is not None  # as the settings have made sure
    return make(geometry)


def split_images(config: SearchConfig, data: ImageData, rng: Generator) -> SearchImages:
    usable, _, _ = train_and_test(data)
    held_out = config.ranking_images
    if held_out is None:
        held_out = max(1, min(1000, len(usable) // 5))
    try:
        parts = split(usable.labels, held_out, rng)
    except UserError as error:
        raise UserError(f"--ranking-images {held_out}: {error}") from None
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
        ours = len(training) - round(config.weights_share * len(training))
        training, validation = (replace(training, rows=rows) for rows in (training.rows[:ours], training.rows[ours:]))
        left = f"{left}, beside {len(validation)} for the architecture weights (--weights-share)"
    fewest = min(len(part) for part in (training, validation) if part is not None)
    if fewest < config.batch_size:
        raise UserError(
            f"--batch-size {config.batch_size}: only {len(training)} images {left}; lower --batch-size or "
            f"--ranking-images"
        )
    recalibration = config.recalibration_images
    if recalibration is None:
        recalibration = min(256, len(training))
    if len(training) < recalibration:
        raise UserError(f"--recalibration-images {recalibration}: there are only {len(training)} to train on; lower it")
    return SearchImages(training, ranking, validation, recalibration)


def settings_of(kind: type[S], config: SearchConfig) -> S:
    """The settings of one part, which the configuration has under the same names."""
    return kind(**{field.name: getattr(config, field.name) for field in fields(kind)})  # type: ignore[arg-type]


def make_sampler(config: SearchConfig, space: SearchSpace, rng: Generator) -> Sampler:
    """The sampler that the settings name, unless it draws from architecture weights."""
    match config.sampler:
        case "uniform":
            return UniformSampler(space)
        case "fair":
            return FairSampler(space)
        case "categorical":
            return CategoricalSampler(space, replace(CategoricalSettings(), keep_ratio=config.keep_ratio))
        case _:
            names = {"keep_ratio": "keep_ratio", "iterations": "vae_iterations"}
            names |= {"kl_weight": "kl_weight", "free_bits": "free_bits"}
            return VAESampler(space, rng, VAESettings(**{name: getattr(config, of) for name, of in names.items()}))


ARCH_UPDATES: dict[str, ArchUpdate] = {"multinomial": "two-path", "full": "mixture"}  # of other samplers: the path


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
        "training": settings_of(SamplerTraining, config),
        "surrogate": SurrogateSettings(config.surrogate, config.surrogate_rounds),
    }  # fmt: skip
    if validation is None:
        evolution = settings_of(EvolutionSettings, config)
        search = OneShot(**parts, sampler=make_sampler(config, space, rng), evolution=evolution)
    else:
        update = ARCH_UPDATES.get(config.sampler, "path")
        w = ArchitectureWeights(space, config.weights_learning_rate, update, validation, trainer)
        sampler = make_sampler(config, space, rng) if update == "path" else MultinomialSampler(space, w.values)
        search = GradientSearch(**parts, sampler=sampler, weights=w, draws=config.population)
    if search.learned and search.n_vae > trainer.steps:
        raise UserError(
            f"--vae-interval {config.vae_interval:g}: the sampler would never learn in {config.epochs} epochs; lower "
            f"it, or raise --epochs"
        )
    return search
