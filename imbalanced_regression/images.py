"""What benchmarks with images share: any Pillow image as a viewer shows it, torchvision's ResNets, and a bad image's error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image
    from torchvision.models import ResNet

RESNETS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048}  # name -> features


class BadImage(ValueError):
    """An image that cannot be read: `path: reason`, one line."""

    def __init__(self, message: str):
        # a DataLoader worker's error arrives as the text of its traceback: so our message is the last line of it
        super().__init__(message.strip().rsplit("\n", 1)[-1].rsplit("BadImage: ", 1)[-1])


_OPAQUE = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"}
_TRANSPARENT = {"LA", "PA", "RGBA", "RGBa"}
_DEEP = {"I;16", "I;16L", "I;16B", "I;16N"}


def as_shown(image: Image) -> Image:
    """A loaded Pillow image -> RGB as a viewer shows it: 16 bits scaled to 8, what is transparent over white.

    Raises ValueError naming the mode for those without one meaning: 32-bit integers and floats (but a 16-bit PNG, which
    older versions of Pillow open as 32 bits), Lab.
    """
    if image.mode in _TRANSPARENT or (image.mode in _OPAQUE and "transparency" in image.info):
        from PIL import Image as pillow

        image = image.convert("RGBA")
        return pillow.alpha_composite(pillow.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in _DEEP or (image.mode == "I" and image.format in ("PNG", "PPM")):
        from PIL import Image as pillow

        values = np.asarray(image).astype(np.uint32)
        return pillow.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode not in _OPAQUE:
        raise ValueError(f"its mode is {image.mode}, which no viewer shows in one way; save it with 8 or 16 bits a channel")
    return image if image.mode == "RGB" else image.convert("RGB")


def resnet(
    model: str, *, imagenet: bool = False, version: str = "DEFAULT", advice: str = "train from scratch without --imagenet"
) -> ResNet:
    """torchvision's ResNet of that name, from scratch or with its ImageNet weights; see `imagenet_weights`.

    Raises ValueError for a name that is none of `RESNETS`.
    """
    if model not in RESNETS:
        raise ValueError(f"--model is {model!r}, not one of {', '.join(RESNETS)}")
    import torchvision.models

    net = torchvision.models.get_model(model, weights=None)
    if imagenet:
        net.load_state_dict(imagenet_weights(model, version, advice))
    return net


def imagenet_weights(
    model: str, version: str = "DEFAULT", advice: str = "train from scratch without --imagenet"
) -> dict[str, Tensor]:
    """torchvision's ImageNet weights of a ResNet, downloaded once and kept by torch; `version` by torchvision's name.

    Raises OSError, with the address and the ways out, where they cannot be fetched.
    """
    import torchvision.models

    weights = torchvision.models.get_model_weights(model)[version]
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, no disk, or a wrong hash
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise OSError(
            f"--imagenet: cannot fetch {weights.url} ({' '.join(str(error).split())}); put that file into {folder}, or {advice}"
        ) from error
