"""Label distribution smoothing (LDS): labels -> density over bins -> one weight per sample.

The one idea: neighbouring labels teach each other, so a bin is as rare as its smoothed neighbourhood, not as its own
count. Needs numpy only; the weights work as `sample_weight` anywhere. Source: the paper, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..bins import Bins, as_array, as_labels, check_bins
from .windows import get_lds_kernel_window

# g(n) of the paper, applied before the smoothing; the weight is one over the smoothed value
BASES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sqrt_inv": np.sqrt, "inverse": lambda counts: counts}
REWEIGHTS = ("none", *BASES)

BOUNDARIES = ("renormalize", "zeros", "reflect")

_MOST_CELLS = 10_000_000  # of a joint histogram: 80 MB as float64


@dataclass(frozen=True)
class Reweighting:
    """How counts become weights: the eight options of LDS, checked once, as a value that can be named and passed on.

    Attributes:
        reweight: "sqrt_inv" (the gentler), "inverse", or "none" (all ones; not with `lds`). The base is g(n) = sqrt(n)
            or n.
        lds: smooth the base over neighbouring bins.
        kernel, ks, sigma: the window, see `get_lds_kernel_window`. `ks` and `sigma` left out are the published 5 and 2
            for given bins; where bins are left out too, `Bins.window(labels)`.
        clip: (low, high) bounds put on the counts first, empty bins included.
        boundary: what lies beyond the end bins. "renormalize" divides by the kernel mass inside the range, so the
            ends get no weight for free; "zeros" is the published one for ages, STS-B and SHHS (its end bins weigh up
            to 1.65 times as much); "reflect" mirrors the ends (d c b a | a b c d), published for NYUD2.
        truncate: cut the convolution of whole counts back to whole numbers, as the first release did for "inverse";
            only to reproduce the published weights (test: test_published_inverse_weights_truncate).

    Raises ValueError for an unknown option, or LDS without a re-weighting.

    Example:
        >>> Reweighting("inverse", lds=False).weights([20, 20, 20, 21, 60]).round(3).tolist()
        [0.556, 0.556, 0.556, 1.667, 1.667]
    """

    reweight: str = "sqrt_inv"
    lds: bool = True
    kernel: str = "gaussian"
    ks: int | None = None
    sigma: float | None = None
    clip: tuple[float, float] | None = None
    boundary: str = "renormalize"
    truncate: bool = False

    def __post_init__(self) -> None:
        if self.reweight not in REWEIGHTS:
            raise ValueError(f"reweight: expected one of {', '.join(REWEIGHTS)}, found {self.reweight!r}")
        if self.reweight == "none" and self.lds:
            raise ValueError("reweight: LDS smooths the weights, found reweight 'none'; pass 'sqrt_inv' or 'inverse'")
        if self.boundary not in BOUNDARIES:
            raise ValueError(f"boundary: expected one of {', '.join(BOUNDARIES)}, found {self.boundary!r}")
        if self.clip is not None and (np.shape(self.clip) != (2,) or not 0 <= self.clip[0] <= self.clip[1]):
            raise ValueError(f"clip: expected (low, high) with 0 <= low <= high, found {self.clip}")
        if self.lds:
            get_lds_kernel_window(self.kernel, *self._window())

    def density(self, counts) -> np.ndarray:
        """The density whose inverse weighs each bin: counts (K,) -> (K,) float64.

        Counts are 64-bit, so 3.5 billion pixels are fine. Raises ValueError for counts that are negative, not finite or
        all zero, and for reweight "none", which has no density.
        """
        counts = as_array(counts, "counts")
        if counts.ndim != 1 or counts.size == 0 or counts.dtype.kind not in "fiu":
            raise ValueError(f"counts: expected (K,) numbers, found shape {counts.shape} of {counts.dtype}")
        if not np.isfinite(counts).all() or (counts < 0).any() or not (counts > 0).any():
            raise ValueError("counts: expected finite non-negative counts, at least one above 0")
        return self._smoothed(counts, [self._window()])

    def weights(self, labels, bins: Bins | None = None) -> np.ndarray:
        """One weight per label, one over the density of its bin: labels (N,) -> (N,) float32 with mean 1.

        Raises ValueError for no labels, NaN or infinite labels, and a weight that would not be finite.
        """
        if self.reweight == "none":
            return np.ones(len(as_labels(labels)), dtype=np.float32)
        how, bins = self._settled(labels, bins)
        index = bins.index(labels)
        counts = np.bincount(index, minlength=bins.count)
        try:
            by_bin = mean_one(how.density(counts), counts)
        except _NoDensity as error:
            where = f"bin {error.bin} (around {bins.centers[error.bin]:g})"
            raise ValueError(f"labels: the density of {where} is 0, so its weight is infinite") from None
        return by_bin.astype(np.float32)[index]

    def _window(self) -> tuple[int, float]:
        return 5 if self.ks is None else self.ks, 2 if self.sigma is None else self.sigma

    def _settled(self, labels, bins: Bins | None) -> tuple[Reweighting, Bins]:
        """The same with bins and a window: where both are left out, those of the labels."""
        if bins is None:
            bins = Bins.auto(labels)
            if self.ks is None and self.sigma is None:
                ks, sigma = bins.window(labels)
                return replace(self, ks=ks, sigma=sigma), bins
        return self, check_bins(bins)

    def _smoothed(self, counts: np.ndarray, windows: Sequence[tuple[int, float]]) -> np.ndarray:
        """`density` for counts over one axis of bins or several, (K1, ..., KM): along each in turn its own window (ks, sigma)
        acts."""
        if self.reweight == "none":
            raise ValueError("reweight: 'none' has no density to invert; pass 'sqrt_inv' or 'inverse'")
        smoothed = counts.astype(np.float64)
        if self.clip is not None:
            smoothed = np.clip(smoothed, *self.clip)
        smoothed = BASES[self.reweight](smoothed)
        if not self.lds:
            return smoothed
        kernels = [get_lds_kernel_window(self.kernel, ks, sigma) for ks, sigma in windows]
        for axis, kernel in enumerate(kernels):
            smoothed = _convolved(smoothed, kernel, axis, mirrored=self.boundary == "reflect")
        if self.truncate and self.reweight == "inverse":
            smoothed = np.trunc(smoothed)
        if self.boundary == "renormalize":
            for axis, (size, kernel) in enumerate(zip(smoothed.shape, kernels)):
                inside = _convolved(np.ones(size), kernel)
                smoothed /= inside.reshape([-1 if other == axis else 1 for other in range(smoothed.ndim)])
        return smoothed


class _NoDensity(ValueError):
    """A bin has labels and no density."""

    def __init__(self, bin: int):
        super().__init__(f"density: bin {bin} has labels and a density of 0, so its weight is infinite")
        self.bin = bin


def mean_one(density, counts) -> np.ndarray:
    """One over the density, with mean 1 over the labels that the bins count: (K,) and (K,) -> (K,) float64.

    A bin without density weighs 0. `density` may be (K, M), for M weights of a label; each column has mean 1.

    Raises:
        ValueError: a bin that has labels and no density.
    """
    density, counts = np.asarray(density, dtype=np.float64), np.asarray(counts)
    there = density > 0
    missing = (counts > 0) & ~(there if density.ndim == 1 else there.all(axis=1))
    if missing.any():
        raise _NoDensity(int(missing.argmax()))
    weights = np.divide(1.0, density, out=np.zeros_like(density), where=there)
    return weights * (counts.sum() / (counts @ weights))


def effective_density(
    counts, *, reweight: str = "inverse", lds: bool = True, kernel: str = "gaussian", ks: int = 5, sigma: float = 2, **options
) -> np.ndarray:
    """The density whose inverse weighs each bin: counts (K,) -> (K,) float64.

    Args:
        counts: (K,) non-negative label counts per bin; 64-bit, so 3.5 billion pixels are fine.
        reweight, lds, kernel, ks, sigma: see `Reweighting`; as there `clip`, `boundary` and `truncate` in `options`.

    Raises:
        ValueError: an unknown option, counts that are negative, not finite or all zero, or LDS without a re-weighting.
    """
    return Reweighting(reweight, lds, kernel, ks, sigma, **options).density(counts)


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


def label_density(labels, bins: Bins | None = None, *, reweight: str = "inverse", **options) -> np.ndarray:
    """The effective label density: labels (N,) -> (K,) float64, by default the smoothed count of each bin.

    With `lds=False` it is the empirical count. `bins` is as in `lds_weights`; `options` are those of `Reweighting`.

    Source: the paper, section 3.1, the effective label density p~(y') = integral of k(y, y') p(y) dy.
    """
    how, bins = Reweighting(reweight, **options)._settled(labels, bins)
    return how.density(bins.counts(labels))


def lds_weights(labels, bins: Bins | None = None, *, reweight: str = "sqrt_inv", lds: bool = True, **options) -> np.ndarray:
    """One weight per sample, one over the effective density at its label: labels (N,) -> (N,) float32 with mean 1.

    Usable as the `weights` of a loss or as `sample_weight` in scikit-learn, XGBoost and LightGBM.

    Args:
        labels: (N,) finite numbers of any range and sign (list, array, series or tensor).
        bins: the bins that count them; `Bins.auto(labels)` when None.
        reweight: "sqrt_inv" (the gentler), "inverse", or "none" (all ones; not with `lds`).
        lds: smooth the density over neighbouring bins.
        options: the others of `Reweighting`. The window `ks` and `sigma` is in bins. Left out they are the published 5
            and 2 for given bins; where bins are left out too, `Bins.window(labels)`, as `inspect` advises: 5 bins suit
            100 ages and level out six grades. `kernel`, `clip`, `boundary` and `truncate` are explained there.

    Raises:
        ValueError: no labels, NaN or infinite labels, an unknown option, `lds` with reweight "none", or a weight that
            would not be finite.

    Example:
        >>> lds_weights([20, 20, 20, 21, 60], lds=False, reweight="inverse").round(3).tolist()
        [0.556, 0.556, 0.556, 1.667, 1.667]
    """
    return Reweighting(reweight, lds, **options).weights(labels, bins)


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
        how: `reweight`, `lds` and the other options of `Reweighting`.

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


def lds_weights_joint(labels, bins: OutputBins | None = None, **options) -> np.ndarray:
    """One weight per sample from the joint histogram of its outputs: labels (N, M) -> (N,) float32 with mean 1.

    Rare is what is rare as a combination: two outputs may each be common and never meet. The histogram has one cell for
    every combination of bins, and the window acts along each output in turn (a product kernel), with the mass inside the
    range normalised as in one dimension. For the few outputs (2 or 3) whose combinations the samples can fill.

    Args:
        labels: (N, M) finite numbers.
        bins: one `Bins` for all outputs or a list of M. None: equal width over each output's range by Scott's rule for M
            dimensions, 3.5 sd N^(-1 / (2 + M)), with 5 to 50 bins.
        options: those of `Reweighting`. `ks` and `sigma` are in bins of every output; left out as in `lds_weights`, for
            each output its own.

    Raises:
        ValueError: as `lds_weights`; more than 10 million cells.
    """
    how = Reweighting(**options)
    columns = _columns(labels)
    chosen = _bins_of(columns, bins, lambda column: _scott(column, len(columns)))
    windows = [how._window()] * len(columns)
    if bins is None and how.ks is None and how.sigma is None:
        windows = [own.window(column) for own, column in zip(chosen, columns)]
    shape = tuple(own.count for own in chosen)
    cells = float(np.prod([float(size) for size in shape]))
    if cells > _MOST_CELLS:
        raise ValueError(
            f"bins: {' x '.join(map(str, shape))} bins make {cells:.3g} cells, at most {_MOST_CELLS} fit; pass fewer bins, or "
            "weigh each output by lds_weights_per_output"
        )
    if how.reweight == "none":
        return np.ones(len(columns[0]), dtype=np.float32)
    index = np.ravel_multi_index([own.index(column) for own, column in zip(chosen, columns)], shape)
    counts = np.bincount(index, minlength=int(cells))
    try:
        by_cell = mean_one(how._smoothed(counts.reshape(shape), windows).reshape(-1), counts)
    except _NoDensity as error:
        sample = int((index == error.bin).argmax())
        raise ValueError(f"labels: the density at sample {sample} is 0, so its weight is infinite") from None
    return by_cell.astype(np.float32)[index]


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
