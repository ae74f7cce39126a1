"""Metrics, overall and by shot: how good a model is where training labels are many, medium or few.

The one idea: a test label's shot is decided by the training count of its bin, and every number is computed once over
all predictions of a group, never averaged over batches or ranks. Labels without any training label are groups of their own.
Source: the paper, section 4 (evaluation), with balanced errors and per-bin bias besides.
"""

from __future__ import annotations

import numpy as np

from .bins import Bins, as_array, as_labels, check_bins
from .methods.relevance import Relevance

SHOTS = ("many", "medium", "few")
ZERO_SHOTS = ("zero_interp", "zero_extrap")  # no training label: inside the range of the training labels, or outside it
GROUPS = ("overall", *SHOTS)  # those of the published tables
ALL_GROUPS = (*GROUPS, *ZERO_SHOTS)

# the numbers of `shot_metrics`' "scores" that tables show, and their headings there
SCORES = {
    "sera": "SERA", "sera_mean": "mean SERA", "bmae_fd": "bMAE (FD bins)", "bmase": "bMASE", "ccc": "CCC", "aore": "AORE",
    "aorc": "AORC",
}

_MOST_FD_BINS = 10_000  # one far label would ask for millions of bins, nearly all empty

_ZERO_ERROR = 1e-10  # what an error of exactly 0 counts as in the geometric mean
_BY_VALUE_SPAN = 10_000  # whole labels count by value when they span at most this many values


def shot_of_counts(train_counts, many: int = 100, few: int = 20) -> np.ndarray:
    """The shot of each bin: training counts (K,) -> (K,) of "many" (> many), "few" (< few, absent too) or "medium"."""
    if few > many:
        raise ValueError(f"few: expected at most many = {many}, found {few}")
    counts = as_array(train_counts, "train_counts")
    return np.where(counts > many, "many", np.where(counts < few, "few", "medium"))


def shots_of_bins(train_counts, many: int = 100, few: int = 20) -> np.ndarray:
    """As `shot_of_counts` for K bins in the order of their labels, with bins that no training label is in as groups of
    their own: "zero_interp" between bins that have some, "zero_extrap" below or above all of these."""
    counts = np.asarray(train_counts)
    shots = shot_of_counts(counts, many, few).astype("<U11")
    filled = np.flatnonzero(counts)
    place = np.arange(len(counts))
    inside = (place > filled[0]) & (place < filled[-1]) if len(filled) else np.zeros(len(counts), dtype=bool)
    return np.where(counts > 0, shots, np.where(inside, "zero_interp", "zero_extrap"))


