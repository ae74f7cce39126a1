"""The model of NYUD2-DIR: E -> D and MFF, concatenated -> R's body -> FDS on its 128 channels -> R's last convolution.

As a `Regressor`: encoder E, D, MFF; neck R's body; head R's `conv2`. RRT re-trains neck and head, which is all of R.
"""

from __future__ import annotations

import torch
from fds import FDS
from nyu_transform import output_size
from torch import Tensor, nn

from imbalanced_regression import Regressor
from imbalanced_regression.images import RESNETS, resnet

from .modules import MFF, D, E, Refinement

# published key prefix -> ours; the files of DataParallel models, as published, and bare ones
_PARTS = (("R.FDS.", "fds."), ("R.conv2.", "head."), ("R.", "neck."), ("", "encoder."))
PUBLISHED_TO_OURS = (*((f"module.{published}", ours) for published, ours in _PARTS), *_PARTS)


class DepthEncoder(nn.Module):
    """Images (B, 3, H, W), normalised -> (B, D, h, w): D = 64 + C4 / 32 channels, (h, w) = `output_size`.

    Args:
        model: a ResNet by torchvision's name.
        imagenet: start from its ImageNet weights (the first version of them, which were the published start).
    """

    def __init__(self, model: str = "resnet50", *, imagenet: bool = False):
        super().__init__()
        net = resnet(model, imagenet=imagenet, version="IMAGENET1K_V1", advice="train from scratch with --no_imagenet")
        c4 = RESNETS[model]
        self.E, self.D, self.MFF = E(net), D(c4), MFF([c4 // 8, c4 // 4, c4 // 2, c4])
        self.feature_dim = 64 + c4 // 32

    def forward(self, images: Tensor) -> Tensor:
        blocks, size = self.E(images), output_size(*images.shape[-2:])
        return torch.cat([self.D(blocks, size), self.MFF(blocks, size)], 1)


def make_model(model: str = "resnet50", *, imagenet: bool = False, fds: bool = False, **config) -> Regressor:
    """The model with ResNet `model`; with `fds`, `config` are the settings of this folder's `FDS`."""
    encoder = DepthEncoder(model, imagenet=imagenet)
    width = encoder.feature_dim
    head = nn.Conv2d(width, 1, 5, padding=2)
    return Regressor(encoder, head, FDS(width, **config) if fds else None, neck=Refinement(width))
