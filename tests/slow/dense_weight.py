"""DenseWeight as literal loops: the kernel density summed over all labels, at each label and at each point of a grid."""

from __future__ import annotations

import math


def deviation(labels) -> float:
    mean = sum(labels) / len(labels)
    return math.sqrt(sum((label - mean) ** 2 for label in labels) / len(labels))


def density(at, labels, h) -> float:
    bells = (math.exp(-(((at - label) / h) ** 2) / 2) for label in labels)
    return sum(bells) / (len(labels) * h * math.sqrt(2 * math.pi))


def weights(labels, alpha=1.0, eps=1e-6, h=None, points=4096) -> list[float]:
    h = h or 1.06 * deviation(labels) * len(labels) ** -0.2
    low, high = min(labels) - 3 * h, max(labels) + 3 * h
    on_grid = [density(low + (high - low) * i / (points - 1), labels, h) for i in range(points)]
    return from_density([density(label, labels, h) for label in labels], min(on_grid), max(on_grid), alpha, eps)


def from_density(values, least, greatest, alpha=1.0, eps=1e-6) -> list[float]:
    raw = [max(1 - alpha * (value - least) / (greatest - least), eps) for value in values]
    return [value / (sum(raw) / len(raw)) for value in raw]