def shot_metrics(
    preds, labels, train_labels, bins: Bins | None = None, many: int = 100, few: int = 20, *, shots=None
) -> dict[str, dict]:
    """Errors overall and by shot, balanced over bins, and per bin; e = prediction - label.

    Args:
        preds, labels: (N,) or (N, 1), in the unit of the label.
        train_labels: (M,) or (M, 1), the labels trained on; their counts decide the shots.
        bins: the bins that count them. None: whole labels count by value, as ages do; others get `Bins.auto`.
        many, few: more than `many` training labels in a bin make it many-shot, fewer than `few` few-shot.
        shots: (K,) group of each bin, a fixed list instead of the counts; needs `bins`.

    Returns:
        {"overall" | "many" | "medium" | "few" | "zero_interp" | "zero_extrap": {"mse", "rmse", "l1", "gmean", "bias", "count"},
        "balanced": {"l1", "mse"}: means over the bins that have test labels of the bin's error,
        "scores": {"sera", "sera_mean", "relevance", "bmae_fd", "fd_bins", "bmase", "ccc", "aore", "aorc"}: one number over all,
        "per_bin": (K,) arrays "center", "train_count", "count", "l1", "bias", "shot"}.
        gmean is the geometric mean of |e|, 0 counted as 1e-10. An empty group has count 0 and NaN elsewhere.
        The zero groups are the labels in bins without a training label, see `shots_of_bins`; with `shots` they are empty
        unless the list names them. Of the scores, relevance says where phi is from: the boxplot of the training labels, or
        their density where that has no outliers; bmase is over `bins`; aore's and aorc's rare labels are the few-shot and
        the zero groups. A score that these labels have not is NaN.

    Raises:
        ValueError: sizes that do not fit, NaN or infinite values, `shots` that do not fit `bins`.
    """
    preds, labels = _pair(preds, labels)
    train_labels = as_labels(train_labels, "train_labels")
    if shots is not None and bins is None:
        raise ValueError("shots: a list of shots per bin needs bins as well")
    if bins is None:
        bins = _bins_by_value(np.concatenate([train_labels, labels]))
    check_bins(bins)
    train_counts = bins.counts(train_labels)
    shots = shots_of_bins(train_counts, many, few) if shots is None else np.asarray(shots)
    check_shots(shots, bins)

    index = bins.index(labels)
    error = preds - labels
    result: dict[str, dict] = {"overall": errors(error)}
    for shot in (*SHOTS, *ZERO_SHOTS):
        result[shot] = errors(error[(shots == shot)[index]])

    count = np.bincount(index, minlength=bins.count)
    l1, mse, bias = (_mean_per_bin(values, index, count) for values in (np.abs(error), error**2, error))
    result["balanced"] = {"l1": float(np.nanmean(l1)), "mse": float(np.nanmean(mse))}
    result["scores"] = _scores(preds, labels, train_labels, bins, ~np.isin(shots, ("many", "medium"))[index])
    result["per_bin"] = {
        "center": bins.centers, "train_count": train_counts, "count": count, "l1": l1, "bias": bias, "shot": shots,
    }
    return result


# -- one number over all -----------------------------------------------------------------------------------------------


def sera(labels, preds, relevance) -> float:
    """The squared error-relevance area: labels and preds (N,) -> sum of phi(y) e^2, in the squared unit of the label.

    It is the exact integral over t in [0, 1] of the squared errors of all samples with phi >= t. It grows with N, so only
    numbers on the same test set compare.

    Args:
        relevance: a `Relevance`, or any function of labels (N,) to phi (N,) in [0, 1]; from the training labels.

    Raises:
        ValueError: sizes that do not fit, NaN, phi outside [0, 1] or 0 for all labels, which would call every model perfect.

    Source: Ribeiro and Moniz (Machine Learning 2020), equation 8.
    """
    preds, labels = _pair(preds, labels)
    if not callable(relevance):
        raise ValueError(f"relevance: expected a Relevance, for example Relevance.boxplot(train_labels), found {relevance!r}")
    phi = np.asarray(relevance(labels), dtype=np.float64)
    if phi.shape != labels.shape or not ((phi >= 0) & (phi <= 1)).all():
        found = f"{phi.min():g} to {phi.max():g}, shape {phi.shape}"
        raise ValueError(f"relevance: expected {len(labels)} numbers in [0, 1], found {found}")
    if not phi.any():
        raise ValueError(
            "relevance: phi is 0 for all labels, so every model would score 0; take Relevance.density(train_labels) or "
            "Relevance(points) that these labels reach"
        )
    return float(phi @ (preds - labels) ** 2)


def freedman_diaconis_bins(labels) -> Bins:
    """Equal-width bins over the labels (N,): width 2 IQR N^(-1/3), or log2 N + 1 bins (Sturges) where the IQR is 0.

    At most 10,000 bins. Raises ValueError as `Bins.index`.
    """
    labels = as_labels(labels)
    low, high = labels.min(), labels.max()
    if low == high:
        return Bins.auto(labels)
    lower, upper = np.quantile(labels, [0.25, 0.75])
    wanted = np.log2(len(labels)) + 1
    if upper > lower:
        with np.errstate(over="ignore"):
            wanted = (high - low) / (2 * (upper - lower) / np.cbrt(len(labels)))
    return Bins.uniform(low, high, int(min(np.ceil(wanted), _MOST_FD_BINS)))


