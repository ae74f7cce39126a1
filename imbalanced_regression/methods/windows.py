"""Kernel windows: the weights with which LDS and FDS smooth over neighbouring bins.

The one idea: one symmetric window per kernel, with maximum 1 for LDS; FDS divides it by its sum.
"""

from __future__ import annotations

from numbers import Real

import numpy as np


def _gaussian(ks: int, sigma: float) -> np.ndarray:
    """A unit impulse in the middle of ks places, filtered with a Gaussian cut at 4 sigma whose ends are mirrored.

    The mirrors and the cut to ks make ks 5, sigma 2 nearly a box; all published numbers use it. To the last bit it is
    `scipy.ndimage.gaussian_filter1d` of that impulse, added up in the same order, without scipy's third of a second to import.
    """
    reach = int(4 * sigma + 0.5)
    bell = np.exp(-0.5 / (sigma * sigma) * np.arange(-reach, reach + 1) ** 2)
    bell = (bell / bell.sum())[reach:]
    # the mirrored impulse comes again every ks places: place d from the middle is hit at distances d and -d modulo ks
    rounds = np.zeros((reach // ks + 1) * ks)
    rounds[1 : reach + 1] = bell[1:]
    rounds = rounds.reshape(-1, ks)[::-1]  # from the farthest inwards
    hits = np.arange(ks) - ks // 2
    far, near = np.maximum(hits % ks, -hits % ks), np.minimum(hits % ks, -hits % ks)
    # the middle is hit from both sides at once
    terms = np.stack([np.where(far > 0, rounds[:, far], 2 * rounds[:, far]), np.where(far > 0, rounds[:, near], 0)], axis=1)
    return np.cumsum(np.concatenate([np.where(hits == 0, bell[0], 0.0)[None], terms.reshape(-1, ks)]), axis=0)[-1]


def _triang(ks: int, sigma: float) -> np.ndarray:
    half = 2 * np.arange(1, (ks + 1) // 2 + 1) / (ks + 1.0)
    return np.concatenate([half, half[-2::-1]])


def _laplace(ks: int, sigma: float) -> np.ndarray:
    x = np.arange(ks) - ks // 2
    return np.exp(-np.abs(x) / sigma) / (2 * sigma)


_SIGMAS = (1e-3, 1e4)  # below, exp underflows; above, scipy allocates 8 sigma values

KERNELS = {"gaussian": _gaussian, "triang": _triang, "laplace": _laplace}


def get_lds_kernel_window(kernel: str = "gaussian", ks: int = 5, sigma: float = 2) -> np.ndarray:
    """The symmetric window that smooths over neighbouring bins: (ks,) float64 with maximum 1.

    Args:
        kernel: "gaussian", "triang" (sigma plays no part) or "laplace".
        ks: window length in bins, odd and positive.
        sigma: width in bins, above 0; at most 10,000, beyond which nothing changes but the memory needed.

    Raises:
        ValueError: another kernel, an even or non-positive ks, a sigma out of range.

    Source: the symmetric kernel k(y, y') of the paper, section 3.1 (LDS) and 3.2 (FDS, which uses it with sum 1).
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, found {kernel!r}")
    if not isinstance(ks, Real) or isinstance(ks, bool) or ks < 1 or ks % 2 != 1:
        raise ValueError(f"ks: expected an odd positive whole number, for example 5, found {ks!r}")
    if not isinstance(sigma, Real) or not 0 < sigma < np.inf:
        raise ValueError(f"sigma: expected a number above 0, for example 2, found {sigma!r}")
    if not _SIGMAS[0] <= sigma <= _SIGMAS[1]:
        raise ValueError(f"sigma: expected {_SIGMAS[0]:g} to {_SIGMAS[1]:g} bins, for example 2, found {sigma:g}")
    window = KERNELS[kernel](int(ks), float(sigma))
    return window / window.max()
