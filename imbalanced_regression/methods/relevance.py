"""Relevance: how much a label matters, from 0 at the common labels to 1 at the rare extremes.

The one idea: a few control points (value, phi) joined by curves that are flat at the points. Resampling calls labels with
phi at or above a threshold rare, and SERA weighs squared errors by phi. Needs numpy only.
Source: Torgo and Ribeiro (PKDD 2007); Ribeiro and Moniz, Machine Learning 109 (2020).
"""

from __future__ import annotations

import numpy as np

from ..bins import as_labels

EXTREMES = ("both", "low", "high")

_GRID = 1024  # points of the density: far more than a kernel's width needs


class Relevance:
    """phi of labels: (N,) -> (N,) float64 in [0, 1].

    Between two points (a, p) and (b, q), phi = p + (q - p) t^2 (3 - 2 t) with t = (y - a) / (b - a): the monotone cubic
    with slope 0 at both. Outside the points phi stays at the end's value.

    Args:
        points: (P, 2) of (value, phi), P >= 2; values strictly increase, phi lies in [0, 1].

    Raises:
        ValueError: points of another form.

    Example:
        >>> Relevance([(0, 0), (10, 1)])([-3, 5, 12]).tolist()
        [0.0, 0.5, 1.0]
    """

    def __init__(self, points):
        points = np.array(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
            raise ValueError(f"points: expected (P, 2) of (value, phi), such as [(20, 0), (60, 1)], found shape {points.shape}")
        if not np.isfinite(points).all():
            raise ValueError(f"points: all must be finite, found {points[~np.isfinite(points)][0]}")
        if not (np.diff(points[:, 0]) > 0).all():
            at = int(np.argmin(np.diff(points[:, 0]) > 0))
            raise ValueError(f"points: values must strictly increase, found {points[at, 0]:g} then {points[at + 1, 0]:g}")
        outside = (points[:, 1] < 0) | (points[:, 1] > 1)
        if outside.any():
            raise ValueError(f"points: phi must lie in [0, 1], found {points[outside, 1][0]:g}")
        self.points = points
        self.points.flags.writeable = False

    @classmethod
    def boxplot(cls, labels, extremes: str = "both", coef: float = 1.5) -> Relevance:
        """phi is 0 at the median and 1 from the whiskers on, on each side where the boxplot has outliers.

        The hinges Q1 and Q3 are Tukey's (fivenum). A whisker is the last label within `coef` (Q3 - Q1) of its hinge. A side
        without a label beyond its whisker has phi 0 throughout.

        Args:
            labels: (N,) training labels.
            extremes: "both", "low" or "high": the sides that matter; the other side has phi 0.
            coef: how many interquartile ranges a whisker may reach, above 0.

        Raises:
            ValueError: NaN, constant labels, no outlier on a wanted side (no rare cases), or outliers on a side whose
                whisker is the median itself (half of the labels are one value).
        """
        labels = np.sort(as_labels(labels))
        if extremes not in EXTREMES:
            raise ValueError(f"extremes: expected one of {', '.join(EXTREMES)}, found {extremes!r}")
        if not (np.isfinite(coef) and coef > 0):
            raise ValueError(f"coef: expected a number above 0, for example 1.5, found {coef}")
        if labels[0] == labels[-1]:
            raise ValueError(f"labels: expected at least two different values, found only {labels[0]:g}; nothing is rare")
        low, lower, median, upper, high = fivenum(labels)
        reach = coef * (upper - lower)
        inside = labels[(labels >= lower - reach) & (labels <= upper + reach)]
        points = [(median, 0.0)]
        found = False
        for side, end, whisker in (("low", low, inside[0]), ("high", high, inside[-1])):
            rare = end != whisker and extremes in ("both", side)
            if rare and whisker == median:
                raise ValueError(
                    f"labels: half of them or more are {median:g}, so the boxplot has no width; use Relevance.density(labels) "
                    f"(relevance='density'), or say which labels matter: Relevance([({median:g}, 0), ({end:g}, 1)])"
                )
            found |= rare
            if end != median:
                points.append((whisker, 1.0) if rare else (end, 0.0))
        if not found:
            where = "on either side" if extremes == "both" else f"on the {extremes} side"
            raise ValueError(
                f"labels: no rare cases: none lies beyond the boxplot's fences {where} ({lower - reach:g} and "
                f"{upper + reach:g}); use Relevance.density(labels) (relevance='density'), a smaller coef, or say which labels "
                f"matter: Relevance([({median:g}, 0), ({high:g}, 1)])"
            )
        return cls(sorted(points))

    @classmethod
    def density(cls, labels, bandwidth: float | None = None) -> Relevance:
        """phi is one minus the label density, scaled so that the mode has 0 and the least dense label between the ends has 1.

        It needs no outliers: gaps and thin stretches inside the range are relevant as well as the ends.

        Args:
            labels: (N,) training labels.
            bandwidth: of the Gaussian kernel, in the unit of the labels; None: 1.06 s N^(-1/5), s the standard deviation.

        Raises:
            ValueError: NaN, constant labels, a bandwidth that is not above 0, labels of even density.

        Source: DenseWeight (Steininger et al., Machine Learning 2021), whose weight with alpha = 1 this is before its scaling.
        """
        labels = as_labels(labels)
        low, high = labels.min(), labels.max()
        if low == high:
            raise ValueError(f"labels: expected at least two different values, found only {low:g}; nothing is rare")
        width = 1.06 * labels.std() * len(labels) ** -0.2 if bandwidth is None else float(bandwidth)
        if not (np.isfinite(width) and width > 0):
            raise ValueError(f"bandwidth: expected a number above 0 or None, found {bandwidth}")
        step = (high - low) / (_GRID - 1)
        # every label is shared between its two neighbours on the grid, so that the sum over labels is one over the grid
        place = (labels - low) / step
        left = np.minimum(place.astype(np.int64), _GRID - 2)
        share = place - left
        mass = np.bincount(left, 1 - share, _GRID) + np.bincount(left + 1, share, _GRID)
        distance = np.arange(1 - _GRID, _GRID) * (step / width)
        density = np.convolve(mass, np.exp(-0.5 * distance**2), mode="valid")
        density = (density - density.min()) / max(np.ptp(density), np.finfo(float).tiny)
        if not (density == 1).any():
            raise ValueError("labels: their density is the same everywhere; nothing is rare")
        return cls(np.column_stack([np.linspace(low, high, _GRID), np.clip(1 - density, 0, 1)]))

    def __call__(self, labels) -> np.ndarray:
        """(N,) labels -> (N,) float64 in [0, 1]. Raises ValueError for NaN or infinite labels."""
        labels = as_labels(labels)
        value, phi = self.points.T
        left = np.clip(np.searchsorted(value, labels, side="right") - 1, 0, len(value) - 2)
        t = np.clip((labels - value[left]) / (value[left + 1] - value[left]), 0, 1)
        return np.clip(phi[left] + (phi[left + 1] - phi[left]) * t**2 * (3 - 2 * t), 0, 1)

    def __repr__(self) -> str:
        if len(self.points) > 5:
            return f"Relevance({len(self.points)} points over [{self.points[0, 0]:g}, {self.points[-1, 0]:g}])"
        return f"Relevance([{', '.join(f'({value:g}, {phi:g})' for value, phi in self.points)}])"


def fivenum(labels) -> np.ndarray:
    """Tukey's five numbers: minimum, lower hinge, median, upper hinge, maximum; labels (N,) -> (5,) float64."""
    labels = np.sort(as_labels(labels))
    n = len(labels)
    depth = (n + 3) // 2 / 2
    at = np.array([1, depth, (n + 1) / 2, n + 1 - depth, n]) - 1
    return (labels[np.floor(at).astype(int)] + labels[np.ceil(at).astype(int)]) / 2
