"""Dist Loss as literal loops: each quantile by counting labels, the sort by taking the least again and again."""

from __future__ import annotations

from fractions import Fraction


def expected(labels, batch_size) -> list:
    """The smallest label that at least a share (k - 1/2) / B of the labels does not exceed, for k = 1..B."""
    result = []
    for k in range(1, batch_size + 1):
        share = Fraction(2 * k - 1, 2 * batch_size)
        for label in sorted(labels):
            if Fraction(sum(other <= label for other in labels), len(labels)) >= share:
                result.append(label)
                break
    return result


def loss(preds, targets, weights, quantiles, strength=1.0, power=1) -> float:
    first = sum(w * abs(p - y) ** power for p, y, w in zip(preds, targets, weights or [1.0] * len(preds))) / len(preds)
    left, second = list(preds), 0.0
    for quantile in quantiles:
        least = min(left)
        left.remove(least)
        second += abs(least - quantile) ** power
    return first + strength * second / len(preds)
