"""Ordinal Entropy: the feature centres of labels are spread in proportion to label distance, samples keep to their centre.

The one idea: regression alone learns features of lower entropy than classification; spreading the centres raises it, and
label distances as weights keep their order. Source: Ordinal Entropy (ICLR 2023, arXiv 2301.08915, section 3).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..bins import Bins, check_bins
from .own_types import OwnTypes
from .rows import bin_of, cosines, feature_rows, groups, label_rows, unit_rows

_ZERO = 1e-12  # squared distances up to it count as 0: the root has no gradient there


class OrdinalEntropy(OwnTypes):
    """Tightness plus diversity, which is negative.

    Per distinct label u_k of the batch c_k is the mean feature, made unit length. Tightness is the mean distance of the
    unit features to the centre of their label, over the distances that are not 0 (0 where no sample has company).
    Diversity is -mean_{k<l} omega_kl |c_k - c_l|, where omega is (|u_k - u_l| - least) / greatest over all pairs. A batch
    with one label alone costs 0.

    Args:
        bins: give samples of one bin one centre, at the bin's middle. Without it every distinct label is its own, and
            continuous labels, which never repeat, have no tightness.
    """

    _edges: Tensor | None
    _centers: Tensor | None

    def __init__(self, bins: Bins | None = None):
        super().__init__()
        self.bins = bins
        edges = None if bins is None else torch.tensor(np.array(check_bins(bins).compared_edges))
        self.register_buffer("_edges", edges, persistent=False)
        centers = None if bins is None else torch.tensor(bins.centers, dtype=torch.float32)
        self.register_buffer("_centers", centers, persistent=False)

    def extra_repr(self) -> str:
        return "" if self.bins is None else f"bins={self.bins}"

    def parts(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Tightness and diversity, scalars, of features (B, D) and targets (B,) or (B, 1).

        Raises:
            ValueError: shapes that do not fit; NaN or infinite values, on the CPU.
        """
        features = feature_rows(features, "OrdinalEntropy")
        targets = label_rows(targets, features, "OrdinalEntropy")
        if self._edges is not None and self._centers is not None:
            targets = self._centers[bin_of(targets, self._edges)]
        with torch.autocast(features.device.type, enabled=False):
            values, used, index = groups(targets)
            values = values.to(features.dtype)
            # the sum points where the mean does
            centers = unit_rows(features.new_zeros(len(values), features.shape[1]).index_add(0, index, features))
            several = used.sum() > 1

            away = _Away.apply(unit_rows(features), centers, index)
            tightness = away.sum() / (away > 0).sum().clamp(min=1)

            pairs = (used[:, None] & used).triu(diagonal=1)
            apart = (values[:, None] - values).abs()
            least = torch.where(pairs, apart, torch.inf).amin()
            greatest = torch.where(pairs, apart, 0).amax()
            omega = torch.where(pairs, apart - least, 0) / torch.where(several, greatest, 1)
            between = (2 - 2 * cosines(centers)).clamp(min=_ZERO).sqrt()
            diversity = -(omega * between).sum() / pairs.sum().clamp(min=1)
            return torch.where(several, tightness, 0), torch.where(several, diversity, 0)

    def forward(self, features: Tensor, targets: Tensor, preds: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """The term, a scalar; `preds` and `weights` are not used. Shapes and errors as for `parts`."""
        tightness, diversity = self.parts(features, targets)
        return tightness + diversity


class _Away(torch.autograd.Function):
    """Distance (B,) of each row (B, D) to its center (m, D), or 0 where it counts as none, without a gradient.

    Half of the passes over (B, D) that autograd would take.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, centers: Tensor, index: Tensor) -> Tensor:
        apart = centers.index_select(0, index)
        torch.sub(rows, apart, out=apart)
        away = torch.linalg.vector_norm(apart, dim=1)
        away = torch.where(away.square() > _ZERO, away, 0)
        ctx.save_for_backward(apart, away, index)
        ctx.count = len(centers)
        return away

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        apart, away, index = ctx.saved_tensors
        pull = apart * torch.where(away > 0, gradient / away, 0)[:, None]
        return pull, pull.new_zeros(ctx.count, pull.shape[1]).index_add_(0, index, pull).neg_(), None
