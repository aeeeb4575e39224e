"""What a search is made of, from its settings: images in parts, optimizer, steps, inputs of the algorithms, sampler."""

from dataclasses import dataclass, replace

import torch
from torch import Generator

from vaenas.data.images import ImageData
from vaenas.data.subsets import Subset, split, train_and_test
from vaenas.errors import UserError
from vaenas.runs.config import SearchConfig
from vaenas.samplers.categorical import CategoricalSampler
from vaenas.samplers.mixture import linear_epsilon
from vaenas.samplers.multinomial import MultinomialSampler
from vaenas.samplers.sampler import Sampler
from vaenas.samplers.uniform import FairSampler, UniformSampler
from vaenas.samplers.vae import VAESampler
from vaenas.search.evolution import EvolutionInputs
from vaenas.search.gradient import GradientInputs
from vaenas.search.one_shot import OneShotSettings
from vaenas.search.settings import SupernetTraining
from vaenas.search.supernet_training import LearnFromFit
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


def make_optimizer(settings: SupernetTraining, network: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        network.parameters(), settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay
    )


def count_steps(config: SearchConfig, steps_per_epoch: int) -> tuple[int, int]:
    """Epochs to iterations: of the search, and between updates of the sampler."""
    steps = config.supernet.epochs * steps_per_epoch
    interval = max(1, round(config.update.vae_interval * steps_per_epoch))
    if config.learns and interval > steps:
        raise UserError(
            f"--update.vae-interval {config.update.vae_interval:g}: the sampler would never learn in "
            f"{config.supernet.epochs} epochs; lower it, or raise --epochs"
        )
    return steps, interval


def surrogate(config: SearchConfig) -> LearnFromFit | None:
    return LearnFromFit(config.keep_ratio, config.surrogate.rounds) if config.surrogate.kind == "ridge" else None


def one_shot_settings(config: SearchConfig, steps: tuple[int, int]) -> OneShotSettings:
    limit, increment = config.update.epsilon_limit, config.update.epsilon_inc
    limit = config.keep_ratio if limit is None else limit
    training, evolution = config.supernet, config.evolution
    return OneShotSettings(
        *steps,
        ranking_size=config.update.ranking_size,
        epsilon=linear_epsilon(limit / steps[0] if increment is None else increment, limit),
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        label_smoothing=training.label_smoothing,
        clip_norm=training.clip_norm,
        evolution=EvolutionInputs(
            evolution.population, evolution.generations, evolution.top_k, evolution.mutation_prob,
            config.surrogate.kind == "ridge",
        ),
        surrogate=surrogate(config),
    )  # fmt: skip


def gradient_settings(config: SearchConfig, steps: tuple[int, int]) -> GradientInputs:
    training = config.supernet
    return GradientInputs(
        *steps,
        ranking_size=config.update.ranking_size,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        label_smoothing=training.label_smoothing,
        clip_norm=training.clip_norm,
        draws=config.evolution.population,
        update=config.gradient.arch_update,
        surrogate=surrogate(config),
    )


def make_sampler(
    config: SearchConfig, space: SearchSpace, rng: Generator, weights: torch.Tensor | None = None
) -> Sampler:
    """The sampler that the settings name; `weights` (s, k) are those of Algorithm 3."""
    if config.mixes and weights is not None:
        return MultinomialSampler(space, weights)
    match config.sampler:
        case "uniform":
            return UniformSampler(space)
        case "fair":
            return FairSampler(space)
        case "categorical":
            return CategoricalSampler(space, config.categorical)
        case "vae":
            return VAESampler(space, rng, config.vae)
