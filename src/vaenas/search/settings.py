"""Settings of the search's parts; without torch, so that the command line can list them at once."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from vaenas.ranges import Fraction, NotNegative, Number, Pixels, Positive, Share


@dataclass(frozen=True)
class SupernetTraining:
    """How the supernet's weights are trained (App. A.1)."""

    epochs: Annotated[Number, Field(description="of supernet training")] = 8
    batch_size: Annotated[int, Field(ge=2, le=10**6, description="images a step")] = 64
    learning_rate: Annotated[Positive, Field(description="at the start; falls linearly to 0")] = 0.1
    momentum: Annotated[Fraction, Field(description="of SGD")] = 0.9
    weight_decay: Annotated[NotNegative, Field(description="of SGD")] = 3e-5
    label_smoothing: Annotated[Fraction, Field(description="share of the target spread over all classes")] = 0.1
    clip_norm: Annotated[Positive, Field(description="largest norm of the gradient")] = 5.0
    padding: Annotated[
        int, Field(ge=0, le=64, description="pixels around an image before the random crop; 0 = none")
    ] = 4
    cutout: Annotated[Pixels, Field(description="side in pixels of the square cut out; 0 = none")] = 0


@dataclass(frozen=True)
class SamplerTraining:
    """When and on what the sampler learns, and how often it is asked: lines 1, 5, 6 and 11 of Algorithm 2."""

    vae_interval: Annotated[Positive, Field(description="n_vae: epochs between updates of the sampler")] = 1.0
    ranking_size: Annotated[int, Field(ge=2, le=10**6, description="N_s: architectures ranked for an update")] = 48
    epsilon_inc: Annotated[
        NotNegative | None, Field(description="added to ε each step (up to the limit at the end)")
    ] = None
    epsilon_limit: Annotated[Share | None, Field(description="largest ε: share of the sampler's draws (K)")] = None


@dataclass(frozen=True)
class EvolutionSettings:
    """Of Guo et al. 2019, whose own are population 50, 20 generations, top 10, mutation 0.1 (Sec. 4)."""

    population: Annotated[int, Field(ge=2, le=10**6, description="N_seeds, and evaluations a generation")] = 32
    generations: Annotated[Number, Field(description="the initial population's included")] = 5
    top_k: Annotated[Number, Field(description="parents of the next generation")] = 8
    mutation_prob: Annotated[Share, Field(description="for each slot of a mutated architecture")] = 0.1


GUO = EvolutionSettings(population=50, generations=20, top_k=10)


@dataclass(frozen=True)
class SurrogateSettings:
    """What the sampler learns from and the search chooses by."""

    kind: Annotated[
        Literal["ridge", "none"],
        Field(description="learn and choose by a ridge surrogate to the scores, or by the scores themselves"),
    ] = "ridge"
    rounds: Annotated[Number, Field(description="times that the sampler learns from what each surrogate predicts")] = 2


ArchUpdate = Literal["path", "two-path", "mixture"]
"""How a step of w sees the network.

path: the sampled architecture alone, gate 1 + p - sg(p) on each operation (straight-through, p = softmax(w)).
two-path: ProxylessNAS (Cai et al. 2018, Sec. 3.2): two operations a slot from softmax(w), one of them open.
mixture: DARTS (Liu et al. 2018b): every operation, weighed by softmax(w); W is trained so, too.
"""


@dataclass(frozen=True)
class GradientSettings:
    """Of the architecture weights w."""

    arch_learning_rate: Annotated[Positive, Field(description="of Adam on the architecture weights")] = 0.02
    arch_data_fraction: Annotated[
        float, Field(gt=0, lt=1, description="share of the training images that the architecture weights learn from")
    ] = 0.5
    arch_update: Annotated[
        ArchUpdate, Field(description="by the sampled path, two sampled ones (ProxylessNAS) or all operations (DARTS)")
    ] = "path"
