"""timm: `import vaenas.integrations.timm` registers "vaenas", which `timm.create_model` builds from a file of weights.

timm has no entry points, so the import is what makes the name known.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaenas.errors import UserError
from vaenas.networks.supernet import Supernet
from vaenas.networks.weights import load_weights

try:
    from timm.layers import SelectAdaptivePool2d, is_scriptable
    from timm.models import build_model_with_cfg, register_model
except ImportError as error:
    raise UserError("vaenas.integrations.timm needs timm: pip install 'vaenas[timm]'") from error

OPTIONS = ("num_classes", "in_chans", "global_pool", "drop_rate", "features_only", "out_indices")
POOLINGS = ("avg", "max", "avgmax", "catavgmax", "")


class TimmNetwork(nn.Module):
    """A final network with the methods that timm's tools call. Its weights have the file's names after "network.".

    `drop_rate`: of dropout before the classifier; None = the network's own.
    """

    def __init__(self, network: Supernet, drop_rate: float | None = None) -> None:
        super().__init__()
        self.network, self.in_chans = network, network.input_shape[0]
        self.register_load_state_dict_pre_hook(_with_prefix)
        with torch.no_grad():
            maps = [found.shape[1:] for found in self._maps(torch.zeros(1, *network.input_shape))]
        self.num_features, self.pool_size = maps[-1][0], tuple(maps[-1][1:])
        # the last map of each size, as timm's networks have it; sizes are halved, rounded up
        self._levels = [i for i, shape in enumerate(maps) if shape[-1] not in [s[-1] for s in maps[i + 1 :]]]
        halvings, size = [2**i for i in range(16)], network.input_shape[-1]
        self.feature_info = [
            {"num_chs": channels, "reduction": next(r for r in halvings if -(-size // r) == side), "module": f"map{i}"}
            for i, (channels, _, side) in ((i, maps[i]) for i in self._levels)
        ]
        plain = isinstance(network.classifier, nn.Linear)
        self.classifier_name = "classifier" if plain else f"classifier.{len(network.classifier) - 1}"  # type: ignore[arg-type]
        self.head_hidden_size, self.num_classes = self.get_classifier().in_features, self.get_classifier().out_features
        own = max((module.p for module in self._tail if isinstance(module, nn.Dropout)), default=0.0)
        self.drop = nn.Dropout(own if drop_rate is None else drop_rate)
        self.global_pool = SelectAdaptivePool2d(pool_type="avg", flatten=True)

    @property
    def _tail(self) -> list[nn.Module]:
        """What comes after the feature maps."""
        parts = [getattr(self.network, "head", nn.Identity()), self.network.classifier]
        return [module for part in parts for module in (part if isinstance(part, nn.Sequential) else [part])]

    def _maps(self, images: Tensor) -> Iterator[Tensor]:
        """The feature maps from the stem's on, but for those within a cell."""
        state = images.contiguous(memory_format=torch.channels_last)
        for step in list(self.network.steps(self.network.path(None)))[:-1]:
            state = step.run(state)
            found = self.network.feature_map(state)
            if found is not None:
                yield found

    def get_classifier(self) -> Any:
        """The last layer: Linear, or Identity where there is no classifier."""
        return self.network.get_submodule(self.classifier_name)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier, or none (0); pooling stays as it is unless it is given."""
        pooling = self.global_pool.pool_type if global_pool is None else global_pool
        if num_classes < 0:
            raise UserError(f"num_classes {num_classes}: give 0 (no classifier) or more")
        if pooling not in POOLINGS:
            raise UserError(f"global_pool {pooling}: choose {', '.join(POOLINGS[:-1])}, or '' for none")
        if pooling == "" and num_classes:
            raise UserError(f"global_pool '': {num_classes} classes need a pooled map; give num_classes=0, too")
        self.num_classes = num_classes
        self.global_pool = SelectAdaptivePool2d(pool_type=pooling, flatten=pooling != "")
        inputs = self.head_hidden_size * self.global_pool.feat_mult()
        classifier = nn.Linear(inputs, num_classes) if num_classes else nn.Identity()
        self.network.set_submodule(self.classifier_name, classifier)

    def forward_features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f _ _"]:
        """The last feature map."""
        *_, last = self._maps(images)
        return last

    def chosen(self, option: str, indices: Any) -> list[int]:
        """Which feature maps `indices` of `feature_info` are; raises `UserError` that names `option` if it has none."""
        count = len(self._levels)
        places = range(-count if indices is None else -indices, 0) if isinstance(indices, int | None) else indices
        if not places or any(i not in range(-count, count) for i in places):
            raise UserError(f"{option} {indices}: there are {count} feature maps; choose from {-count} to {count - 1}")
        return [self._levels[i] for i in places]

    def forward_intermediates(
        self, x: Float[Tensor, "b c h w"], indices: Any = None, norm: bool = False, stop_early: bool = False,
        output_fmt: str = "NCHW", intermediates_only: bool = False,
    ) -> Any:  # fmt: skip
        """The feature maps of `indices` of `feature_info`; before them, unless `intermediates_only`, the last map.

        `indices` are places, or how many of the last ones, or None for all; `norm` and `stop_early` change nothing.
        """
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt {output_fmt}: feature maps are NCHW; leave it out")
        chosen, maps = self.chosen("indices", indices), list(self._maps(x))
        found = [maps[i] for i in chosen]
        return found if intermediates_only else (maps[-1], found)

    def forward_head(self, x: Float[Tensor, "b f _ _"], pre_logits: bool = False) -> Tensor:
        """What `forward_features` gave -> logits, or with `pre_logits` what the classifier sees, pooled."""
        for module in self._tail:
            if not isinstance(module, nn.AdaptiveAvgPool2d | nn.Flatten | nn.Dropout | nn.Linear):
                x = module(x)
        x = self.drop(self.global_pool(x))
        return x if pre_logits else self.get_classifier()(x)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Tensor:
        """Logits (b, classes); without a classifier what it would see."""
        return self.forward_head(self.forward_features(images))


def _with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Takes a file that vaenas wrote as `checkpoint_path`, too: its names lack "network."."""
    for name in module.get_submodule("network").state_dict() if prefix == "" else ():
        if name in state:
            state[f"network.{name}"] = state.pop(name)


