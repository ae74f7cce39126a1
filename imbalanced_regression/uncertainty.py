"""Metrics of a predicted spread, overall and by shot: is the model as sure as it is right, also where labels are few?

The one idea: groups are those of `shot_metrics`, so a spread can be read beside the error it should foretell.
Needs numpy only. N samples; a spread is a standard deviation in the unit of the label.
Source: Ilg et al. (ECCV 2018) for AUSE, Laves et al. (MIDL 2020) for UCE.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .bins import Bins, as_labels, check_bins
from .metrics import SHOTS, _bins_by_value, check_shots, shots_of_bins


@dataclass(frozen=True)
class Distribution:
    """A symmetric distribution with a standard deviation: its -log p, and its half width at a nominal coverage."""

    nll: Callable[..., np.ndarray]
    half_width: Callable[[float], float]  # of a spread of 1


def spread_metrics(
    preds, labels, spreads, train_labels, bins: Bins | None = None, *, distribution: str = "gaussian", nominal: float = 0.9,
    uce_bins: int = 10, many: int = 100, few: int = 20, shots=None,
) -> dict[str, dict[str, float]]:
    """How well spreads tell errors, overall and by shot.

    Args:
        preds, labels, spreads: (N,) or (N, 1), in the unit of the label; spreads above 0.
        train_labels: (M,) or (M, 1); their counts decide the shots.
        bins, many, few, shots: as for `shot_metrics`.
        distribution: "gaussian" or "laplace", the predicted distribution around each prediction.
        nominal: the share of labels that the interval around a prediction should hold, in (0, 1).
        uce_bins: bins of equal mass that `uce` averages over.

    Returns:
        {"overall" | "many" | "medium" | "few": {"nll", "coverage", "ause", "uce", "count"}}. `nll` is the mean -log p,
        `coverage` the share of labels inside the nominal interval. An empty group has count 0 and NaN elsewhere; `ause` is
        NaN below three samples.

    Raises:
        ValueError: sizes that do not fit, NaN or infinite values, spreads not above 0, an unknown distribution.
    """
    preds, labels, spreads = as_labels(preds, "preds"), as_labels(labels), _spreads(spreads, "spreads")
    train_labels = as_labels(train_labels, "train_labels")
    _check_sizes(labels, preds=preds, spreads=spreads)
    family = _family(distribution)
    if shots is not None and bins is None:
        raise ValueError("shots: a list of shots per bin needs bins as well")
    bins = check_bins(_bins_by_value(np.concatenate([train_labels, labels])) if bins is None else bins)
    shots = shots_of_bins(bins.counts(train_labels), many, few) if shots is None else np.asarray(shots)
    check_shots(shots, bins)
    _check_nominal(nominal)

    shot = shots[bins.index(labels)]
    result = {}
    for group in ("overall", *SHOTS):
        mine = slice(None) if group == "overall" else shot == group
        y, p, s = labels[mine], preds[mine], spreads[mine]
        if len(y) == 0:
            result[group] = {**dict.fromkeys(("nll", "coverage", "ause", "uce"), math.nan), "count": 0}
            continue
        result[group] = {
            "nll": float(family.nll(y, p, s).mean()),
            "coverage": coverage(y, p, s, distribution=distribution, nominal=nominal),
            "ause": ause(y, p, s**2),
            "uce": uce(y, p, s, bins=uce_bins),
            "count": len(y),
        }
    return result


def ause(labels, preds, variances) -> float:
    """Area under the sparsification error, in [0, 1]; 0 where the variances rank the samples as their errors do.

    Two curves hold the mean |e| of the samples that remain after the k = 1 ... N - 1 most uncertain, or the most wrong,
    are taken away; their absolute difference, over its maximum, is integrated by trapezoids over [0, 1]. Samples of equal
    variance share their mean |e|, so their order is of no account. O(N log N).

    Args:
        labels, preds: (N,) or (N, 1), in the unit of the label.
        variances: (N,) or (N, 1), at least 0; any quantity that ranks samples by uncertainty.

    Returns:
        NaN for fewer than three samples, which make no curve.

    Raises:
        ValueError: sizes that do not fit, NaN or infinite values, variances below 0.
    """
    labels, preds, variances = as_labels(labels), as_labels(preds, "preds"), as_labels(variances, "variances")
    _check_sizes(labels, preds=preds, variances=variances)
    if (variances < 0).any():
        raise ValueError(f"variances: expected at least 0, found {variances.min():g}")
    if len(labels) < 3:
        return math.nan
    size = np.abs(preds - labels)
    by_uncertainty, _ = _sorted_means(variances, size)
    # both curves sum the same numbers in another order, and differ by rounding where they are equal
    difference = np.abs(_means_of_rest(by_uncertainty) - _means_of_rest(np.sort(size)))
    peak = difference.max()
    if peak <= 1e-12 * size.max():
        return 0.0
    return float(((difference[1:] + difference[:-1]) / 2).sum() / peak / (len(difference) - 1))


def uce(labels, preds, spreads, bins: int = 10) -> float:
    """Uncertainty calibration error: sum over bins of (n_b / N) |mean e^2 - mean spread^2|, in the square of the unit.

    The bins hold equally many samples, in the order of their spreads; samples of equal spread share their mean e^2.
    Shapes and errors are those of `ause`; bins below 1 are refused, and no bin is empty.
    """
    labels, preds, spreads = as_labels(labels), as_labels(preds, "preds"), _spreads(spreads, "spreads")
    _check_sizes(labels, preds=preds, spreads=spreads)
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, for example 10, found {bins}")
    squares, spreads = _sorted_means(spreads, (preds - labels) ** 2)
    count = min(int(bins), len(labels))
    starts = np.arange(count) * len(labels) // count
    return float(np.abs(np.add.reduceat(squares - spreads**2, starts)).sum() / len(labels))


def coverage(labels, preds, spreads, *, distribution: str = "gaussian", nominal: float = 0.9) -> float:
    """The share of labels between the (1 - nominal) / 2 and (1 + nominal) / 2 quantiles of the predicted distribution.

    Shapes, units and errors as for `spread_metrics`.
    """
    labels, preds, spreads = as_labels(labels), as_labels(preds, "preds"), _spreads(spreads, "spreads")
    _check_sizes(labels, preds=preds, spreads=spreads)
    _check_nominal(nominal)
    return float((np.abs(labels - preds) <= _family(distribution).half_width(nominal) * spreads).mean())


def gaussian_nll(labels, preds, spreads) -> np.ndarray:
    """-log p per sample (N,) of a Gaussian around each prediction; shapes, units and errors as for `spread_metrics`."""
    labels, preds, spreads = as_labels(labels), as_labels(preds, "preds"), _spreads(spreads, "spreads")
    _check_sizes(labels, preds=preds, spreads=spreads)
    return ((labels - preds) / spreads) ** 2 / 2 + np.log(spreads) + math.log(2 * math.pi) / 2


def laplace_nll(labels, preds, spreads) -> np.ndarray:
    """The same of a Laplace distribution, whose scale is spread / sqrt(2)."""
    labels, preds, spreads = as_labels(labels), as_labels(preds, "preds"), _spreads(spreads, "spreads")
    _check_sizes(labels, preds=preds, spreads=spreads)
    b = spreads / math.sqrt(2)
    return np.abs(labels - preds) / b + np.log(2 * b)


def _gaussian_half_width(nominal: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + nominal) / 2)


def _laplace_half_width(nominal: float) -> float:
    return -math.log1p(-nominal) / math.sqrt(2)


DISTRIBUTIONS = {
    "gaussian": Distribution(gaussian_nll, _gaussian_half_width),
    "laplace": Distribution(laplace_nll, _laplace_half_width),
}


def _family(distribution: str) -> Distribution:
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution: expected one of {', '.join(DISTRIBUTIONS)}, found {distribution!r}")
    return DISTRIBUTIONS[distribution]


def _sorted_means(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and keys (N,) in ascending order of the keys; values of equal keys become their mean."""
    distinct, index, count = np.unique(keys, return_inverse=True, return_counts=True)
    means = np.bincount(index.reshape(-1), weights=values) / count
    return np.repeat(means, count), np.repeat(distinct, count)


def _means_of_rest(ascending: np.ndarray) -> np.ndarray:
    """(N - 1,) means of what remains without the last 1, ..., N - 1 values."""
    return (np.cumsum(ascending)[:-1] / np.arange(1, len(ascending)))[::-1]


def _spreads(values, name: str) -> np.ndarray:
    spreads = as_labels(values, name)
    if (spreads <= 0).any():
        raise ValueError(f"{name}: expected standard deviations above 0, found {spreads.min():g}; clip them from below")
    return spreads


def _check_sizes(labels: np.ndarray, **others: np.ndarray) -> None:
    for name, values in others.items():
        if len(values) != len(labels):
            raise ValueError(f"{name}: expected as many as labels ({len(labels)}), found {len(values)}")


def _check_nominal(nominal: float) -> None:
    if not 0 < nominal < 1:
        raise ValueError(f"nominal: expected a share between 0 and 1, for example 0.9, found {nominal}")
