"""The training set of a search in disjoint parts; the test set stays untouched."""

from dataclasses import dataclass

import torch
from torch import Generator

from vaenas.data.images import ImageData
from vaenas.data.subsets import Subset, split, train_and_test
from vaenas.errors import UserError
from vaenas.runs.config import SearchConfig


@dataclass(frozen=True)
class SearchImages:
    """What trains the supernet, ranks, and for Algorithm 3 trains the architecture weights."""

    training: Subset
    ranking: Subset
    validation: Subset | None
    recalibration: int  # so many of the training images, for batch norm


def split_images(config: SearchConfig, data: ImageData, rng: Generator) -> SearchImages:
    """Raises `UserError` where one part would be too small."""
    usable, size = train_and_test(data)[0], config.supernet.batch_size
    held_out = config.ranking.images or max(1, min(1000, len(usable) // 5))
    try:
        rows, ranking = (usable.rows[part] for part in split(usable.labels, held_out, rng))
    except UserError as error:
        raise UserError(f"--ranking.images {held_out}: {error}") from None
    # split sorts; what is taken from the front, for batch norm, must be a random sample
    rows = rows[torch.randperm(len(rows), generator=rng)]
    if config.train_images is not None and config.train_images > len(rows):
        raise UserError(
            f"--train-images {config.train_images}: there are only {len(rows)} after {held_out} for ranking; lower it, "
            "or leave it out for all"
        )
    rows, validation, lower = rows[: config.train_images], None, "lower --batch-size or --ranking.images"
    if config.method == "gradient":
        ours = len(rows) - round(config.gradient.arch_data_fraction * len(rows))
        rows, validation = rows[:ours], Subset(data.train, rows[ours:])
        lower += ", or bring --gradient.arch-data-fraction nearer to 0.5"
    fewest = min(len(rows), len(rows if validation is None else validation))
    if fewest < size:
        raise UserError(
            f"--batch-size {size}: only {fewest} images are left to train on after {held_out} for ranking: {lower}"
        )
    recalibration = config.ranking.recalibration_images
    if recalibration is None:
        recalibration = min(256, len(rows))
    if recalibration > len(rows):
        raise UserError(
            f"--ranking.recalibration-images {recalibration}: there are only {len(rows)} to train on; lower it"
        )
    return SearchImages(Subset(data.train, rows), Subset(data.train, ranking), validation, recalibration)
