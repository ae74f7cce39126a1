"""The losses of AgeDB-DIR, by their published names: errors are in years, which the library's constants are made for."""

from __future__ import annotations

from imbalanced_regression.methods.losses import (
    LOSSES,
    weighted_focal_l1_loss,
    weighted_focal_mse_loss,
    weighted_huber_loss,
    weighted_l1_loss,
    weighted_mse_loss,
)

__all__ = ["LOSSES", "weighted_focal_l1_loss", "weighted_focal_mse_loss", "weighted_huber_loss", "weighted_l1_loss",
           "weighted_mse_loss"]
