"""LDS densities and weights against the slow twin, their properties, and the published numbers."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import slow
import torch
from commands import PROGRAMS, fresh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve1d

from imbalanced_regression.bins import Bins
from imbalanced_regression.methods.lds import _convolved, effective_density, label_density, lds_weights
from imbalanced_regression.methods.windows import get_lds_kernel_window

windows = st.fixed_dictionaries(
    {
        "kernel": st.sampled_from(["gaussian", "triang", "laplace"]),
        "ks": st.sampled_from([1, 3, 5, 9]),
        "sigma": st.sampled_from([0.5, 1, 2, 3.7]),
    }
)
options = st.fixed_dictionaries(
    {
        "reweight": st.sampled_from(["sqrt_inv", "inverse"]),
        "lds": st.booleans(),
        "boundary": st.sampled_from(["renormalize", "zeros", "reflect"]),
    }
)
label_lists = st.lists(st.integers(-20, 20), min_size=1, max_size=60)


# density and weights


@settings(max_examples=150)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=30).filter(any), options, windows)
def test_densities_equal_the_twins(counts, how, window):
    density = effective_density(counts, **how, **window)
    assert density.dtype == np.float64
    np.testing.assert_allclose(density, slow.effective_density(counts, **how, **window), rtol=1e-12, atol=1e-12)


@settings(max_examples=150)
@given(label_lists, options, windows)
def test_weights_equal_the_twins(labels, how, window):
    edges = np.arange(-18, 20) - 0.5
    weights = lds_weights(labels, Bins(edges), **how, **window)
    assert weights.shape == (len(labels),)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, slow.lds_weights(labels, edges, **how, **window), rtol=2e-6)


@settings(max_examples=50)
@given(label_lists, st.sampled_from(["zeros", "reflect"]), st.sampled_from([None, (5, 1000), (2, 4)]))
def test_clipped_and_truncated_densities_equal_the_twins(labels, boundary, clip):
    # not triang: with thirds the sums fall on whole numbers, where truncation hangs on the last digit
    how = {"reweight": "inverse", "kernel": "gaussian", "boundary": boundary, "clip": clip, "truncate": True}
    edges = np.arange(-20, 22)
    density = label_density(labels, Bins(edges), **how)
    assert (density == np.floor(density)).all()
    assert density.tolist() == slow.effective_density(slow.bin_counts(labels, edges), **how)


@given(label_lists, options, windows)
def test_weights_are_positive_finite_and_of_mean_one(labels, how, window):
    weights = lds_weights(labels, **how, **window)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert abs(weights.mean(dtype=np.float64) - 1) < 1e-5


@given(label_lists, st.randoms())
def test_weights_follow_their_labels_through_a_shuffle(labels, random):
    order = list(range(len(labels)))
    random.shuffle(order)
    bins = Bins.uniform(-20, 21, 41)
    shuffled = lds_weights([labels[i] for i in order], bins)
    np.testing.assert_allclose(shuffled, lds_weights(labels, bins)[order], rtol=1e-6)


@given(label_lists, options)
def test_equal_labels_weigh_the_same_and_the_order_of_density_is_kept(labels, how):
    bins = Bins.uniform(-20, 21, 41)
    weights = lds_weights(labels, bins, **how)
    density = label_density(labels, bins, **how)[bins.index(labels)]
    product = weights.astype(np.float64) * density
    np.testing.assert_allclose(product, product[0], rtol=1e-5)


def test_smoothing_acts_after_the_root_and_after_the_clip():
    counts = [0, 100, 0, 4, 0]
    window = slow.kernel_window("triang", 3, 1)
    zeros = {"kernel": "triang", "ks": 3, "boundary": "zeros"}
    assert window == [0.5, 1, 0.5]
    np.testing.assert_allclose(effective_density(counts, reweight="sqrt_inv", **zeros), [5, 10, 6, 2, 1])
    np.testing.assert_allclose(effective_density(counts, reweight="inverse", **zeros), [50, 100, 52, 4, 2])
    np.testing.assert_allclose(effective_density(counts, reweight="inverse", clip=(6, 20), **zeros), [16, 26, 19, 12, 9])


def test_integer_counts_stay_real_through_the_convolution_unless_asked():
    counts = np.array([1, 2, 3, 5, 8])
    density = effective_density(counts, boundary="zeros")
    assert (density != np.floor(density)).any()
    np.testing.assert_array_equal(
        effective_density(counts, boundary="zeros", truncate=True),
        np.floor(effective_density(counts, boundary="zeros")),
    )


def test_truncation_is_what_scipy_does_to_whole_counts():
    counts = np.random.default_rng(0).integers(0, 1000, size=50)
    for window in (("gaussian", 5, 2), ("gaussian", 9, 1), ("laplace", 5, 2)):
        kernel, ks, sigma = window
        found = effective_density(counts, kernel=kernel, ks=ks, sigma=sigma, boundary="zeros", truncate=True)
        published = convolve1d(counts, get_lds_kernel_window(*window), mode="constant")
        assert found.tolist() == published.tolist()


def test_whole_counts_given_as_floats_truncate_too():
    counts = [7, 1, 12, 5, 40]
    as_float = effective_density(np.array(counts, np.float64), boundary="zeros", truncate=True)
    assert as_float.tolist() == effective_density(counts, boundary="zeros", truncate=True).tolist()


def test_zeros_outside_give_the_ends_up_to_1_65_times_the_weight_and_the_default_does_not():
    labels = np.repeat(np.arange(20), 7)
    bins = Bins(np.arange(21))
    zeros = lds_weights(labels, bins, reweight="inverse", boundary="zeros")
    assert 1.64 < zeros[0] / zeros[70] < 1.65
    for boundary in ("renormalize", "reflect"):
        np.testing.assert_allclose(lds_weights(labels, bins, reweight="inverse", boundary=boundary), 1, rtol=1e-6)
    np.testing.assert_allclose(lds_weights(labels, bins, reweight="inverse"), 1, rtol=1e-6)


def test_no_reweighting_without_lds_weighs_all_alike():
    assert lds_weights([1, 1, 5], reweight="none", lds=False).tolist() == [1, 1, 1]
    assert lds_weights([1, 1, 5], reweight="none", lds=False).dtype == np.float32


def test_without_lds_the_weight_is_one_over_the_count():
    np.testing.assert_allclose(
        lds_weights([20, 20, 20, 21, 60], lds=False, reweight="inverse"), np.array([1, 1, 1, 3, 3]) * 5 / 9, rtol=1e-6
    )


def test_label_density_without_smoothing_is_the_count_and_64_bit_float():
    density = label_density([0.5, 0.5, 2.5], Bins([0, 1, 2, 3]), lds=False)
    assert density.dtype == np.float64
    assert density.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "labels",
    [
        np.random.default_rng(0).normal(size=200),
        -np.random.default_rng(1).lognormal(size=200) * 1e5,
        [-5, -5, -3, 0],
        [7],
        [3.5] * 4,
        np.linspace(0, 1e-6, 50),
    ],
    ids=["float", "negative and wide", "negative whole", "one", "constant", "tiny"],
)
def test_own_labels_of_any_range_get_weights_without_bins(labels):
    weights = lds_weights(labels)
    assert weights.shape == (len(labels),)
    assert np.isfinite(weights).all()
    assert abs(weights.mean() - 1) < 1e-5


def test_labels_are_not_written_to_and_tensors_and_lists_weigh_alike():
    labels = np.array([1.0, 2.0, 2.0, 9.0])
    before = labels.copy()
    expected = lds_weights(labels)
    assert (labels == before).all()
    for other in (labels.tolist(), labels[:, None], torch.tensor(labels), labels.astype(int)):
        np.testing.assert_array_equal(lds_weights(other), expected)


# what bad input gets


@pytest.mark.parametrize("function", [lds_weights, label_density])
@pytest.mark.parametrize(
    ("labels", "how", "named"),
    [
        ([], {}, "labels"),
        ([1, np.nan, np.inf], {}, "labels.*2 of 3.*index 1"),
        ([[1, 2], [3, 4]], {}, r"labels.*\(2, 2\)"),
        ([1, 2], {"reweight": "none"}, "reweight.*none.*(sqrt_inv|inverse)"),
        ([1, 2], {"reweight": "square"}, "reweight.*sqrt_inv.*inverse.*square"),
        ([1, 2], {"boundary": "wrap"}, "boundary.*renormalize.*zeros.*reflect.*wrap"),
        ([1, 2], {"kernel": "box"}, "kernel.*gaussian.*box"),
        ([1, 2], {"ks": 4}, r"ks.*\b4\b"),
        ([1, 2], {"ks": "5"}, "ks.*for example 5, found '5'"),
        ([1, 2], {"ks": float("nan")}, "ks.*found nan"),
        ([1, 2], {"sigma": 0}, r"sigma.*\b0\b"),
        ([1, 2], {"sigma": "2"}, "sigma.*found '2'"),
        ([1, 2], {"clip": (10, 5)}, r"clip.*\(10, 5\)"),
        ([1, 2], {"clip": 5}, "clip.*low, high.*found 5"),
    ],
)
def test_bad_input_is_named_with_its_value(function, labels, how, named):
    with pytest.raises(ValueError, match=named):
        function(labels, Bins([0, 1, 2, 3]), **how)


@pytest.mark.parametrize(
    "counts",
    [[], [0, 0, 0], [1, -1, 2], [1.0, np.nan], [[1, 2], [3, 4]]],
    ids=["none", "all empty", "negative", "nan", "two axes"],
)
def test_counts_that_are_no_counts_are_refused(counts):
    with pytest.raises(ValueError, match="counts"):
        effective_density(counts)


def test_a_weight_that_would_be_infinite_is_an_error_that_names_the_bin():
    with pytest.raises(ValueError, match=r"(?=.*bin 0)(?=.*infinite)"):
        lds_weights([0.5, 1.5], Bins([0, 1, 2]), reweight="inverse", lds=False, clip=(0, 0))


# the published numbers


@pytest.fixture(scope="module")
def train_ages(shared):
    path = shared / "data" / "agedb" / "agedb.csv"
    if not path.exists():
        pytest.skip("no AgeDB-DIR split")
    with path.open(newline="") as file:
        return [int(row["age"]) for row in csv.DictReader(file) if row["split"] == "train"]


AGES = Bins(np.arange(122))  # 0..120, larger ages into 120


def test_agedb_ages_are_counted_as_published(train_ages):
    counts = AGES.counts(train_ages)
    assert counts.sum() == 12208
    assert (counts.max(), counts.argmax()) == (353, 35)
    assert set(np.flatnonzero(counts)) == set(range(1, 102)) - {2}


@pytest.mark.parametrize(("ks", "sigma"), [(9, 1), (5, 2)])
def test_agedb_square_root_weights_are_the_twins(train_ages, ks, sigma):
    how = {"reweight": "sqrt_inv", "ks": ks, "sigma": sigma, "boundary": "zeros"}
    weights = lds_weights(train_ages, AGES, **how)
    np.testing.assert_allclose(weights, slow.lds_weights(train_ages, AGES.edges, **how), rtol=1e-6)
    if ks == 5:
        np.testing.assert_allclose(weights, slow.age_weights(train_ages), rtol=1e-6)
        np.testing.assert_allclose([weights.min(), weights.max()], [0.732006, 22.009835], rtol=1e-5)


def test_published_inverse_weights_truncate(train_ages):
    """Counts clipped to [5, 1000] are whole numbers, and the first release's convolution kept them so."""
    how = {"reweight": "inverse", "clip": (5, 1000), "boundary": "zeros"}
    density = label_density(train_ages, AGES, truncate=True, **how)
    assert (density == np.floor(density)).all()
    assert density.tolist() == slow.effective_density(AGES.counts(train_ages).tolist(), truncate=True, **how)
    weights = lds_weights(train_ages, AGES, truncate=True, **how)
    np.testing.assert_allclose(weights, slow.lds_weights(train_ages, AGES.edges, truncate=True, **how), rtol=1e-6)
    smooth = lds_weights(train_ages, AGES, **how)
    assert 0 < np.abs(weights / smooth - 1).max() < 0.2  # truncation is seen in the rare ages, and is small


