"""Relevance, SMOTER, SMOGN and random resampling: against the slow twin, by their invariants, and on any table."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import resampling as slow

from imbalanced_regression.methods import bumps, neighbours, resampling
from imbalanced_regression.methods.columns import read_table
from imbalanced_regression.methods.relevance import Relevance, fivenum
from imbalanced_regression.methods.resampling import random_oversample, random_undersample, smogn, smoter

GOLDEN = [*range(1, 11), 30]
METHODS = {"smoter": smoter, "smogn": smogn}
RARE_ABOVE_25 = Relevance([(10, 0), (40, 1)])  # phi is 0.5 at 25


def table(n=300, columns=4, seed=0):
    """Numbers with a long right tail of labels."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, columns)), rng.lognormal(size=n)


# relevance


def test_golden_relevance_of_the_boxplot():
    relevance = Relevance.boxplot(GOLDEN)
    assert fivenum(GOLDEN).tolist() == [1, 3.5, 6, 8.5, 30]
    assert relevance([7, 8, 9, 10, 30]).tolist() == [0.15625, 0.5, 0.84375, 1, 1]
    assert relevance([-5, 1, 2, 3, 4, 5, 6]).tolist() == [0] * 7


@settings(max_examples=60)
@given(st.integers(4, 60), st.integers(0, 2**32 - 1), st.sampled_from(["both", "low", "high"]), st.booleans())
def test_boxplot_relevance_equals_the_twin(n, seed, extremes, whole):
    rng = np.random.default_rng(seed)
    labels = rng.standard_t(2, n)
    if whole:
        labels = np.round(3 * labels)
    points = slow.boxplot_points(labels.tolist(), extremes)
    np.testing.assert_allclose(fivenum(labels), slow.fivenum(labels), rtol=1e-12)
    values = [value for value, _ in points]
    if len(set(values)) == 3 and max(p for _, p in points) == 1:
        at = np.concatenate([labels, rng.uniform(-10, 10, 20)])
        expected = [slow.phi(y, points) for y in at.tolist()]
        np.testing.assert_allclose(Relevance.boxplot(labels, extremes)(at), expected, atol=1e-12)
    elif max(p for _, p in points) == 0:
        with pytest.raises(ValueError, match="no rare cases|only"):
            Relevance.boxplot(labels, extremes)


def test_relevance_is_flat_at_its_points_and_constant_outside():
    relevance = Relevance([(0, 0.2), (2, 1), (5, 0.4)])
    step = 1e-6
    for value, phi in ((0, 0.2), (2, 1), (5, 0.4)):
        assert relevance([value])[0] == pytest.approx(phi, abs=1e-15)
        assert abs(relevance([value + step])[0] - relevance([value - step])[0]) < 1e-10
    assert relevance([-9, 9]).tolist() == pytest.approx([0.2, 0.4])


def test_relevance_by_density_follows_the_kernel_density():
    rng = np.random.default_rng(1)
    labels = np.concatenate([rng.normal(0, 1, 80), rng.uniform(4, 9, 20)])
    bandwidth = 1.06 * labels.std() * len(labels) ** -0.2
    grid = np.linspace(labels.min(), labels.max(), 400)
    exact = np.array([slow.density(y, labels.tolist(), bandwidth) for y in grid])
    exact = 1 - (exact - exact.min()) / np.ptp(exact)
    np.testing.assert_allclose(Relevance.density(labels)(grid), exact, atol=1e-3)


def test_labels_without_outliers_are_refused_with_the_density_as_the_way_out():
    even = np.arange(100.0)
    with pytest.raises(ValueError, match=r"no rare cases.*Relevance\.density"):
        Relevance.boxplot(even)
    for method in METHODS.values():
        with pytest.raises(ValueError, match="no rare cases.*relevance='density'"):
            method(even[:, None], even)
    peaked = np.random.default_rng(0).beta(3, 3, 200)
    X, y = smoter(peaked[:, None], peaked, relevance="density", threshold=0.8)
    assert np.isfinite(X).all()
    assert len(y) == pytest.approx(200, abs=5)


