"""Is a difference between methods more than luck? Paired tests, intervals, and ranks over data sets.

The one idea: runs of equal seed are pairs, so a method is tested by the differences to its baseline seed by seed; the test
samples are a second source of luck, so intervals draw seeds and samples anew; several methods at once cost a correction.
Sources: Holm 1979; Efron and Tibshirani 1993, chapter 13; Demsar 2006 (JMLR 7), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

Statistic = Callable[[np.ndarray, np.ndarray], float]


def paired_p(values, baseline) -> float:
    """Two-sided p of the paired t-test that `values` and `baseline` have the same mean: (S,) each, one entry per seed.

    Pairs with a NaN are left out. NaN with fewer than two pairs; 1 where all differences are 0, and 0 where they are all the
    same other number.

    Raises ValueError for different numbers of seeds.
    """
    first, second = np.asarray(values, np.float64).ravel(), np.asarray(baseline, np.float64).ravel()
    if first.shape != second.shape:
        raise ValueError(f"values, baseline: expected one of each per seed, found {len(first)} and {len(second)}")
    difference = first - second
    difference = difference[np.isfinite(difference)]
    if len(difference) < 2:
        return float("nan")
    # a spread of rounding errors alone is no spread
    if np.ptp(difference) <= 1e-12 * max(np.abs(first).max(), np.abs(second).max()):
        return 1.0 if abs(difference.mean()) <= 1e-12 * np.abs(first).max() else 0.0
    return float(stats.ttest_1samp(difference, 0.0).pvalue)


def mean_interval(values, level: float = 0.95) -> tuple[float, float]:
    """Student's t-interval of the mean of values (S,), one per seed, NaN left out; NaN with fewer than two.

    Raises ValueError for a level outside (0, 1).
    """
    _check_level(level)
    found = np.asarray(values, np.float64).ravel()
    found = found[np.isfinite(found)]
    if len(found) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean() - half), float(found.mean() + half)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, for example 0.95, found {level}")


def holm(p_values) -> np.ndarray:
    """Holm's corrected p of several tests, in the given order: (M,) -> (M,) float64; NaN stays NaN and does not count.

    A corrected p below 0.05 says "different" with at most a 5 % chance that any such statement among the M is wrong.

    Raises ValueError for a p outside 0..1.
    """
    p = np.asarray(p_values, np.float64).ravel()
    known = np.flatnonzero(~np.isnan(p))
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise ValueError(f"p_values: expected numbers within 0..1, found {p[known].min():g} to {p[known].max():g}")
    corrected = np.full(len(p), np.nan)
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * (len(order) - np.arange(len(order)))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else steps
    return corrected


def bootstrap_interval(
    statistic: Statistic, labels: np.ndarray, preds: Sequence[np.ndarray], *,
    level: float = 0.95, repeats: int = 1000, seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a method's mean statistic, over its seeds and the test samples at once.

    Each repeat draws seeds and, for all of them alike, test samples with replacement.

    Args:
        statistic: (labels (N,), predictions (N,)) -> number, for example the mean absolute error of a shot group. A repeat
            that gives NaN (an empty group) is left out.
        labels: (N,) of the test set.
        preds: one (N,) per seed.
        level: share of the repeats that the interval holds, within (0, 1).

    Returns:
        (low, high); NaN where no repeat gives a number.

    Raises:
        ValueError: no seeds, other lengths, a level out of range.
    """
    labels = np.asarray(labels, np.float64).ravel()
    table = np.stack([np.asarray(run, np.float64).ravel() for run in preds]) if len(preds) else np.empty((0, 0))
    if table.shape[1:] != labels.shape or not len(table):
        raise ValueError(f"preds: expected (N,) = {labels.shape} per seed, found {table.shape}")
    _check_level(level)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        samples = rng.integers(len(labels), size=len(labels))
        seeds, times = np.unique(rng.integers(len(table), size=len(table)), return_counts=True)
        drawn = labels[samples]
        found.append(np.average([statistic(drawn, table[s, samples]) for s in seeds], weights=times))
    values = np.asarray(found)[~np.isnan(found)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_bootstrap_p(
    statistic: Statistic, labels: np.ndarray, preds: np.ndarray, baseline: np.ndarray, *, repeats: int = 2000, seed: int = 0,
) -> float:
    """Two-sided p that two models have the same statistic, over test samples drawn anew: labels, preds, baseline (N,).

    Twice the share of the repeats in which the difference is not on the side where most are; at least 2 / (repeats + 1), and 1
    where the predictions are the same. It knows nothing of other seeds. NaN where no repeat gives a number.

    Source: Efron and Tibshirani 1993, chapter 15.4, by inverting the percentile interval.
    """
    labels, first, second = (np.asarray(values, np.float64).ravel() for values in (labels, preds, baseline))
    if not labels.shape == first.shape == second.shape or not len(labels):
        raise ValueError(f"preds, baseline: expected (N,) = {labels.shape}, found {first.shape} and {second.shape}")
    if np.array_equal(first, second):
        return 1.0
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        drawn = rng.integers(len(labels), size=len(labels))
        found.append(statistic(labels[drawn], first[drawn]) - statistic(labels[drawn], second[drawn]))
    values = np.asarray(found)[~np.isnan(found)]
    if not len(values):
        return float("nan")
    side = min((values <= 0).sum(), (values >= 0).sum())
    return float(min(1.0, 2 * (side + 1) / (len(values) + 1)))


def average_ranks(scores) -> np.ndarray:
    """Mean rank of each method over data sets, 1 the best: scores (data sets, M), smaller is better -> (M,).

    Ties share the mean of their ranks.

    Raises ValueError for a table with holes: a method must have been run on every data set to be ranked.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores: expected shape (data sets, methods), found {scores.shape}")
    if np.isnan(scores).any():
        row, column = np.argwhere(np.isnan(scores))[0]
        raise ValueError(f"scores: method {column} has no result on data set {row}; leave one of them out")
    return stats.rankdata(scores, axis=1).mean(axis=0)


def critical_difference(methods: int, datasets: int, alpha: float = 0.05) -> float:
    """Average ranks that differ by less are not told apart (Nemenyi's test): q_alpha sqrt(M (M + 1) / (6 D)).

    q_alpha is the studentised range statistic for M methods and infinitely many degrees of freedom, over sqrt(2).

    Raises ValueError for fewer than two methods or no data set.
    """
    if methods < 2 or datasets < 1:
        raise ValueError(f"methods, datasets: expected at least 2 and 1, found {methods} and {datasets}")
    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * datasets)))
