"""The losses with STS-B-DIR's own constants, by the published names: they take scores divided by 5."""

from __future__ import annotations

from torch import Tensor

from imbalanced_regression.methods import losses
from imbalanced_regression.methods.losses import weighted_l1_loss, weighted_mse_loss  # noqa: F401  # published names

PUBLISHED_UNIT = 5.0  # the published losses are of score / 5, so errors lie within 0..1; the model predicts the score


def weighted_focal_mse_loss(inputs, targets, weights=None, activate="sigmoid", beta=20.0, gamma=1) -> Tensor:
    """See `imbalanced_regression.weighted_focal_mse_loss`; beta 20 suits errors within 0..1."""
    return losses.weighted_focal_mse_loss(inputs, targets, weights, activate, beta, gamma)


def weighted_focal_l1_loss(inputs, targets, weights=None, activate="sigmoid", beta=20.0, gamma=1) -> Tensor:
    """See `imbalanced_regression.weighted_focal_l1_loss`; beta 20 suits errors within 0..1."""
    return losses.weighted_focal_l1_loss(inputs, targets, weights, activate, beta, gamma)


def weighted_huber_loss(inputs, targets, weights=None, beta=0.5) -> Tensor:
    """See `imbalanced_regression.weighted_huber_loss`; `train.py` passes --huber_beta, 0.3 by default."""
    return losses.weighted_huber_loss(inputs, targets, weights, beta)


LOSSES = {
    **losses.LOSSES, "focal_l1": weighted_focal_l1_loss, "focal_mse": weighted_focal_mse_loss, "huber": weighted_huber_loss,
}