def balanced_mae(labels, preds, bins: Bins | None = None) -> float:
    """The mean over bins that have labels of the bin's mean absolute error: labels, preds (N,) -> in the label's unit.

    Without `bins` they are `freedman_diaconis_bins` of these labels; such a number compares on the same test set only.
    """
    preds, labels = _pair(preds, labels)
    bins = freedman_diaconis_bins(labels) if bins is None else check_bins(bins)
    index = bins.index(labels)
    return float(np.nanmean(_mean_per_bin(np.abs(preds - labels), index, np.bincount(index, minlength=bins.count))))


def bmase(labels, preds, train_labels, bins: Bins | None = None) -> float:
    """Balanced MAE over that of always predicting the median training label: below 1 is better than that constant.

    A pure number, which can be averaged over data sets; NaN where the constant is never wrong. `bins` as in `balanced_mae`.
    """
    median = np.median(as_labels(train_labels, "train_labels"))
    constant = balanced_mae(labels, np.full(len(as_labels(labels)), median), bins)
    return balanced_mae(labels, preds, bins) / constant if constant > 0 else float("nan")


def ccc(labels, preds) -> float:
    """Lin's concordance correlation coefficient in [-1, 1]: 2 cov / (var of both + squared difference of the means).

    With population moments; NaN where both are the same constant.
    """
    preds, labels = _pair(preds, labels)
    a, b = labels - labels.mean(), preds - preds.mean()
    below = np.mean(a**2) + np.mean(b**2) + (labels.mean() - preds.mean()) ** 2
    return float(2 * np.mean(a * b) / below) if below > 0 else float("nan")


def aore(labels, preds, rare) -> float:
    """The average of the MAE over all labels and over the rare ones, in the label's unit; NaN where none is rare.

    Args:
        rare: (N,) bool, or a function of the labels to phi (N,): those with phi >= 0.5 are rare.

    Source: CISIR, which calls it the average of overall and rare errors.
    """
    preds, labels = _pair(preds, labels)
    error, rare = np.abs(preds - labels), _rare(labels, rare)
    return float((error.mean() + error[rare].mean()) / 2) if rare.any() else float("nan")


def aorc(labels, preds, rare) -> float:
    """As `aore` with Pearson's correlation in place of the MAE, in [-1, 1]; NaN where either correlation is none."""
    preds, labels = _pair(preds, labels)
    rare = _rare(labels, rare)
    if not rare.any():
        return float("nan")
    return (_pearson(preds, labels) + _pearson(preds[rare], labels[rare])) / 2


def _scores(preds: np.ndarray, labels: np.ndarray, train_labels: np.ndarray, bins: Bins, rare: np.ndarray) -> dict:
    source, relevance = _relevance(train_labels)
    area = float("nan")
    if relevance is not None and (phi := relevance(labels)).any():
        area = float(phi @ (preds - labels) ** 2)
    own = freedman_diaconis_bins(labels)
    return {
        "sera": area, "sera_mean": area / len(labels), "relevance": source,
        "bmae_fd": balanced_mae(labels, preds, own), "fd_bins": own.count, "bmase": bmase(labels, preds, train_labels, bins),
        "ccc": ccc(labels, preds), "aore": aore(labels, preds, rare), "aorc": aorc(labels, preds, rare),
    }


def _relevance(train_labels: np.ndarray) -> tuple[str | None, Relevance | None]:
    for name, make in (("boxplot", Relevance.boxplot), ("density", Relevance.density)):
        try:
            return name, make(train_labels)
        except ValueError:  # no outliers, or one label only
            continue
    return None, None


def _pair(preds, labels) -> tuple[np.ndarray, np.ndarray]:
    preds, labels = as_labels(preds, "preds"), as_labels(labels)
    if len(preds) != len(labels):
        raise ValueError(f"preds: expected as many as labels ({len(labels)}), found {len(preds)}")
    return preds, labels


def _rare(labels: np.ndarray, rare) -> np.ndarray:
    chosen = np.asarray(rare(labels)) >= 0.5 if callable(rare) else np.asarray(rare)
    if chosen.dtype != bool or chosen.shape != labels.shape:
        raise ValueError(f"rare: expected {len(labels)} booleans or a Relevance, found {chosen.dtype} of shape {chosen.shape}")
    return chosen


