"""The losses of UCI-DIR with the library's constants; errors are in the label's unit (dB, rings, price, MPa)."""

from __future__ import annotations

from imbalanced_regression.methods.losses import (
    weighted_focal_l1_loss,
    weighted_focal_mse_loss,
    weighted_huber_loss,
    weighted_l1_loss,
    weighted_mse_loss,
)

# what --loss chooses from: (predictions, labels, weights) -> scalar
LOSSES = {
    "mse": weighted_mse_loss,
    "l1": weighted_l1_loss,
    "focal_l1": weighted_focal_l1_loss,
    "focal_mse": weighted_focal_mse_loss,
    "huber": weighted_huber_loss,
}
