"""The losses with NYUD2-DIR's constants: errors are in metres, each pixel has its weight. Published is mse only."""

from __future__ import annotations

from functools import partial

from imbalanced_regression.methods.losses import (
    weighted_focal_l1_loss,
    weighted_focal_mse_loss,
    weighted_huber_loss,
    weighted_l1_loss,
    weighted_mse_loss,
)

FOCAL_BETA, HUBER_BETA = 1.0, 0.5  # no published values: errors are about a metre, so the focal factor bends there

# what --loss chooses from: (predictions, depths, weights), (B, 1, H, W) each, -> scalar
LOSSES = {
    "mse": weighted_mse_loss,
    "l1": weighted_l1_loss,
    "focal_l1": partial(weighted_focal_l1_loss, beta=FOCAL_BETA),
    "focal_mse": partial(weighted_focal_mse_loss, beta=FOCAL_BETA),
    "huber": partial(weighted_huber_loss, beta=HUBER_BETA),
}
