"""A network of timm's whose answers the training learns, too (Hinton et al. 2015)."""

import pickle
from pathlib import Path
from typing import Any, cast

from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn
from torchvision.transforms import v2

from vaenas.errors import UserError, require


class Teacher(nn.Module):
    """`model`, asked about images as they are normalised for the network that learns.

    It sees them as its `pretrained_cfg` says: with its own normalisation, and at its own size where that is fixed or
    larger than theirs. A model of three `channels` sees a grey image three times. `mean` and `std` are those that the
    images are normalised with, per channel, of pixels in [0, 1].
    """

    def __init__(self, model: nn.Module, channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model, config = model, cast(dict[str, Any], model.pretrained_cfg)
        self.to_pixels = v2.Normalize([-m / s for m, s in zip(mean, std, strict=True)], [1 / s for s in std])
        self.normalize = v2.Normalize(_per_channel(config["mean"], channels), _per_channel(config["std"], channels))
        self.size, self.fixed = tuple(config["input_size"][1:]), bool(config.get("fixed_input_size"))
        self.interpolation = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Logits."""
        pixels = self.to_pixels(images)
        if self.fixed or min(self.size) > min(images.shape[2:]):
            pixels = nn.functional.interpolate(pixels, self.size, mode=self.interpolation, antialias=True)
            pixels = pixels.clamp(0, 1)  # cubic interpolation goes beyond
        return self.model(self.normalize(pixels))  # a grey image becomes as many channels as the model takes


def _per_channel(values: tuple[float, ...], channels: int) -> list[float]:
    """As timm gives it, mostly for three channels; a model with fewer or more takes their mean."""
    return [*values] if len(values) == channels else [sum(values) / len(values)] * channels


def load_teacher(name: str, weights: Path, classes: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Teacher:
    """timm's model `name` in evaluation mode and without gradients, for images normalised with `mean` and `std`.

    `weights`: a .safetensors file, or a state dict that `torch.load(weights_only=True)` reads.

    Raises `UserError`: no timm, no such model, or weights that are not its own for such images and classes.
    """
    require("timm", "timm", f"--teacher {name}")
    import timm
    from timm.models import load_state_dict

    if not timm.is_model(name):
        raise UserError(f"--teacher {name}: timm {timm.__version__} has no such model; see timm.list_models()")
    channels = len(mean)
    if not weights.is_file():
        raise UserError(f"--teacher-weights {weights}: there is no such file")
    try:
        state = load_state_dict(str(weights), use_ema=False, weights_only=True)
        first = getattr(timm.get_pretrained_cfg(name), "first_conv", None)
        kernel = state.get(f"{first if isinstance(first, str) else first[0]}.weight") if first else None
        if channels == 1 and kernel is not None and kernel.shape[1] == 3:
            channels = 3  # it was trained on colour images
        teacher = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)
        teacher.load_state_dict(state)
    except Exception as error:  # torch raises many kinds
        why = (str(error).strip() or type(error).__name__).split("\n")[0]
        if isinstance(error, pickle.UnpicklingError | SafetensorError):
            why = f"not a whole file of {'safetensors' if weights.suffix == '.safetensors' else 'plain tensors'}"
        kind = f"{name} for {channels} channels and {classes} classes"
        raise UserError(f"--teacher-weights {weights}: not weights of {kind}: {why}") from None
    return Teacher(teacher, channels, mean, std).eval().requires_grad_(False)
