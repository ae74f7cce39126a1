"""Balanced MSE as literal loops, and by numerical integration of the likelihood it is the exact form of."""

from __future__ import annotations

import math


def lse(values) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values)) if top > -math.inf else top


def cost(a, b, sigma, noise="gaussian") -> float:
    """Minus the log density of the noise between two points, without its normaliser."""
    if noise == "laplace":
        return sum(abs(x - y) for x, y in zip(a, b)) / sigma
    return sum((x - y) ** 2 for x, y in zip(a, b)) / (2 * sigma**2)


def factor(sigma, noise="gaussian") -> float:
    return sigma if noise == "laplace" else 2 * sigma**2


def mean(losses, weights, sigma, noise="gaussian") -> float:
    weights = weights or [1.0] * len(losses)
    return factor(sigma, noise) * sum(w * value for w, value in zip(weights, losses)) / len(losses)


def bmc(outputs, targets, sigma, weights=None, noise="gaussian") -> float:
    losses = []
    for i, output in enumerate(outputs):
        logits = [-cost(output, target, sigma, noise) for target in targets]
        losses.append(lse(logits) - logits[i])
    return mean(losses, weights, sigma, noise)


def determinant_and_inverse(matrix):
    """By Gauss-Jordan elimination with row exchanges."""
    n, determinant = len(matrix), 1.0
    rows = [list(row) + [float(i == j) for j in range(n)] for i, row in enumerate(matrix)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        if pivot != i:
            rows[i], rows[pivot], determinant = rows[pivot], rows[i], -determinant
        determinant *= rows[i][i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for r in range(n):
            if r != i:
                rows[r] = [value - rows[r][i] * own for value, own in zip(rows[r], rows[i])]
    return determinant, [row[n:] for row in rows]


def gai(outputs, targets, means, variances, probabilities, sigma, weights=None) -> float:
    """Rows are lists of d numbers, variances are lists of d x d matrices."""
    d, losses = len(outputs[0]), []
    for output, target in zip(outputs, targets):
        logits = []
        for m, variance, f in zip(means, variances, probabilities):
            spread = [[variance[r][c] + (sigma**2 if r == c else 0.0) for c in range(d)] for r in range(d)]
            determinant, inverse = determinant_and_inverse(spread)
            away = [x - y for x, y in zip(output, m)]
            distance = sum(away[r] * inverse[r][c] * away[c] for r in range(d) for c in range(d))
            logits.append(math.log(f) - 0.5 * math.log(determinant) - distance / 2)
        losses.append(cost(output, target, sigma) + d / 2 * math.log(sigma**2) + lse(logits))
    return mean(losses, weights, sigma)


def bni(outputs, targets, centers, probabilities, sigma, weights=None, noise="gaussian") -> float:
    losses = []
    for output, target in zip(outputs, targets):
        logits = [math.log(p) - cost(output, c, sigma, noise) for c, p in zip(centers, probabilities) if p > 0]
        losses.append(cost(output, target, sigma, noise) + lse(logits))
    return mean(losses, weights, sigma, noise)


def gai_by_integration(output, target, means, variances, probabilities, sigma, reach=60.0, steps=60_000) -> float:
    """-log of N(y; yhat, s2) / integral N(y'; yhat, s2) p(y') dy', one number each, by the trapezoid rule.

    It is what `gai` gives for one row over 2 sigma^2.
    """

    def normal(x, m, v):
        return math.exp(-((x - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)

    total, width = 0.0, 2 * reach / steps
    for i in range(steps + 1):
        y = output - reach + i * width
        density = sum(f * normal(y, m, v) for f, m, v in zip(probabilities, means, variances))
        total += width * (0.5 if i in (0, steps) else 1.0) * normal(y, output, sigma**2) * density
    return -math.log(normal(target, output, sigma**2)) + math.log(total)
