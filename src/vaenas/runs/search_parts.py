"""What a search is made of, from its settings: images in parts, optimizer, steps, inputs of the algorithms, sampler."""

from dataclasses import dataclass, replace

import torch
from torch import Generator

from vaenas.data import ImageData, split
from vaenas.errors import UserError
from vaenas.networks import ImageSpace
from vaenas.runs.config import SearchConfig
from vaenas.runs.images import Subset, train_and_test
from vaenas.samplers.categorical import CategoricalSampler, CategoricalSettings
from vaenas.samplers.mixture import linear_epsilon
from vaenas.samplers.multinomial import MultinomialSampler
from vaenas.samplers.sampler import Sampler
from vaenas.samplers.uniform import FairSampler, UniformSampler
from vaenas.samplers.vae import PAPER, RECOMMENDED, VAESampler
from vaenas.search.evolution import EvolutionSettings
from vaenas.search.gradient import GradientSettings, Update
from vaenas.search.one_shot import OneShotSettings
from vaenas.search.supernet_training import SurrogateSettings
from vaenas.spaces.space import SearchSpace


@dataclass(frozen=True)
class SearchImages:
    """The training set in disjoint parts; the test set stays untouched."""

    training: Subset
    ranking: Subset
    validation: Subset | None  # for the architecture weights of Algorithm 3
    recalibration: int  # so many of the training images, for batch norm


def search_space(config: SearchConfig, image_space: ImageSpace) -> SearchSpace:
    """What is searched: the space of such networks, with `full_cells` its part in which nothing is pruned."""
    space = image_space.space.full_cells if config.full_cells else image_space.space
    assert space is not None  # as the settings have made sure
    return space


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


def make_optimizer(config: SearchConfig, network: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        network.parameters(), config.learning_rate, config.momentum, weight_decay=config.weight_decay
    )


def count_steps(config: SearchConfig, steps_per_epoch: int) -> tuple[int, int]:
    """Epochs to iterations: of the search, and between updates of the sampler."""
    steps = config.epochs * steps_per_epoch
    interval = max(1, round(config.vae_interval * steps_per_epoch))
    if config.sampler in ("vae", "categorical") and interval > steps:
        raise UserError(
            f"--vae-interval {config.vae_interval:g}: the sampler would never learn in {config.epochs} epochs; lower "
            f"it, or raise --epochs"
        )
    return steps, interval


def surrogate(config: SearchConfig) -> SurrogateSettings | None:
    assert config.keep_ratio is not None
    return SurrogateSettings(config.keep_ratio, config.surrogate_rounds) if config.surrogate == "ridge" else None


def one_shot_settings(config: SearchConfig, steps: tuple[int, int]) -> OneShotSettings:
    assert config.epsilon_limit is not None
    increment = config.epsilon_limit / steps[0] if config.epsilon_inc is None else config.epsilon_inc
    return OneShotSettings(
        *steps,
        ranking_size=config.ranking_size,
        epsilon=linear_epsilon(increment, config.epsilon_limit),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        label_smoothing=config.label_smoothing,
        clip_norm=config.clip_norm,
        evolution=EvolutionSettings(
            config.population, config.generations, config.top_k, config.mutation_prob, config.surrogate == "ridge"
        ),
        surrogate=surrogate(config),
    )


UPDATES: dict[str, Update] = {"multinomial": "two-path", "full": "mixture"}  # of other samplers: the path alone


def gradient_settings(config: SearchConfig, steps: tuple[int, int]) -> GradientSettings:
    return GradientSettings(
        *steps,
        ranking_size=config.ranking_size,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        label_smoothing=config.label_smoothing,
        clip_norm=config.clip_norm,
        draws=config.population,
        update=UPDATES.get(config.sampler, "path"),
        surrogate=surrogate(config),
    )


def make_sampler(
    config: SearchConfig, space: SearchSpace, rng: Generator, weights: torch.Tensor | None = None
) -> Sampler:
    """The sampler that the settings name; `weights` (s, k) are those of Algorithm 3."""
    match config.sampler:
        case "multinomial" | "full":
            assert weights is not None
            return MultinomialSampler(space, weights)
        case "uniform":
            return UniformSampler(space)
        case "fair":
            return FairSampler(space)
        case "categorical":
            return CategoricalSampler(space, replace(CategoricalSettings(), keep_ratio=config.keep_ratio))
        case "vae":
            settings = replace(
                PAPER if config.vae == "paper" else RECOMMENDED,
                keep_ratio=config.keep_ratio,
                iterations=config.vae_iterations,
                kl_weight=config.kl_weight,
                free_bits=config.free_bits,
            )
            return VAESampler(space, rng, settings)
