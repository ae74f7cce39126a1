"""The slow twin of bins and kernel windows: literal loops over the formulas."""

from __future__ import annotations

import math

import numpy as np


def bin_index(label, edges) -> int:
    """The bin of the last edge <= label, compared in float32 unless float32 merges two edges; the ends clamp."""
    return index_among(label, *compared(edges))


def compared(edges):
    """The edges as they are compared, and the type that labels are rounded to first."""
    narrow = [float(np.float32(edge)) for edge in edges]
    if all(narrow[i] < narrow[i + 1] for i in range(len(narrow) - 1)):
        return narrow, np.float32
    return [float(edge) for edge in edges], np.float64


def index_among(label, edges, kind) -> int:
    label, b = float(kind(label)), 0
    while b + 1 < len(edges) - 1 and edges[b + 1] <= label:
        b += 1
    return b


def bin_counts(labels, edges) -> list[int]:
    counts = [0] * (len(edges) - 1)
    for label in labels:
        counts[bin_index(label, edges)] += 1
    return counts


def reflect_with_edge(i: int, n: int) -> int:
    """d c b a | a b c d | d c b a: scipy's "reflect"."""
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i


def reflect_without_edge(i: int, n: int) -> int:
    """d c b | a b c d | c b a: torch's "reflect"."""
    if i < 0:
        i = -i
    return i if i < n else 2 * (n - 1) - i


def kernel_window(kernel: str, ks: int, sigma: float) -> list[float]:
    """(ks,) values with maximum 1."""
    h = ks // 2
    if kernel == "gaussian":  # a unit impulse under a gaussian cut at four sigma, the array reflected
        radius = int(4.0 * sigma + 0.5)
        bell = [math.exp(-0.5 * (x / sigma) ** 2) for x in range(-radius, radius + 1)]
        window = []
        for i in range(ks):
            value = 0.0
            for x in range(-radius, radius + 1):
                if reflect_with_edge(i + x, ks) == h:
                    value += bell[x + radius] / sum(bell)
            window.append(value)
    elif kernel == "triang":
        window = [1 - abs(x) / (h + 1) for x in range(-h, h + 1)]
    elif kernel == "laplace":
        window = [math.exp(-abs(x) / sigma) / (2 * sigma) for x in range(-h, h + 1)]
    return [value / max(window) for value in window]
