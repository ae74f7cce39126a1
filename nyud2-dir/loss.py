"""The losses with NYUD2-DIR's constants: errors are in metres, each pixel has its weight. Published is mse only."""

from __future__ import annotations

from torch import Tensor

from imbalanced_regression.methods import losses
from imbalanced_regression.methods.losses import weighted_l1_loss, weighted_mse_loss  # noqa: F401  # published names

FOCAL_BETA, HUBER_BETA = 1.0, 0.5  # no published values: errors are about a metre, so the focal factor bends there


def weighted_focal_mse_loss(inputs, targets, weights=None, activate="sigmoid", beta=FOCAL_BETA, gamma=1) -> Tensor:
    """See `imbalanced_regression.weighted_focal_mse_loss`; beta 1 suits errors of about a metre."""
    return losses.weighted_focal_mse_loss(inputs, targets, weights, activate, beta, gamma)


def weighted_focal_l1_loss(inputs, targets, weights=None, activate="sigmoid", beta=FOCAL_BETA, gamma=1) -> Tensor:
    """See `imbalanced_regression.weighted_focal_l1_loss`; beta 1 suits errors of about a metre."""
    return losses.weighted_focal_l1_loss(inputs, targets, weights, activate, beta, gamma)


def weighted_huber_loss(inputs, targets, weights=None, beta=HUBER_BETA) -> Tensor:
    """See `imbalanced_regression.weighted_huber_loss`; the loss turns linear at half a metre."""
    return losses.weighted_huber_loss(inputs, targets, weights, beta)


# (predictions, depths, weights), (B, 1, H, W) each, -> scalar
LOSSES = {
    **losses.LOSSES, "focal_l1": weighted_focal_l1_loss, "focal_mse": weighted_focal_mse_loss, "huber": weighted_huber_loss,
}
