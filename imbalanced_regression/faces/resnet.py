"""Encoders of faces: torchvision's ResNets, with the key names of published checkpoints, and any backbone of timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..images import RESNETS, resnet
from ..training.precision import widened
from .flags import TIMM

# published key prefix -> ours; the files of DataParallel models, as published, and bare ones
PUBLISHED_TO_OURS = (
    ("module.linear.", "head."),
    ("module.FDS.", "fds."),
    ("module.", "encoder."),
    ("linear.", "head."),
    ("FDS.", "fds."),
    ("", "encoder."),
)


def normalize(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1, i.e. mean and standard deviation 0.5; float images pass unchanged."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images


class ResNetEncoder(nn.Module):
    """torchvision's ResNet without its classifier: images (B, 3, H, W), uint8 or normalised floats -> features (B, D).

    Modules keep torchvision's names, so published checkpoints load. D = `feature_dim`: 512 for resnet18 and 34, else
    2048. The average pool takes any image size; at 224 it is the published 7x7 pool. From scratch the weights are
    torchvision's fan-out Kaiming draw, as published; `imagenet=True` starts from torchvision's ImageNet weights (the
    input stays normalised with 0.5).
    """

    def __init__(self, model: str = "resnet50", *, imagenet: bool = False):
        super().__init__()
        net = resnet(model, imagenet=imagenet)
        self.feature_dim = RESNETS[model]
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.avgpool = net.avgpool

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(normalize(images)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(widened(x)).flatten(1)  # the mean of 49 values has more digits than each


class TimmEncoder(nn.Module):
    """A backbone of timm without its classifier: images (B, 3, H, W), uint8 or normalised floats -> features (B, D).

    `imagenet=True` starts from timm's own weights of that name; the input stays normalised with 0.5.

    Raises ValueError: timm is missing or has no such model, weights that cannot be fetched, images of a size it does not take.
    """

    def __init__(self, name: str, *, imagenet: bool = False):
        super().__init__()
        try:
            import timm
        except ImportError:
            raise ValueError(f"--model timm:{name}: needs timm; pip install timm") from None
        if not timm.is_model(name):
            raise ValueError(f"--model timm:{name}: timm has no such model; timm.list_models() lists them")
        try:
            net: Any = timm.create_model(name, pretrained=imagenet, num_classes=0)
        except Exception as error:  # the hub's client raises nearly anything
            raise ValueError(f"--model timm:{name}: cannot be made ({' '.join(str(error).split())})") from None
        self.net, self.name = net, name
        self.feature_dim = int(getattr(net, "head_hidden_size", None) or net.num_features)
        given = net.pretrained_cfg
        self.size = given["input_size"][-1] if given.get("fixed_input_size") else None

    def forward(self, images: Tensor) -> Tensor:
        if self.size is not None and images.shape[-1] != self.size:
            raise ValueError(f"--img_size: timm:{self.name} takes images of {self.size} pixels, found {images.shape[-1]}")
        return self.net(normalize(images))


def make_encoder(model: str, *, imagenet: bool = False) -> ResNetEncoder | TimmEncoder:
    """The encoder by torchvision's name of a ResNet, or by "timm:" and timm's. Raises ValueError as these."""
    if model.startswith(TIMM):
        return TimmEncoder(model.removeprefix(TIMM), imagenet=imagenet)
    return ResNetEncoder(model, imagenet=imagenet)
