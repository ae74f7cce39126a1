"""RankSim as literal loops, from the formulas: one row per distinct label, ranks by walking the sorted values."""

from __future__ import annotations

import math


def cosine(a, b) -> float:
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b)) / lengths if lengths > 0 else 0.0


def ranks(values, tolerance=0.0) -> list[float]:
    """Descending ranks over the number of values; neighbours within the tolerance share their average rank."""
    order = sorted(range(len(values)), key=lambda j: -values[j])
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end]] - values[order[end + 1]] <= tolerance:
            end += 1
        for position in range(start, end + 1):
            found[order[position]] = (start + 1 + end + 1) / 2 / len(values)
        start = end + 1
    return found


def similarities(features) -> list[list[float]]:
    return [[cosine(a, b) for b in features] for a in features]


def loss(features, labels, tolerance=0.0) -> float:
    """The sum over anchors, for rows with distinct labels."""
    total = 0.0
    for i, row in enumerate(similarities(features)):
        wanted = ranks([-abs(labels[i] - other) for other in labels], tolerance)
        total += sum((found - want) ** 2 for found, want in zip(ranks(row), wanted)) / len(labels)
    return total


def similarity_gradient(features, labels, interpolation, upstream=1.0, tolerance=0.0) -> list[list[float]]:
    """The blackbox gradient with respect to every similarity S_ij, taken as free entries."""
    m, result = len(labels), []
    for i, row in enumerate(similarities(features)):
        wanted = ranks([-abs(labels[i] - other) for other in labels], tolerance)
        before = ranks(row)
        g = [upstream * 2 * (before[j] - wanted[j]) / m for j in range(m)]
        after = ranks([row[j] + interpolation * g[j] for j in range(m)])
        result.append([-(before[j] - after[j]) / (interpolation + 1e-8) for j in range(m)])
    return result


def feature_gradient(features, labels, interpolation, upstream=1.0, tolerance=0.0) -> list[list[float]]:
    """The chain rule by hand from the similarities to the features: d cos(a, b) / da = (b/|b| - cos a/|a|) / |a|."""
    by_similarity = similarity_gradient(features, labels, interpolation, upstream, tolerance)
    lengths = [math.sqrt(sum(x * x for x in row)) for row in features]
    unit = [[x / length for x in row] for row, length in zip(features, lengths)]
    m, d = len(features), len(features[0])
    result = [[0.0] * d for _ in range(m)]
    for i in range(m):
        for j in range(m):
            near = cosine(features[i], features[j])
            for c in range(d):
                result[i][c] += by_similarity[i][j] * (unit[j][c] - near * unit[i][c]) / lengths[i]
                result[j][c] += by_similarity[i][j] * (unit[i][c] - near * unit[j][c]) / lengths[j]
    return result
