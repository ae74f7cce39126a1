"""Mean and variance per bin for FDS: merged over ranks without losing digits, and smoothed over the bins."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

_BLOCK = 1 << 18  # numbers taken at a time on a CPU: they stay in its cache
_DEVICE_BLOCK = 1 << 24  # and on an accelerator, where they bound the memory and hide what a launch costs
_PIECE = 1024  # samples summed in single precision at a time
_MANY = 16  # samples a bin, on average, from which on going bin by bin is worth its overhead
_THREADS_FROM = 1 << 23  # numbers from which on threads are worth their start
_THREADS_EACH = 1 << 17  # numbers of a bin, on average, from which on they do not mostly wait for one another
_NEARLY_ALL = 0.9  # of an epoch's labels in one row, or outside the bins: labels and bins are hardly of one unit


# of each bin the number of samples (K,), one of them (K, D), and the sums of the distances to it and of their squares (K, D)
Sums = tuple[Tensor, Tensor, Tensor, Tensor]


def zero_sums(rows: int, feature_dim: int, device: torch.device) -> Sums:
    """The sums before the first sample."""
    dtype = exact_type(device)
    if device.type == "cpu":  # numpy's zeros are not written down before they are needed: of many bins that takes time
        tables = torch.from_numpy(np.zeros((3, rows, feature_dim)))
    else:
        tables = torch.zeros(3, rows, feature_dim, dtype=dtype, device=device)
    return torch.zeros(rows, dtype=dtype, device=device), *tables


def add_samples(sums: Sums, x: Tensor, at: Tensor, *, here: bool) -> None:
    """Add samples x (n, D) of the bins `at` (n,) to the sums, in place; those of bin K, one beyond the last, are left out.

    `here`: the values may be looked at, and none is of bin K. Otherwise nothing waits for the device.
    """
    if not here:
        _add_without_looking(sums, x, at)
    elif len(x) >= _MANY * len(sums[0]) and x.numel() > _BLOCK:
        _add_by_bins(sums, x, at)
    else:
        _add_by_rows(sums, x, at)


def _add_by_rows(sums: Sums, x: Tensor, at: Tensor) -> None:
    """A few samples, or few of a bin: distances in the type of the sums, each added to the row of its bin."""
    count, reference, total, squares = sums
    step = max(1, _BLOCK // x.shape[1])
    order = at.argsort() if len(at) > step else None  # sorted by bin, so that the sums of one bin stay in the cache
    for start in range(0, len(at), step):
        if order is None:
            chunk, rows = x.to(total.dtype), at
        else:
            chosen = order[start : start + step]
            chunk, rows = x.index_select(0, chosen).to(total.dtype), at.index_select(0, chosen)
        first = count[rows] == 0
        if first.any():  # without a reference near the data the squares lose their digits
            reference[rows[first]] = chunk[first]
        distance = chunk.sub_(reference.index_select(0, rows)) if chunk is not x else chunk - reference[rows]
        count.index_add_(0, rows, torch.ones_like(rows, dtype=count.dtype))
        total.index_add_(0, rows, distance)
        squares.index_add_(0, rows, distance.square_())


def _add_without_looking(sums: Sums, x: Tensor, at: Tensor) -> None:
    """As `_add_by_rows`, for a device that nothing may wait for: large chunks, and a new reference wherever there is none.

    A row beyond the last takes up what is left out. Of several samples of a bin any may become its reference.
    """
    count, reference, total, squares = (torch.cat([part, part.new_zeros(1, *part.shape[1:])]) for part in sums)
    step = max(1, _DEVICE_BLOCK // x.shape[1])
    for start in range(0, len(at), step):
        chunk, rows = x[start : start + step].to(total.dtype), at[start : start + step]
        there = reference.index_select(0, rows)
        reference.index_copy_(0, rows, torch.where((count.index_select(0, rows) == 0)[:, None], chunk, there))
        distance = chunk - reference.index_select(0, rows)
        count.index_add_(0, rows, torch.ones_like(rows, dtype=count.dtype))
        total.index_add_(0, rows, distance)
        squares.index_add_(0, rows, distance.square_())
    for own, added in zip(sums, (count, reference, total, squares)):
        own.copy_(added[:-1])


def _add_by_bins(sums: Sums, x: Tensor, at: Tensor) -> None:
    """Many samples of each bin: sorted by bin, and read once in pieces that each are of one bin.

    A piece is summed in the type of the features around its own first sample, which is no more than the root of its length
    deviations away from its mean, so that single precision keeps its digits; pieces add up in double. No two threads share
    a bin, so the sums do not depend on how many threads there are.
    """
    order, counts = _by_bin(at, len(sums[0])), at.bincount(minlength=len(sums[0]))
    ends = counts.cumsum(0)
    largest = counts.argsort(descending=True)[: int((counts > 0).sum())]  # first, so that no thread is left with one
    parts = (part.index_select(0, largest).tolist() for part in (ends - counts, ends, sums[0] == 0))
    tasks = iter(list(zip(largest.tolist(), *parts)))
    references, totals, all_squares = (part.numpy() for part in sums[1:])

    @np.errstate(invalid="ignore", over="ignore")  # the end of the epoch names the bin of what is not finite
    def work(_: int) -> None:
        pieces = _Pieces(x)
        for bin_, begin, end, new in tasks:
            for start in range(begin, end, _PIECE):
                samples = order[start : min(start + _PIECE, end)]
                base, total, squares = pieces.summed(samples)
                if new:
                    references[bin_], totals[bin_], all_squares[bin_] = base, total, squares
                    new = False
                else:
                    apart = base - references[bin_]
                    moved = len(samples) * apart
                    totals[bin_] += total + moved
                    all_squares[bin_] += squares + apart * (2.0 * total.astype(np.float64) + moved)

    several = x.numel() >= max(_THREADS_FROM, _THREADS_EACH * len(largest))
    _in_threads(work, min(torch.get_num_threads(), len(largest)) if several else 1)
    sums[0].add_(counts)


class _Pieces:
    """A thread's room for the sums of samples x (n, D) piece by piece, in blocks that stay in its core's cache.

    Numpy does what it does as fast, for at the end of every call to torch, however short, threads take turns. Torch
    subtracts one row from many in half of numpy's time.
    """

    def __init__(self, x: Tensor):
        kind, dim = torch.promote_types(x.dtype, torch.float32), x.shape[1]
        # numpy has no bfloat16, and takes rows that lie apart from a copy of all of them
        self.x, self.rows = x, x.numpy() if x.dtype == kind and x.is_contiguous() else None
        self.step = max(1, min(_PIECE, max(_BLOCK // dim, 16)))  # samples of a block
        self.block = x.new_empty(self.step, dim, dtype=kind)
        sums = x.new_empty(2, -(-_PIECE // self.step), dim, dtype=kind)
        self.room, self.sums, self.outs = self.block.numpy(), sums.numpy(), list(zip(*(part.unbind() for part in sums)))

    def summed(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The first of up to `_PIECE` samples, and the sums of the distances to it and of their squares, (D,) each."""
        base, starts = torch.empty(0), range(0, len(samples), self.step)
        for i, start in enumerate(starts):
            chosen = samples[start : start + self.step]
            taken, summed = self.room[: len(chosen)], self.block[: len(chosen)]
            if self.rows is None:
                summed.copy_(self.x.index_select(0, torch.from_numpy(chosen)))
            else:
                self.rows.take(chosen, 0, taken, "clip")  # "raise" would make a copy first
            if start == 0:
                base = summed[0].clone()
            summed.sub_(base)
            torch.sum(summed, 0, out=self.outs[i][0])  # by pairs: it keeps more digits than numpy's
            np.multiply(taken, taken, taken)
            torch.sum(summed, 0, out=self.outs[i][1])
        total, squares = self.sums[:, 0] if len(starts) == 1 else self.sums[:, : len(starts)].sum(1)
        return base.numpy(), total, squares


def _by_bin(at: Tensor, rows: int) -> np.ndarray:
    """The samples in the order of their bins, as they came within each; (n,) int64."""
    if rows > torch.iinfo(torch.int16).max:
        return at.argsort(stable=True).numpy()
    return at.to(torch.int16).numpy().argsort(kind="stable")  # by digits: a tenth of the time


def _in_threads(work: Callable[[int], None], threads: int) -> None:
    """Run `work` in so many threads at once, each of which keeps to one core.

    The pieces are too small to be shared: at the end of every operation torch's own threads would wait for one another.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # new threads begin with it
    try:
        if threads == 1:
            work(0)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))  # a list, so that an error is raised here
    finally:
        torch.set_num_threads(before)


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


def check_observed(
    count: Tensor, mean: Tensor, m2: Tensor, epoch: int, first_bin: int, odd: Tensor | None = None
) -> None:
    """Raise ValueError for an epoch without a sample, or with a label or feature that is no finite number, and name its bin.

    `odd` (2,) are this process's numbers of labels outside the bins, and of those that are no finite numbers.
    """
    if odd is not None and odd[1] > 0:
        raise ValueError(f"labels: {int(odd[1])} of epoch {epoch} are NaN or infinite")
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
