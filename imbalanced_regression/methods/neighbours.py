"""Nearest neighbours and median distances of the rows of a table, block by block, so that no N x N matrix is ever held."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_BLOCK_CELLS = 1 << 22  # distances held at a time: 32 MiB as float64
_TREE_WIDTH = 15  # from about that many columns on a tree looks at nearly every row
_MEDIAN_ROWS = 2000  # rows that a bump's medians look at, drawn once where it has more


def nearest(space: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """The k nearest other rows of every row, (n, min(k, n - 1)) int64: space (n, P) numbers, codes (n, C) categories.

    The distance is the root of the squared differences of numbers plus the number of categories that differ.
    """
    n, k = len(space), min(k, len(space) - 1)
    if codes.shape[1] == 0 < space.shape[1] <= _TREE_WIDTH:
        _, found = cKDTree(space).query(space, k=k + 1, workers=1)
        mine = found == np.arange(n)[:, None]
        mine[~mine.any(axis=1), -1] = True  # among many equal rows a row need not find itself
        return found[~mine].reshape(n, k).astype(np.int64)
    result = np.empty((n, k), dtype=np.int64)
    for start, squared in _blocks(space, codes, space, codes):
        block = np.arange(len(squared))
        squared[block, start + block] = np.inf
        result[start : start + len(squared)] = np.argpartition(squared, k - 1, axis=1)[:, :k]
    return result


def half_medians(space: np.ndarray, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) half the median of each row's distances to all rows, its own 0 counted in; to 2,000 of them where n is larger."""
    n = len(space)
    chosen = np.arange(n) if n <= _MEDIAN_ROWS else np.sort(rng.choice(n, _MEDIAN_ROWS, replace=False))
    result = np.empty(n)
    for start, squared in _blocks(space, codes, space[chosen], codes[chosen]):
        if n <= _MEDIAN_ROWS:  # rounding leaves a little of a row's distance to itself
            block = np.arange(len(squared))
            squared[block, start + block] = 0
        result[start : start + len(squared)] = np.median(np.sqrt(squared, out=squared), axis=1, overwrite_input=True)
    return result / 2


def _blocks(space: np.ndarray, codes: np.ndarray, others: np.ndarray, other_codes: np.ndarray):
    """(start, squared distances (b, m)) for b rows at a time to all m others."""
    step = max(1, _BLOCK_CELLS // len(others))
    own = np.einsum("np,np->n", others, others)
    for start in range(0, len(space), step):
        part = space[start : start + step]
        squared = part @ (-2 * others.T)
        squared += own
        squared += np.einsum("np,np->n", part, part)[:, None]
        np.maximum(squared, 0, out=squared)
        for mine, theirs in zip(codes[start : start + step].T, other_codes.T):
            squared += mine[:, None] != theirs
        yield start, squared


def pair_distance(space: np.ndarray, codes: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((space[a] - space[b]) ** 2).sum(axis=1) + (codes[a] != codes[b]).sum(axis=1))
