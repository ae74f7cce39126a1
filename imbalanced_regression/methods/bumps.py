"""Bumps: runs of neighbouring labels that are rare or not, and the share of each that resampling wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RATIOS = ("balance", "extreme")

EPS = 1e-9  # 49 / 100 * 100 is 49 and not 48


@dataclass
class Bump:
    """A run of neighbouring labels: its rows (n,) in X, whether they are rare, and the share of them that is wanted."""

    rows: np.ndarray
    rare: bool
    share: float = 1.0

    @property
    def extra(self) -> int:
        """Synthetic cases wanted: for each case the whole part of share - 1, and cases drawn for the rest."""
        n, more = len(self.rows), self.share - 1
        return 0 if more <= 0 else n * int(more + EPS) + int(n * (more - int(more + EPS)) + EPS)


def find_bumps(labels: np.ndarray, phi: np.ndarray, threshold: float) -> list[Bump]:
    """Maximal runs of rare or other cases in the order of their labels (N,); equal labels keep their order.

    Raises ValueError where all cases are of one kind.
    """
    order = np.argsort(labels, kind="stable")
    rare = phi[order] >= threshold
    if not rare.any():
        raise ValueError(
            f"y: no rare cases: phi reaches {phi.max():.3g}, below threshold = {threshold:g}; lower it, or pass "
            "relevance='density' or Relevance(points)"
        )
    if rare.all():
        raise ValueError(
            f"y: all cases are rare: phi is at least {phi.min():.3g}, threshold = {threshold:g}; raise it or pass another "
            "relevance"
        )
    starts = np.flatnonzero(np.diff(rare)) + 1
    return [Bump(rows, bool(rare[start])) for rows, start in zip(np.split(order, starts), [0, *starts])]


def shares_of(sizes: np.ndarray, ratio: str | Sequence[float]) -> np.ndarray:
    """The wanted size of every bump over its size, (n_b,), as `smoter` says of `ratio`. Raises ValueError for another one."""
    sizes = np.asarray(sizes, dtype=np.float64)
    mean = np.round(sizes.sum() / len(sizes))
    if isinstance(ratio, str):
        if ratio == "balance":
            return mean / sizes
        if ratio == "extreme":
            wanted = mean**2 / sizes
            return np.round(wanted * (mean * len(sizes) / wanted.sum()) / sizes, 1)
        raise ValueError(f"ratio: expected {' or '.join(RATIOS)} or a list of {len(sizes)} shares, found {ratio!r}")
    shares = np.asarray(ratio, dtype=np.float64)
    if shares.shape != sizes.shape:
        raise ValueError(
            f"ratio: expected one share for each of the {len(sizes)} bumps (of {', '.join(f'{n:g}' for n in sizes)} cases), "
            f"found {shares.size}"
        )
    if not (np.isfinite(shares) & (shares > 0)).all():
        raise ValueError(f"ratio: shares must be above 0, found {shares[~(np.isfinite(shares) & (shares > 0))][0]:g}")
    return shares


def kept(bump: Bump, rng: np.random.Generator) -> np.ndarray:
    if bump.share >= 1:
        return bump.rows
    return rng.choice(bump.rows, int(bump.share * len(bump.rows) + EPS), replace=False)


def some_of(bump: Bump, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn for the broken part of the share, each at most once."""
    return rng.choice(bump.rows, bump.extra % len(bump.rows), replace=False)
