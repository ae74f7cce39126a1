"""Label distribution smoothing (LDS): labels -> density over bins -> one weight per sample.

The one idea: neighbouring labels teach each other, so a bin is as rare as its smoothed neighbourhood, not as its own
count. Needs numpy and scipy only; the weights work as `sample_weight` anywhere. Source: the paper, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import convolve1d

from .bins import Bins, as_labels, check_bins, get_lds_kernel_window

# what a count becomes before the smoothing; the weight is one over the smoothed value
BASES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sqrt_inv": np.sqrt, "inverse": lambda counts: counts}
REWEIGHTS = ("none", *BASES)

BOUNDARIES = ("renormalize", "zeros", "reflect")


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
    if reweight not in REWEIGHTS:
        raise ValueError(f"reweight: expected one of {', '.join(REWEIGHTS)}, found {reweight!r}")
    if reweight == "none":
        if lds:
            raise ValueError("reweight: LDS smooths the weights, found reweight 'none'; pass 'sqrt_inv' or 'inverse'")
        raise ValueError("reweight: 'none' has no density to invert; pass 'sqrt_inv' or 'inverse'")
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary: expected one of {', '.join(BOUNDARIES)}, found {boundary!r}")
    counts = np.asarray(counts)
    if counts.ndim != 1 or counts.size == 0 or counts.dtype.kind not in "fiu":
        raise ValueError(f"counts: expected (K,) numbers, found shape {counts.shape} of {counts.dtype}")
    if not np.isfinite(counts).all() or (counts < 0).any() or not (counts > 0).any():
        raise ValueError("counts: expected finite non-negative counts, at least one above 0")

    base = counts.astype(np.float64)
    if clip is not None:
        low, high = clip
        if not 0 <= low <= high:
            raise ValueError(f"clip: expected 0 <= low <= high, found {clip}")
        base = np.clip(base, low, high)
    base = BASES[reweight](base)
    if not lds:
        return base
    window = get_lds_kernel_window(kernel, ks, sigma)
    smoothed = convolve1d(base, window, mode="reflect" if boundary == "reflect" else "constant")
    if truncate and reweight == "inverse":
        smoothed = np.trunc(smoothed)
    if boundary == "renormalize":
        smoothed /= convolve1d(np.ones(len(base)), window, mode="constant")
    return smoothed


def label_density(
    labels,
    bins: Bins | None = None,
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
    """The effective label density: labels (N,) -> (K,) float64, by default the smoothed count of each bin.

    With `lds=False` it is the empirical count. `bins` defaults to `Bins.auto(labels)`; the other arguments are those
    of `effective_density`.

    Source: the paper, section 3.1, the effective label density p~(y') = integral of k(y, y') p(y) dy.
    """
    bins = Bins.auto(labels) if bins is None else check_bins(bins)
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
    ks: int = 5,
    sigma: float = 2,
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
        kernel, ks, sigma, clip, boundary, truncate: see `effective_density`.

    Raises:
        ValueError: no labels, NaN or infinite labels, an unknown option, `lds` with reweight "none", or a weight that
            would not be finite.

    Example:
        >>> lds_weights([20, 20, 20, 21, 60], lds=False, reweight="inverse").round(3).tolist()
        [0.556, 0.556, 0.556, 1.667, 1.667]
    """
    if reweight == "none" and not lds:
        return np.ones(len(as_labels(labels)), dtype=np.float32)
    bins = Bins.auto(labels) if bins is None else check_bins(bins)
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
