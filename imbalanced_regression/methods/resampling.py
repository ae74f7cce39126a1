"""Resampling for rare labels: SMOTER, SMOGN, random over- and under-sampling of tables.

The one idea: the labels in order fall into bumps, runs that are rare (phi at or above a threshold) or not; rare bumps gain
synthetic cases between neighbours, the others lose cases. Nearest neighbours and medians are found block by block, so that
no N x N matrix is ever held, and all synthetics of a bump are one array operation. Needs numpy and scipy only.
Source: SMOTER (Torgo et al. 2013); SMOGN (Branco, Torgo, Ribeiro, LIDTA 2017).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from .bumps import EPS, Bump, find_bumps, kept, shares_of, some_of
from .columns import Table, read_table, read_target, target_like
from .neighbours import half_medians, nearest, pair_distance
from .relevance import Relevance

logger = logging.getLogger(__name__)

DISTANCES = ("auto", "euclidean", "heom")
RELEVANCES = ("boxplot", "density")


def smoter(
    X,
    y,
    *,
    relevance: Relevance | str = "boxplot",
    threshold: float = 0.5,
    ratio: str | Sequence[float] = "balance",
    k: int = 5,
    distance: str = "auto",
    categorical: Sequence | None = None,
    per_feature: bool = True,
    seed: int | None = 0,
):
    """Resampled (X, y): rare bumps with synthetic cases between neighbours, the others thinned out.

    A synthetic case lies between a case and one of its `k` nearest neighbours in its bump, x' = x_i + u (x_nn - x_i) with u
    uniform in [0, 1]; a category is either's by the toss of a coin; the label is the mean of both labels, each weighted by
    the distance (range-normalised, summed over columns) to the other case. Kept cases come first, in their order.

    Args:
        X: (N, P) array, pandas or polars frame; each column keeps its type, integers are rounded. Strings, booleans and
            categories are categories, see `categorical`. Scale columns first, or the one with large values decides who is near.
        y: (N,) labels; an integer type stays one.
        relevance: "boxplot", "density", or a `Relevance`, usually of the training labels.
        threshold: labels with phi of at least this are rare; above 0 and at most 1.
        ratio: "balance" makes all bumps as large as their mean size; "extreme" turns their sizes round, the smallest bump
            becoming the largest; or a list of one share per bump, in the order of the labels (2 doubles it, 0.5 halves it).
        k: neighbours; one less than the bump's size where that is smaller. A bump of one case is repeated.
        distance: "euclidean" on the columns as they are, "heom" (numbers divided by their range in the bump, categories 0 or
            1), or "auto": the latter where there are categories.
        categorical: positions or names of columns that hold categories written as numbers.
        per_feature: draw u for every column, or (False) once per case, so that it lies on the segment.
        seed: of all draws.

    Returns:
        (X, y) as X and y came: array, frame or series.

    Raises:
        ValueError: missing values with their column and row, no rare or only rare cases, an option out of range.

    Source: Torgo et al., EPIA 2013, algorithm 1; the bumps and the shares as in Branco et al. 2017.
    """
    return _resample(
        X, y, relevance, threshold, ratio, k=k, distance=distance, categorical=categorical, per_feature=per_feature, seed=seed,
    )


def smogn(
    X,
    y,
    *,
    relevance: Relevance | str = "boxplot",
    threshold: float = 0.5,
    ratio: str | Sequence[float] = "balance",
    k: int = 5,
    pert: float = 0.02,
    distance: str = "auto",
    categorical: Sequence | None = None,
    per_feature: bool = True,
    seed: int | None = 0,
):
    """Resampled (X, y) as by `smoter`, with Gaussian noise around the case where the drawn neighbour is far.

    A neighbour is near when it is nearer than half the median of the case's distances to its bump (its own 0 counted in),
    D_i. For a far one every number becomes x_j + N(0, (s_j min(D_i, pert))^2) with s_j the column's standard deviation in the
    bump, so does the label, which then stays within the bump's labels; categories are drawn with the bump's frequencies.
    In a bump of more than 2,000 cases the median is over 2,000 of them, drawn with the seed.

    Args:
        pert: upper bound of the noise, in standard deviations; above 0. The other arguments are those of `smoter`.

    Raises:
        ValueError: as `smoter`.

    Source: SMOGN (Branco, Torgo, Ribeiro, LIDTA 2017).
    """
    if not (np.isfinite(pert) and pert > 0):
        raise ValueError(f"pert: expected a number above 0, for example 0.02, found {pert}")
    return _resample(
        X, y, relevance, threshold, ratio, k=k, distance=distance, categorical=categorical, per_feature=per_feature, seed=seed,
        pert=pert,
    )


def random_oversample(
    X, y, *, relevance: Relevance | str = "boxplot", threshold: float = 0.5, ratio: str | Sequence[float] = "balance",
    seed: int | None = 0,
):
    """(X, y) with cases of the rare bumps repeated: all cases in their order, then the repetitions, drawn evenly.

    "balance" brings every rare bump to the mean size of the others; a list gives one share per rare bump, at least 1. The
    other arguments are those of `smoter`; columns of any kind are repeated as they are, missing values too.

    Raises:
        ValueError: no rare or only rare cases, an option out of range.
    """
    labels, bumps, rng = _begin(y, _length(X), relevance, threshold, seed)
    _check_single(ratio, bumps, rare=True)
    _set_shares(bumps, ratio, rare=True)
    drawn = [np.concatenate([np.repeat(b.rows, int(b.share - 1 + EPS)), some_of(b, rng)]) for b in bumps if b.share > 1]
    rows = np.concatenate([np.arange(len(labels)), *drawn]).astype(np.int64)
    return _take(X, rows), _take(y, rows)


def random_undersample(
    X, y, *, relevance: Relevance | str = "boxplot", threshold: float = 0.5, ratio: str | Sequence[float] = "balance",
    seed: int | None = 0,
):
    """(X, y) with fewer cases of the bumps that are not rare, drawn without replacement; the order stays.

    "balance" brings every such bump to the mean size of the rare ones; a list gives one share per such bump, in (0, 1]. The
    other arguments are those of `smoter`; columns of any kind are kept as they are, missing values too.

    Raises:
        ValueError: no rare or only rare cases, an option out of range.
    """
    _, bumps, rng = _begin(y, _length(X), relevance, threshold, seed)
    _check_single(ratio, bumps, rare=False)
    _set_shares(bumps, ratio, rare=False)
    rows = np.sort(np.concatenate([kept(bump, rng) for bump in bumps]))
    return _take(X, rows), _take(y, rows)


# -- bumps -------------------------------------------------------------------------------------------------------------


def _begin(y, rows: int, relevance, threshold: float, seed) -> tuple[np.ndarray, list[Bump], np.random.Generator]:
    labels = read_target(y, rows)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: expected above 0 and at most 1, found {threshold}")
    phi = make_relevance(relevance, labels)(labels)
    return labels, find_bumps(labels, np.asarray(phi), threshold), np.random.default_rng(seed)


def make_relevance(relevance, labels: np.ndarray):
    """A `Relevance` of labels (N,) by its name, or the one that is given. Raises ValueError for another name."""
    if callable(relevance):
        return relevance
    if relevance == "boxplot":
        return Relevance.boxplot(labels)
    if relevance == "density":
        return Relevance.density(labels)
    raise ValueError(f"relevance: expected {', '.join(RELEVANCES)} or a Relevance, found {relevance!r}")


def _check_single(ratio, bumps: list[Bump], *, rare: bool) -> None:
    kind = "rare bumps" if rare else "bumps that are not rare"
    if isinstance(ratio, str) and ratio != "balance":
        raise ValueError(f"ratio: expected balance or a list of one share for each of the {kind}, found {ratio!r}")
    if not isinstance(ratio, str):
        shares = shares_of(np.array([len(b.rows) for b in bumps if b.rare == rare]), ratio)
        wrong = shares[shares < 1] if rare else shares[shares > 1]
        if len(wrong):
            limit = "over-sampling, at least 1" if rare else "under-sampling, at most 1"
            raise ValueError(f"ratio: expected shares for {limit}, found {wrong[0]:g}")


def _set_shares(bumps: list[Bump], ratio, *, rare: bool) -> None:
    """Shares of the bumps of one kind; those that have the wanted size already stay."""
    mine = [bump for bump in bumps if bump.rare == rare]
    sizes = np.array([len(bump.rows) for bump in mine])
    if isinstance(ratio, str):
        wanted = np.round(np.mean([len(bump.rows) for bump in bumps if bump.rare != rare]))
        shares = np.maximum(wanted / sizes, 1) if rare else np.minimum(wanted / sizes, 1)
    else:
        shares = shares_of(sizes, ratio)
    for bump, share in zip(mine, shares):
        bump.share = float(share)


def _length(X) -> int:
    if hasattr(X, "shape") and len(X.shape):
        return X.shape[0]
    return len(X)


def _take(values, rows: np.ndarray):
    """Rows of an array, frame, series or sparse matrix, each as it is."""
    if hasattr(values, "iloc"):
        return values.iloc[rows].reset_index(drop=True)
    if hasattr(values, "gather") and hasattr(values, "to_list"):  # polars' series
        return values.gather(rows)
    if isinstance(values, (list, tuple)):
        values = np.asarray(values)
    return values[rows]


# -- synthetic cases ---------------------------------------------------------------------------------------------------


def _resample(X, y, relevance, threshold, ratio, *, k, distance, categorical, per_feature, seed, pert=None):
    if int(k) != k or k < 1:
        raise ValueError(f"k: expected a whole number of neighbours, at least 1, found {k}")
    if distance not in DISTANCES:
        raise ValueError(f"distance: expected one of {', '.join(DISTANCES)}, found {distance!r}")
    table = read_table(X, categorical)
    if distance == "euclidean" and table.nominal:
        raise ValueError("distance: 'euclidean' knows numbers only, and X has categories; pass 'heom' or 'auto'")
    heom = distance == "heom" or distance == "auto" and bool(table.nominal)
    labels, bumps, rng = _begin(y, len(table), relevance, threshold, seed)
    for bump, share in zip(bumps, shares_of(np.array([len(bump.rows) for bump in bumps]), ratio)):
        bump.share = float(share)
    chosen = np.sort(np.concatenate([kept(bump, rng) for bump in bumps]))
    parts = [_synthetics(table, labels, bump, int(k), heom, per_feature, pert, rng) for bump in bumps if bump.extra]
    if not parts:
        logger.warning("no synthetic case is wanted: every bump has its size already, or more")
        parts = [(np.empty((0, len(table.numeric))), np.empty((0, len(table.nominal)), np.int64), np.empty(0))]
    numbers, sources, new_labels = (np.concatenate(part) for part in zip(*parts))
    logger.info("%d cases of %d bumps: %d kept, %d made", len(table), len(bumps), len(chosen), len(new_labels))
    return table.with_rows(chosen, numbers, sources), target_like(y, chosen, new_labels)


def _synthetics(
    table: Table, labels: np.ndarray, bump: Bump, k: int, heom: bool, per_feature: bool, pert: float | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`bump.extra` new cases: numbers (S, P), the row each category is copied from (S, C), labels (S,)."""
    rows = bump.rows
    x, codes, y = table.numbers[rows], table.codes[rows], labels[rows]
    n = len(rows)
    seeds = np.concatenate([np.repeat(np.arange(n), int(bump.share - 1 + EPS)), rng.choice(n, bump.extra % n, replace=False)])
    seeds = seeds.astype(np.int64)
    if n == 1:
        return x[seeds], rows[seeds][:, None].repeat(codes.shape[1], axis=1), y[seeds]
    ranges = np.ptp(x, axis=0)
    ranges[ranges == 0] = 1
    space = (x - x.mean(axis=0)) / (ranges if heom else 1)
    neighbours = nearest(space, codes, k)
    other = neighbours[seeds, rng.integers(neighbours.shape[1], size=len(seeds))]

    u = rng.random((len(seeds), x.shape[1] if per_feature else 1))
    coin = rng.random((len(seeds), codes.shape[1])) < 0.5
    numbers, source, made = interpolate(table, x, codes, y, ranges, seeds, other, u, coin)
    if pert is not None:
        reach = half_medians(space, codes, rng)[seeds]
        far = pair_distance(space, codes, seeds, other) >= reach
        scale = np.minimum(reach[far], pert)
        numbers[far], source[far], made[far] = _noisy(table, x, y, seeds[far], scale, codes.shape[1], rng)
    return numbers, rows[source], made


