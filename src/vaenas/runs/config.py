"""The configuration of a search: its parts' settings, presets, and which settings contradict each other."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from vaenas.data.settings import DataSettings
from vaenas.documents import dotted
from vaenas.errors import UserError
from vaenas.evaluation.settings import RankingSettings
from vaenas.ranges import Count, Images, Milliseconds, NotNegative, Number, Place
from vaenas.runs.settings import Configuration, Idle, settings_of
from vaenas.samplers.settings import PAPER, CategoricalSettings, VAESettings
from vaenas.search.settings import (
    GUO,
    EvolutionSettings,
    GradientSettings,
    SamplerTraining,
    SupernetTraining,
    SurrogateSettings,
)

if TYPE_CHECKING:
    from vaenas.networks import ImageSpace
    from vaenas.spaces.space import SearchSpace


def known_space(name: str) -> str:
    """The name of an image space; `ValueError` for another."""
    from vaenas.networks import space_names

    if name not in space_names():
        raise ValueError(f"must be {', '.join(space_names())}, or one of your own from --space-file")
    return name


@dataclass(frozen=True)
class NetworkSettings:
    """The size of the networks; the space says what its defaults are."""

    width: Annotated[
        float | None,
        Field(gt=0, le=1024, description="shufflenet, macro: multiplies all channels (0.25); others: channels (8; 16)"),
    ] = None
    layers: Annotated[
        int | None,
        Field(
            ge=1, le=1000,
            description="shufflenet: choice blocks, a multiple of 5 (10); nasnet: cells (5); nasbench: a stage's (1)",
        ),
    ] = None  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Where it runs."""

    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="where the networks run")] = "auto"
    precision: Annotated[Literal["32-true", "bf16-mixed"], Field(description="as in Lightning Fabric")] = "32-true"


@dataclass(frozen=True)
class ConstraintSettings:
    """Hard limits on what may be ranked and found."""

    max_flops: Annotated[Count | None, Field(description="limit on multiply-adds, such as 300M")] = None
    max_params: Annotated[Count | None, Field(description="limit on parameters, such as 3.5M")] = None
    max_latency: Annotated[Milliseconds | None, Field(description="limit on one image's time here, such as 8ms")] = None


@dataclass(frozen=True)
class TableSettings:
    """The truth of a benchmark's space; looked at after the search."""

    path: Annotated[Place | None, Field(description="made by `vaenas bench import`; looked at after the search")] = None
    sample: Annotated[int, Field(ge=2, le=10**6, description="architectures of it that the final supernet ranks")] = 200


OF_IMAGES: Idle = (
    ("data.root data.download", lambda c: c.data.source != "cifar10", "but with data cifar10"),
    (
        "data.workers data.skip_bad_images data.background",
        lambda c: c.data.source in ("builtin", "cifar10") and getattr(c, "shards", None) is None,
        "but on a folder of images",
    ),
)


class RunConfig(Configuration):
    """What a search and a training share."""

    space: Annotated[str, AfterValidator(known_space)] = Field(
        "shufflenet", description="search space: shufflenet, nasnet, nasbench101, nasbench201, macro"
    )
    space_file: Place | None = Field(None, description="Python file that registers a space of your own")
    network: NetworkSettings = NetworkSettings()
    data: DataSettings = DataSettings()
    train_images: Images | None = Field(None, ge=2, description="use only so many images to train on (all)")
    machine: Machine = Machine()
    seed: int = Field(0, ge=0, lt=2**31, description="of every random number")
    log_interval: Number = Field(10, description="steps between lines of metrics")
    checkpoint_seconds: NotNegative = Field(30.0, description="between checkpoints")

    def image_space(self, image_size: int = 32, channels: int = 3, classes: int = 10) -> "ImageSpace":
        """The space bound to networks for such images; raises `UserError` where it has none of this size."""
        from vaenas.networks import NetworkConfig, space_class

        space, width, layers = space_class(self.space), self.network.width, self.network.layers
        width = space.default_width if width is None else width
        layers = space.default_layers if layers is None else layers
        return space(NetworkConfig(image_size, channels, classes, width, layers))

    def check(self) -> None:
        try:
            self.image_space()
        except UserError as error:  # "layers 12: space shufflenet ..."
            setting, value, rest = str(error).split(" ", 2)
            raise ValueError(f"network.{setting}: {value.rstrip(':')} does not fit: {rest}") from None