def test_a_boxplot_without_width_is_refused_with_a_way_out():
    with pytest.raises(ValueError, match=r"half of them.*are 0.*density"):
        Relevance.boxplot([0] * 20 + [3, 5, 9])


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Relevance([1, 2]), r"points.*\(P, 2\).*\(2,\)"),
        (lambda: Relevance([(1, 0)]), "points"),
        (lambda: Relevance([(1, 0), (1, 1)]), "points.*increase.*1 then 1"),
        (lambda: Relevance([(1, 0), (2, 1.5)]), r"points.*\[0, 1\].*1\.5"),
        (lambda: Relevance([(1, 0), (np.nan, 1)]), "points.*finite"),
        (lambda: Relevance.boxplot(GOLDEN, extremes="top"), "extremes.*both.*'top'"),
        (lambda: Relevance.boxplot(GOLDEN, coef=0), "coef.*0"),
        (lambda: Relevance.boxplot([3.0] * 9), "labels.*two different"),
        (lambda: Relevance.boxplot([*GOLDEN, np.nan]), "labels: 1 of 12"),
        (lambda: Relevance.boxplot(GOLDEN, extremes="low"), "no rare cases.*low side"),
        (lambda: Relevance.density([2.0, 2.0]), "labels.*two different"),
        (lambda: Relevance.density(GOLDEN, bandwidth=-1), "bandwidth.*-1"),
        (lambda: Relevance.boxplot(GOLDEN)([np.inf]), "labels: 1 of 1"),
    ],
)
def test_a_relevance_that_cannot_be_is_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()


# bumps, shares, distances and the synthetic step, against the twin


@settings(max_examples=40)
@given(st.integers(8, 80), st.integers(0, 2**32 - 1), st.sampled_from(["balance", "extreme"]))
def test_bumps_and_their_shares_equal_the_twins(n, seed, ratio):
    labels = np.round(np.random.default_rng(seed).standard_t(1.5, n), 1)
    phi = np.round(np.random.default_rng(seed + 1).random(200), 2)[(labels * 10).astype(int) % 200]
    expected = slow.bumps(labels.tolist(), phi.tolist(), 0.5)
    if len(expected) == 1:
        return
    found = bumps.find_bumps(labels, phi, 0.5)
    assert [bump.rows.tolist() for bump in found] == expected
    assert [bump.rare for bump in found] == [phi[rows[0]] >= 0.5 for rows in expected]
    sizes = [len(rows) for rows in expected]
    np.testing.assert_allclose(bumps.shares_of(np.array(sizes), ratio), slow.shares(sizes, ratio), rtol=1e-12)


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(0, 20), st.integers(0, 2), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_neighbours_and_half_medians_equal_the_twins_by_tree_and_by_blocks(n, width, nominal, k, seed):
    rng = np.random.default_rng(seed)
    space = np.round(rng.normal(size=(n, width)), 1)  # ties, and equal rows
    codes = rng.integers(0, 3, (n, nominal))
    found = neighbours.nearest(space, codes, k)
    assert found.shape == (n, min(k, n - 1))
    assert (found != np.arange(n)[:, None]).all()
    assert all(len(set(row)) == len(row) for row in found.tolist())
    reached = neighbours.pair_distance(space, codes, np.arange(n)[:, None].repeat(found.shape[1], 1).ravel(), found.ravel())
    expected = slow.neighbour_distances(space.tolist(), codes.tolist(), k)
    np.testing.assert_allclose(np.sort(reached.reshape(found.shape), axis=1), expected, atol=1e-7)
    medians = neighbours.half_medians(space, codes, rng)
    np.testing.assert_allclose(medians, slow.half_medians(space.tolist(), codes.tolist()), atol=1e-7)


@pytest.mark.parametrize("width", [3, 18])
def test_small_blocks_find_the_same_neighbours_and_medians(width, monkeypatch):
    rng = np.random.default_rng(2)
    space, codes = rng.normal(size=(50, width)), rng.integers(0, 2, (50, 1))
    whole = neighbours.nearest(space, codes, 4), neighbours.half_medians(space, codes, rng)
    monkeypatch.setattr(neighbours, "_BLOCK_CELLS", 130)
    parts = neighbours.nearest(space, codes, 4), neighbours.half_medians(space, codes, rng)
    assert np.array_equal(np.sort(whole[0]), np.sort(parts[0]))
    np.testing.assert_allclose(whole[1], parts[1])


