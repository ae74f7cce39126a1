"""The losses with SHHS-DIR's constants: errors are in points of 0..100, about as large as years are for ages."""

from __future__ import annotations

from functools import partial

from imbalanced_regression.methods.losses import (
    weighted_focal_l1_loss,
    weighted_focal_mse_loss,
    weighted_huber_loss,
    weighted_l1_loss,
    weighted_mse_loss,
)

# the ages' constants: at the published error of about 15 points the focal factor is 0.9, and Huber is linear but near 0
FOCAL_BETA, HUBER_BETA = 0.2, 1.0

SCALE = 100.0  # the model predicts score / SCALE: a head that had to reach 75 by steps of the learning rate took epochs to

# what --loss chooses from: (predictions, scores, weights) -> scalar
LOSSES = {
    "mse": weighted_mse_loss,
    "l1": weighted_l1_loss,
    "focal_l1": partial(weighted_focal_l1_loss, beta=FOCAL_BETA),
    "focal_mse": partial(weighted_focal_mse_loss, beta=FOCAL_BETA),
    "huber": partial(weighted_huber_loss, beta=HUBER_BETA),
}


def make_criterion(name: str):
    """(predictions, scores 0..100, weights) -> scalar in points, for the loop."""
    loss = LOSSES[name]
    return lambda preds, scores, weights: loss(preds * SCALE, scores, weights)
