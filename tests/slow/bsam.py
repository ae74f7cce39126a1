"""The step uphill by hand, over flat lists of numbers."""

from __future__ import annotations

import math


def climbed(parameters, gradients, rho) -> list[list[float]]:
    """Lists of numbers, one list per parameter; a gradient of None leaves its parameter."""
    total = 0.0
    for gradient in gradients:
        for g in gradient or []:
            total += g * g
    norm = math.sqrt(total)
    moved = []
    for values, gradient in zip(parameters, gradients):
        if gradient is None or norm == 0:
            moved.append(list(values))
        else:
            moved.append([value + rho * g / norm for value, g in zip(values, gradient)])
    return moved