def _pearson(preds: np.ndarray, labels: np.ndarray) -> float:
    if len(preds) < 2 or np.ptp(preds) == 0 or np.ptp(labels) == 0:
        return float("nan")
    return float(np.corrcoef(preds, labels)[0, 1])


def correlations(preds, labels) -> dict[str, float]:
    """Pearson's and Spearman's correlation of (N,) predictions and labels; NaN where either is constant or N < 2."""
    from scipy.stats import pearsonr, spearmanr

    preds, labels = _pair(preds, labels)
    if len(preds) < 2 or np.ptp(preds) == 0 or np.ptp(labels) == 0:
        return {"pearson": float("nan"), "spearman": float("nan")}
    return {"pearson": float(pearsonr(preds, labels)[0]), "spearman": float(spearmanr(preds, labels)[0])}


def check_shots(shots: np.ndarray, bins: Bins) -> None:
    """Raise ValueError unless `shots` has one of "many", "medium", "few", "zero_interp" and "zero_extrap" for every bin."""
    if shots.shape != (bins.count,):
        raise ValueError(f"shots: expected one for each of the {bins.count} bins, found shape {shots.shape}")
    unknown = set(shots.tolist()) - {*SHOTS, *ZERO_SHOTS}
    if unknown:
        raise ValueError(f"shots: expected {', '.join((*SHOTS, *ZERO_SHOTS))}, found {sorted(unknown)[0]!r}")


def _bins_by_value(labels: np.ndarray) -> Bins:
    low, high = labels.min(), labels.max()
    if (labels == np.round(labels)).all() and high - low <= _BY_VALUE_SPAN:
        return Bins.width(low, high + 1, 1)
    return Bins.auto(labels)


def errors(error: np.ndarray) -> dict[str, float]:
    """A group's errors from prediction - label (N,): "mse", "rmse", "l1", "gmean", "bias" and "count"; NaN if it is empty."""
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


class DepthReference:
    """What SERA and bMASE know of training pixels: their relevance and their median, from counts (K,) over K bins.

    A pixel counts as the centre of its bin. `source` says where phi is from, as in `shot_metrics`. Raises ValueError for
    counts that do not fit the bins, or that are all in one.
    """

    _ROWS = 100_000  # as many labels as stand for the pixels, so that quantiles are those of the counts

    def __init__(self, bins: Bins, counts):
        counts = as_array(counts, "counts").astype(np.float64)
        if counts.shape != (bins.count,) or not counts.sum() > 0:
            raise ValueError(f"counts: expected ({bins.count},) with at least one pixel, found shape {counts.shape}")
        rows = np.ceil(counts * min(1.0, self._ROWS / counts.sum())).astype(np.int64)
        labels = np.repeat(bins.centers, rows)
        source, relevance = _relevance(labels)
        if source is None or relevance is None:
            raise ValueError("counts: expected pixels in two bins or more, found one")
        self.source, self.relevance, self.median = source, relevance, float(np.median(labels))