def test_medians_of_large_bumps_look_at_a_sample(monkeypatch):
    rng = np.random.default_rng(2)
    space, codes = rng.normal(size=(900, 3)), np.empty((900, 0), int)
    exact = neighbours.half_medians(space, codes, rng)
    monkeypatch.setattr(neighbours, "_MEDIAN_ROWS", 300)
    sampled = neighbours.half_medians(space, codes, rng)
    assert not np.array_equal(exact, sampled)
    np.testing.assert_allclose(sampled, exact, rtol=0.2)


@settings(max_examples=40)
@given(st.integers(2, 12), st.integers(0, 3), st.integers(0, 2), st.integers(0, 2**32 - 1), st.booleans())
def test_the_synthetic_step_equals_the_twin_for_the_same_draws(n, numeric, nominal, seed, same_u):
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(n, numeric)), 2)
    codes, y = rng.integers(0, 3, (n, nominal)), rng.normal(size=n)
    if numeric + nominal == 0:
        return
    whole = [0] if numeric > 1 else []
    x[:, whole] = np.round(5 * x[:, whole])
    limits = np.array([[-np.inf, np.inf]] * numeric).reshape(-1, 2).T
    limits[:, whole] = np.array([[-100.0], [100.0]])
    read = read_table(np.zeros((n, 1)))
    read.limits = limits
    ranges = np.ptp(x, axis=0)
    ranges[ranges == 0] = 1
    seeds, other = rng.integers(n, size=20), rng.integers(n, size=20)
    u, coin = rng.random((20, 1 if same_u else numeric)), rng.random((20, nominal)) < 0.5
    numbers, source, labels = resampling.interpolate(read, x, codes, y, ranges, seeds, other, u, coin)
    for s in range(20):
        a, b = seeds[s], other[s]
        draws = u[s].tolist() * (numeric if same_u else 1)
        expected = slow.between(
            x[a].tolist(), x[b].tolist(), codes[a].tolist(), codes[b].tolist(), y[a], y[b], ranges.tolist(), draws,
            coin[s].tolist(), whole,
        )
        np.testing.assert_allclose(numbers[s], expected[0], atol=1e-12)
        assert [codes[row, c] for c, row in enumerate(source[s])] == expected[1]
        assert labels[s] == pytest.approx(expected[2], abs=1e-9)


# invariants


@settings(max_examples=40)
@given(
    st.sampled_from(list(METHODS)), st.sampled_from(["balance", "extreme"]), st.integers(20, 200), st.integers(0, 2**32 - 1),
    st.integers(1, 8), st.booleans(),
)
def test_sizes_ranges_and_originals(name, ratio, n, seed, k, per_feature):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, 3)), np.concatenate([rng.normal(size=n - 3), [9.0, 11.0, -14.0]])
    relevance = Relevance.boxplot(y)
    bumps = slow.bumps(y.tolist(), relevance(y).tolist(), 0.5)
    wanted = slow.shares([len(rows) for rows in bumps], ratio)
    more, labels = METHODS[name](X, y, ratio=ratio, k=k, seed=seed, per_feature=per_feature)
    sizes = [
        len(rows) if share == 1 else int(share * len(rows) + 1e-9) if share < 1
        else len(rows) * int(share + 1e-9) + int(len(rows) * (share - int(share + 1e-9)) + 1e-9)
        for rows, share in zip(bumps, wanted)
    ]
    kept = sum(len(rows) if share >= 1 else int(share * len(rows) + 1e-9) for rows, share in zip(bumps, wanted))
    assert len(more) == len(labels) == sum(sizes)
    assert np.isfinite(more).all()
    assert labels.min() >= y.min()
    assert labels.max() <= y.max()
    # the kept come first, in their order, each at most once
    place = [int(np.flatnonzero((row == X).all(axis=1))[0]) for row in more[:kept]]
    assert place == sorted(set(place))
    assert np.array_equal(labels[:kept], y[place])
    for rows, share in zip(bumps, wanted):
        assert share < 1 or set(rows) <= set(place)
    # a synthetic label lies among those of the bumps that grow
    ends = [(y[rows].min(), y[rows].max()) for rows, share in zip(bumps, wanted) if share > 1]
    assert all(any(low <= label <= high for low, high in ends) for label in labels[kept:])


