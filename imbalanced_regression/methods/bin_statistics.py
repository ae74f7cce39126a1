"""Mean and variance per bin for FDS: merged over ranks without losing digits, and smoothed over the bins."""

from __future__ import annotations

import torch
from torch import Tensor

_NEARLY_ALL = 0.9  # of an epoch's labels in one row, or outside the bins: labels and bins are hardly of one unit


# of each bin the number of samples (K,), one of them (K, D), and the sums of the distances to it and of their squares (K, D)
Sums = tuple[Tensor, Tensor, Tensor, Tensor]


def zero_sums(rows: int, feature_dim: int, device: torch.device) -> Sums:
    """The sums before the first sample."""
    dtype = exact_type(device)
    count = torch.zeros(rows, dtype=dtype, device=device)
    reference, total, squares = torch.zeros(3, rows, feature_dim, dtype=dtype, device=device)
    return count, reference, total, squares


def sums_of_both(own: Sums, other: list[Tensor]) -> Sums:
    """The sums of two sets of samples: the other's distances are moved to this reference where there is one."""
    count, reference, total, squares = other
    reference_here = torch.where(own[0][:, None] > 0, own[1], reference)
    n, apart = count[:, None], reference - reference_here
    squares = own[3] + squares + apart * (2 * total + n * apart)
    return own[0] + count, reference_here, own[2] + total + n * apart, squares


def merged_over_ranks(
    count: Tensor, reference: Tensor, total: Tensor, squares: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of `FDS.observe` -> count (K, 1), mean and sum of squared deviations (K, D), over all ranks.

    Args:
        count: (K,) samples of each bin. reference: (K, D) one of them.
        total, squares: (K, D) sums of the distances to it, and of their squares.
    """
    count = count[:, None]
    mean = reference + total / count.clamp(min=1)
    m2 = (squares - total.square() / count.clamp(min=1)).clamp(min=0)
    dist = torch.distributed
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return count, mean, m2
    all_count, all_mean = count.clone(), count * mean
    dist.all_reduce(all_count)
    dist.all_reduce(all_mean)
    all_mean /= all_count.clamp(min=1)
    apart = mean - all_mean
    apart = torch.where(apart.abs() > 1e-14 * all_mean.abs(), apart, 0)  # rounding, where a channel is constant
    m2 += count * apart.square()
    dist.all_reduce(m2)
    return all_count, all_mean, m2


def check_observed(count: Tensor, mean: Tensor, m2: Tensor, epoch: int, first_bin: int) -> None:
    """Raise ValueError for an epoch without a sample, or with a feature that is no finite number, and name its bin."""
    if not count.sum() > 0:
        raise ValueError("finish_epoch: no features were observed in this epoch; call observe(features, labels) first")
    finite = (mean.isfinite() & m2.isfinite()).all(dim=1)
    if not finite.all():
        bad = int((~finite).nonzero()[0]) + first_bin
        raise ValueError(f"features: NaN or infinite in bin {bad} of epoch {epoch}; a lower learning rate may help")


def shares_kept(
    count: Tensor, tracked: Tensor, momentum: float | None, seen: Tensor, varied: Tensor
) -> tuple[Tensor, Tensor]:
    """The share of the old mean, and of the old variance, that each bin keeps, (K, 1) each.

    Args:
        count: (K, 1) samples of the epoch. tracked: (K, 1) of all epochs, this one included.
        momentum: the share kept; None averages all epochs by their sample counts.
        seen, varied: (K, 1) bool, whether there is an old mean and an old variance to keep.
    """
    keep = 1 - count / tracked.clamp(min=1) if momentum is None else torch.full_like(count, momentum)
    mean = torch.where(count > 0, torch.where(seen, keep, 0.0), 1.0)
    variance = torch.where(varied, torch.where(count > 1, keep, 1.0), 0.0)
    return mean, torch.where(count > 0, variance, 1.0)


def smoothed_over_bins(statistics: Tensor, known: Tensor, window: list[float]) -> Tensor:
    """Average of (K, D) over the window around each bin, mirrored at the ends (edge bin not repeated).

    Bins that are not `known`, (K, 1) bool, weigh nothing. The result is in `exact_type`.
    """
    dtype, rows, reach = exact_type(statistics.device), len(statistics), len(window) // 2
    at = torch.arange(-reach, rows + reach, device=statistics.device).abs()
    at = (rows - 1) - (rows - 1 - at).abs()
    values, weights = torch.where(known, statistics, 0).to(dtype)[at], known.to(dtype)[at]
    weighted, mass = torch.zeros_like(values[:rows]), torch.zeros_like(weights[:rows])
    for offset, weight in enumerate(window):  # in place over slices: a large table is not copied ks times
        weighted.add_(values[offset : offset + rows], alpha=weight)
        mass.add_(weights[offset : offset + rows], alpha=weight)
    return torch.where(mass > 0, weighted.div_(mass), statistics.to(dtype))


def of_another_unit(count: Tensor, outside: Tensor | None) -> str:
    """In words, why an epoch's labels and the bins are hardly of one unit; "" where they may be.

    `count` (K,) labels of each row, `outside` how many lay beyond the bins, where that is known.
    """
    rows, total = len(count), count.sum()
    if rows < 2:
        return ""
    fullest = count.max() / total
    beyond = outside / total if outside is not None else torch.zeros(())
    if max(fullest, beyond) < _NEARLY_ALL:
        return ""
    found = f"{100 * fullest:.0f} % of the epoch's labels share one of the {rows} rows"
    if beyond > 0:
        found += f" and {100 * min(1.0, float(beyond)):.0f} % lie outside the bins"
    return found


def exact_type(device: torch.device) -> torch.dtype:
    """float64, or float32 on MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
