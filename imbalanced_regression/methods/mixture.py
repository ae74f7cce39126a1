"""A Gaussian mixture fitted to weighted points: labels, or the centres of bins with their counts.

The one idea: expectation maximisation needs sums over points only, so a point that stands for millions of labels costs
as much as one, which scikit-learn's mixture cannot do. Source: Dempster, Laird, Rubin (1977); k-means++ as the start.
"""

from __future__ import annotations

import numpy as np

_MOST_STEPS = 300
_STILL = 1e-6  # gain of the mean log-likelihood at which the fit ends
_FLOOR = 1e-6  # least variance of a component, as a share of that of all labels


def fit_mixture(points, mass=None, *, components: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means (K, d), covariances (K, d, d) and probabilities (K,) of K = `components` Gaussians, float64.

    Args:
        points: (N,) or (N, d) finite numbers.
        mass: (N,) non-negative: how many labels each point stands for; None is one each.
        components: at most the number of distinct points with mass.
        seed: of the start.

    Raises:
        ValueError: points or mass that are not finite numbers, no mass, or too many components.
    """
    if hasattr(points, "detach"):
        points = points.detach().cpu().double()
    points = np.asarray(points, dtype=np.float64)
    points = points[:, None] if points.ndim == 1 else points
    if points.ndim != 2 or points.size == 0 or not np.isfinite(points).all():
        raise ValueError(f"labels: expected finite numbers (N,) or (N, d), found shape {points.shape}, or NaN among them")
    mass = np.ones(len(points)) if mass is None else np.asarray(mass, dtype=np.float64)
    if mass.shape != (len(points),) or not np.isfinite(mass).all() or (mass < 0).any() or not mass.sum() > 0:
        raise ValueError(f"counts: expected {len(points)} finite non-negative numbers, at least one above 0")
    points, where = np.unique(points, axis=0, return_inverse=True)  # equal labels are one point
    mass = np.bincount(where.reshape(-1), weights=mass, minlength=len(points))
    points, mass = points[mass > 0], mass[mass > 0] / mass.sum()
    if int(components) != components or not 1 <= components <= len(points):
        raise ValueError(f"components: expected a whole number from 1 to the {len(points)} distinct labels, found {components}")
    center = mass @ points
    spread = np.sqrt(mass @ (points - center) ** 2)
    scale = np.where(spread > 0, spread, 1.0)
    scaled = (points - center) / scale  # the floor and the start then do not depend on the unit of the labels
    share = _start(scaled, mass, int(components), np.random.default_rng(seed))
    means, covariances, probabilities = _maximise(scaled, mass, share)
    before = -np.inf
    for _ in range(_MOST_STEPS):
        share, likelihood = _expect(scaled, mass, means, covariances, probabilities)
        means, covariances, probabilities = _maximise(scaled, mass, share)
        if abs(likelihood - before) < _STILL:
            break
        before = likelihood
    return center + scale * means, covariances * np.outer(scale, scale), probabilities


def _start(points: np.ndarray, mass: np.ndarray, components: int, random: np.random.Generator) -> np.ndarray:
    """Hard shares (N, K) of a weighted k-means, begun by k-means++."""
    chosen = [int(random.choice(len(points), p=mass))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    for _ in range(components - 1):
        odds = mass * nearest
        chosen.append(int(random.choice(len(points), p=odds / odds.sum())))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    centers = points[chosen]
    owner = np.full(len(points), -1)
    for _ in range(100):
        # the squares of the points are the same for all centres
        closest = ((centers**2).sum(axis=1) - 2 * points @ centers.T).argmin(axis=1)
        if (closest == owner).all():
            break
        owner = closest
        share = np.eye(components)[owner] * mass[:, None]
        held = share.sum(axis=0)
        centers = np.where(held[:, None] > 0, share.T @ points / np.maximum(held, 1e-300)[:, None], centers)
    return np.eye(components)[owner]


def _expect(points, mass, means, covariances, probabilities) -> tuple[np.ndarray, float]:
    """The share of each component in each point (N, K), and the mean log-likelihood."""
    d = points.shape[1]
    factor = np.linalg.cholesky(covariances)
    inverse = np.linalg.inv(factor)
    logs = np.empty((len(points), len(means)))
    constant = -0.5 * d * np.log(2 * np.pi) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    for k in range(len(means)):  # over components, so that memory stays at (N, K)
        logs[:, k] = constant[k] - 0.5 * (((points - means[k]) @ inverse[k].T) ** 2).sum(axis=1)
    with np.errstate(divide="ignore"):
        logs += np.log(probabilities)
    top = logs.max(axis=1, keepdims=True)
    share = np.exp(logs - top)
    total = share.sum(axis=1, keepdims=True)
    return share / total, float(mass @ (top + np.log(total))[:, 0])


def _maximise(points, mass, share) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    held = share * mass[:, None]
    probabilities = held.sum(axis=0)
    safe = np.maximum(probabilities, 1e-300)
    means = held.T @ points / safe[:, None]
    covariances = np.empty((len(means), points.shape[1], points.shape[1]))
    for k in range(len(means)):
        away = points - means[k]
        covariances[k] = (held[:, k, None] * away).T @ away / safe[k] + _FLOOR * np.eye(points.shape[1])
    return means, covariances, probabilities / probabilities.sum()
