"""The scores over all test labels a second time: SERA, balanced MAE on Freedman-Diaconis bins, CCC, AORE."""

from __future__ import annotations

import math


def sera(labels, preds, phi) -> float:
    """The integral over t of the squared errors with phi >= t: a staircase, summed step by step from one phi to the next."""
    area, before = 0.0, 0.0
    for t in sorted({float(p) for p in phi}):
        area += (t - before) * sum((p - y) ** 2 for y, p, r in zip(labels, preds, phi) if r >= t)
        before = t
    return area


def sera_by_trapezoids(labels, preds, phi, step) -> float:
    ts = [i * step for i in range(round(1 / step) + 1)]
    heights = [sum((p - y) ** 2 for y, p, r in zip(labels, preds, phi) if r >= t) for t in ts]
    return sum(step * (a + b) / 2 for a, b in zip(heights, heights[1:]))


def quantile(values, q) -> float:
    """Linear between the order statistics."""
    s = sorted(values)
    at = q * (len(s) - 1)
    low = math.floor(at)
    high = min(low + 1, len(s) - 1)
    return s[low] + (at - low) * (s[high] - s[low])


def freedman_diaconis_edges(labels) -> list[float]:
    iqr = quantile(labels, 0.75) - quantile(labels, 0.25)
    low, high = min(labels), max(labels)
    count = math.ceil((high - low) / (2 * iqr * len(labels) ** (-1 / 3)))
    return [low + (high - low) * i / count for i in range(count + 1)]


def balanced_mae(labels, preds, edges) -> float:
    errors: dict[int, list[float]] = {}
    for y, p in zip(labels, preds):
        b = 0
        while b < len(edges) - 2 and edges[b + 1] <= y:
            b += 1
        errors.setdefault(b, []).append(abs(p - y))
    return sum(sum(e) / len(e) for e in errors.values()) / len(errors)


def ccc(labels, preds) -> float:
    n = len(labels)
    my, mp = sum(labels) / n, sum(preds) / n
    covariance = sum((y - my) * (p - mp) for y, p in zip(labels, preds)) / n
    var_y, var_p = sum((y - my) ** 2 for y in labels) / n, sum((p - mp) ** 2 for p in preds) / n
    return 2 * covariance / (var_y + var_p + (my - mp) ** 2)


def aore(labels, preds, rare) -> float:
    errors = [abs(p - y) for y, p in zip(labels, preds)]
    chosen = [e for e, r in zip(errors, rare) if r]
    return (sum(errors) / len(errors) + sum(chosen) / len(chosen)) / 2
