"""All settings of a search, where they come from, and what is said when one is wrong."""

import difflib
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vaenas.constraints import UNITS
from vaenas.data.folder import Background
from vaenas.documents import read_yaml, short
from vaenas.errors import UserError
from vaenas.evaluation.supernet import RankingMetric
from vaenas.networks import ImageSpace, NetworkConfig, space_class, space_names
from vaenas.networks.network_config import WIDEST
from vaenas.networks.space_file import with_space_file
from vaenas.samplers.vae import PAPER, RECOMMENDED


def parse_count(value: Any) -> Any:
    """ "300M", "0.3G" or "3e8" -> 300000000; anything that is no whole count is left for the validation to name."""
    number = r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)(e[+]?[0-9]{1,2})?\s*([KMG]?)\s*"
    match = re.fullmatch(number, value, re.IGNORECASE) if isinstance(value, str) else None
    if match is None:
        return value
    count = Decimal(match[1] + (match[2] or "")) * int(UNITS[match[3].upper()])
    return int(count) if count == int(count) else value


def parse_milliseconds(value: Any) -> Any:
    """ "8ms", "500us", "0.1s" or 8 -> milliseconds; anything else is left for the validation to name."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*(us|ms|s|)\s*", value, re.IGNORECASE) if isinstance(value, str) else None
    if match is None:
        return value
    try:
        return float(match[1]) * {"us": 1e-3, "ms": 1.0, "": 1.0, "s": 1e3}[match[2].lower()]
    except ValueError:
        return value


def known_space(name: str) -> str:
    """The name of an image space; `ValueError` for another."""
    if name not in space_names():
        raise ValueError(f"must be {', '.join(space_names())}, or one of your own from --space-file")
    return name


SpaceName = Annotated[str, AfterValidator(known_space)]
Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0, lt=2**63)]
Milliseconds = Annotated[float, BeforeValidator(parse_milliseconds), Field(gt=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(gt=0, le=1)]
# Beyond a million nothing is meant, and torch's 32-bit numbers or the memory come to their end.
Positive = Annotated[float, Field(gt=0, le=1e6)]
NotNegative = Annotated[float, Field(ge=0, le=1e6)]
Number = Annotated[int, Field(le=10**6)]
Images = Annotated[int, Field(le=10**9)]


LEARNED = ("vae", "categorical")  # samplers that Algorithm 1 trains
Idle = Sequence[tuple[str, Callable[[Any], bool], str]]
"""Settings, when they have no effect, and how that is said after "has no effect"."""

OF_IMAGES: Idle = (
    ("data_root download", lambda c: c.data != "cifar10", "but with data cifar10"),
    (
        "workers skip_bad_images background",
        lambda c: c.data in ("builtin", "cifar10") and getattr(c, "shards", None) is None,
        "but on a folder of images",
    ),
)
OF_SEARCH: Idle = (
    ("weights_learning_rate weights_share", lambda c: c.method == "one-shot", "without method gradient"),
    (
        "generations top_k mutation_prob",
        lambda c: c.method == "gradient",
        "with method gradient, which evolves nothing",
    ),
    ("epsilon_inc epsilon_limit", lambda c: c.method == "gradient", "with method gradient, which has no ε"),
    (
        "vae ranking_size keep_ratio epsilon_inc epsilon_limit surrogate_rounds",
        lambda c: c.sampler not in LEARNED,
        "with a sampler that never learns",
    ),
    (
        "vae_interval",
        lambda c: c.sampler not in LEARNED and c.method == "one-shot",
        "with a sampler that never learns",
    ),
    (
        "surrogate",
        lambda c: c.sampler not in LEARNED and c.method == "gradient",
        "with a sampler that never learns and method gradient",
    ),
    ("vae_iterations kl_weight free_bits", lambda c: c.sampler != "vae", "without sampler vae"),
    ("surrogate_rounds", lambda c: c.surrogate == "none", "without surrogate ridge"),
    ("table_sample", lambda c: c.table is None, "without a table"),
)


# Settings that a preset of the VAE decides where they are not given, and their names in `VAESettings`.
OF_PRESET = {name: name for name in ("keep_ratio", "kl_weight", "free_bits")} | {"vae_iterations": "iterations"}


class SearchConfig(BaseModel):
    """Settings of `vaenas search`: each a YAML key and, with dashes, a command-line option."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    space: SpaceName = Field("shufflenet", description=f"search space: {', '.join(space_names())}")
    space_file: str | None = Field(None, description="Python file that registers a space of your own")
    method: Literal["one-shot", "gradient"] = Field("one-shot", description="search method (Algorithm 2 or 3)")
    sampler: Literal["vae", "categorical", "uniform", "fair", "multinomial", "full"] = Field(
        "vae", description="where architectures come from; the last two are ProxylessNAS and DARTS, gradient only"
    )
    data: str = Field("builtin", description="builtin, cifar10, or a folder with train/<class>/<image>")
    data_root: str | None = Field(None, description="where CIFAR-10 is: its folder or tar, or a folder with either")
    download: bool = Field(False, description="fetch CIFAR-10 if it is missing")
    skip_bad_images: bool = Field(False, description="leave out images that cannot be read")
    background: Background = Field("white", description="of a folder: what transparent images are put on")
    workers: int = Field(
        0, ge=0, le=256, description="of a folder: decode each batch anew in so many; 0 = once, into a cache"
    )
    image_size: int | None = Field(
        None,
        ge=16,
        le=1024,
        description="side in pixels: of a folder (default 64), or fewer than builtin (28) and cifar10 (32) have",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of every random number")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the supernet runs")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="as in Lightning Fabric")

    width: float | None = Field(
        None, gt=0, le=WIDEST, description="shufflenet, macro: multiplies all channels (0.25); others: channels (8; 16)"
    )
    layers: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="shufflenet: choice blocks, a multiple of 5 (10); nasnet: cells (5); nasbench: cells a stage (1)",
    )
    max_flops: Count | None = Field(None, description="limit on multiply-adds, such as 300M")
    max_params: Count | None = Field(None, description="limit on parameters, such as 3.5M")
    max_latency: Milliseconds | None = Field(
        None, description="limit on the time of one image on this device, such as 8ms"
    )
    full_cells: bool = Field(
        False,
        description="nasbench101: only cells whose 7 vertices all count, for a table labelled in part",
    )

    epochs: Number = Field(8, ge=1, description="of supernet training")
    batch_size: Number = Field(64, ge=2, description="images a step")
    learning_rate: Positive = Field(0.1, description="at the start; falls linearly to 0")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: NotNegative = Field(3e-5, description="of SGD")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of the target spread over all classes")
    clip_norm: Positive = Field(5.0, description="largest norm of the gradient")
    padding: int = Field(4, ge=0, le=64, description="pixels around an image before the random crop; 0 = no crop")
    cutout: Number = Field(0, ge=0, description="side in pixels of the square cut out; 0 = none")

    vae: Literal["recommended", "paper"] = Field("recommended", description="preset of the VAE's settings")
    vae_interval: Positive = Field(1.0, description="n_vae: epochs between updates of the sampler")
    ranking_size: Number = Field(48, ge=2, description="N_s: architectures ranked for an update")
    keep_ratio: Ratio | None = Field(None, description="K: share of the ranked that the sampler learns from")
    vae_iterations: Number | None = Field(None, ge=1, description="n_iters of Algorithm 1")
    kl_weight: NotNegative | None = Field(None, description="weight of the KL term; 1 is eq. 2")
    free_bits: NotNegative | None = Field(None, description="nats per latent unit that are not penalised")
    epsilon_inc: NotNegative | None = Field(
        None, description="added to ε each step (default: reaches the limit at the end)"
    )
    epsilon_limit: Share | None = Field(
        None, description="largest ε: share of architectures from the learned sampler (as --keep-ratio)"
    )
    train_images: Images | None = Field(None, ge=2, description="use only so many images to train on (all)")
    ranking_images: Images | None = Field(
        None, ge=1, description="images held out of training, to rank architectures (1000, at most a fifth of all)"
    )
    ranking_metric: RankingMetric = Field(
        "likelihood",
        description="score of an architecture on the supernet: accuracy, likelihood of the right class, or quadratic "
        "score (Brier)",
    )
    surrogate: Literal["ridge", "none"] = Field(
        "ridge", description="choose by a ridge surrogate to scores of uniform draws, or by scores and evolution"
    )
    surrogate_rounds: Number = Field(
        2, ge=1, description="times that the sampler learns from what each ridge surrogate predicts"
    )
    recalibration_images: Images | None = Field(
        None,
        ge=0,
        description="training images for batch norm before each evaluation; 0 = each ranking batch by itself "
        "(256, or all if they are fewer)",
    )

    weights_learning_rate: Positive = Field(0.02, description="gradient: of Adam on the architecture weights")
    weights_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="gradient: share of the training images that the architecture weights learn from"
    )

    population: Number = Field(32, ge=2, description="N_seeds, and evaluations a round of the last stage")
    generations: Number = Field(5, ge=1, description="rounds of the last stage, the seeds' included: see --surrogate")
    top_k: Number = Field(8, ge=1, description="parents of the next generation")
    mutation_prob: Share = Field(0.1, description="for each slot of a mutated architecture")

    table: str | None = Field(
        None, description="truth of a benchmark's space, made by `vaenas bench import`; looked at after the search"
    )
    table_sample: Number = Field(200, ge=2, description="architectures of the table that the final supernet ranks")

    log_interval: Number = Field(10, ge=1, description="steps between lines of metrics")
    checkpoint_seconds: NotNegative = Field(30.0, description="between checkpoints")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Settings that follow from others are written out, so that `config.yaml` says what was run."""
        values = dict(values)
        preset = PAPER if values.get("vae") == "paper" else RECOMMENDED
        for name, of_vae in OF_PRESET.items():
            if values.get(name) is None:
                values[name] = getattr(preset, of_vae)
        if values.get("epsilon_limit") is None:
            values["epsilon_limit"] = values["keep_ratio"]
        return resolved(with_default_size(values, cls.model_fields["space"].default))

    @model_validator(mode="after")
    def _agree(self) -> "SearchConfig":
        space = checked_space(self.space, self.width, self.layers)
        if self.sampler == "fair" and not space.space.is_free:
            raise ValueError(f"sampler: fair needs a space without rules, which {self.space} is not; choose another")
        if self.full_cells and space.space.full_cells is None:
            raise ValueError(f"full_cells: nothing is pruned in space {self.space}; leave it out")
        if not space.additive:
            if self.method == "gradient":
                raise ValueError(
                    f"method: gradient needs slots that can be mixed, and {self.space} has none; take one-shot"
                )
            if self.max_latency is not None:
                raise ValueError(
                    f"max_latency: {self.max_latency:g} has no meaning in space {self.space}, whose operations have no "
                    f"cost of their own; limit --max-flops"
                )
        if self.sampler in ("multinomial", "full") and self.method != "gradient":
            raise ValueError(f"sampler: {self.sampler} draws from architecture weights; add --method gradient")
        preset = PAPER if self.vae == "paper" else RECOMMENDED
        usual = {name: getattr(preset, of_vae) for name, of_vae in OF_PRESET.items()}
        refuse_idle(self, (*OF_IMAGES, *OF_SEARCH), {**usual, "epsilon_limit": self.keep_ratio})
        return self


def refuse_idle(config: Any, table: Idle, usual: dict[str, Any]) -> None:
    """Raises `ValueError` "setting: why" for the first one that is not as usual and has no effect.

    `usual`: what settings are that nobody gave, where that is not their field's default.
    """
    for names, idle, why in table:
        for name in names.split() if idle(config) else ():
            if getattr(config, name) != (usual[name] if name in usual else type(config).model_fields[name].default):
                raise ValueError(f"{name}: has no effect {why}; leave it out")


def resolved(values: dict[str, Any]) -> dict[str, Any]:
    """The same settings with absolute paths to the data: saved ones must hold from any folder."""
    for name in ("data", "data_root", "teacher_weights", "shards", "table", "space_file"):
        if isinstance(values.get(name), str) and values[name] not in ("", "builtin", "cifar10"):
            try:
                values[name] = str(Path(values[name]).expanduser().resolve())
            except (OSError, RuntimeError, ValueError) as error:  # no such user, a circle of links
                raise ValueError(f"{name}: {short(values[name])} is no path that can be followed: {error}") from None
    return values


def with_default_size(values: dict[str, Any], space: str) -> dict[str, Any]:
    """The same with the width and layers of the space, by default `space`, where they are not given."""
    name = str(values.get("space", space))
    if name not in space_names():
        return values
    kind = space_class(name)
    usual = {"width": kind.default_width, "layers": kind.default_layers}
    return {**values, **{name: size for name, size in usual.items() if values.get(name) is None}}


def checked_space(space: str, width: float | None, layers: int | None) -> ImageSpace:
    """For some images; raises `ValueError` "setting: value does not fit: why" where the space has no such network."""
    assert width is not None
    assert layers is not None
    try:
        return space_class(space)(NetworkConfig(32, 3, 10, width, layers))
    except UserError as error:  # "layers 12: space shufflenet ..."
        setting, value, rest = str(error).split(" ", 2)
        raise ValueError(f"{setting}: {value.rstrip(':')} does not fit: {rest}") from None


def option(name: str) -> str:
    """learning_rate -> --learning-rate"""
    return "--" + name.replace("_", "-")


def make_config(options: dict[str, Any], file: Path | None = None) -> SearchConfig:
    """Settings from the command line, before those of a YAML file, before the defaults.

    Raises:
        UserError: names the first setting that is unknown or wrong, its place and what is allowed.
    """
    from_file = read_yaml(file) if file else {}
    options = with_space_file(options, from_file)
    # A saved file has the numbers of another preset, K or space written out.
    dropped = {*OF_PRESET} if "vae" in options else set()
    if dropped or "keep_ratio" in options:
        dropped.add("epsilon_limit")
    if options.get("space", from_file.get("space")) != from_file.get("space"):
        dropped |= {"width", "layers"}
    from_file = {name: value for name, value in from_file.items() if name not in dropped}
    return validated(SearchConfig, options, from_file, file)


C = TypeVar("C", bound=BaseModel)


def validated(model: type[C], options: dict[str, Any], from_file: dict[str, Any], file: Path | None) -> C:
    """`options` before `from_file` as a `model`; `file` is where the latter came from.

    Raises:
        UserError: names the first setting that is unknown or wrong, its place and what is allowed.
    """
    for name, value in from_file.items():  # else pydantic would take true as 1
        if isinstance(value, bool) and name in model.model_fields and model.model_fields[name].annotation is not bool:
            raise UserError(f"{file}, {name}: {str(value).lower()} is not allowed: must be no truth value")
    try:
        return model(**{**from_file, **options})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else str(first["msg"]).removeprefix("Value error, ").split(":")[0]
        place = option(name) if name in options else f"{file}, {name}" if name in from_file else option(name)
        if first["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, model.model_fields, 1, 0.0)
            raise UserError(f"{place}: there is no such setting; did you mean {close[0]}?") from None
        if not first["loc"]:
            raise UserError(f"{place}: {str(first['msg']).removeprefix('Value error, ').split(': ', 1)[1]}") from None
        message = str(first["msg"]).replace("Input should be", "must be").removeprefix("Value error, ")
        raise UserError(f"{place}: {short(first['input'])} is not allowed: {message}") from None
