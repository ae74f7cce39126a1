"""Kernel windows: the weights with which LDS and FDS smooth over neighbouring bins.

The one idea: one symmetric window per kernel, with maximum 1 for LDS; FDS divides it by its sum.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal.windows import triang


def _gaussian(ks: int, sigma: float) -> np.ndarray:
    # scipy's reflecting boundary and the truncation to ks make ks 5, sigma 2 nearly a box; all published numbers use it
    impulse = np.zeros(ks)
    impulse[ks // 2] = 1.0
    return gaussian_filter1d(impulse, sigma=sigma)


def _triang(ks: int, sigma: float) -> np.ndarray:
    return triang(ks)


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
    if isinstance(ks, bool) or int(ks) != ks or ks < 1 or ks % 2 == 0:
        raise ValueError(f"ks: expected an odd positive whole number, for example 5, found {ks}")
    if not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma: expected a number above 0, for example 2, found {sigma}")
    if not _SIGMAS[0] <= sigma <= _SIGMAS[1]:
        raise ValueError(f"sigma: expected {_SIGMAS[0]:g} to {_SIGMAS[1]:g} bins, for example 2, found {sigma:g}")
    window = KERNELS[kernel](int(ks), float(sigma))
    return window / window.max()
