"""The losses with IMDB-WIKI-DIR's constants: errors are in years, so the focal beta is small and Huber turns linear at 1."""

from __future__ import annotations

from functools import partial

from imbalanced_regression.methods.losses import (
    weighted_focal_l1_loss,
    weighted_focal_mse_loss,
    weighted_huber_loss,
    weighted_l1_loss,
    weighted_mse_loss,
)

FOCAL_BETA, HUBER_BETA = 0.2, 1.0

# what --loss chooses from: (predictions, ages, weights) -> scalar
LOSSES = {
    "mse": weighted_mse_loss,
    "l1": weighted_l1_loss,
    "focal_l1": partial(weighted_focal_l1_loss, beta=FOCAL_BETA),
    "focal_mse": partial(weighted_focal_mse_loss, beta=FOCAL_BETA),
    "huber": partial(weighted_huber_loss, beta=HUBER_BETA),
}