class DepthMetrics:
    """Dense depth errors by shot, accumulated over pixels without keeping them: O(K) memory.

    Every pixel's errors are summed in its depth bin; groups are sums of bins, so each group is exact.

    Args:
        bins: K bins of depth in metres.
        shots: (K,) group of each bin, as in `shot_metrics`.
        reference: a `DepthReference` of the training pixels, for SERA and bMASE; without it they are NaN.

    Source: the paper, section 4 (NYUD2-DIR): RMSE, relative error, log10 error, MAE and the share of pixels within a
    factor of 1.25, 1.25^2 and 1.25^3.
    """

    _SUMS = ("mse", "l1", "absrel", "log10", "delta1", "delta2", "delta3", "bias")
    _APART = ("sera", "constant")  # sums of phi e^2 and of the errors of the median, no group's metrics
    _LEAST_DEPTH = 0.001  # metres; a smaller prediction counts as this much where its logarithm or ratio is taken

    def __init__(self, bins: Bins, shots, reference: DepthReference | None = None):
        self.bins, self.shots, self.reference = bins, np.asarray(shots), reference
        check_shots(self.shots, bins)
        self._count = np.zeros(bins.count, dtype=np.int64)
        self._sums = {name: np.zeros(bins.count) for name in (*self._SUMS, *self._APART)}
        self._moments = np.zeros(5)  # sums of label, label^2, error, error^2 and label * error, labels from the middle bin on

    def update(self, preds, labels, mask=None) -> None:
        """Add pixels: predicted and true depth in metres, equal shapes; `mask` (0/1, same shape) says which count.

        Raises ValueError for shapes that do not fit, true depths that are not above 0, masked entries, or values that
        are not finite.
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
            ratio < 1.25, ratio < 1.25**2, ratio < 1.25**3, error, *self._apart(labels, error),
        )
        self._count += np.bincount(index, minlength=self.bins.count)
        apart = labels - self.bins.centers[self.bins.count // 2]  # near 0, so that the squares lose no digits
        self._moments += [apart.sum(), apart @ apart, error.sum(), error @ error, apart @ error]
        for name, value in zip(self._sums, values):
            self._sums[name] += np.bincount(index, weights=value, minlength=self.bins.count)

    def _apart(self, labels: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.reference is None:
            return np.zeros(len(labels)), np.zeros(len(labels))
        return self.reference.relevance(labels) * error**2, np.abs(labels - self.reference.median)

    def merge(self, other: DepthMetrics) -> None:
        """Add the pixels that `other`, of the same bins, has seen: of one image, or on another rank."""
        self._count += other._count
        self._moments += other._moments
        for name, total in self._sums.items():
            total += other._sums[name]

    def compute(self) -> dict[str, dict]:
        """{"overall" | "many" | "medium" | "few" | "zero_interp" | "zero_extrap": {"rmse", "mse", "absrel", "log10", "l1",
        "delta1..3", "bias", "count"}, "balanced": {"l1", "mse"}, "scores": {"sera", "sera_mean", "relevance", "bmase", "ccc",
        "aore"}, "per_bin": as in `shot_metrics`, without training counts}. The other scores need all labels at once, which
        pixels are too many for."""
        result: dict[str, dict] = {"overall": self._group(np.ones(self.bins.count, dtype=bool))}
        for shot in (*SHOTS, *ZERO_SHOTS):
            result[shot] = self._group(self.shots == shot)
        result["scores"] = {**self._referred(), "ccc": self._ccc(), "aore": self._aore()}
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

    def _referred(self) -> dict:
        """SERA, and the balanced error over that of always predicting the median training pixel."""
        area, seen = float(self._sums["sera"].sum()), self._count > 0
        constant = float((self._sums["constant"][seen] / self._count[seen]).sum())
        own = float((self._sums["l1"][seen] / self._count[seen]).sum())
        found = self.reference is not None and area > 0  # phi is 0 for all pixels, or there is none
        return {
            "sera": area if found else float("nan"), "sera_mean": area / int(self._count.sum()) if found else float("nan"),
            "relevance": None if self.reference is None else self.reference.source,
            "bmase": own / constant if constant > 0 else float("nan"),
        }

    def _ccc(self) -> float:
        n = self._count.sum()
        if not n:
            return float("nan")
        label, label2, error, error2, product = self._moments / n
        # preds = labels + e: var preds = var labels + 2 cov(labels, e) + var e
        var, cov_error, var_error = label2 - label**2, product - label * error, error2 - error**2
        below = 2 * var + 2 * cov_error + var_error + error**2
        return float(2 * (var + cov_error) / below) if below > 0 else float("nan")

    def _aore(self) -> float:
        chosen = ~np.isin(self.shots, ("many", "medium"))
        if not self._count[chosen].sum():
            return float("nan")
        rare, whole = (self._sums["l1"][part].sum() / self._count[part].sum() for part in (chosen, slice(None)))
        return float((rare + whole) / 2)

    def _group(self, chosen: np.ndarray) -> dict[str, float]:
        count = int(self._count[chosen].sum())
        means = {name: float(self._sums[name][chosen].sum() / count) if count else float("nan") for name in self._SUMS}
        return {"rmse": float(np.sqrt(means["mse"])), **means, "count": count}
