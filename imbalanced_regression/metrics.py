"""Metrics, overall and by shot: how good a model is where training labels are many, medium or few.

The one idea: a test label's shot is decided by the training count of its bin, and every number is computed once over
all predictions of a group, never averaged over batches or ranks. Needs numpy and scipy only.
Source: the paper, section 4 (evaluation), with balanced errors and per-bin bias besides.
"""

from __future__ import annotations

import numpy as np

from .bins import Bins, as_array, as_labels, check_bins

SHOTS = ("many", "medium", "few")
GROUPS = ("overall", *SHOTS)

_ZERO_ERROR = 1e-10  # what an error of exactly 0 counts as in the geometric mean
_BY_VALUE_SPAN = 10_000  # whole labels count by value when they span at most this many values


def shot_of_counts(train_counts, many: int = 100, few: int = 20) -> np.ndarray:
    """The shot of each bin: training counts (K,) -> (K,) of "many" (> many), "few" (< few, absent too) or "medium"."""
    if few > many:
        raise ValueError(f"few: expected at most many = {many}, found {few}")
    counts = as_array(train_counts, "train_counts")
    return np.where(counts > many, "many", np.where(counts < few, "few", "medium"))


def shot_metrics(
    preds, labels, train_labels, bins: Bins | None = None, many: int = 100, few: int = 20, *, shots=None
) -> dict[str, dict]:
    """Errors overall and by shot, balanced over bins, and per bin; e = prediction - label.

    Args:
        preds, labels: (N,) or (N, 1), in the unit of the label.
        train_labels: (M,) or (M, 1), the labels trained on; their counts decide the shots.
        bins: the bins that count them. None: whole labels count by value, as ages do; others get `Bins.auto`.
        many, few: more than `many` training labels in a bin make it many-shot, fewer than `few` few-shot.
        shots: (K,) of "many", "medium" or "few", a fixed list instead of the counts; needs `bins`.

    Returns:
        {"overall" | "many" | "medium" | "few": {"mse", "rmse", "l1", "gmean", "bias", "count"},
        "balanced": {"l1", "mse"}: means over the bins that have test labels of the bin's error,
        "per_bin": (K,) arrays "center", "train_count", "count", "l1", "bias", "shot"}.
        gmean is the geometric mean of |e|, 0 counted as 1e-10. An empty group has count 0 and NaN elsewhere.

    Raises:
        ValueError: sizes that do not fit, NaN or infinite values, `shots` that do not fit `bins`.
    """
    preds, labels = as_labels(preds, "preds"), as_labels(labels)
    train_labels = as_labels(train_labels, "train_labels")
    if len(preds) != len(labels):
        raise ValueError(f"preds: expected as many as labels ({len(labels)}), found {len(preds)}")
    if shots is not None and bins is None:
        raise ValueError("shots: a list of shots per bin needs bins as well")
    if bins is None:
        bins = _bins_by_value(np.concatenate([train_labels, labels]))
    check_bins(bins)
    train_counts = bins.counts(train_labels)
    shots = shot_of_counts(train_counts, many, few) if shots is None else np.asarray(shots)
    check_shots(shots, bins)

    index = bins.index(labels)
    error = preds - labels
    result: dict[str, dict] = {"overall": _errors(error)}
    for shot in SHOTS:
        result[shot] = _errors(error[(shots == shot)[index]])

    count = np.bincount(index, minlength=bins.count)
    l1, mse, bias = (_mean_per_bin(values, index, count) for values in (np.abs(error), error**2, error))
    result["balanced"] = {"l1": float(np.nanmean(l1)), "mse": float(np.nanmean(mse))}
    result["per_bin"] = {
        "center": bins.centers, "train_count": train_counts, "count": count, "l1": l1, "bias": bias, "shot": shots,
    }
    return result


def correlations(preds, labels) -> dict[str, float]:
    """Pearson's and Spearman's correlation of (N,) predictions and labels; NaN where either is constant or N < 2."""
    from scipy.stats import pearsonr, spearmanr

    preds, labels = as_labels(preds, "preds"), as_labels(labels)
    if len(preds) != len(labels):
        raise ValueError(f"preds: expected as many as labels ({len(labels)}), found {len(preds)}")
    if len(preds) < 2 or np.ptp(preds) == 0 or np.ptp(labels) == 0:
        return {"pearson": float("nan"), "spearman": float("nan")}
    return {"pearson": float(pearsonr(preds, labels)[0]), "spearman": float(spearmanr(preds, labels)[0])}


def check_shots(shots: np.ndarray, bins: Bins) -> None:
    """Raise ValueError unless `shots` is one of "many", "medium", "few" for every bin."""
    if shots.shape != (bins.count,):
        raise ValueError(f"shots: expected one for each of the {bins.count} bins, found shape {shots.shape}")
    unknown = set(shots.tolist()) - set(SHOTS)
    if unknown:
        raise ValueError(f"shots: expected {', '.join(SHOTS)}, found {sorted(unknown)[0]!r}")


def _bins_by_value(labels: np.ndarray) -> Bins:
    low, high = labels.min(), labels.max()
    if (labels == np.round(labels)).all() and high - low <= _BY_VALUE_SPAN:
        return Bins.width(low, high + 1, 1)
    return Bins.auto(labels)


