"""Label distribution smoothing (LDS): labels -> density over bins -> one weight per sample.

The one idea: neighbouring labels teach each other, so a bin is as rare as its smoothed neighbourhood, not as its own
count. Needs numpy only; the weights work as `sample_weight` anywhere. Source: the paper, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..bins import Bins, as_array, as_labels, check_bins
from .windows import get_lds_kernel_window

# g(n) of the paper, applied before the smoothing; the weight is one over the smoothed value
BASES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sqrt_inv": np.sqrt, "inverse": lambda counts: counts}
REWEIGHTS = ("none", *BASES)

BOUNDARIES = ("renormalize", "zeros", "reflect")

_MOST_CELLS = 10_000_000  # of a joint histogram: 80 MB as float64


def effective_density(
    counts,
    *,
    reweight: str = "inverse",
    lds: bool = True,
    kernel: str = "gaussian",
    ks: int = 5,
    sigma: float = 2,
    clip: tuple[float, float] | None = None,
    boundary: str = "renormalize",
    truncate: bool = False,
) -> np.ndarray:
    """The density whose inverse weighs each bin: counts (K,) -> (K,) float64.

    The base is g(n) = n for "inverse" and sqrt(n) for "sqrt_inv"; with `lds` it is convolved with the window.

    Args:
        counts: (K,) non-negative label counts per bin; 64-bit, so 3.5 billion pixels are fine.
        reweight: "inverse" or "sqrt_inv".
        lds: whether to smooth.
        kernel, ks, sigma: the window, see `get_lds_kernel_window`.
        clip: (low, high) bounds put on the counts first, empty bins included.
        boundary: what lies beyond the end bins. "renormalize" divides by the kernel mass inside the range, so the
            ends get no weight for free; "zeros" is the published one for ages, STS-B and SHHS (its end bins weigh up
            to 1.65 times as much); "reflect" mirrors the ends (d c b a | a b c d), published for NYUD2.
        truncate: cut the convolution of whole counts back to whole numbers, as the first release did for "inverse";
            only to reproduce the published weights (test: test_published_inverse_weights_truncate).

    Raises:
        ValueError: an unknown option, counts that are negative, not finite or all zero, or LDS without a re-weighting.
    """
    counts = as_array(counts, "counts")
    if counts.ndim != 1 or counts.size == 0 or counts.dtype.kind not in "fiu":
        raise ValueError(f"counts: expected (K,) numbers, found shape {counts.shape} of {counts.dtype}")
    if not np.isfinite(counts).all() or (counts < 0).any() or not (counts > 0).any():
        raise ValueError("counts: expected finite non-negative counts, at least one above 0")
    return _density(
        counts, reweight=reweight, lds=lds, kernel=kernel, sizes=[(ks, sigma)], clip=clip, boundary=boundary, truncate=truncate
    )


def _density(
    counts: np.ndarray, *, reweight: str, lds: bool, kernel: str, sizes: Sequence[tuple[int, float]],
    clip: tuple[float, float] | None, boundary: str, truncate: bool,
) -> np.ndarray:
    """`effective_density` for counts over one axis of bins or several, (K1, ..., KM): along each in turn its own window
    acts, of `sizes` (ks, sigma)."""
    if reweight not in REWEIGHTS:
        raise ValueError(f"reweight: expected one of {', '.join(REWEIGHTS)}, found {reweight!r}")
    if reweight == "none":
        if lds:
            raise ValueError("reweight: LDS smooths the weights, found reweight 'none'; pass 'sqrt_inv' or 'inverse'")
        raise ValueError("reweight: 'none' has no density to invert; pass 'sqrt_inv' or 'inverse'")
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary: expected one of {', '.join(BOUNDARIES)}, found {boundary!r}")
    smoothed = counts.astype(np.float64)
    if clip is not None:
        low, high = clip
        if not 0 <= low <= high:
            raise ValueError(f"clip: expected 0 <= low <= high, found {clip}")
        smoothed = np.clip(smoothed, low, high)
    smoothed = BASES[reweight](smoothed)
    if not lds:
        return smoothed
    windows = [get_lds_kernel_window(kernel, ks, sigma) for ks, sigma in sizes]
    for axis, window in enumerate(windows):
        smoothed = _convolved(smoothed, window, axis, mirrored=boundary == "reflect")
    if truncate and reweight == "inverse":
        smoothed = np.trunc(smoothed)
    if boundary == "renormalize":
        for axis, (size, window) in enumerate(zip(smoothed.shape, windows)):
            inside = _convolved(np.ones(size), window)
            smoothed /= inside.reshape([-1 if other == axis else 1 for other in range(smoothed.ndim)])
    return smoothed


def _convolved(values: np.ndarray, window: np.ndarray, axis: int = 0, *, mirrored: bool = False) -> np.ndarray:
    """Values convolved along an axis with a symmetric window (ks,); beyond the ends lie zeros, or the values mirrored.

    Added up from the window's ends inwards: to the last bit `scipy.ndimage.convolve1d`, which takes long to import.
    """
    values, reach = np.moveaxis(values, axis, 0), len(window) // 2
    size, edges = len(values), [(reach, reach)] + [(0, 0)] * (values.ndim - 1)
    wide = np.pad(values, edges, mode="symmetric" if mirrored else "constant")
    total = values * window[reach]
    for back in range(reach):  # offsets in the window, a few
        total += (wide[back : back + size] + wide[2 * reach - back : 2 * reach - back + size]) * window[back]
    return np.moveaxis(total, 0, axis)


def label_density(
    labels,
    bins: Bins | None = None,
    *,
    reweight: str = "inverse",
    lds: bool = True,
    kernel: str = "gaussian",
    ks: int | None = None,
    sigma: float | None = None,
    clip: tuple[float, float] | None = None,
    boundary: str = "renormalize",
    truncate: bool = False,
) -> np.ndarray:
    """The effective label density: labels (N,) -> (K,) float64, by default the smoothed count of each bin.

    With `lds=False` it is the empirical count. `bins`, `ks` and `sigma` are as in `lds_weights`; the other arguments are
    those of `effective_density`.

    Source: the paper, section 3.1, the effective label density p~(y') = integral of k(y, y') p(y) dy.
    """
    bins, ks, sigma = _settled(labels, bins, ks, sigma)
    return effective_density(
        bins.counts(labels), reweight=reweight, lds=lds, kernel=kernel, ks=ks, sigma=sigma, clip=clip,
        boundary=boundary, truncate=truncate,
    )


def lds_weights(
    labels,
    bins: Bins | None = None,
    *,
    reweight: str = "sqrt_inv",
    lds: bool = True,
    kernel: str = "gaussian",
    ks: int | None = None,
    sigma: float | None = None,
    clip: tuple[float, float] | None = None,
    boundary: str = "renormalize",
    truncate: bool = False,
) -> np.ndarray:
    """One weight per sample, one over the effective density at its label: labels (N,) -> (N,) float32 with mean 1.

    Usable as the `weights` of a loss or as `sample_weight` in scikit-learn, XGBoost and LightGBM.

    Args:
        labels: (N,) finite numbers of any range and sign (list, array, series or tensor).
        bins: the bins that count them; `Bins.auto(labels)` when None.
        reweight: "sqrt_inv" (the gentler), "inverse", or "none" (all ones; not with `lds`).
        lds: smooth the density over neighbouring bins.
        ks, sigma: the window in bins. Left out they are the published 5 and 2 for given bins; where bins are left out
            too, `Bins.window(labels)`, as `inspect` advises: 5 bins suit 100 ages and level out six grades.
        kernel, clip, boundary, truncate: see `effective_density`.

    Raises:
        ValueError: no labels, NaN or infinite labels, an unknown option, `lds` with reweight "none", or a weight that
            would not be finite.

    Example:
        >>> lds_weights([20, 20, 20, 21, 60], lds=False, reweight="inverse").round(3).tolist()
        [0.556, 0.556, 0.556, 1.667, 1.667]
    """
    if reweight == "none" and not lds:
        return np.ones(len(as_labels(labels)), dtype=np.float32)
    bins, ks, sigma = _settled(labels, bins, ks, sigma)
    index = bins.index(labels)
    counts = np.bincount(index, minlength=bins.count)
    density = effective_density(
        counts, reweight=reweight, lds=lds, kernel=kernel, ks=ks, sigma=sigma, clip=clip, boundary=boundary, truncate=truncate
    )
    used = counts > 0
    if not (density[used] > 0).all():
        empty = int((used & (density <= 0)).argmax())
        raise ValueError(f"labels: the density of bin {empty} (around {bins.centers[empty]:g}) is 0, so its weight is infinite")
    # bin by bin, then one look-up per sample
    weights = np.divide(1.0, density, out=np.zeros(bins.count), where=used)
    return (weights * (len(index) / (counts @ weights))).astype(np.float32)[index]


def _settled(labels, bins: Bins | None, ks: int | None, sigma: float | None) -> tuple[Bins, int, float]:
    """Bins and window: the published window for given bins, or where one of its numbers is given; else by the labels."""
    if bins is None:
        bins = Bins.auto(labels)
        if ks is None and sigma is None:
            return bins, *bins.window(labels)
    return check_bins(bins), 5 if ks is None else ks, 2 if sigma is None else sigma


# -- labels of several outputs -----------------------------------------------------------------------------------------

# bins for (N, M) labels: those of every output, or one Bins for all of them
OutputBins = Bins | Sequence[Bins]


def lds_weights_per_output(labels, bins: OutputBins | None = None, **how) -> np.ndarray:
    """Weights for each output on its own: labels (N, M) -> (N, M) float32, every column with mean 1.

    For losses with one error per output, such as `weighted_mse_loss(preds, targets, weights)` on (N, M) predictions: a
    sample may be rare in one output and common in another. Where a combination is what is rare, see `lds_weights_joint`.

    Args:
        labels: (N, M) finite numbers.
        bins: one `Bins` for all outputs or a list of M; `Bins.auto` of each column when None.
        how: the options of `lds_weights`.

    Raises:
        ValueError: as `lds_weights`, with the number of the output; labels or bins of another shape.
    """
    columns = _columns(labels)
    chosen: Sequence[Bins | None] = [None] * len(columns) if bins is None else _bins_of(columns, bins, Bins.auto)
    weights = []
    for m, (column, own) in enumerate(zip(columns, chosen)):
        try:
            weights.append(lds_weights(column, own, **how))
        except ValueError as error:
            raise ValueError(f"output {m}: {error}") from None
    return np.stack(weights, axis=1)


def lds_weights_joint(
    labels,
    bins: OutputBins | None = None,
    *,
    reweight: str = "sqrt_inv",
    lds: bool = True,
    kernel: str = "gaussian",
    ks: int | None = None,
    sigma: float | None = None,
    clip: tuple[float, float] | None = None,
    boundary: str = "renormalize",
) -> np.ndarray:
    """One weight per sample from the joint histogram of its outputs: labels (N, M) -> (N,) float32 with mean 1.

    Rare is what is rare as a combination: two outputs may each be common and never meet. The histogram has one cell for
    every combination of bins, and the window acts along each output in turn (a product kernel), with the mass inside the
    range normalised as in one dimension. For the few outputs (2 or 3) whose combinations the samples can fill.

    Args:
        labels: (N, M) finite numbers.
        bins: one `Bins` for all outputs or a list of M. None: equal width over each output's range by Scott's rule for M
            dimensions, 3.5 sd N^(-1 / (2 + M)), with 5 to 50 bins.
        reweight, lds, kernel, clip, boundary: see `lds_weights`.
        ks, sigma: the window, in bins of every output; left out as in `lds_weights`, for each output its own.

    Raises:
        ValueError: as `lds_weights`; more than 10 million cells.
    """
    columns = _columns(labels)
    chosen = _bins_of(columns, bins, lambda column: _scott(column, len(columns)))
    if bins is None and ks is None and sigma is None:
        sizes = [own.window(column) for own, column in zip(chosen, columns)]
    else:
        sizes = [(5 if ks is None else ks, 2 if sigma is None else sigma)] * len(columns)
    shape = tuple(own.count for own in chosen)
    cells = float(np.prod([float(size) for size in shape]))
    if cells > _MOST_CELLS:
        raise ValueError(
            f"bins: {' x '.join(map(str, shape))} bins make {cells:.3g} cells, at most {_MOST_CELLS} fit; pass fewer bins, or "
            "weigh each output by lds_weights_per_output"
        )
    if reweight == "none" and not lds:
        return np.ones(len(columns[0]), dtype=np.float32)
    index = np.ravel_multi_index([own.index(column) for own, column in zip(chosen, columns)], shape)
    counts = np.bincount(index, minlength=int(cells))
    density = _density(
        counts.reshape(shape), reweight=reweight, lds=lds, kernel=kernel, sizes=sizes, clip=clip, boundary=boundary,
        truncate=False,
    ).reshape(-1)[index]
    if not (density > 0).all():
        raise ValueError(f"labels: the density at sample {int((density <= 0).argmax())} is 0, so its weight is infinite")
    weights = 1.0 / density
    return (weights / weights.mean()).astype(np.float32)


def _columns(labels) -> list[np.ndarray]:
    """Labels (N, M) as M checked arrays (N,)."""
    array = as_array(labels, "labels", batch_dim=2)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"labels: expected shape (N, M), found {array.shape}; lds_weights takes (N,)")
    return [as_labels(column, f"labels[:, {m}]") for m, column in enumerate(array.T)]


def _bins_of(columns: list[np.ndarray], bins: OutputBins | None, default: Callable[[np.ndarray], Bins]) -> list[Bins]:
    if bins is None:
        return [default(column) for column in columns]
    if isinstance(bins, Bins):
        return [bins] * len(columns)
    if not isinstance(bins, Sequence) or len(bins) != len(columns):
        found = len(bins) if isinstance(bins, Sequence) else repr(bins)
        raise ValueError(f"bins: expected one Bins or one for each of the {len(columns)} outputs, found {found}")
    return [check_bins(own) for own in bins]


def _scott(column: np.ndarray, outputs: int) -> Bins:
    low, high = float(column.min()), float(column.max())
    if low == high:
        return Bins.auto(column)
    width = 3.5 * float(np.std(column)) * len(column) ** (-1 / (2 + outputs))
    return Bins.uniform(low, high, int(np.clip(np.ceil((high - low) / width), 5, 50)))
