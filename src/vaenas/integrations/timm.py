"""timm: `import vaenas.integrations.timm` registers "vaenas", which `timm.create_model` builds from a file of weights.

timm has no entry points, so the import is what makes the name known.
"""

from pathlib import Path
from typing import Any

from vaenas.errors import UserError
from vaenas.networks.supernet import Supernet
from vaenas.networks.weights import load_weights

try:
    from timm.models import register_model
except ImportError as error:
    raise UserError("vaenas.integrations.timm needs timm: pip install 'vaenas[timm]'") from error


@register_model
def vaenas(pretrained: bool = False, *, weights: str | Path, **kwargs: Any) -> Supernet:
    """The network of a file that `vaenas train` or `vaenas export -f timm` wrote, with its weights.

    Args:
        pretrained: True and False are the same: the file holds the weights.
        weights: the file.
        kwargs: timm's own; `num_classes` and `in_chans` may be given if they are the file's.

    Raises:
        UserError: the file is not whole, or has other classes or channels than asked for.
    """
    network, info = load_weights(Path(weights))
    for name, ours in (("num_classes", len(info.classes)), ("in_chans", info.image_channels)):
        if kwargs.get(name) not in (None, ours):
            raise UserError(f"{name} {kwargs[name]}: the network in {weights} has {ours}; leave it out")
    network.pretrained_cfg = network.default_cfg = {  # type: ignore[assignment]  # where timm looks
        "architecture": "vaenas", "input_size": (info.image_channels, info.image_size, info.image_size),
        "fixed_input_size": False, "interpolation": "bilinear", "crop_pct": 1.0, "mean": info.mean, "std": info.std,
        "num_classes": len(info.classes), "label_names": info.classes, "classifier": "classifier",
    }  # fmt: skip
    network.num_classes = len(info.classes)  # type: ignore[assignment]  # likewise
    return network
