"""RankSim: for every sample, rank the others by feature similarity as their labels rank them.

The one idea: a ranking has no useful gradient, so the backward pass ranks once more, where the loss would push the
similarities, and takes the difference of the two rankings. Source: RankSim (ICML 2022, section 3); the gradient is the
black-box differentiation of combinatorial solvers. A patent application covers the method: US 2023/0214651.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .rows import cosines, feature_rows, label_rows, may_look, rounding


class RankSim(nn.Module):
    """Sum over anchors i of mean_j (rk(S_i)_j - rk(T_i)_j)^2, where j runs over one row per distinct label.

    S_ij is the cosine of two features and T_ij = -|y_i - y_j|; rk is the descending rank over the number m of distinct
    labels, 1 / m for the largest. Equal values share their average rank, and label distances count as equal where only
    the rounding of the labels tells them apart. Of the rows of one label one is drawn, anew at each call. The loss is a
    sum over anchors, as published, so a strength suits one batch size and kind of label. In evaluation mode the rows of the
    last call are drawn again and nothing is counted, as a second pass over the same batch needs.

    Args:
        interpolation: how far the backward pass looks, above 0. Small values give no gradient at most batches, large
            ones a gradient that hardly depends on the similarities. It acts on the gradient that arrives, so the
            strength of the term is a factor of it.
        seed: for the drawn rows.

    Attributes:
        loss_scale: set it to the scale of a `GradScaler` (a number or a tensor) where the loss is scaled before the
            backward pass; the gradient is then that of the unscaled loss, scaled.

    State: the number of calls so far, so that a resumed run draws as an uninterrupted one does.

    Raises:
        ValueError: interpolation not above 0.
    """

    loss_scale: float | Tensor = 1.0

    def __init__(self, interpolation: float = 2.0, *, seed: int = 0):
        super().__init__()
        if not 0 < interpolation < float("inf"):
            raise ValueError(f"interpolation: expected a finite number above 0, for example 2, found {interpolation}")
        self.interpolation, self.seed = float(interpolation), int(seed)
        self._calls = 0

    def extra_repr(self) -> str:
        return f"interpolation={self.interpolation:g}, seed={self.seed}"

    def get_extra_state(self) -> dict:
        return {"calls": self._calls}

    def set_extra_state(self, state: dict) -> None:
        self._calls = int(state["calls"])

    def forward(self, features: Tensor, targets: Tensor, preds: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """The term: features (B, D), targets (B,) or (B, 1) -> a scalar, 0 where all labels are equal.

        `preds` and `weights` are not used. With several ranks pass the rows of all, in the order of the global batch.

        Raises:
            ValueError: shapes that do not fit; NaN or infinite features or targets, on the CPU.
        """
        features = feature_rows(features, "RankSim")
        targets = label_rows(targets, features, "RankSim").detach()
        with torch.autocast(features.device.type, enabled=False):
            chosen = self._one_per_label(targets)
            if may_look(features) and not chosen.all():
                rows = chosen.nonzero()[:, 0]
                features, targets, chosen = features.index_select(0, rows), targets[rows], chosen[rows]
            count = chosen.sum()
            wanted = _ranks(_distances(targets, chosen), targets).to(features.dtype) / count
            found = _BlackBoxRanks.apply(cosines(features), chosen, self.interpolation, self.loss_scale)
            pairs = chosen[:, None] & chosen
            return torch.where(pairs, (found - wanted).square(), 0).sum() / count

    def _one_per_label(self, targets: Tensor) -> Tensor:
        """(B,) bool: one row of each distinct label, drawn by (seed, call)."""
        call = self._calls if self.training else max(self._calls - 1, 0)
        draw = torch.Generator().manual_seed((self.seed * 1_000_003 + call) % 2**63)
        self._calls = call + 1 if self.training else self._calls
        shuffled = torch.randperm(len(targets), generator=draw).to(targets.device, non_blocking=True)
        labels, order = targets[shuffled].sort(stable=True)
        first = torch.ones_like(labels, dtype=torch.bool)
        first[1:] = labels[1:] != labels[:-1]
        return torch.zeros_like(first).scatter_(0, shuffled[order], first)


class _BlackBoxRanks(torch.autograd.Function):
    """Descending ranks of similarities in each row: (m, m) -> (m, m), 1 / m for the largest; columns not chosen rank last."""

    @staticmethod
    def forward(ctx, similarities: Tensor, chosen: Tensor, interpolation: float, loss_scale: float | Tensor) -> Tensor:
        apart = torch.where(chosen, -similarities, torch.inf)
        count = chosen.sum()
        ranks = _ranks(apart) / count
        ctx.save_for_backward(apart, ranks, count)
        ctx.interpolation, ctx.loss_scale = interpolation, loss_scale
        return ranks

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        apart, ranks, count = ctx.saved_tensors
        moved = apart - ctx.interpolation * (gradient / ctx.loss_scale)
        return (_ranks(moved) / count - ranks) * (ctx.loss_scale / (ctx.interpolation + 1e-8)), None, None, None


def _ranks(values: Tensor, targets: Tensor | None = None) -> Tensor:
    """Ascending ranks in each row, from 1, (m, m); equal ones share their average.

    Where the values are distances of the labels `targets` (m,), those that only rounding tells apart are equal.
    """
    order = _order(values)
    ordered = values.gather(1, order)
    position = torch.arange(1, values.shape[1] + 1, device=values.device, dtype=values.dtype).expand_as(values)
    apart = torch.ones_like(values, dtype=torch.bool)
    tolerance = 0 if targets is None else rounding(targets, ordered[:, :-1])
    apart[:, 1:] = ordered[:, 1:] - ordered[:, :-1] > tolerance  # infinity less infinity is NaN: not apart, as it should be
    first = torch.where(apart, position, 0).cummax(dim=1).values
    ends = torch.ones_like(apart)
    ends[:, :-1] = apart[:, 1:]
    last = torch.where(ends, position, torch.inf).flip(1).cummin(dim=1).values.flip(1)
    return torch.empty_like(values).scatter_(1, order, (first + last) / 2)


def _order(values: Tensor) -> Tensor:
    if may_look(values):  # numpy sorts three times as fast there
        return torch.from_numpy(np.argsort(values.numpy(), axis=1))
    return values.argsort(dim=1)


def _distances(targets: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen, (targets[:, None] - targets).abs(), torch.inf)
