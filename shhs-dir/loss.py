"""The losses of SHHS-DIR, by their published names: errors are in points of 0..100, about as large as years are for ages.

At the published error of about 15 points the library's focal factor is 0.9, and its Huber loss is linear but near 0.
"""

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