def test_nyud2_pixel_counts_do_not_overflow(shared):
    path = shared / "data" / "nyud2" / "train_bucket_num.txt"
    if not path.exists():
        pytest.skip("no NYUD2 pixel counts")
    counts = [int(line) for line in path.read_text().split()]
    assert sum(counts) == 3_513_286_656 > 2**31
    how = {"reweight": "inverse", "boundary": "reflect"}
    expected = slow.effective_density(counts[7:], **how)
    for given_as in (counts[7:], np.array(counts[7:], np.int32), np.array(counts[7:], np.float64)):
        np.testing.assert_allclose(effective_density(given_as, **how), expected, rtol=1e-12)
    table = 1 / np.array([expected[0]] * 7 + expected)
    table *= sum(counts) / np.dot(table, np.array(counts, np.float64))
    np.testing.assert_allclose(np.average(table, weights=counts), 1)


# where the weights are used


def test_weights_serve_scikit_learn_as_sample_weight():
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.uniform(0, 1, 300), rng.uniform(9, 10, 10)])
    X = np.c_[np.sqrt(y) + 0.1 * rng.normal(size=310)]
    weights = lds_weights(y, Bins.uniform(0, 10, 20), reweight="inverse")
    plain = linear_model.Ridge().fit(X, y)
    balanced = linear_model.Ridge().fit(X, y, sample_weight=weights)
    rare = y > 5
    assert np.abs(balanced.predict(X) - y)[rare].mean() < np.abs(plain.predict(X) - y)[rare].mean()


