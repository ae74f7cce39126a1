"""Bins: the map from a label to its bin.

The one idea: LDS, FDS and the shot metrics all look at continuous labels through the same bins, so a label
falls into the same bin everywhere. Legend used in the whole library: N samples, K bins, D features.
"""

from __future__ import annotations

import logging
import math

import numpy as np

logger = logging.getLogger(__name__)

_LARGEST = 1e300  # larger labels overflow when subtracted
_BLOCK = 1 << 16  # labels looked up at a time, so that temporaries stay in the CPU cache
_AUTO_BINS = (10, 100)  # fewest and most equal-width bins chosen automatically
_GRID_LABELS = 40  # labels on a grid may have as many bins as hold this many on average, in place of F
_ONE_PER_VALUE = 20  # up to this many unevenly spaced values that repeat get a bin each
_HEAVY_TAIL = 0.25  # the middle 90 % of the labels lie in less than this share of the range


class Bins:
    """K bins over a continuous label, given by K + 1 increasing edges.

    A label belongs to the bin of the last edge that is not above it; labels outside the edges go to the nearest end
    bin. Edges and labels are compared in float32, the precision in which labels reach a model, so that numpy labels
    and torch targets never disagree about a label on an edge; only edges that float32 cannot tell apart are compared
    in float64.

    Args:
        edges: (K + 1,) strictly increasing finite numbers, in the unit of the labels.

    Raises:
        ValueError: fewer than two edges, edges that are not finite or do not increase.

    Source: the target space of the paper (section 3) divided into equal-width bins; here of any width.
    """

    def __init__(self, edges):
        edges = np.array(edges, dtype=np.float64)
        if edges.ndim != 1 or len(edges) < 2:
            raise ValueError(f"edges: expected at least two numbers in one dimension, found shape {edges.shape}")
        if not np.isfinite(edges).all():
            raise ValueError(f"edges: all must be finite, found {edges[~np.isfinite(edges)][0]}")
        if not (np.diff(edges) > 0).all():
            at = int(np.argmin(np.diff(edges) > 0))
            raise ValueError(f"edges: must strictly increase, found {edges[at]:g} then {edges[at + 1]:g} at position {at}")
        self.edges = edges
        self.edges.flags.writeable = False
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = edges.astype(np.float32)
            told_apart = (np.diff(narrow) > 0).all() and np.isfinite(narrow).all()
        self.dtype = np.float32 if told_apart else np.float64
        self.compared_edges = edges.astype(self.dtype)
        self.compared_edges.flags.writeable = False
        even = np.linspace(edges[0], edges[-1], len(edges))
        even_enough = (np.abs(edges - even) < 1e-3 * np.diff(edges).min()).all()
        self._equal = bool(even_enough and np.isfinite(_ratio(self.count, edges[-1] - edges[0])))

    @classmethod
    def uniform(cls, low: float, high: float, count: int) -> Bins:
        """`count` bins of equal width over [low, high]."""
        if int(count) != count or count < 1:
            raise ValueError(f"count: expected a whole number of bins, at least 1, found {count}")
        _check_range(low, high)
        return cls(np.linspace(low, high, int(count) + 1))

    @classmethod
    def width(cls, low: float, high: float, width: float) -> Bins:
        """Bins `width` wide from `low` on, as many as reach `high` (the last may end above it)."""
        _check_range(low, high)
        if not (np.isfinite(width) and width > 0):
            raise ValueError(f"width: expected a positive number, found {width}")
        count = max(1, int(np.ceil((high - low) / width - 1e-9)))
        return cls(low + width * np.arange(count + 1))

    @classmethod
    def quantile(cls, labels, count: int) -> Bins:
        """Up to `count` bins that hold equally many of `labels` each; equal quantiles are merged into one edge."""
        labels = as_labels(labels)
        if int(count) != count or count < 1:
            raise ValueError(f"count: expected a whole number of bins, at least 1, found {count}")
        edges = np.unique(np.quantile(labels, np.linspace(0, 1, int(count) + 1)))
        if len(edges) == 1:
            return _single(edges[0])
        bins = cls(edges)
        if bins.count < count:
            logger.info("labels repeat too often for %d quantile bins: %r", count, bins)
        return bins

    @classmethod
    def auto(cls, labels) -> Bins:
        """Bins read off the labels by the rule of `choose_bins`, which `inspect` follows too; the choice is logged.

        Raises ValueError as `index`, and for labels beyond 1e300 in size.
        """
        bins, _, why = choose_bins(labels)
        logger.info("bins chosen automatically (%s): %r", why, bins)
        return bins

    def window(self, labels) -> tuple[int, float]:
        """The kernel's length ks and width sigma, in bins, that suit `labels` (N,): for LDS and FDS alike.

        Silverman's rule (1986) for the width of a Gaussian kernel, 0.9 min(sd, IQR / 1.349) N^(-1/5), taken in bins, so that
        unequal bins count alike; in halves, at least 1, at most an eighth of the bins. ks = 2 ceil(sigma) + 1. On the
        published AgeDB-DIR labels it gives the published 5 and 2.

        Raises ValueError as `index`.
        """
        if self.count == 1:
            return 1, 1.0
        most = max(1.0, self.count / 8)
        sigma = round(2 * min(max(self.kernel_width(labels), 1.0), most)) / 2
        return 2 * math.ceil(sigma) + 1, sigma

    def kernel_width(self, labels) -> float:
        """Silverman's width for `labels`, in bins, before `window` rounds and bounds it."""
        labels = as_labels(labels)
        place = np.interp(labels, self.edges, np.arange(self.count + 1))
        lower, upper = np.quantile(place, [0.25, 0.75])
        spread = min(np.std(place), (upper - lower) / 1.349) or np.std(place)
        return float(0.9 * spread * len(labels) ** -0.2)

    @property
    def count(self) -> int:
        """The number of bins K."""
        return len(self.edges) - 1

    @property
    def centers(self) -> np.ndarray:
        """(K,) float64, the middle of each bin, in the unit of the labels."""
        return (self.edges[:-1] + self.edges[1:]) / 2

    def index(self, labels) -> np.ndarray:
        """The bin of each label: labels (N,) or (N, 1) -> (N,) int64 in 0..K-1.

        Raises ValueError for NaN or infinite labels, with how many there are and where the first is.
        """
        labels = as_labels(labels)
        index = np.empty(len(labels), dtype=np.int64)
        for start in range(0, len(labels), _BLOCK):
            part = slice(start, start + _BLOCK)
            index[part] = self._index(labels[part])
        return index

    def _index(self, labels: np.ndarray) -> np.ndarray:
        labels = np.clip(labels, self.edges[0], self.edges[-1]).astype(self.dtype)
        edges, last = self.compared_edges, self.count - 1
        if not self._equal:
            return np.clip(np.searchsorted(edges, labels, side="right") - 1, 0, last).astype(np.int64)
        # equal widths: compute the bin, then mend rounding, which is at most one bin; 4 times as fast as a search
        index = ((labels - self.edges[0]) * (self.count / (self.edges[-1] - self.edges[0]))).astype(np.int64)
        index = np.clip(index, 0, last)
        index -= (labels < edges[index]) & (index > 0)
        index += (labels >= edges[index + 1]) & (index < last)
        return index

    def counts(self, labels) -> np.ndarray:
        """How many labels each bin holds: labels (N,) -> (K,) int64."""
        return np.bincount(self.index(labels), minlength=self.count).astype(np.int64)

    def __eq__(self, other) -> bool:
        return isinstance(other, Bins) and np.array_equal(self.edges, other.edges)

    __hash__ = None  # type: ignore[assignment]  # compared by value and not meant as a dictionary key

    def __repr__(self) -> str:
        widths = np.diff(self.edges)
        plural = "bin" if self.count == 1 else "bins"
        span = f"{self.count} {plural} over [{self.edges[0]:g}, {self.edges[-1]:g}]"
        if np.allclose(widths, widths[0], rtol=1e-6):
            return f"Bins({span}, width {widths[0]:g})"
        return f"Bins({span}, widths {widths.min():g} to {widths.max():g})"


