"""Metrics of a spread, as loops that sort anew for every point of a curve. For distinct spreads."""

from __future__ import annotations

import math


def ause(labels, preds, variances) -> float:
    samples = [(variance, abs(pred - label)) for label, pred, variance in zip(labels, preds, variances)]
    n, difference = len(samples), []
    for k in range(1, n):
        kept = sorted(samples, key=lambda sample: sample[0])[: n - k]
        best = sorted(samples, key=lambda sample: sample[1])[: n - k]
        difference.append(abs(sum(e for _, e in kept) - sum(e for _, e in best)) / (n - k))
    peak = max(difference)
    if peak < 1e-12:
        return 0.0
    area = 0.0
    for i in range(len(difference) - 1):
        area += (difference[i] + difference[i + 1]) / (2 * peak) / (len(difference) - 1)
    return area


def uce(labels, preds, spreads, bins) -> float:
    samples = sorted(zip(spreads, labels, preds))
    n, total = len(samples), 0.0
    bins = min(bins, n)
    for b in range(bins):
        mine = samples[b * n // bins : (b + 1) * n // bins]
        error = sum((pred - label) ** 2 for _, label, pred in mine) / len(mine)
        variance = sum(spread**2 for spread, _, _ in mine) / len(mine)
        total += len(mine) / n * abs(error - variance)
    return total


def coverage(labels, preds, spreads, half_width) -> float:
    inside = 0
    for label, pred, spread in zip(labels, preds, spreads):
        inside += pred - half_width * spread <= label <= pred + half_width * spread
    return inside / len(labels)


def gaussian_nll(label, pred, spread) -> float:
    return -math.log(math.exp(-((label - pred) ** 2) / (2 * spread**2)) / (spread * math.sqrt(2 * math.pi)))


def laplace_nll(label, pred, spread) -> float:
    b = spread / math.sqrt(2)
    return -math.log(math.exp(-abs(label - pred) / b) / (2 * b))
