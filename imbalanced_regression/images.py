"""What the benchmarks with images share: torchvision's ResNets and their ImageNet weights, and the error of a bad image."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

RESNETS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048}  # name -> features


class BadImage(ValueError):
    """An image that cannot be read: `path: reason`, one line."""

    def __init__(self, message: str):
        # a DataLoader worker's error arrives as the text of its traceback: the last line is what we said
        super().__init__(message.strip().rsplit("\n", 1)[-1].rsplit("BadImage: ", 1)[-1])


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
