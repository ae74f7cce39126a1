"""VIR's head and loss, sample by sample."""

from __future__ import annotations

import math


def softplus(x, beta=0.1) -> float:
    return math.log(1 + math.exp(beta * x)) / beta


def nig_nll(y, gamma, nu, alpha, beta) -> float:
    return (
        0.5 * math.log(math.pi / nu)
        - alpha * math.log(2 * beta * (1 + nu))
        + (alpha + 0.5) * math.log(nu * (y - gamma) ** 2 + 2 * beta * (1 + nu))
        + math.lgamma(alpha)
        - math.lgamma(alpha + 0.5)
    )


def nig_loss(outputs, targets, weights, floor=1e-6) -> float:
    total = 0.0
    for (x, n, omega), y, w in zip(outputs, targets, weights):
        n, omega = softplus(n) + 2, softplus(omega) + floor
        nu, alpha = n * w, 0.3 + n * w / 2
        total += nig_nll(y, x, nu, alpha, omega) + 0.01 * abs(x - y) * (2 * nu + alpha)
    return total / len(targets)


def spread(output, floor=1e-6) -> float:
    _, n, omega = output
    n, omega = softplus(n) + 2, softplus(omega) + floor
    return math.sqrt(omega / ((0.3 + n / 2 - 1) * n))