def _errors(error: np.ndarray) -> dict[str, float]:
    if len(error) == 0:
        return {**dict.fromkeys(("mse", "rmse", "l1", "gmean", "bias"), float("nan")), "count": 0}
    size = np.abs(error)
    mse = float(np.mean(size**2))
    return {
        "mse": mse,
        "rmse": float(np.sqrt(mse)),
        "l1": float(np.mean(size)),
        "gmean": float(np.exp(np.mean(np.log(np.where(size == 0, _ZERO_ERROR, size))))),
        "bias": float(np.mean(error)),
        "count": len(error),
    }


def _mean_per_bin(values: np.ndarray, index: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(K,) mean of the values of each bin, NaN where it has none."""
    total = np.bincount(index, weights=values, minlength=len(count))
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


class DepthMetrics:
    """Dense depth errors by shot, accumulated over pixels without keeping them: O(K) memory.

    Every pixel's errors are summed in its depth bin; groups are sums of bins, so each group is exact.

    Args:
        bins: K bins of depth in metres.
        shots: (K,) of "many", "medium" or "few".

    Source: the paper, section 4 (NYUD2-DIR): RMSE, relative error, log10 error, MAE and the share of pixels within a
    factor of 1.25, 1.25^2 and 1.25^3.
    """

    _SUMS = ("mse", "l1", "absrel", "log10", "delta1", "delta2", "delta3", "bias")
    _LEAST_DEPTH = 0.001  # metres; a smaller prediction counts as this much where its logarithm or ratio is taken

    def __init__(self, bins: Bins, shots):
        self.bins, self.shots = bins, np.asarray(shots)
        check_shots(self.shots, bins)
        self._count = np.zeros(bins.count, dtype=np.int64)
        self._sums = {name: np.zeros(bins.count) for name in self._SUMS}

    def update(self, preds, labels, mask=None) -> None:
        """Add pixels: predicted and true depth in metres, equal shapes; `mask` (0/1, same shape) says which count.

        Raises ValueError for shapes that do not fit, true depths that are not above 0, masked entries, or values that are not finite.
        """
        preds, labels = as_array(preds, "preds"), as_array(labels, "labels")
        if preds.shape != labels.shape:
            raise ValueError(f"preds: expected the shape of labels {labels.shape}, found {preds.shape}")
        if mask is not None:
            mask = as_array(mask, "mask")
            if mask.shape != labels.shape:
                raise ValueError(f"mask: expected the shape of labels {labels.shape}, found {mask.shape}")
            preds, labels = preds[mask != 0], labels[mask != 0]
        if labels.size == 0:
            return
        index = self.bins.index(labels.reshape(-1))
        preds, labels = as_labels(preds.reshape(-1), "preds"), as_labels(labels.reshape(-1))
        if (labels <= 0).any():
            raise ValueError(f"labels: expected depths above 0 m, found {labels.min():g}; mask out pixels without depth")
        error = preds - labels
        positive = np.maximum(preds, self._LEAST_DEPTH)
        ratio = np.maximum(positive / labels, labels / positive)
        values = (
            error**2, np.abs(error), np.abs(error) / labels, np.abs(np.log10(positive / labels)),
            ratio < 1.25, ratio < 1.25**2, ratio < 1.25**3, error,
        )
        self._count += np.bincount(index, minlength=self.bins.count)
        for name, value in zip(self._SUMS, values):
            self._sums[name] += np.bincount(index, weights=value, minlength=self.bins.count)

    def merge(self, other: DepthMetrics) -> None:
        """Add the pixels that `other`, of the same bins, has seen: of one image, or on another rank."""
        self._count += other._count
        for name, total in self._sums.items():
            total += other._sums[name]

    def compute(self) -> dict[str, dict]:
        """{"overall" | "many" | "medium" | "few": {"rmse", "mse", "absrel", "log10", "l1", "delta1..3", "bias", "count"},
        "balanced": {"l1", "mse"}, "per_bin": as in `shot_metrics`, without training counts}."""
        result: dict[str, dict] = {"overall": self._group(np.ones(self.bins.count, dtype=bool))}
        for shot in SHOTS:
            result[shot] = self._group(self.shots == shot)
        nan = np.full(self.bins.count, np.nan)
        per_bin = {
            name: np.divide(self._sums[name], self._count, out=nan.copy(), where=self._count > 0)
            for name in ("l1", "mse", "bias")
        }
        seen = self._count > 0
        result["balanced"] = {
            name: float(per_bin[name][seen].mean()) if seen.any() else float("nan") for name in ("l1", "mse")
        }
        result["per_bin"] = {
            "center": self.bins.centers, "count": self._count.copy(), "l1": per_bin["l1"], "bias": per_bin["bias"],
            "shot": self.shots,
        }
        return result

    def _group(self, chosen: np.ndarray) -> dict[str, float]:
        count = int(self._count[chosen].sum())
        means = {name: float(s[chosen].sum() / count) if count else float("nan") for name, s in self._sums.items()}
        return {"rmse": float(np.sqrt(means["mse"])), **means, "count": count}
