"""Protocols: training subsets with gaps, one-sided, bimodal or peaked labels, made from any label list as explicit splits.

The one idea: the test set stays balanced over the whole range, so what is taken from the training set is measured: labels
inside a gap as zero_interp, those beyond the training range as zero_extrap. Every draw is seeded, and the split is a file.
Source: the paper, section 4.2 and its appendix (zero-shot labels, peaks), whose own subsets were never published; the
weights, and four times their share of the rows, are those of Puetz et al. 2026.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from ..bins import Bins, as_labels, check_bins
from ..metrics import ALL_GROUPS, shots_of_bins

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Shape:
    """What the training labels look like.

    peaks: (center, width, skew) each; a label's chance is the sum of skewed normals, 2 phi(z) Phi(skew z) with z = (y -
        center) / width. None: all labels alike. gaps: (low, high) each, both ends without training labels. keep: (low, high),
        the range with training labels.
    """

    peaks: tuple[tuple[float, float, float], ...] = ()
    gaps: tuple[tuple[float, float], ...] = ()
    keep: tuple[float, float] | None = None

    def weight(self, labels: np.ndarray) -> np.ndarray:
        """(N,) at least 0: how often a label is wanted in training; 0 in gaps and outside `keep`."""
        weight = np.ones(len(labels))
        if self.peaks:
            z = [(labels - center) / width for center, width, _ in self.peaks]
            weight = sum(np.exp(-0.5 * at**2) * ndtr(skew * at) for at, (_, _, skew) in zip(z, self.peaks))
        return np.where(self.allowed(labels), weight, 0.0)

    def allowed(self, labels: np.ndarray) -> np.ndarray:
        """(N,) bool: labels outside the gaps and inside `keep`."""
        inside = np.ones(len(labels), dtype=bool)
        for low, high in self.gaps:
            inside &= (labels < low) | (labels > high)
        if self.keep is not None:
            inside &= (labels >= self.keep[0]) & (labels <= self.keep[1])
        return inside


def _shape(build: Callable[[Callable[[float], float], float], Shape]) -> Callable[[np.ndarray], Shape]:
    def of_labels(labels: np.ndarray) -> Shape:
        low, high = np.quantile(labels, [0.01, 0.99])  # one far label would put every peak where nothing is
        span = float(high - low)
        return build(lambda share: float(low + share * span), span or 1.0)  # labels that are all alike lie on every peak

    return of_labels


# what --shape chooses from: labels -> Shape, by shares of the range between the 1 % and the 99 % quantile
SHAPES: dict[str, Callable[[np.ndarray], Shape]] = {
    "full": _shape(lambda at, span: Shape()),
    "gap": _shape(lambda at, span: Shape(gaps=((at(0.45), at(0.6)),))),
    "one_sided": _shape(lambda at, span: Shape(keep=(-np.inf, at(0.6)))),
    "peaked": _shape(lambda at, span: Shape(peaks=((at(0.5), span / 10, 0.0),))),
    "bimodal": _shape(lambda at, span: Shape(peaks=((at(0.2), span / 10, 0.0), (at(0.8), span / 10, 0.0)))),
}


def make_split(
    labels, shape: Shape, bins: Bins | None = None, *, cap: int = 30, size: float = 4.0, replace: bool = False, seed: int = 0
) -> dict[str, np.ndarray]:
    """Rows of train, val and test, each (n,) int64 in increasing order; with `replace` rows of train may repeat.

    Of each bin k = min(count // 3, cap) rows are test and k are validation, those in gaps and outside `keep` taken out of
    validation. Of the rest, a bin trains with int(size N w / sum w) rows where the shape has peaks, or with all it may.

    Args:
        labels: (N,) finite numbers. bins: `Bins.auto` when None.
        size: how many times its share of the N rows left a bin may have, as far as it has them.
        replace: draw with replacement, so that every bin has what is wanted (the published way, with duplicates).

    Raises:
        ValueError: a split without rows, an option out of range.
    """
    labels = as_labels(labels)
    bins = Bins.auto(labels) if bins is None else check_bins(bins)
    if cap < 1 or not size > 0:
        raise ValueError(f"cap, size: expected at least 1 and above 0, found {cap} and {size}")
    rng = np.random.default_rng(seed)
    index = bins.index(labels)
    place = _place_within(index, bins.count, rng)
    k = np.minimum(bins.counts(labels) // 3, cap)[index]
    allowed = shape.allowed(labels)
    test, val = place < k, (place >= k) & (place < 2 * k) & allowed
    pool = np.flatnonzero((place >= 2 * k) & allowed)
    train = _draw(pool, labels, index, bins.count, shape, size, replace, rng) if shape.peaks else pool
    found = {"train": np.sort(train), "val": np.flatnonzero(val), "test": np.flatnonzero(test)}
    for name, rows in found.items():
        if not len(rows):
            raise ValueError(f"shape: leaves no row for {name}; fewer bins, a larger size or smaller gaps give it some")
    return found


def _place_within(index: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Each row's place among the rows of its bin, in random order: (N,) int64."""
    order = np.lexsort((rng.random(len(index)), index))
    counts = np.bincount(index, minlength=count)
    place = np.empty(len(index), dtype=np.int64)
    place[order] = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place


def _draw(
    pool: np.ndarray, labels: np.ndarray, index: np.ndarray, count: int, shape: Shape, size: float, replace: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    own = index[pool]
    there = np.bincount(own, minlength=count)
    # a bin's weight is that of its labels, so that a wide bin may lie partly in a gap
    weight = np.divide(np.bincount(own, shape.weight(labels[pool]), count), there, out=np.zeros(count), where=there > 0)
    total = weight.sum()
    if not total > 0:
        raise ValueError("shape: no label lies near a peak; move the peaks or widen them")
    wanted = (size * len(pool) * weight / total + 1e-9).astype(np.int64)
    if not replace:
        return pool[_place_within(own, count, rng) < np.minimum(wanted, there)[own]]
    wanted = np.where(there > 0, wanted, 0)
    order, start = np.argsort(own, kind="stable"), np.cumsum(there) - there
    bin_of = np.repeat(np.arange(count), wanted)
    return pool[order[start[bin_of] + (rng.random(len(bin_of)) * there[bin_of]).astype(np.int64)]]


# -- files -------------------------------------------------------------------------------------------------------------


def split_csv(rows: dict[str, np.ndarray], labels: Sequence | dict, paths: Sequence[str] | None = None) -> str:
    """The split as text: index,label,split, or age,path,split where there are paths (the face folders' form).

    `labels` (N,), or labels by row, are written as they are.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["index", "label", "split"] if paths is None else ["age", "path", "split"])
    where = sorted((int(i), name) for name in SPLITS for i in rows[name])
    writer.writerows([i, labels[i], name] if paths is None else [labels[i], paths[i], name] for i, name in where)
    return buffer.getvalue()


def read_split_file(path: str | Path, labels, flag: str = "--split") -> dict[str, np.ndarray]:
    """Rows of train, val and test from a csv of index,label,split; rows that it does not name are in none.

    Raises ValueError naming the flag, file and line: no such file, another form, an index that is no row, a label that is
    not that row's, a split without rows.
    """
    path, labels = Path(path), as_labels(labels)
    if not path.is_file():
        raise ValueError(f"{flag}: there is no file {path}; python -m imbalanced_regression protocols makes one")
    found: dict[str, list[int]] = {name: [] for name in SPLITS}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            content = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{flag}: {path} is no table of text ({error})") from None
    for number, row in enumerate(content, start=2):
        try:
            i, label, rows = int(row["index"]), float(row["label"]), found[row["split"]]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{flag}: {path}: line {number}: expected index,label,split, found {list(row.values())}") from None
        if not 0 <= i < len(labels):
            raise ValueError(f"{flag}: {path}: line {number}: index {i} is no row of the table's {len(labels)}")
        if not np.isclose(label, labels[i], rtol=1e-6, atol=1e-9):
            where = f"{flag}: {path}: line {number}"
            raise ValueError(f"{where}: row {i} has label {labels[i]:g}, not {label:g}; is it a split of other data?")
        rows.append(i)
    for name, rows in found.items():
        if not rows:
            raise ValueError(f"{flag}: {path}: no row in {name}")
    return {name: np.array(rows, dtype=np.int64) for name, rows in found.items()}


def describe(labels, rows: dict[str, np.ndarray], bins: Bins, many: int = 100, few: int = 20) -> str:
    """How many rows each split has, and the test rows by the shot of their bin, as text of two lines."""
    labels = as_labels(labels)
    counts = bins.counts(labels[rows["train"]])
    shots = shots_of_bins(counts, many, few)[bins.index(labels[rows["test"]])]
    groups = ", ".join(f"{name} {(shots == name).sum()}" for name in ALL_GROUPS[1:])
    trained = labels[rows["train"]]
    sizes = ", ".join(f"{name} {len(rows[name])}" for name in SPLITS)
    return f"rows       {sizes}; training labels {trained.min():g} to {trained.max():g}\ntest rows  {groups}"