def test_with_one_u_per_case_synthetics_lie_on_the_segment_and_labels_go_with_it():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = np.concatenate([rng.normal(size=57), [20.0, 21.0, 24.0]])
    more, labels = smoter(X, y, per_feature=False, ratio=[1, 7], relevance=Relevance([(10, 0), (20, 1)]))
    assert len(more) == 60 + 18
    pairs = [(a, b) for a in (57, 58, 59) for b in (57, 58, 59) if a != b]
    for row, label in zip(more[60:], labels[60:]):
        on = False
        for a, b in pairs:
            u = (row - X[a]) / (X[b] - X[a])
            on |= bool(np.ptp(u) < 1e-9 and -1e-9 <= u[0] <= 1 + 1e-9 and abs(label - (y[a] + u[0] * (y[b] - y[a]))) < 1e-9)
        assert on


def test_smogn_without_near_neighbours_makes_noise_of_the_stated_size():
    rng = np.random.default_rng(0)
    n = 400
    X, y = rng.normal(size=(n + 20, 8)) * [1, 1, 1, 1, 1, 1, 1, 3], np.concatenate([rng.normal(size=n), rng.normal(50, 1, 20)])
    more, labels = smogn(X, y, ratio=[1, 101], pert=0.02, relevance=RARE_ABOVE_25)
    rare, rare_labels, made = X[n:], y[n:], more[n + 20 :]
    nearest = np.array([np.linalg.norm((rare - row) / rare.std(axis=0), axis=1).argmin() for row in made])
    moved = (made - rare[nearest]) / (0.02 * rare.std(axis=0, ddof=1))
    close = np.abs(moved).max(axis=1) < 6  # 20 rows in 8 dimensions lie far apart: nearly all are noise
    assert close.mean() > 0.9
    assert moved[close].std() == pytest.approx(1, abs=0.05)
    assert (labels[n + 20 :] - rare_labels[nearest])[close].std() == pytest.approx(0.02 * rare_labels.std(ddof=1), rel=0.15)


def test_smogn_interpolates_where_all_neighbours_are_near():
    # in two tight clusters half the median of the distances reaches past every neighbour
    rng = np.random.default_rng(1)
    rare = np.concatenate([rng.normal(0, 1e-3, (10, 2)), rng.normal(5, 1e-3, (10, 2))])
    X = np.concatenate([rng.normal(size=(100, 2)), rare])
    y = np.concatenate([rng.normal(size=100), np.repeat([50.0, 60.0], 10)])
    assert np.array_equal(smogn(X, y, relevance=RARE_ABOVE_25, k=3)[0], smoter(X, y, relevance=RARE_ABOVE_25, k=3)[0])


def test_one_rare_case_is_repeated_and_two_are_joined():
    X = np.random.default_rng(0).normal(size=(22, 2))
    y = np.array([*np.linspace(0, 1, 21), 50.0])
    for method in METHODS.values():
        more, labels = method(X, y, ratio=[1, 4], relevance=RARE_ABOVE_25)
        assert np.array_equal(more[22:], np.repeat(X[21:], 3, axis=0))
        assert labels[22:].tolist() == [50.0] * 3
    y[20] = 40.0
    more, labels = smoter(X, y, ratio=[1, 4], relevance=RARE_ABOVE_25)
    assert ((labels[22:] >= 40) & (labels[22:] <= 50)).all()


def test_equal_cases_and_constant_columns_give_no_nan():
    X = np.ones((50, 3))
    y = np.concatenate([np.linspace(0, 1, 45), np.full(5, 30.0)])
    for method in METHODS.values():
        more, labels = method(X, y)
        assert (more == 1).all()
        assert np.isfinite(labels).all()


def test_the_seed_decides_everything():
    X, y = table()
    for method in (*METHODS.values(), random_oversample, random_undersample):
        first, again, other = (method(X, y, seed=seed) for seed in (3, 3, 4))
        assert np.array_equal(first[0], again[0])
        assert np.array_equal(first[1], again[1])
        assert not np.array_equal(first[0], other[0])


def test_the_input_is_not_written_to():
    X, y = table()
    before = X.copy(), y.copy()
    for method in (*METHODS.values(), random_oversample, random_undersample):
        method(X, y)
    assert np.array_equal(X, before[0])
    assert np.array_equal(y, before[1])


# random over- and under-sampling