def as_labels(labels, name: str = "labels") -> np.ndarray:
    """Labels as (N,) float64: lists, arrays, series and tensors of shape (N,) or (N, 1), or a list of batches of them.

    Raises ValueError for another shape, no labels at all, masked or no numbers, or NaN or infinite ones (how many, and
    the first index).
    """
    array = as_array(labels, name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name}: expected shape (N,) or (N, 1), found {array.shape}; treat each output on its own")
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one label, found none")
    array = array.astype(np.float64, copy=False)
    bad = ~np.isfinite(array)
    if bad.any():
        raise ValueError(f"{name}: {bad.sum()} of {len(array)} are NaN or infinite, the first at index {int(bad.argmax())}")
    return array


def as_array(values, name: str, batch_dim: int = 1) -> np.ndarray:
    """Numbers as an array of any shape: tensors on any device, arrays, series, lists; columns of objects that are numbers.

    A list of tensors or arrays is a list of batches, joined along the first axis; elements of fewer dimensions than
    `batch_dim` are samples and are stacked.

    Raises ValueError for masked entries (their fill values are no numbers anyone measured), batches that do not fit
    together, and what is no number.
    """
    if hasattr(values, "detach"):  # a tensor on any device, with or without gradient; numpy has no bfloat16
        return values.detach().cpu().double().numpy()
    if isinstance(values, (list, tuple)) and any(hasattr(part, "detach") or isinstance(part, np.ndarray) for part in values):
        parts = [as_array(part, name) for part in values]
        dims = {part.ndim for part in parts}
        if max(dims) < batch_dim:
            shapes = sorted({part.shape for part in parts})
            if len(shapes) > 1:
                raise ValueError(f"{name}: expected samples of one shape, found {shapes[0]} and {shapes[1]}")
            return np.stack(parts)
        if batch_dim == 1 and dims == {1, 2}:  # (n,) beside (n, 1)
            parts = [part[:, 0] if part.ndim == 2 and part.shape[1] == 1 else part for part in parts]
        try:
            return np.concatenate(parts)
        except ValueError:
            shapes = sorted({part.shape for part in parts}, key=str)
            raise ValueError(f"{name}: a list of batches of shapes that do not fit together, such as {shapes[:3]}") from None
    masked = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    if masked is not None and masked.any():
        first = int(masked.reshape(-1).argmax())
        raise ValueError(
            f"{name}: {masked.sum()} of {masked.size} are masked, the first at index {first}; leave them out, for example "
            f"{name}.compressed(), together with what belongs to them"
        )
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name}: expected one number for each sample, found lists of different lengths; join them") from None
    if array.dtype.kind == "O":
        array = _numbers(array, name)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected numbers, found {array.dtype}; convert them, for example {name}.astype(float)")
    return array


