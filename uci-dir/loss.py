"""The losses of UCI-DIR, by their published names: errors are in the label's unit (dB, rings, price, MPa)."""

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