def test_random_oversampling_brings_rare_bumps_to_the_mean_size_of_the_others():
    X, y = table()
    rare = Relevance.boxplot(y)(y) >= 0.5
    more, labels = random_oversample(X, y)
    assert np.array_equal(more[: len(X)], X)
    assert len(labels) == 2 * (~rare).sum()
    repeats = np.array([(labels == value).sum() for value in y[rare]])
    assert np.ptp(repeats) <= 1
    assert len(random_oversample(X, y, ratio=[2.0])[0]) == len(X) + rare.sum()


def test_random_undersampling_brings_the_others_down_to_the_rare():
    X, y = table()
    rare = Relevance.boxplot(y)(y) >= 0.5
    fewer, labels = random_undersample(X, y)
    assert len(labels) == 2 * rare.sum()
    place = [int(np.flatnonzero(y == value)[0]) for value in labels]
    assert place == sorted(set(place))
    assert np.array_equal(fewer, X[place])
    assert set(np.flatnonzero(rare)) <= set(place)


# tables of any kind


def mixed(n=120, seed=0):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "rooms": rng.integers(1, 9, n), "size": rng.normal(70, 20, n), "town": rng.choice(["a", "b", "c"], n),
            "new": rng.random(n) < 0.3, "class": pd.Categorical(rng.choice(["x", "y"], n), ["x", "y", "never"]),
            "floor": rng.integers(0, 3, n).astype(np.uint8),
        }
    ), pd.Series(np.round(rng.lognormal(1, 0.9, n)).astype(int), name="price", index=np.arange(n) + 7)


@pytest.mark.parametrize("name", METHODS)
def test_pandas_columns_keep_their_type_and_names(name):
    X, y = mixed()
    more, labels = METHODS[name](X, y)
    assert (more.dtypes == X.dtypes).all()
    assert more.columns.tolist() == X.columns.tolist()
    assert (labels.dtype, labels.name) == (y.dtype, "price")
    assert not more.isna().any().any()
    assert more.index.tolist() == labels.index.tolist() == list(range(len(more)))
    for column in ("town", "new", "class"):
        assert set(more[column]) <= set(X[column])
    assert more["floor"].max() <= 3


@pytest.mark.parametrize("name", METHODS)
def test_polars_frames_give_what_pandas_frames_give(name):
    pl = pytest.importorskip("polars")
    X, y = mixed()
    columns = {column: X[column].astype(str).tolist() if column == "class" else X[column].tolist() for column in X}
    frame = pl.DataFrame(columns, schema_overrides={"floor": pl.UInt8, "class": pl.Categorical})
    more, labels = METHODS[name](frame, pl.Series("price", y.tolist()))
    expected, expected_labels = METHODS[name](X, y)
    assert more.schema == frame.schema
    assert labels.to_list() == expected_labels.tolist()
    for column in X:
        assert more[column].to_list() == expected[column].astype(object).tolist(), column
    for method in (random_oversample, random_undersample):
        assert method(frame, pl.Series(y.tolist()))[0].schema == frame.schema


def test_arrays_of_objects_know_their_numbers_and_categories_named_by_position():
    X, y = mixed()
    objects = X[["rooms", "size", "town"]].to_numpy(dtype=object)
    more, labels = smoter(objects, y.to_numpy())
    assert more.dtype == object
    assert set(more[:, 2]) == {"a", "b", "c"}
    assert set(more[:, 1]) - set(objects[:, 1])  # interpolated
    coded = np.column_stack([X["size"], X["rooms"]])
    more, _ = smoter(coded, y.to_numpy(), categorical=[1])
    assert set(more[:, 1]) <= set(coded[:, 1])
    more, _ = smoter(X[["size", "rooms"]], y, categorical=["rooms"])
    assert set(more["rooms"]) <= set(X["rooms"])
    assert smoter(objects[:, 2:], y.to_numpy())[0].shape[1] == 1  # categories alone


def test_integer_labels_and_columns_stay_integers_of_their_type():
    rng = np.random.default_rng(0)
    for dtype in (np.int8, np.uint8, np.int32, np.int64):
        X = rng.integers(0, 100, (80, 2)).astype(dtype)
        y = np.concatenate([rng.integers(0, 20, 70), rng.integers(90, 120, 10)]).astype(dtype)
        for method in METHODS.values():
            more, labels = method(X, y)
            assert (more.dtype, labels.dtype) == (dtype, dtype)
            assert more.min() >= 0 or dtype in (np.int8, np.int32, np.int64)