def _numbers(array: np.ndarray, name: str) -> np.ndarray:
    """An array of objects, such as the column of a mixed table, as float64; ValueError where one is no number."""
    flat = array.reshape(-1)
    kinds = set(map(type, flat.tolist()))
    strange = sorted(kind.__name__ for kind in kinds if issubclass(kind, (str, bytes, list, tuple, dict)))
    try:
        if not strange:
            return flat.astype(np.float64).reshape(array.shape)
    except (TypeError, ValueError):
        strange = sorted(kind.__name__ for kind in kinds if kind not in (float, int, bool))
    raise ValueError(
        f"{name}: expected numbers, found objects of type {', '.join(strange[:3]) or 'object'}; convert the column first, "
        "for example pandas.to_numeric(column)"
    )


def check_bins(bins) -> Bins:
    """`bins` itself; ValueError where it is something else, such as a number of bins."""
    if not isinstance(bins, Bins):
        raise ValueError(f"bins: expected Bins, for example Bins.uniform(0, 100, 50), found {bins!r}")
    return bins


def _check_range(low: float, high: float) -> None:
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"low, high: expected finite numbers with low < high, found {low} and {high}")


def _ratio(span: float, step: float) -> float:
    """How many steps a span has; infinity where there are none, or more than a number can say."""
    with np.errstate(over="ignore"):
        return span / step if step > 0 else np.inf


