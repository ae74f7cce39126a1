"""The model of AgeDB-DIR: torchvision's ResNet from scratch -> FDS on the pooled features -> linear -> age in years."""

from __future__ import annotations

from fds import FDS
from torch import nn

from imbalanced_regression import Regressor
from imbalanced_regression.faces.resnet import PUBLISHED_TO_OURS, make_encoder

__all__ = ["PUBLISHED_TO_OURS", "make_model"]


def make_model(model: str = "resnet50", *, imagenet: bool = False, fds: bool = False, **config) -> Regressor:
    """The model by torchvision's name, or "timm:NAME"; with `fds`, `config` are the settings of this folder's `FDS`."""
    encoder = make_encoder(model, imagenet=imagenet)
    head = nn.Linear(encoder.feature_dim, 1)
    return Regressor(encoder, head, FDS(encoder.feature_dim, **config) if fds else None)