def test_columns_of_labels_keep_their_shape():
    X, y = table()
    assert smoter(X, y[:, None])[1].shape[1] == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"X": np.full((300, 4), np.nan)}, "X: column 0 has 300 missing.*row 0"),
        ({"X": np.ones(300)}, r"X: expected shape \(N, P\).*\(300,\)"),
        ({"X": np.ones((300, 0))}, "X.*at least one"),
        ({"X": np.ones((300, 1)) * 1j}, "X: expected numbers"),
        ({"y": np.ones(299)}, "y.*300.*299"),
        ({"y": np.full(300, np.nan)}, "y: 300 of 300 are NaN"),
        ({"threshold": 0}, "threshold.*0"),
        ({"threshold": 1.2}, r"threshold.*1\.2"),
        ({"ratio": "equal"}, "ratio.*balance.*'equal'"),
        ({"ratio": [1.0]}, "ratio.*2 bumps.*found 1"),
        ({"ratio": [0.0, 1.0]}, "ratio.*above 0"),
        ({"k": 0}, "k.*at least 1.*0"),
        ({"k": 1.5}, r"k.*1\.5"),
        ({"distance": "cosine"}, "distance.*heom.*'cosine'"),
        ({"distance": "euclidean", "categorical": [0]}, "distance.*categories"),
        ({"categorical": ["sex"]}, "categorical.*'sex'"),
        ({"categorical": [9]}, "categorical.*9"),
        ({"relevance": "kde"}, "relevance.*boxplot.*'kde'"),
        ({"relevance": Relevance([(0, 0), (9999, 1)])}, "no rare cases: phi reaches.*threshold"),
        ({"relevance": Relevance([(0, 1), (1, 1)])}, "all cases are rare"),
    ],
)
def test_bad_input_is_named_with_its_value_and_the_way_out(change, named):
    X, y = table()
    given = {"X": X, "y": y, **change}
    for method in METHODS.values():
        with pytest.raises(ValueError, match=named):
            method(given["X"], given["y"], **{key: value for key, value in given.items() if key not in "Xy"})


def test_what_only_frames_can_hold_is_named():
    pd = pytest.importorskip("pandas")
    X, y = mixed()
    for column, values, named in (
        ("town", ["a", None] * 60, "column 'town' has 60 missing values, the first in row 1"),
        ("when", pd.date_range("2020", periods=120), "column 'when'.*datetime64.*numbers"),
        ("lists", [[1]] * 120, "column 'lists' holds list"),
        ("rooms", pd.array([1, None] * 60, dtype="Int64"), "column 'rooms' has 60 missing"),
    ):
        with pytest.raises(ValueError, match=named):
            smoter(X.assign(**{column: values}), y)
    scipy_sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError, match="dense.*sparse"):
        smoter(scipy_sparse.eye(120).tocsr(), y)
    with pytest.raises(ValueError, match="pert.*0"):
        smogn(X, y, pert=0)
    with pytest.raises(ValueError, match=r"over-sampling, at least 1, found 0\.5"):
        random_oversample(X, y, ratio=[0.5])
    with pytest.raises(ValueError, match="under-sampling, at most 1, found 2"):
        random_undersample(X, y, ratio=[2.0])
    with pytest.raises(ValueError, match="ratio.*'extreme'"):
        random_undersample(X, y, ratio="extreme")


def test_no_matrix_of_all_pairs_is_held():
    n = 6000
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, 20)), rng.lognormal(size=n)
    tracemalloc.start()
    smogn(X, y, ratio=[1.2, 1.2], k=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n * 8 * 0.6  # of one matrix of distances: blocks of 32 MiB, with their copies


def test_real_abalone_resamples_with_its_sex_column(shared):
    pd = pytest.importorskip("pandas")
    path = shared / "data" / "uci" / "abalone.data"
    if not path.exists():
        pytest.skip("no abalone.data")
    frame = pd.read_csv(path, header=None)
    X, y = frame.drop(columns=8), frame[8]
    for method in METHODS.values():
        more, labels = method(X, y)
        assert set(more[0]) == {"F", "I", "M"}
        assert labels.dtype == y.dtype
        rare = Relevance.boxplot(y)
        assert (rare(labels) >= 0.5).sum() > (rare(y) >= 0.5).sum() + 500
