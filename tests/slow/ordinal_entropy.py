"""Ordinal Entropy as literal loops over labels, pairs of labels, and samples."""

from __future__ import annotations

import math


def unit(row) -> list[float]:
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row] if length > 0 else list(row)


def distance(a, b) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


def parts(features, labels) -> tuple[float, float]:
    distinct = sorted(set(labels))
    if len(distinct) == 1:
        return 0.0, 0.0
    centers = {}
    for label in distinct:
        own = [row for row, other in zip(features, labels) if other == label]
        centers[label] = unit([sum(column) / len(own) for column in zip(*own)])
    away = [distance(unit(row), centers[label]) for row, label in zip(features, labels)]
    away = [value for value in away if value > 1e-6]
    tightness = sum(away) / len(away) if away else 0.0
    pairs = [(a, b) for a in distinct for b in distinct if a < b]
    apart = [b - a for a, b in pairs]
    omega = [(value - min(apart)) / max(apart) for value in apart]
    spread = [w * distance(centers[a], centers[b]) for w, (a, b) in zip(omega, pairs)]
    return tightness, -sum(spread) / len(spread)
