"""Losses: the mean over all elements of w * l(e), with e = prediction - target. Nothing is modified in place.

Weights are per sample or per element; shapes that do not fit raise instead of broadcasting to (N, N).
Source: the paper, section 4 and appendix (re-weighting, and focal-R with l1 and mse).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..bins import as_array

# the published losses, which a benchmark's loss.py takes with a star, and those of this project
__all__ = ["LOSSES", "broadcast_onto", "ccc_loss", "weighted_focal_l1_loss", "weighted_focal_mse_loss", "weighted_huber_loss",
           "weighted_l1_loss", "weighted_mse_loss"]


def weighted_mse_loss(inputs: Tensor, targets, weights=None) -> Tensor:
    """Mean of w e^2.

    Shapes, as for all losses here: inputs (N,), (N, 1) or any (N, ...), targets the same, weights as `broadcast_onto` takes.
    """
    error, weights = _error(inputs, targets, weights)
    return _mean(error**2, weights)


def weighted_l1_loss(inputs: Tensor, targets, weights=None) -> Tensor:
    """Mean of w |e|."""
    error, weights = _error(inputs, targets, weights)
    return _mean(error.abs(), weights)


def weighted_huber_loss(inputs: Tensor, targets, weights=None, beta: float = 1.0) -> Tensor:
    """Mean of w h(e): h = 0.5 e^2 / beta where |e| < beta, otherwise |e| - 0.5 beta. beta > 0, in the unit of the target."""
    if not beta > 0:
        raise ValueError(f"beta: expected a number above 0, for example 1.0, found {beta}")
    error, weights = _error(inputs, targets, weights)
    size = error.abs()
    return _mean(torch.where(size < beta, 0.5 * size**2 / beta, size - 0.5 * beta), weights)


def weighted_focal_mse_loss(
    inputs: Tensor, targets, weights=None, activate: str = "sigmoid", beta: float = 0.2, gamma: float = 1
) -> Tensor:
    """Mean of w e^2 f^gamma, where f in [0, 1) grows with |e|: 2 sigmoid(beta |e|) - 1, or tanh(beta |e|)."""
    error, weights = _error(inputs, targets, weights)
    return _mean(error**2 * _focal(error, activate, beta, gamma), weights)


def weighted_focal_l1_loss(
    inputs: Tensor, targets, weights=None, activate: str = "sigmoid", beta: float = 0.2, gamma: float = 1
) -> Tensor:
    """Mean of w |e| f^gamma, with f as in `weighted_focal_mse_loss`."""
    error, weights = _error(inputs, targets, weights)
    return _mean(error.abs() * _focal(error, activate, beta, gamma), weights)


def ccc_loss(inputs: Tensor, targets, weights=None) -> Tensor:
    """1 - CCC, the concordance correlation 2 cov / (var + var + (difference of the means)^2), from 0 to 2.

    Moments are the population's over the batch, with weights those of the weighted batch. (N, d) gives the mean over its
    outputs, dense (N, ..., H, W) one value over all elements. Predictions and targets that are all one number have
    CCC 0. Source: Lin (Biometrics 1989). It needs the rows of all ranks (`whole_batch`); batches of 8 or more are advised.

    Raises:
        ValueError: fewer than two rows, which have no variance; shapes that do not fit.
    """
    error, weights = _error(inputs, targets, weights)
    inputs = inputs.to(error.dtype)
    targets = broadcast_onto(targets, inputs, "targets")
    share = torch.ones_like(error) if weights is None else weights.expand_as(error)
    size = (len(error), -1) if error.dim() == 2 else (-1, 1)
    inputs, targets, error, share = (part.expand_as(error).reshape(size) for part in (inputs, targets, error, share))
    if len(error) < 2:
        raise ValueError(f"ccc_loss: expected a batch of at least 2 rows, found {len(error)}; drop the last batch")
    share = share / share.sum(dim=0)
    shift = (share * error).sum(dim=0)
    inputs = inputs - (share * inputs).sum(dim=0)
    targets = targets - (share * targets).sum(dim=0)
    agreement = 2 * (share * inputs * targets).sum(dim=0)
    spread = (share * (inputs**2 + targets**2)).sum(dim=0) + shift**2
    return 1 - (agreement / spread.clamp(min=torch.finfo(spread.dtype).tiny)).mean()


ccc_loss.whole_batch = True  # type: ignore[attr-defined]


LOSSES = {
    "mse": weighted_mse_loss,
    "l1": weighted_l1_loss,
    "focal_l1": weighted_focal_l1_loss,
    "focal_mse": weighted_focal_mse_loss,
    "huber": weighted_huber_loss,
}


def broadcast_onto(values, inputs: Tensor, name: str) -> Tensor:
    """`values` (tensor, array, list or number) as a tensor that broadcasts onto `inputs` (N, ...) one way only.

    Accepted: a single number; the shape of `inputs`, dimensions of size 1 allowed; (N,) or (N, 1), one value per
    sample; for (N,) inputs also (N, 1).

    Raises ValueError for every other shape.
    """
    if not isinstance(values, Tensor):
        values = torch.from_numpy(as_array(values, name).astype(np.float64))
    values = values.to(device=inputs.device, dtype=inputs.dtype)
    if values.dim() == 0 or values.shape == inputs.shape:
        return values
    per_sample = inputs.dim() >= 1 and values.shape in ((len(inputs),), (len(inputs), 1))
    if per_sample:
        return values.reshape(-1, *[1] * (inputs.dim() - 1))
    if values.dim() == inputs.dim() and all(v in (1, i) for v, i in zip(values.shape, inputs.shape)):
        return values
    raise ValueError(f"{name}: shape {tuple(values.shape)} does not fit predictions of shape {tuple(inputs.shape)}")


def _error(inputs: Tensor, targets, weights) -> tuple[Tensor, Tensor | None]:
    """e = inputs - targets in at least float32, and the weights in a shape that broadcasts onto it."""
    if inputs.numel() == 0:
        raise ValueError("inputs: expected at least one prediction, found none")
    inputs = inputs if inputs.dtype == torch.float64 else inputs.float()  # half precision cannot hold e^2
    targets = broadcast_onto(targets, inputs, "targets")
    if targets.numel() != inputs.numel():
        raise ValueError(f"targets: shape {tuple(targets.shape)} does not fit predictions of shape {tuple(inputs.shape)}")
    return inputs - targets, None if weights is None else broadcast_onto(weights, inputs, "weights")


def _mean(loss: Tensor, weights: Tensor | None) -> Tensor:
    return (loss if weights is None else loss * weights).mean()


def _focal(error: Tensor, activate: str, beta: float, gamma: float) -> Tensor:
    if not beta > 0:
        raise ValueError(f"beta: expected a number above 0, for example 0.2, found {beta}")
    if not gamma >= 0:
        raise ValueError(f"gamma: expected a number of at least 0, for example 1, found {gamma}")
    if activate == "sigmoid":
        share = 2 * torch.sigmoid(beta * error.abs()) - 1
    elif activate == "tanh":
        share = torch.tanh(beta * error.abs())
    else:
        raise ValueError(f"activate: expected 'sigmoid' or 'tanh', found {activate!r}")
    if gamma < 1:  # the power's slope is infinite at 0, and infinity times the error 0 would be NaN
        share = share.clamp(min=torch.finfo(share.dtype).tiny)
    return share**gamma