def test_weights_need_numpy_alone():
    """In a process where importing torch or scipy fails; and the package by itself does not even load numpy."""
    assert fresh([PROGRAMS / "weights_alone.py"]) == ""


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=30), windows, st.sampled_from([("reflect", True), ("constant", False)])
)
def test_convolutions_equal_scipys_to_the_last_bit(counts, window, beyond):
    kernel, (mode, mirrored) = get_lds_kernel_window(**window), beyond
    table = np.sqrt(np.array([counts, counts[::-1]]))
    for axis in (0, 1):
        np.testing.assert_array_equal(
            _convolved(table, kernel, axis, mirrored=mirrored), convolve1d(table, kernel, axis=axis, mode=mode)
        )


def test_explicit_bins_keep_the_published_window_and_none_follow_the_labels():
    grades = np.repeat([3.0, 4, 5, 6, 7, 8], [10, 53, 681, 638, 199, 18])
    bins = Bins.width(2.5, 8.5, 1)
    np.testing.assert_array_equal(lds_weights(grades, bins), lds_weights(grades, bins, ks=5, sigma=2))
    np.testing.assert_array_equal(lds_weights(grades), lds_weights(grades, bins, ks=3, sigma=1))
    np.testing.assert_array_equal(label_density(grades), label_density(grades, bins, ks=3, sigma=1))
    np.testing.assert_array_equal(lds_weights(grades, ks=5), lds_weights(grades, bins))
    assert lds_weights(grades, bins).max() < 1.4  # what six grades got: nothing
    assert lds_weights(grades).max() > 3.5
