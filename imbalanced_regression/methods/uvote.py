"""UVOTE: several heads on one encoder, each trained under its own degree of re-weighting; the surest one speaks.

The one idea: a head trained on the raw density knows frequent labels best, one trained against it rare labels, and each
predicts a Laplace scale by which to tell. A head sees a re-weighted likelihood, so comparing scales is a heuristic.
Source: UVOTE (GCPR 2024, arXiv 2305.15178).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..bins import Bins, check_bins
from .lds import mean_one
from .likelihood import PredictiveHead, bounded_scale, wide
from .rows import beside, label_rows

CLIP = (5, 1000)  # bounds of the counts of the head that is re-weighted most


class UVOTE(PredictiveHead):
    """M linear heads. Outputs (B, 2 M): mu of head 0, ..., M - 1, then log b of head 0, ..., M - 1.

    Head 0 is trained without re-weighting, head M - 1 under the inverse count. The convention and the arguments `center`
    and `scale` are those of `PredictiveHead`: mu = center + scale * raw, log b = log(scale) + raw. Its loss is
    `uvote_loss`, with weights (B, M) of `uvote_weights`; its spread is sqrt(2) b of the head that speaks.

    Args:
        heads: M, at least 1. Published: 2 for AgeDB, 3 for IMDB-WIKI and STS-B.
        feature_dim: D, the width of the encoder's features.
        center, scale: see `PredictiveHead`.

    Raises:
        ValueError: no feature_dim, heads below 1, a scale not above 0.
    """

    distribution = "laplace"

    def __init__(self, heads: int = 2, feature_dim: int | None = None, center: float = 0.0, scale: float = 1.0):
        _check_heads(heads)
        if feature_dim is None:
            raise ValueError("feature_dim: expected the width of the encoder, for example UVOTE(heads=2, feature_dim=512)")
        super().__init__(feature_dim, 2 * heads, center, scale)
        self.heads = heads

    def stacks(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, 2 M) -> mus and log_bs, (M, B, 1) each, in the unit of the label."""
        mus, log_bs = self._checked(outputs).T[..., None].split(self.heads)
        return mus, log_bs

    def point(self, outputs: Tensor) -> Tensor:
        """The prediction (B, 1) of the surest head."""
        return uvote_point(*self.stacks(outputs))

    def spread(self, outputs: Tensor) -> Tensor:
        """sqrt(2) b (B, 1) of the surest head, the standard deviation of its Laplace distribution."""
        log_bs = self.stacks(outputs)[1]
        return math.sqrt(2) * bounded_scale(log_bs.amin(dim=0), self.scale)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None, epoch: int = 0, epochs: int = 1) -> Tensor:
        return uvote_loss(*self.stacks(outputs), targets, weights, epoch, epochs, scale=self.scale)

    def _in_unit(self, raw: Tensor) -> Tensor:
        mus, log_bs = raw.split(self.heads, dim=1)
        return torch.cat([self.center + self.scale * mus, log_bs + self.scale.log()], dim=1)


def uvote_loss(
    mus: Tensor, log_bs: Tensor, targets: Tensor, weights: Tensor | None, epoch: int, epochs: int, *, scale=1.0
) -> Tensor:
    """Sum over heads of a_m mean_i w_im [ |y_i - mu_mi| / b_mi + log(2 b_mi) ], a scalar; a_0 = 1, a_m = (epoch / epochs)^2.

    Args:
        mus, log_bs: (M, B, 1); log b is clamped as in `laplace_nll`, with the same `scale`.
        targets: (B,) or (B, 1).
        weights: (B, M), or (M, B, 1) as a stack; (B,) or (B, 1) for the same in every head; None for ones.
        epoch: from 0, when head 0 alone learns.
        epochs: how many the run has, at least 1.

    Raises:
        ValueError: shapes that do not fit, epochs out of range; NaN or infinite targets or weights, on the CPU.
    """
    _check_stacks(mus, log_bs, "uvote_loss")
    if not (epochs >= 1 and epoch >= 0):
        raise ValueError(f"uvote_loss: epoch, epochs: expected epoch >= 0 of epochs >= 1, found {epoch} of {epochs}")
    mus, log_bs = wide(mus)[..., 0], wide(log_bs)[..., 0]
    heads, rows = mus.shape
    targets = label_rows(targets, mus[0], "uvote_loss")
    b = bounded_scale(log_bs, scale)
    nll = (targets - mus).abs() / b + (2 * b).log()
    if weights is not None:
        nll = nll * _weights_by_head(beside(weights, nll, "weights").to(nll.device), heads, rows)
    strengths = torch.full((heads,), (epoch / epochs) ** 2, dtype=nll.dtype, device=nll.device)
    strengths[0] = 1
    return (strengths * nll.mean(dim=1)).sum()