# The paper as printed where it says something, and as its own sources have it (evolution: Guo et al. 2019).
PAPER_PRESET = dotted(
    {
        "vae": dataclasses.asdict(PAPER),
        "categorical": {"keep_ratio": PAPER.keep_ratio},
        "update": {"epsilon_limit": 1.0},
        "ranking": {"metric": "accuracy"},
        "surrogate": {"kind": "none"},
        "evolution": dataclasses.asdict(GUO),
    }
)


class SearchConfig(RunConfig):
    """Settings of `vaenas search`, nested as in the YAML file."""

    preset_by: ClassVar = "preset"
    idle: ClassVar = (
        *OF_IMAGES,
        ("sampler", lambda c: c.mixes, "with gradient.arch_update two-path or mixture, which draw from w"),
        ("gradient", lambda c: c.method == "one-shot", "without method gradient"),
        (
            "evolution.generations evolution.top_k evolution.mutation_prob update.epsilon_inc update.epsilon_limit",
            lambda c: c.method == "gradient",
            "with method gradient, which evolves nothing and has no ε",
        ),
        (
            "update.ranking_size update.epsilon_inc update.epsilon_limit surrogate.rounds",
            lambda c: not c.learns,
            "with a sampler that never learns",
        ),
        ("update.vae_interval", lambda c: not c.learns and c.method == "one-shot", "with a sampler that never learns"),
        ("surrogate", lambda c: not c.learns and c.method == "gradient", "with method gradient and no learned sampler"),
        ("vae", lambda c: c.mixes or c.sampler != "vae", "without sampler vae"),
        ("categorical", lambda c: c.mixes or c.sampler != "categorical", "without sampler categorical"),
        ("surrogate.rounds", lambda c: c.surrogate.kind == "none", "without surrogate ridge"),
        ("table.sample", lambda c: c.table.path is None, "without a table"),
    )

    preset: Literal["recommended", "paper"] = Field(
        "recommended", description="paper: VAE, ε, ranking metric and evolution as the paper has them"
    )
    method: Literal["one-shot", "gradient"] = Field("one-shot", description="search method (Algorithm 2 or 3)")
    sampler: Literal["vae", "categorical", "uniform", "fair"] = Field("vae", description="of architectures")
    full_cells: bool = Field(False, description="nasbench101: only full cells, for a table labelled in part")
    constraints: ConstraintSettings = ConstraintSettings()
    supernet: SupernetTraining = SupernetTraining()
    update: SamplerTraining = SamplerTraining()
    vae: VAESettings = VAESettings()
    categorical: CategoricalSettings = CategoricalSettings()
    ranking: RankingSettings = RankingSettings()
    surrogate: SurrogateSettings = SurrogateSettings()
    evolution: EvolutionSettings = EvolutionSettings()
    gradient: GradientSettings = GradientSettings()
    table: TableSettings = TableSettings()

    @property
    def mixes(self) -> bool:
        """Whether w itself is the sampler (ProxylessNAS, DARTS)."""
        return self.method == "gradient" and self.gradient.arch_update != "path"

    @property
    def sampler_name(self) -> str:
        """What proposes architectures."""
        return self.gradient.arch_update if self.mixes else self.sampler

    @property
    def learns(self) -> bool:
        """Whether Algorithm 1 trains the sampler."""
        return self.sampler in ("vae", "categorical") and not self.mixes

    def search_space(self, image_space: "ImageSpace") -> "SearchSpace":
        """What is searched: with `full_cells` the part of the space in which nothing is pruned."""
        return (image_space.space.full_cells if self.full_cells else None) or image_space.space

    def check(self) -> None:
        super().check()
        image_space, latency = self.image_space(), self.constraints.max_latency
        if self.ranking.metric == "fused" and self.surrogate.kind == "none":
            raise ValueError("ranking.metric: fused needs a surrogate; choose likelihood, or --surrogate.kind ridge")
        if self.sampler == "fair" and not image_space.space.is_free:
            raise ValueError(f"sampler: fair needs a space without rules, which {self.space} is not; choose another")
        if self.full_cells and image_space.space.full_cells is None:
            raise ValueError(f"full_cells: nothing is pruned in space {self.space}; leave it out")
        if not image_space.additive and self.method == "gradient":
            raise ValueError(f"method: gradient needs slots that can be mixed, and {self.space} has none; use one-shot")
        if not image_space.additive and latency is not None:
            raise ValueError(
                f"constraints.max_latency: {latency:g} has no meaning in space {self.space}, whose operations have no "
                f"cost of their own; limit --max-flops"
            )


_USUAL = settings_of(SearchConfig)
SearchConfig.presets = {"paper": PAPER_PRESET, "recommended": {path: _USUAL[path].default for path in PAPER_PRESET}}
