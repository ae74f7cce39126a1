"""UVOTE as loops over heads and samples."""

from __future__ import annotations

import math

from .likelihood import bounded


def uvote_loss(mus, log_bs, targets, weights, epoch, epochs) -> float:
    """mus, log_bs: a list of B numbers for each head; weights: a list of B rows of M."""
    total = 0.0
    for m in range(len(mus)):
        strength = 1.0 if m == 0 else (epoch / epochs) ** 2
        mean = 0.0
        for i in range(len(targets)):
            b = bounded(log_bs[m][i])
            mean += weights[i][m] * (abs(targets[i] - mus[m][i]) / b + math.log(2 * b)) / len(targets)
        total += strength * mean
    return total


def uvote_point(mus, log_bs) -> list[float]:
    points = []
    for i in range(len(mus[0])):
        best = 0
        for m in range(len(mus)):
            if log_bs[m][i] < log_bs[best][i]:
                best = m
        points.append(mus[best][i])
    return points


def uvote_weights(labels, heads) -> list[list[float]]:
    """Whole labels, each its own bin."""
    columns = []
    for m in range(heads):
        exponent = m / (heads - 1) if heads > 1 else 0.0
        column = []
        for label in labels:
            n = sum(other == label for other in labels)
            if exponent == 1:
                n = min(max(n, 5), 1000)
            column.append(n**-exponent)
        columns.append([weight * len(labels) / sum(column) for weight in column])
    return [[columns[m][i] for m in range(heads)] for i in range(len(labels))]