def interpolate(
    table: Table, x: np.ndarray, codes: np.ndarray, y: np.ndarray, ranges: np.ndarray, seeds: np.ndarray, other: np.ndarray,
    u: np.ndarray, coin: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SMOTER's step for given draws: u (S, P) or (S, 1) in [0, 1], coin (S, C) True where a category is the seed's.

    Returns numbers (S, P), the row each category is copied from (S, C), and labels (S,).
    """
    start, end = x[seeds], x[other]
    # exact at both ends and never outside, which start + u (end - start) is not in floating point
    numbers = np.clip(start + u * (end - start), np.minimum(start, end), np.maximum(start, end))
    numbers = table.rounded(numbers)
    source = np.where(coin, seeds[:, None], other[:, None])
    to_seed, to_other = (
        (np.abs(numbers - x[case]) / ranges).sum(axis=1)
        + (np.take_along_axis(codes, source, axis=0) != codes[case]).sum(axis=1)
        for case in (seeds, other)
    )
    total = to_seed + to_other
    share = np.divide(to_seed, total, out=np.full(len(total), 0.5), where=total > 0)
    a, b = y[seeds], y[other]
    return numbers, source, np.clip(a + share * (b - a), np.minimum(a, b), np.maximum(a, b))


def _noisy(
    table: Table, x: np.ndarray, y: np.ndarray, seeds: np.ndarray, scale: np.ndarray, nominal: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SMOGN's step for far neighbours: noise of `scale` (S,) standard deviations, categories of cases drawn from the bump."""
    noise = rng.normal(size=(len(seeds), x.shape[1])) * x.std(axis=0, ddof=1) * scale[:, None]
    made = y[seeds] + rng.normal(size=len(seeds)) * y.std(ddof=1) * scale
    source = rng.integers(len(x), size=(len(seeds), nominal))
    return table.rounded(x[seeds] + noise), source, np.clip(made, y.min(), y.max())
