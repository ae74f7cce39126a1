"""The model of IMDB-WIKI-DIR: torchvision's ResNet from scratch -> FDS on the pooled features -> linear -> age in years."""

from __future__ import annotations

from fds import FDS

from imbalanced_regression import Regressor
from imbalanced_regression.faces.ages import RENAMES, age_model

__all__ = ["RENAMES", "make_model"]


def make_model(model: str = "resnet50", *, imagenet: bool = False, fds: bool = False, **config) -> Regressor:
    """The model by torchvision's name; with `fds`, `config` are the settings of this folder's `FDS`."""
    return age_model(model, lambda feature_dim: FDS(feature_dim, **config) if fds else None, imagenet=imagenet)