def _single(value: float) -> Bins:
    """One bin around the only value there is."""
    half = max(0.5, abs(value) * 1e-3)
    return Bins([value - half, value + half])


# -- the rule for bins -------------------------------------------------------------------------------------------------


def choose_bins(labels) -> tuple[Bins, str, str]:
    """The bins that suit labels (N,), the Python that makes them, and the reason.

    F is the number of equal widths after Freedman and Diaconis (1981), 10 to 100.
    - Labels on a regular grid: whole steps of the grid, centred on its values; one bin for each of up to 3 F places, and
      `places // F - 1` steps to a bin beyond, so that one more place at most halves the number of bins.
      F is at least N / 40 there, up to 100.
    - Up to 20 other values that repeat: one bin for each.
    - Heavy tails, where the middle 90 % of the labels fill less than a quarter of the range: equal widths in the
      logarithm, or in asinh around the median where labels are not all positive.
    - All others: about F bins of a round width.

    Raises ValueError for no labels, NaN or infinite ones, labels beyond 1e300 in size, and a range below 1e-300.
    """
    labels = as_labels(labels)
    values = np.unique(labels)
    low, high = float(values[0]), float(values[-1])
    if max(-low, high) > _LARGEST:
        raise ValueError(f"labels: expected within -{_LARGEST:g} and {_LARGEST:g}, found {low:g} to {high:g}; rescale them")
    if 0 < high - low < 1 / _LARGEST:  # steps within it have no room among the numbers of a computer
        raise ValueError(f"labels: expected a range of at least {1 / _LARGEST:g}, found {low:g} to {high:g}; rescale them")
    if len(values) == 1:
        return _single(low), f"Bins({_single(low).edges.tolist()})", "all labels are equal, so there is one bin"
    try:
        return _choose_bins(labels, values, low, high)
    except (ValueError, OverflowError):  # edges that numbers cannot tell apart
        bins = _equal_or_single(low, high)
        return bins, f"Bins({bins.edges.tolist()})", "the labels are too close together for finer bins"


