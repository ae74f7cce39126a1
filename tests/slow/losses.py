"""The slow twin of losses: literal loops over the formulas."""

from __future__ import annotations

import math


def loss(name, predictions, targets, weights=None, activate="sigmoid", beta=None, gamma=1) -> float:
    """Mean of w * l(e) over the elements of flat lists; `name` as in "focal_mse"."""
    beta = beta if beta is not None else (1.0 if name == "huber" else 0.2)
    total = 0.0
    for i in range(len(predictions)):
        e = predictions[i] - targets[i]
        if name.endswith("mse"):
            value = e**2
        elif name.endswith("l1"):
            value = abs(e)
        else:
            value = 0.5 * e**2 / beta if abs(e) < beta else abs(e) - 0.5 * beta
        if name.startswith("focal"):
            if activate == "sigmoid":
                f = 2 / (1 + math.exp(-beta * abs(e))) - 1
            else:
                f = math.tanh(beta * abs(e))
            value *= f**gamma
        total += value * (1.0 if weights is None else weights[i])
    return total / len(predictions)


def concordance(preds, targets, weights=None) -> float:
    """Lin's concordance correlation with population moments."""
    total = sum(weights) if weights else len(preds)
    weights = weights or [1.0] * len(preds)
    means = [sum(w * x for w, x in zip(weights, values)) / total for values in (preds, targets)]
    spreads = [
        sum(w * (x - mean) ** 2 for w, x in zip(weights, values)) / total for values, mean in zip((preds, targets), means)
    ]
    together = sum(w * (p - means[0]) * (y - means[1]) for w, p, y in zip(weights, preds, targets)) / total
    return 2 * together / (spreads[0] + spreads[1] + (means[0] - means[1]) ** 2)
