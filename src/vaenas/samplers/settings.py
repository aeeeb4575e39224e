"""Settings of the learned samplers; without torch, so that the command line can list them at once."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from vaenas.ranges import Fraction, NotNegative, Number, Positive, Ratio

Width = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True)
class VAESettings:
    """Sizes and training of the VAE; the paper gives none of them.

    The defaults are the recommended setting, `PAPER` is eq. 2 and Algorithm 1 as printed.
    """

    latent: Annotated[Width, Field(description="dimensions of z")] = 16
    hidden: Annotated[Width, Field(description="of the LSTMs")] = 128
    embedding: Annotated[Width, Field(description="of operations and slots")] = 16
    keep_ratio: Annotated[Ratio, Field(description="K: share of the ranked that it learns from")] = 0.25
    iterations: Annotated[Number, Field(description="n_iters of Algorithm 1")] = 30
    batch_size: Annotated[Number, Field(description="architectures an iteration")] = 64
    learning_rate: Annotated[Positive, Field(description="of Adam")] = 3e-3
    kl_weight: Annotated[NotNegative, Field(description="weight of the KL term; 1 is eq. 2")] = 1.0
    free_bits: Annotated[
        NotNegative, Field(description="nats per latent unit that are not penalised (Kingma et al. 2016)")
    ] = 0.1


PAPER = VAESettings(keep_ratio=0.5, iterations=100, free_bits=0.0)  # "top-50 %" in Fig. 1
RECOMMENDED = VAESettings()


@dataclass(frozen=True)
class CategoricalSettings:
    """Settings of the cross-entropy method."""

    keep_ratio: Annotated[Ratio, Field(description="K: share of the ranked that it learns from")] = 0.25
    smoothing: Annotated[Ratio, Field(description="weight of the new frequencies against the old probabilities")] = 0.7
    floor: Annotated[
        Fraction, Field(description="share of the uniform distribution, so that no operation is lost for good")
    ] = 0.02