def _choose_bins(labels: np.ndarray, values: np.ndarray, low: float, high: float) -> tuple[Bins, str, str]:
    fitting = _bin_count(labels)
    step = _grid_step(values)
    places = round((high - low) / step) + 1 if step else 0
    heavy = _middle(labels) < _HEAVY_TAIL * (high - low)
    wanted = max(fitting, min(len(labels) // _GRID_LABELS, _AUTO_BINS[1]))
    merged = 1 if places <= 3 * wanted else places // wanted - 1
    if step and (merged == 1 or not heavy):
        bins, code = _width(low - step / 2, math.ceil(places / merged - 1e-9), merged * step)
        if merged == 1:
            return bins, code, f"the labels take {len(values)} values in steps of {step:g}: one bin for each step"
        rule = f"near the rule of Freedman and Diaconis for {len(labels)} labels"
        return bins, code, f"{merged} of the labels' steps of {step:g} to a bin, {rule}"
    if len(values) <= _ONE_PER_VALUE and len(labels) >= 2 * len(values):
        middles = ((values[1:] + values[:-1]) / 2).tolist()
        edges = _rounded([2 * low - middles[0], *middles, 2 * high - middles[-1]], float(np.diff(values).min()))
        return Bins(edges), f"Bins({edges})", f"the labels take {len(values)} values, unevenly spaced: one bin for each"
    if heavy:
        share = 100 * _middle(labels) / (high - low)
        tail = f"a heavy tail: the middle 90 % of the labels lie in {share:.2g} % of the range, so bins of equal width "
        if low > 0 and high >= 10 * low:
            count = _bin_count(np.log(labels))
            first, last = _four_digits(low, math.floor), _four_digits(high, math.ceil)
            why = tail + "would leave most empty; these are equally wide in the logarithm of the label"
            return Bins(np.geomspace(first, last, count + 1)), f"Bins(np.geomspace({first}, {last}, {count + 1}))", why
        center, scale = _rounded([np.median(labels), spread(labels)], spread(labels))
        bent = np.arcsinh((labels - center) / scale)
        first, last = math.floor(10 * bent.min()) / 10, math.ceil(10 * bent.max()) / 10
        count = _bin_count(bent)
        code = f"Bins({center} + {scale} * np.sinh(np.linspace({first}, {last}, {count + 1})))"
        why = tail + f"would leave most empty; these grow with the distance from the median, {center:g}"
        return Bins(center + scale * np.sinh(np.linspace(first, last, count + 1))), code, why
    width = _round_number((high - low) / fitting)
    start = width * math.floor(low / width + 1e-9)
    bins, code = _width(start, max(1, math.ceil((high - start) / width - 1e-9)), width)
    return bins, code, f"a round width near the rule of Freedman and Diaconis for {len(labels)} labels"


def _width(low: float, count: int, width: float) -> tuple[Bins, str]:
    low, width = _rounded([low, width], width / count)
    (high,) = _rounded([low + count * width], width / count)
    return Bins.width(low, high, width), f"Bins.width({low}, {high}, {width})"


def _grid_step(values: np.ndarray) -> float:
    """The step of the regular grid on which sorted distinct values lie, or 0 where they lie on none of up to 1e5 places."""
    steps = np.diff(values)
    span = float(values[-1] - values[0])
    places = _ratio(span, float(steps.min()))
    if places > 1e5:
        return 0.0
    step = span / round(places)
    at = (values - values[0]) / step
    if not np.allclose(at, np.round(at), rtol=0, atol=1e-2):
        return 0.0
    # full-precision labels always fit some fine grid; accept one only if it is well used, or made by rounding
    return step if len(values) >= 0.05 * (span / step) or step == round(step, 3) else 0.0


def _middle(labels: np.ndarray) -> float:
    lower, upper = np.quantile(labels, [0.05, 0.95])
    return float(upper - lower)


def spread(labels: np.ndarray) -> float:
    """The interquartile range, or where that is 0 the standard deviation; above 0 unless all labels are equal."""
    lower, upper = np.quantile(labels, [0.25, 0.75])
    return float(upper - lower) or float(np.std(labels / np.abs(labels).max())) * float(np.abs(labels).max())


def _bin_count(labels: np.ndarray) -> int:
    """How many bins of equal width: Freedman and Diaconis (1981), within 10 to 100."""
    wanted = _ratio(float(np.ptp(labels)), float(2 * spread(labels) / np.cbrt(len(labels))))
    return int(np.clip(np.ceil(wanted), *_AUTO_BINS))


def _round_number(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return float(f"{min((power * m for m in (1, 2, 2.5, 5, 10)), key=lambda r: abs(math.log(r / value))):.3g}")


def _four_digits(value: float, to) -> float:
    """A positive value rounded down or up (`to`) to four digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return float(f"{to(round(value / unit, 6)) * unit:.4g}")


def _rounded(values, scale: float) -> list[float]:
    """Values with as many decimals as a thousandth of `scale` needs: short to write, and nothing moves by more."""
    return [round(float(value), 3 - math.floor(math.log10(scale))) for value in values]


def _equal_or_single(low: float, high: float) -> Bins:
    try:
        return Bins.uniform(low, high, _AUTO_BINS[0])
    except ValueError:
        return Bins([low, high])