def uvote_point(mus: Tensor, log_bs: Tensor) -> Tensor:
    """The prediction (B, 1) of the head with the least b, from (M, B, 1) each."""
    _check_stacks(mus, log_bs, "uvote_point")
    return wide(mus).gather(0, log_bs.argmin(dim=0, keepdim=True))[0]


def uvote_weights(labels=None, bins: Bins | None = None, heads: int = 2, *, counts=None) -> np.ndarray:
    """Weights of every head, proportional to n^(-m / (M - 1)), each column with mean 1 over the training set.

    n is the training count of the label's bin; an empty bin counts as 1. For exponent 1 alone n is clipped to [5, 1000].

    Args:
        labels: (N,) or (N, 1) training labels; needs `bins`.
        bins: the K bins that count them.
        heads: M; one head has weights 1.
        counts: (K,) training counts instead of labels, where labels are too many to list.

    Returns:
        (N, M) float32, a row per label; with `counts` (K, M), a row per bin.

    Raises:
        ValueError: neither or both of labels and counts, labels without bins, counts that are negative or all zero.
    """
    _check_heads(heads)
    if (labels is None) == (counts is None):
        raise ValueError("labels, counts: expected one of them, labels with bins or the counts of all bins")
    index = None
    if counts is None:
        index = check_bins(bins).index(labels)
        counts = np.bincount(index)
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise ValueError(f"counts: expected (K,) finite counts of at least 0, not all 0, found shape {counts.shape}")
    seen = np.maximum(counts, 1)
    exponents = np.arange(heads) / max(heads - 1, 1)
    density = seen[:, None] ** exponents
    if heads > 1:
        density[:, -1] = seen.clip(*CLIP)
    by_bin = mean_one(density, counts)
    return (by_bin if index is None else by_bin[index]).astype(np.float32)


def _check_heads(heads: int) -> None:
    if not (isinstance(heads, int) and heads >= 1):
        raise ValueError(f"heads: expected a whole number of at least 1, for example 2, found {heads!r}")


def _check_stacks(mus: Tensor, log_bs: Tensor, method: str) -> None:
    if mus.dim() != 3 or mus.shape[2] != 1 or 0 in mus.shape or log_bs.shape != mus.shape:
        raise ValueError(
            f"{method}: mus, log_bs: expected shape (M, B, 1) for both, found {tuple(mus.shape)} and {tuple(log_bs.shape)}"
        )


def _weights_by_head(weights: Tensor, heads: int, rows: int) -> Tensor:
    """(M, B), or (1, B) for the same weights in every head."""
    if weights.shape == (heads, rows, 1):
        by_head = weights[..., 0]
    elif weights.shape == (rows, heads):
        by_head = weights.T
    elif weights.shape in ((rows,), (rows, 1)):
        by_head = weights.reshape(1, rows)
    else:
        raise ValueError(
            f"uvote_loss: weights: expected shape ({rows}, {heads}), ({heads}, {rows}, 1), ({rows},) or ({rows}, 1), "
            f"found {tuple(weights.shape)}"
        )
    return label_rows(by_head.reshape(-1), by_head.reshape(-1), "uvote_loss", "weights").view(by_head.shape)
