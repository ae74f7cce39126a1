"""Relevance, bumps, SMOTER and SMOGN a second time, one case at a time, from the formulas and never from the library."""

from __future__ import annotations

import math


def fivenum(labels):
    s = sorted(float(y) for y in labels)
    n = len(s)
    depth = math.floor((n + 3) / 2) / 2
    return [(s[math.floor(d) - 1] + s[math.ceil(d) - 1]) / 2 for d in (1, depth, (n + 1) / 2, n + 1 - depth, n)]


def boxplot_points(labels, extremes="both", coef=1.5):
    """(value, phi) of the lower end, the median, and the upper end."""
    low, q1, median, q3, high = fivenum(labels)
    lower, upper = q1 - coef * (q3 - q1), q3 + coef * (q3 - q1)
    points = []
    outliers = [y for y in labels if y < lower]
    if outliers and extremes != "high":
        points.append((min(y for y in labels if y >= lower), 1.0))
    else:
        points.append((low, 0.0))
    points.append((median, 0.0))
    outliers = [y for y in labels if y > upper]
    if outliers and extremes != "low":
        points.append((max(y for y in labels if y <= upper), 1.0))
    else:
        points.append((high, 0.0))
    return points


def phi(y, points):
    """Hermite's cubic with slopes 0 between the points, written with its four basis polynomials."""
    if y <= points[0][0]:
        return points[0][1]
    for (a, p), (b, q) in zip(points, points[1:]):
        if y <= b:
            t = (y - a) / (b - a)
            return p * (2 * t**3 - 3 * t**2 + 1) + q * (-2 * t**3 + 3 * t**2)
    return points[-1][1]


def density(y, labels, bandwidth):
    return sum(math.exp(-0.5 * ((y - other) / bandwidth) ** 2) for other in labels)


def bumps(labels, relevances, threshold):
    """Lists of rows, in the order of the labels."""
    order = sorted(range(len(labels)), key=lambda i: labels[i])
    found = [[order[0]]]
    for before, row in zip(order, order[1:]):
        if (relevances[before] >= threshold) == (relevances[row] >= threshold):
            found[-1].append(row)
        else:
            found.append([row])
    return found


def shares(sizes, ratio):
    mean = round(sum(sizes) / len(sizes))
    if ratio == "balance":
        return [mean / size for size in sizes]
    wanted = [mean**2 / size for size in sizes]
    scale = mean * len(sizes) / sum(wanted)
    return [round(scale * w / size, 1) for w, size in zip(wanted, sizes)]


def distance(a, b, a_codes, b_codes):
    squared = sum((x - y) ** 2 for x, y in zip(a, b))
    return math.sqrt(squared + sum(x != y for x, y in zip(a_codes, b_codes)))


def neighbour_distances(rows, codes, k):
    """Sorted distances of every row to its k nearest others."""
    found = []
    for i in range(len(rows)):
        others = sorted(distance(rows[i], rows[j], codes[i], codes[j]) for j in range(len(rows)) if j != i)
        found.append(others[:k])
    return found


def half_medians(rows, codes):
    found = []
    for i in range(len(rows)):
        row = sorted(distance(rows[i], rows[j], codes[i], codes[j]) for j in range(len(rows)))
        n = len(row)
        found.append((row[n // 2] if n % 2 else (row[n // 2 - 1] + row[n // 2]) / 2) / 2)
    return found


def between(a, b, a_codes, b_codes, y_a, y_b, ranges, u, coin, whole=()):
    """One SMOTER case of seed a and neighbour b: its numbers, its categories and its label."""
    numbers = []
    for j in range(len(a)):
        value = a[j] + u[j] * (b[j] - a[j])
        numbers.append(float(round(value)) if j in whole else value)
    categories = [x if heads else y for x, y, heads in zip(a_codes, b_codes, coin)]
    to_a = sum(abs(value - x) / r for value, x, r in zip(numbers, a, ranges)) + sum(c != x for c, x in zip(categories, a_codes))
    to_b = sum(abs(value - x) / r for value, x, r in zip(numbers, b, ranges)) + sum(c != x for c, x in zip(categories, b_codes))
    label = (y_a + y_b) / 2 if to_a == to_b else (to_b * y_a + to_a * y_b) / (to_a + to_b)
    return numbers, categories, label
