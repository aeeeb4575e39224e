"""Every sampler that the contract suite runs on: a new sampler adds a line."""

from collections.abc import Callable
from dataclasses import replace

from torch import Generator

from vaenas.samplers.categorical import CategoricalSampler, MultinomialSampler
from vaenas.samplers.sampler import Sampler
from vaenas.samplers.uniform import FairSampler, UniformSampler
from vaenas.samplers.vae import PAPER, RECOMMENDED, VAESampler
from vaenas.search.architecture_weights import initial_weights
from vaenas.spaces.space import SearchSpace

Make = Callable[[SearchSpace, Generator], Sampler]

# With fewer iterations, which change nothing here but the time.
PAPER_ALONE = replace(PAPER, iterations=20)

LEARNED: dict[str, Make] = {
    "categorical": lambda space, rng: CategoricalSampler(space),
    "vae": lambda space, rng: VAESampler(space, rng, RECOMMENDED),
    "vae-paper": lambda space, rng: VAESampler(space, rng, PAPER_ALONE),
}
SAMPLERS: dict[str, Make] = {
    "uniform": lambda space, rng: UniformSampler(space),
    "fair": lambda space, rng: FairSampler(space),
    "multinomial": lambda space, rng: MultinomialSampler(space, initial_weights(space)),
    **LEARNED,
}
