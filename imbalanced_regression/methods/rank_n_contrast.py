"""Rank-N-Contrast: features learnt before the regressor, so that they lie along the label.

The one idea: for an anchor and a partner, every row at least as far in label as the partner is a negative, so the
distances of features come to rank as the distances of labels do. A linear head is fitted to the frozen features after.
Source: Rank-N-Contrast (NeurIPS 2023, arXiv 2210.01189, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .rows import beside, feature_rows, groups, label_rows, may_look, products, rounding

_SPREAD = 600.0  # exp of its negative, and one over that, are far from the ends of float64


def rank_n_contrast(features: Tensor, targets: Tensor, temperature: float = 2.0) -> Tensor:
    """Mean over ordered pairs i != j of |v_i - v_j| / tau + log sum exp(-|v_i - v_k| / tau), a scalar of at least 0.

    The sum runs over the k != i whose label is at least as far from y_i as y_j is; j itself and all ties are among them.
    Label distances that differ by no more than the rounding of the labels count as ties. O(N^2 log N) time, O(N^2)
    memory, in float32 or float64; the log-sum-exp is a true one, so features of any size give a finite loss.

    Args:
        features: (N, D), raw: N = 2B rows of two views of B samples, or any N >= 2 rows.
        targets: (N,) or (N, 1), in the unit of the label, not normalised: equal label distances must be equal. B labels
            for 2B rows are the labels of both views, which lie one after the other.
        temperature: tau, above 0, in the unit of a distance of features.

    Raises:
        ValueError: a temperature out of range, fewer than two rows, shapes that do not fit; NaN or infinite features or
            targets, on the CPU.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature: expected a finite number above 0, for example 2, found {temperature}")
    features = feature_rows(features, "rank_n_contrast")
    count = len(features)
    if count < 2:
        raise ValueError("rank_n_contrast: features: expected at least two rows, found 1; pass both views of a sample")
    targets = beside(targets, features, "targets")
    if targets.dim() in (1, 2) and 2 * len(targets) == count:
        targets = torch.cat([targets, targets])
    labels = label_rows(targets, features, "rank_n_contrast").detach()
    with torch.autocast(features.device.type, enabled=False):
        logits = _Distances.apply(features) / -temperature
        # groups take a seventh of the time of sorted rows on a CPU, and cannot hold every spread
        if may_look(features) and _spread(logits) < _SPREAD:
            total = _GroupedLogSumExp.apply(logits, *_reach(labels))
        else:
            logits, apart = _without_diagonal(logits), _without_diagonal((labels[:, None] - labels).abs())
            apart, order = apart.sort(dim=1, descending=True)
            total = _RankedLogSumExp.apply(logits.gather(1, order), _last_of_tie(apart, rounding(labels, apart[:, 1:])))
        return (total - logits.sum()) / (count * (count - 1))


