"""Rank-N-Contrast as three nested loops over the formula, in float64."""

from __future__ import annotations

import math


def distance(a, b) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


def rank_n_contrast(features, targets, temperature=2.0) -> float:
    n, total = len(features), 0.0
    for i in range(n):
        for j in range(n):
            if j == i:
                continue
            own = distance(features[i], features[j]) / temperature
            negatives = []
            for k in range(n):
                if k != i and abs(targets[i] - targets[k]) >= abs(targets[i] - targets[j]):
                    negatives.append(-distance(features[i], features[k]) / temperature)
            largest = max(negatives)
            total += own + largest + math.log(sum(math.exp(value - largest) for value in negatives))
    return total / (n * (n - 1))
