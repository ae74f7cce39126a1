"""DenseWeight: a sample weighs one minus the scaled kernel density of its label.

The one idea: no bins to choose, and one knob alpha for how far the re-weighting goes, from none to leaving the densest
labels out. Needs numpy and scipy only. Source: DenseWeight (Machine Learning 2021, section 3).
"""

from __future__ import annotations

import numpy as np

from ..bins import Bins, as_labels, check_bins

_GRID = 4096  # fewest points at which the density is computed
_MOST_GRID = 1 << 22
_PER_BANDWIDTH = 32  # grid points in one bandwidth, so that binning and interpolation cost less than a thousandth
_MARGIN = 3.0  # bandwidths by which the grid goes beyond the labels
_REACH = 8.0  # bandwidths at which the kernel is cut, at 1e-14 of its height


def dense_weights(labels, *, alpha: float = 1.0, eps: float = 1e-6, bandwidth: float | None = None) -> np.ndarray:
    """One weight per sample: labels (N,) -> (N,) float32 with mean 1; ones where all labels are equal.

    w = max(1 - alpha p', eps) over its mean, where p' is the Gaussian kernel density of the labels, scaled to [0, 1] by
    its least and greatest value on a grid from 3 bandwidths below the labels to 3 above. The density is exact up to a
    thousandth of its maximum: linear binning, convolution by FFT, linear interpolation, on 4,096 points or more.

    Args:
        labels: (N,) or (N, 1) finite numbers of any range.
        alpha: 0 weighs all alike; below 1 no sample is left out; from 1 on the densest labels weigh eps.
        eps: the least weight before the division by the mean, above 0.
        bandwidth: of the kernel, in the unit of the labels; None is 1.06 s N^(-1/5), with the standard deviation s. Heavy
            tails make that one too wide, whole-number labels may need one of at least half their step.

    Raises:
        ValueError: labels that are not finite, an option out of range, a bandwidth far below the range of the labels.
    """
    labels = as_labels(labels)
    _check(alpha, eps, bandwidth)
    low, spread = labels.min(), labels.std()
    if not np.ptp(labels) > 0 or not spread > 0:
        return np.ones(len(labels), dtype=np.float32)
    h = 1.06 * spread * len(labels) ** -0.2 if bandwidth is None else float(bandwidth)
    grid, step = _grid(low, labels.max(), h)
    at = (labels - grid[0]) / step
    left = np.minimum(at.astype(np.int64), len(grid) - 2)
    right_share = at - left
    mass = np.bincount(left, weights=1 - right_share, minlength=len(grid))
    mass += np.bincount(left + 1, weights=right_share, minlength=len(grid))
    density = _scaled(mass, h / step)
    weights = np.maximum(1 - alpha * np.interp(labels, grid, density), eps)
    return (weights / weights.mean()).astype(np.float32)


def dense_bin_weights(
    bins: Bins, counts, *, alpha: float = 1.0, eps: float = 1e-6, bandwidth: float | None = None
) -> np.ndarray:
    """One weight per bin, for labels known by their counts alone: counts (K,) -> (K,) float32.

    As `dense_weights`, with the labels of a bin spread evenly over it; a bin's weight is that at its centre, and the mean
    over the counted labels is 1. Empty bins have a weight too. Counts may be of any size (3.5 billion pixels).

    Raises:
        ValueError: as `dense_weights`; counts that do not fit the bins, are negative, or are all 0.
    """
    edges, centers = check_bins(bins).edges, bins.centers
    _check(alpha, eps, bandwidth)
    counts = np.asarray(counts)
    if counts.shape != centers.shape or counts.dtype.kind not in "fiu":
        raise ValueError(f"counts: expected one for each of the {len(centers)} bins, found shape {counts.shape}")
    if not np.isfinite(counts).all() or (counts < 0).any() or not (counts > 0).any():
        raise ValueError("counts: expected finite non-negative counts, at least one above 0")
    total = counts.sum(dtype=np.float64)
    share = counts / total
    if (counts > 0).sum() == 1:
        return np.ones(len(centers), dtype=np.float32)
    mean = share @ centers
    spread = np.sqrt(share @ ((centers - mean) ** 2 + np.diff(edges) ** 2 / 12))
    h = 1.06 * spread * total**-0.2 if bandwidth is None else float(bandwidth)
    used = np.flatnonzero(counts)
    grid, step = _grid(edges[used[0]], edges[used[-1] + 1], h)
    cells = np.append(grid - step / 2, grid[-1] + step / 2)
    mass = np.diff(np.interp(cells, edges, np.concatenate([[0], np.cumsum(share)])))
    density = _scaled(mass, h / step)
    weights = np.maximum(1 - alpha * np.interp(centers, grid, density), eps)
    return (weights / (share @ weights)).astype(np.float32)


def _check(alpha: float, eps: float, bandwidth: float | None) -> None:
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha: expected a finite number, 0 or above, for example 1, found {alpha}")
    if not 0 < eps < np.inf:
        raise ValueError(f"eps: expected a finite number above 0, for example 1e-6, found {eps}")
    if bandwidth is not None and not 0 < bandwidth < np.inf:
        raise ValueError(f"bandwidth: expected None or a finite number above 0, in the unit of the labels, found {bandwidth}")


def _grid(low: float, high: float, h: float) -> tuple[np.ndarray, float]:
    low, high = low - _MARGIN * h, high + _MARGIN * h
    wanted = (high - low) / h * _PER_BANDWIDTH
    if not wanted < _MOST_GRID:
        raise ValueError(
            f"bandwidth: {h:g} is too small for labels over {high - low:g}; pass one of at least "
            f"{(high - low) * _PER_BANDWIDTH / _MOST_GRID:g}, or bin or transform the labels"
        )
    grid = np.linspace(low, high, max(_GRID, int(wanted) + 1))
    return grid, (high - low) / (len(grid) - 1)


def _scaled(mass: np.ndarray, steps: float) -> np.ndarray:
    """The density of the mass on the grid under a kernel of `steps` grid steps, from 0 to 1."""
    from scipy.signal import fftconvolve  # half a second, so not before it is needed

    reach = int(np.ceil(_REACH * steps))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / steps) ** 2)
    density = fftconvolve(mass, kernel, mode="full")[reach : reach + len(mass)]
    low, high = density.min(), density.max()
    return np.clip((density - low) / (high - low), 0, 1)
