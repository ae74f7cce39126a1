"""The likelihoods of Gaussian and Laplace heads, sample by sample."""

from __future__ import annotations

import math


def bounded(log_scale, scale=1.0) -> float:
    return scale * (math.exp(min(max(log_scale - math.log(scale), -5.0), 5.0)) + 1e-10)


def laplace_nll(mu, log_b, targets, weights=None, scale=1.0) -> float:
    total = 0.0
    for i in range(len(mu)):
        b = bounded(log_b[i], scale)
        density = math.exp(-abs(targets[i] - mu[i]) / b) / (2 * b)
        total -= (1.0 if weights is None else weights[i]) * math.log(density)
    return total / len(mu)


def gaussian_loss(mu, log_sigma, targets, weights=None, scale=1.0) -> float:
    total = 0.0
    for i in range(len(mu)):
        sigma = bounded(log_sigma[i], scale)
        density = math.exp(-((targets[i] - mu[i]) ** 2) / (2 * sigma**2)) / math.sqrt(2 * math.pi * sigma**2)
        total -= (1.0 if weights is None else weights[i]) * math.log(density)
    return total / len(mu)
