"""Dist Loss: the sorted predictions of a batch are to be the sorted labels that such a batch is expected to hold.

The one idea: beside each prediction's own error, the distribution of the predictions is compared with that of the
training labels, which keeps them from shrinking to the centre. With exact sorting the second part is the Wasserstein-1
distance in one dimension. Source: Dist Loss (ICLR 2025, arXiv 2411.15216).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..bins import Bins, as_labels, check_bins
from .losses import LOSSES, broadcast_onto
from .rows import may_look, same_rows

_SIZES_KEPT = 16  # batch sizes whose expected labels are kept ready; a run has two, the whole batch and the last


def dist_loss(preds: Tensor, targets, weights, expected, strength: float = 1.0, pointwise: str = "l1") -> Tensor:
    """mean_i w_i l(yhat_i, y_i) + strength mean_k l(sort(yhat)_k, expected_k): a scalar.

    Args:
        preds, targets: (B,) or (B, 1), in either combination.
        weights: (B,), (B, 1) or None. They act on the first part only: a sorted prediction is no sample's own.
        expected: (B,) ascending labels, for example of `DistLoss.expected`.
        strength: of the second part, 0 or above.
        pointwise: l, one of "l1", "mse", "huber", "focal_l1", "focal_mse".

    Raises:
        ValueError: shapes that do not fit, an unknown pointwise loss; on the CPU, `expected` that is not ascending.
    """
    loss = _pointwise(pointwise)
    preds, targets = same_rows(preds, targets, "dist_loss")
    if preds.shape[1] != 1:
        raise ValueError(f"dist_loss: preds: expected shape (B,) or (B, 1), found {tuple(preds.shape)}")
    preds, targets = preds[:, 0], targets[:, 0]
    expected = broadcast_onto(expected, preds, "expected")
    if expected.shape != preds.shape:
        raise ValueError(f"dist_loss: expected: expected {len(preds)} labels, found {tuple(expected.shape)}")
    if may_look(expected) and (expected.diff() < 0).any():
        raise ValueError(f"dist_loss: expected: must be ascending, found a step of {expected.diff().min():g}; sort it")
    return loss(preds, targets, weights) + strength * loss(preds.sort().values, expected)


class DistLoss(nn.Module):
    """`dist_loss` with the quantiles of the training labels at (k - 1/2) / B, for any batch size B.

    The quantile is the smallest label that at least that share of the labels does not exceed. Under a balanced sampler
    give the labels (or counts) that are drawn, as the batch then has another distribution.

    Args:
        labels: (N,) training labels; or else
        bins, counts: how many labels each bin holds, (K,) of any size; a bin stands for its centre.
        strength: of the second part, 0 or above.
        pointwise: see `dist_loss`.

    Raises:
        ValueError: both or neither of labels and counts, bad labels or counts, an unknown pointwise loss.
    """

    whole_batch = True  # the order of the predictions needs the rows of all ranks

    def __init__(
        self, labels=None, *, bins: Bins | None = None, counts=None, strength: float = 1.0, pointwise: str = "l1"
    ):
        super().__init__()
        if (labels is None) == (counts is None) or (bins is None) != (counts is None):
            raise ValueError("labels: expected either labels, or bins and counts")
        if not 0 <= strength < float("inf"):
            raise ValueError(f"strength: expected a finite number, 0 or above, found {strength}")
        _pointwise(pointwise)
        self.strength, self.pointwise = float(strength), pointwise
        if labels is not None:
            self._values, counts = np.unique(as_labels(labels), return_counts=True)
        else:
            self._values, counts = check_bins(bins).centers, np.asarray(counts)
            if counts.shape != self._values.shape or counts.dtype.kind not in "fiu":
                raise ValueError(f"counts: expected one for each of the {len(self._values)} bins, found shape {counts.shape}")
            if not np.isfinite(counts).all() or (counts < 0).any() or not (counts > 0).any():
                raise ValueError("counts: expected finite non-negative counts, at least one above 0")
        self._below = np.cumsum(counts.astype(np.float64 if counts.dtype.kind == "f" else np.int64))
        self._ready: dict[tuple, Tensor] = {}

    def extra_repr(self) -> str:
        return f"strength={self.strength:g}, pointwise={self.pointwise}"

    def expected(self, batch_size: int) -> Tensor:
        """The labels a batch of B is expected to hold: (B,) float32, ascending, on the CPU.

        Raises ValueError for a batch size that is not a whole number of at least 1.
        """
        if int(batch_size) != batch_size or batch_size < 1:
            raise ValueError(f"batch_size: expected a whole number, at least 1, found {batch_size}")
        odd = 2 * np.arange(1, int(batch_size) + 1) - 1
        total = self._below[-1]
        if self._below.dtype.kind == "i":  # in whole numbers: the share of a label is hit exactly, or not
            rank = -(-total * odd // (2 * int(batch_size)))
        else:
            rank = total * odd / (2 * batch_size) * (1 - 1e-12)
        return torch.tensor(self._values[np.searchsorted(self._below, rank)], dtype=torch.float32)

    def forward(self, outputs: Tensor, targets, weights=None) -> Tensor:
        """The loss: outputs and targets (B,) or (B, 1), weights the same or None -> a scalar.

        Raises ValueError as `dist_loss`.
        """
        if outputs.numel() == 0:
            raise ValueError("DistLoss: outputs: expected at least one prediction, found none")
        key = (len(outputs), outputs.device)
        if key not in self._ready:
            if len(self._ready) >= _SIZES_KEPT:
                self._ready.clear()
            self._ready[key] = self.expected(len(outputs)).to(outputs.device)
        return dist_loss(outputs, targets, weights, self._ready[key], self.strength, self.pointwise)


def _pointwise(name: str):
    if name not in LOSSES:
        raise ValueError(f"pointwise: expected one of {', '.join(LOSSES)}, found {name!r}")
    return LOSSES[name]
