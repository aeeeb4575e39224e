"""A network of timm's whose answers the training learns, too (Hinton et al. 2015)."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from vaenas.errors import UserError, require


def load_teacher(name: str, weights: Path, channels: int, classes: int) -> nn.Module:
    """timm's model `name` with `weights`, in evaluation mode and without gradients.

    It sees the training images as they are normalised for the network that learns.

    Args:
        weights: a .safetensors file, or a state dict that `torch.load(weights_only=True)` reads.

    Raises:
        UserError: timm is missing, there is no such model, or the weights are not its own for so many classes.
    """
    require("timm", "timm", f"--teacher {name}")
    import timm

    if not timm.is_model(name):
        raise UserError(f"--teacher {name}: timm {timm.__version__} has no such model; see timm.list_models()")
    teacher = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)
    try:
        if weights.suffix == ".safetensors":
            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state)
        teacher.load_state_dict(state)
    except OSError as error:
        raise UserError(f"--teacher-weights {weights}: cannot read the file: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"--teacher-weights {weights}: not a whole safetensors file ({error})") from None
    except Exception as error:  # torch raises many kinds
        why = str(error).strip().split(chr(10))[0] or type(error).__name__
        raise UserError(
            f"--teacher-weights {weights}: not weights of {name} for {channels} channels and {classes} classes: {why}"
        ) from None
    return teacher.eval().requires_grad_(False)
