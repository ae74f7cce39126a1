"""Box-Cox label by label, and its likelihood with the Jacobian spelt out."""

from __future__ import annotations

import math


def forward(label, power, shift=0.0) -> float:
    x = label + shift
    return math.log(x) if power == 0 else (x**power - 1) / power


def inverse(value, power, shift=0.0) -> float:
    return (math.exp(value) if power == 0 else (power * value + 1) ** (1 / power)) - shift


def log_likelihood(labels, power, shift=0.0) -> float:
    moved = [forward(label, power, shift) for label in labels]
    mean = sum(moved) / len(moved)
    variance = sum((value - mean) ** 2 for value in moved) / len(moved)
    return -len(labels) / 2 * math.log(variance) + (power - 1) * sum(math.log(label + shift) for label in labels)