@register_model
def vaenas(pretrained: bool = False, *, weights: str | Path | None = None, **kwargs: Any) -> nn.Module:
    """The network of a file that `vaenas train` or `vaenas export -f timm` wrote, with its weights, in evaluation mode.

    `pretrained` has no effect: the file holds the weights. `kwargs` are timm's, of `OPTIONS`; `in_chans` is the file's.

    Raises `UserError`: the file is not whole, or something else is asked for than it has.
    """
    given = {name: value for name, value in kwargs.items() if value is not None}
    if weights is None:
        raise UserError(
            "weights: missing: name the file that `vaenas export -f timm` wrote, even with a checkpoint_path"
        )
    if unknown := [name for name in given if name not in OPTIONS]:
        raise UserError(f"{unknown[0]}: without effect on a network of vaenas; it takes {', '.join(OPTIONS)}")
    if is_scriptable():
        raise UserError("scriptable: TorchScript can't compile a network of vaenas; take torch.export, or leave it out")
    features = given.get("features_only")
    idle = ("num_classes", "global_pool", "drop_rate") if features else ("out_indices",)
    if said := [f"{name} {given[name]}" for name in idle if name in given]:
        fix = "leave one out" if features else "add features_only=True, or leave it out"
        raise UserError(f"{said[0]}: without effect with{'' if features else 'out'} features_only; {fix}")
    if not 0 <= given.get("drop_rate", 0) <= 1:
        raise UserError(f"drop_rate {given['drop_rate']}: must be from 0 to 1")
    network, info = load_weights(Path(weights))
    classes, channels = len(info.classes), info.image_channels
    if given.get("in_chans") not in (None, channels):
        raise UserError(f"in_chans {given['in_chans']}: the network in {weights} has {channels}; leave it out")
    model = TimmNetwork(network, given.get("drop_rate"))
    model.chosen("out_indices", given.get("out_indices"))
    head = given.get("num_classes", classes), given.get("global_pool", "avg")
    if head != (classes, "avg"):
        model.reset_classifier(*head)
    config = {
        "architecture": "vaenas", "input_size": (channels, info.image_size, info.image_size), "num_classes": classes,
        "fixed_input_size": False, "interpolation": "bilinear", "crop_pct": 1.0, "mean": info.mean, "std": info.std,
        "label_names": info.classes, "pool_size": model.pool_size, "classifier": f"network.{model.classifier_name}",
        "first_conv": next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)),
    }  # fmt: skip
    levels = {"feature_cls": "getter", "out_indices": tuple(range(len(model.feature_info)))}
    built = build_model_with_cfg(
        lambda **_: model, "vaenas", pretrained=False, pretrained_cfg=config, feature_cfg=levels, **given
    )
    return built.eval()