class RankNContrast(nn.Module):
    """`rank_n_contrast` as a term: the objective of a first stage, whose encoder then keeps still under a new head.

    Args:
        temperature: as for `rank_n_contrast`.

    Attributes:
        two_views: True; the term wants another augmented view of every sample in the batch.
    """

    two_views = True

    def __init__(self, temperature: float = 2.0):
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature: expected a finite number above 0, for example 2, found {temperature}")
        self.temperature = float(temperature)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"

    def forward(self, features: Tensor, targets: Tensor, preds: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """The loss of rows (2B, D) with labels (2B, 1), a scalar; `preds` and `weights` are not used."""
        return rank_n_contrast(features, targets, self.temperature)


def _spread(logits: Tensor) -> float:
    """The greatest difference of two logits of a row, at most: the diagonal, which is 0, is the greatest of each."""
    return -float(logits.detach().amin())


def _reach(labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How far a pair's negatives reach, by groups of equal labels, which are in ascending order.

    Gives the group of each row (N,), the size of each (m,), and (m, m) for anchors and partners of two groups: how many
    groups from the left are negatives, and the first group of those at the right.
    """
    values, _, index = groups(labels)
    sizes = torch.bincount(index, minlength=len(values))
    near = (values[:, None].double() - values).abs()
    near -= rounding(values, near)
    left = torch.searchsorted(values.double(), values[:, None] - near, right=True)
    right = torch.searchsorted(values.double(), values[:, None] + near)
    place = torch.arange(len(values)).expand_as(left)
    left = torch.maximum(left, (place + 1).tril())  # a partner is a negative of its own, whatever was rounded
    right = torch.minimum(right, len(values) - (len(values) - place).triu())
    return index, sizes, left, torch.maximum(left, right)  # where all are negatives, none counts twice


def _without_diagonal(square: Tensor) -> Tensor:
    """(N, N) -> (N, N - 1): after its first element, a square matrix has one of the diagonal at the end of every N + 1."""
    count = len(square)
    return square.reshape(-1)[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)


def _last_of_tie(descending: Tensor, tolerance: Tensor) -> Tensor:
    """(N, M) sorted values -> (N, M) for each position the last one whose value is the same."""
    width = descending.shape[1]
    ends = torch.arange(width, device=descending.device).expand_as(descending)
    inside = descending[:, :-1] - descending[:, 1:] <= tolerance
    ends = torch.cat([ends[:, :-1].masked_fill(inside, width), ends[:, -1:]], dim=1)
    return ends.flip(1).cummin(dim=1).values.flip(1)


class _Distances(torch.autograd.Function):
    """(N, D) -> (N, N) Euclidean distances; rows equal up to rounding are 0 apart, with gradient 0.

    One matrix product each way: autograd would take two in the backward pass, as it does not know of the symmetry.
    """

    @staticmethod
    def forward(ctx, features: Tensor) -> Tensor:
        low, high = features.aminmax()
        size = torch.maximum(-low, high).clamp(min=torch.finfo(features.dtype).tiny)
        rows = features / size  # squares of large features would overflow
        rows -= rows.mean(dim=0)  # differences stay, and less cancels below
        square = products(rows)
        squares = square.diagonal().clone()
        sums = squares[:, None] + squares
        between = torch.sub(sums, square, alpha=2, out=square)
        noise = sums.mul_(4 * torch.finfo(rows.dtype).eps)
        distances = between.masked_fill_(between <= noise, 0).sqrt_()
        ctx.save_for_backward(rows, distances)
        return distances * size

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        rows, distances = ctx.saved_tensors
        pull = torch.where(distances > 0, gradient / distances, 0)
        pull = pull + pull.T
        sums = pull.sum(dim=1)
        pull.diagonal().sub_(sums)
        return pull.neg_() @ rows  # |v_i - v_j| has a gradient without a unit


class _GroupedLogSumExp(torch.autograd.Function):
    """Sum over ordered pairs of the log-sum-exp over the negatives, which are groups from both ends of the labels.

    The m groups of equal labels are summed from the left and from the right, as exponentials in float64 that nothing is
    subtracted from: exact where no row spreads by more than `_SPREAD`. The exponentials take N^2, the rest N m.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, index: Tensor, sizes: Tensor, left: Tensor, right: Tensor) -> Tensor:
        count, width = len(logits), len(sizes)
        largest = logits.clone().fill_diagonal_(-torch.inf).amax(dim=0)  # logits are symmetric; columns are anchors
        shares = (logits - largest).double().exp_().fill_diagonal_(0)
        grouped = shares.new_zeros(width, count).index_add_(0, index, shares).T.contiguous()
        # a zero at the end of each, for reaching no group
        ahead = nn.functional.pad(grouped.cumsum(dim=1), (1, 0))
        behind = nn.functional.pad(grouped.flip(1).cumsum(dim=1).flip(1), (0, 1))
        left, right = left.index_select(0, index), right.index_select(0, index)
        sums = ahead.gather(1, left) + behind.gather(1, right)
        times = sizes.to(sums).repeat(count, 1)
        times.scatter_add_(1, index[:, None], times.new_full((count, 1), -1))  # an anchor is no partner of its own
        ctx.save_for_backward(shares, times.div(sums), index, left, right)
        return (times * sums.log()).sum().add((count - 1) * largest.sum(dtype=sums.dtype)).to(logits.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        shares, slopes, index, left, right = ctx.saved_tensors
        count, width = slopes.shape
        ahead = slopes.new_zeros(count, width + 1).scatter_add_(1, left, slopes)
        behind = slopes.new_zeros(count, width + 1).scatter_add_(1, right, slopes)
        grouped = ahead.flip(1).cumsum(dim=1).flip(1)[:, 1:] + behind.cumsum(dim=1)[:, :-1]
        slope = grouped.T.contiguous().index_select(0, index).mul_(shares)
        return slope.to(gradient.dtype).mul_(gradient), None, None, None, None


class _RankedLogSumExp(torch.autograd.Function):
    """Sum over rows and positions p of log sum_{q <= last_p} exp(logit_q).

    The backward pass is a second cumulative log-sum-exp, from the right: torch's own takes three, as it must allow for
    negative gradients.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, last: Tensor) -> Tensor:
        cumulative = logits.logcumsumexp(dim=1)
        ctx.save_for_backward(logits, cumulative, last)
        return cumulative.gather(1, last).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        logits, cumulative, last = ctx.saved_tensors
        times = torch.zeros_like(logits).scatter_add_(1, last, torch.ones_like(logits))
        shares = (times.log() - cumulative).flip(1).logcumsumexp(dim=1).flip(1)
        return gradient * (logits + shares).exp(), None
