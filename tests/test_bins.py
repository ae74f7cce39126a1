"""Bins and kernel windows against the slow twin, and the published bins of the benchmarks."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.signal.windows import triang

from imbalanced_regression.bins import Bins
from imbalanced_regression.methods.windows import get_lds_kernel_window

numbers = st.floats(-1e6, 1e6, width=32)
edge_lists = st.lists(st.integers(-2000, 2000), min_size=2, max_size=12, unique=True).map(
    lambda values: [value / 8 for value in sorted(values)]
)


# label -> bin


@given(edge_lists, st.data())
def test_every_label_falls_into_the_twins_bin(edges, data):
    on_or_beside = st.sampled_from(edges).flatmap(
        lambda edge: st.sampled_from([edge, np.nextafter(edge, -np.inf), np.nextafter(edge, np.inf)])
    )
    labels = data.draw(st.lists(numbers | on_or_beside, min_size=1, max_size=20))
    index = Bins(edges).index(labels)
    assert index.dtype == np.int64
    assert index.tolist() == [slow.bin_index(label, edges) for label in labels]


@settings(max_examples=200)
@given(st.sampled_from([0, -3, 20000, 1e6, -1e-3]), st.sampled_from([0.1, 1, 5, 1e-4]), st.integers(1, 150), st.data())
def test_labels_on_the_edges_of_equal_bins_fall_into_the_twins_bin(low, width, count, data):
    bins = Bins.uniform(low, low + width * count, count)
    at = data.draw(st.lists(st.tuples(st.integers(0, count), st.floats(-1e-6, 1e-6)), min_size=1, max_size=10))
    labels = [low + width * k + shift for k, shift in at]
    assert bins.index(labels).tolist() == [slow.bin_index(label, bins.edges) for label in labels]


@given(edge_lists, st.lists(numbers, min_size=1, max_size=30))
def test_counts_are_64_bit_and_sum_to_the_number_of_labels(edges, labels):
    counts = Bins(edges).counts(labels)
    assert counts.dtype == np.int64
    assert counts.tolist() == slow.bin_counts(labels, edges)
    assert counts.sum() == len(labels)


def test_labels_outside_the_range_go_to_the_end_bins():
    assert Bins([0, 1, 2, 3]).index([-1e30, -0.1, 0, 2.9, 3, 3.1, 1e30]).tolist() == [0, 0, 0, 2, 2, 2, 2]


def test_labels_beyond_float32_still_go_to_the_end_bins():
    assert Bins([0, 1, 2, 3]).index([-1e300, 1e300]).tolist() == [0, 2]


@pytest.mark.parametrize("make", [list, np.array, lambda y: np.array(y, np.float32), torch.tensor, lambda y: np.c_[y]])
def test_lists_arrays_tensors_and_columns_bin_alike(make):
    assert Bins.uniform(0, 5, 50).index(make([0.6, 4.2, 5.0, 0.0])).tolist() == [6, 42, 49, 0]


def test_integer_labels_bin_like_floats():
    bins = Bins(np.arange(122))
    assert bins.index(np.arange(130, dtype=np.uint8)).tolist() == [*range(121), *[120] * 9]


def test_numpy_labels_and_float32_tensors_never_disagree_on_an_edge():
    bins = Bins.uniform(0, 5, 50)
    tenths = np.arange(51) / 10
    assert (bins.index(tenths) == bins.index(torch.tensor(tenths, dtype=torch.float32))).all()


@pytest.mark.parametrize("low", [2000, 20000, 200000])
def test_numpy_labels_and_float32_tensors_agree_on_fine_bins(low):
    bins = Bins.uniform(low, low + 10, 100)
    labels = bins.edges + 1e-9 * low
    assert (bins.index(labels) == bins.index(labels.astype(np.float32))).all()


def test_edges_that_float32_cannot_separate_are_compared_in_float64():
    edges = [2.0**24, 2.0**24 + 1, 2.0**24 + 2, 2.0**24 + 3]
    labels = [2.0**24, 2.0**24 + 1, 2.0**24 + 2.5]
    assert Bins(edges).index(labels).tolist() == [slow.bin_index(label, edges) for label in labels] == [0, 1, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_label_is_named(bad):
    with pytest.raises(ValueError, match=r"(?=.*\blabels\b)(?=.*\b1 of 4\b)(?=.*\bindex 2\b)"):
        Bins([0, 1, 2]).index([0.5, 1.5, bad, 0.5])


def test_several_bad_labels_are_counted_and_the_first_is_named():
    with pytest.raises(ValueError, match=r"(?=.*\b3 of 5\b)(?=.*\bindex 1\b)"):
        Bins([0, 1, 2]).counts([0.5, np.nan, 1.0, np.inf, -np.inf])


@pytest.mark.parametrize(
    ("edges", "named"),
    [
        ([1], r"edges.*\(1,\)"),
        ([], r"edges.*\(0,\)"),
        ([[0, 1], [1, 2]], r"edges.*\(2, 2\)"),
        ([0, 2, 2, 3], r"edges.*2 then 2"),
        ([0, 3, 1], r"edges.*3 then 1"),
        ([0, 1, np.nan], r"edges.*nan"),
        ([0, 1, np.inf], r"edges.*inf"),
    ],
)
def test_edges_that_make_no_bins_are_named(edges, named):
    with pytest.raises(ValueError, match=named):
        Bins(edges)


def test_labels_of_the_wrong_shape_or_kind_are_named():
    with pytest.raises(ValueError, match=r"labels.*\(2, 3\)"):
        Bins([0, 1]).index(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="labels"):
        Bins([0, 1]).index(["a", "b"])


def test_bins_do_not_change_with_the_array_they_came_from():
    edges = np.array([0.0, 1.0, 2.0])
    bins = Bins(edges)
    edges[1] = 1.9
    assert bins.index([1.5]).tolist() == [1]
    assert bins.edges.tolist() == [0, 1, 2]


def test_centers_and_repr_read_well():
    bins = Bins.uniform(0, 5, 50)
    assert bins.count == 50
    assert bins.edges.shape == (51,)
    np.testing.assert_allclose(bins.centers, np.arange(50) / 10 + 0.05)
    assert "50 bins" in repr(bins)
    assert "[0, 5]" in repr(bins)
    assert "0.1" in repr(bins)


# ways to make bins


@given(numbers, st.floats(0.01, 1e4), st.integers(1, 60))
def test_uniform_bins_have_equal_width_over_the_range(low, span, count):
    low = round(low, 2)
    bins = Bins.uniform(low, low + span, count)
    assert bins.count == count
    assert bins.edges[0] == low
    assert bins.edges[-1] == low + span
    np.testing.assert_allclose(np.diff(bins.edges), span / count, rtol=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "width", "count", "last"),
    [(0, 1, 0.1, 10, 1.0), (0, 10, 3, 4, 12), (-2.5, 102.5, 5, 21, 102.5), (-4, 4, 0.25, 32, 4), (0, 1, 7, 1, 7)],
)
def test_bins_of_a_width_reach_the_range(low, high, width, count, last):
    bins = Bins.width(low, high, width)
    assert bins.count == count
    np.testing.assert_allclose(bins.edges[-1], last)
    np.testing.assert_allclose(np.diff(bins.edges), width)


def test_shhs_scores_have_one_bin_each():
    bins = Bins.width(-2.5, 102.5, 5)
    assert bins.index(np.arange(0, 101, 5)).tolist() == list(range(21))


@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_quantile_bins_hold_equally_many(count, seed):
    labels = np.random.default_rng(seed).lognormal(size=20 * count)
    counts = Bins.quantile(labels, count).counts(labels)
    assert len(counts) == count
    assert counts.min() >= 18
    assert counts.max() <= 22


def test_quantile_bins_of_repeating_labels_merge_instead_of_failing():
    labels = [0] * 90 + list(range(1, 11))
    bins = Bins.quantile(labels, 10)
    assert 1 <= bins.count < 10
    assert bins.counts(labels).sum() == 100
    assert Bins.quantile([7, 7, 7], 4).count == 1


@pytest.mark.parametrize(
    "grid",
    [
        np.arange(1, 30),
        np.arange(0, 101, 5),
        np.arange(-8, 9) / 4,
        np.arange(-50, -20),
        np.array([0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_labels_on_a_grid_get_one_centred_bin_per_value(grid, caplog):
    labels = np.random.default_rng(0).permutation(np.repeat(grid, 3))
    with caplog.at_level(logging.INFO):
        bins = Bins.auto(labels)
    assert bins.count == len(grid)
    np.testing.assert_allclose(bins.centers, grid, atol=1e-9)
    assert (bins.counts(labels) == 3).all()
    assert f"{bins.count} bins" in caplog.text  # a choice made for the user is told


def test_a_gap_in_the_grid_keeps_its_empty_bins():
    bins = Bins.auto([1, 2, 3, 7])
    assert bins.counts([1, 2, 3, 7]).tolist() == [1, 1, 1, 0, 0, 0, 1]


def test_labels_off_any_grid_get_equal_widths_and_the_choice_is_told(caplog):
    labels = np.random.default_rng(0).normal(size=1000)
    with caplog.at_level(logging.INFO):
        bins = Bins.auto(labels)
    assert "bins" in caplog.text
    np.testing.assert_allclose(np.diff(bins.edges), np.diff(bins.edges)[0], rtol=1e-6)
    assert bins.edges[0] <= labels.min()
    assert bins.edges[-1] >= labels.max()
    assert 5 <= bins.count <= 200


@given(st.lists(numbers, min_size=1, max_size=30))
def test_automatic_bins_hold_any_labels(labels):
    bins = Bins.auto(labels)
    assert bins.counts(labels).sum() == len(labels)
    rounding = 1e-6 * max(abs(label) for label in labels)
    assert bins.edges[0] <= min(labels) + rounding
    assert bins.edges[-1] >= max(labels) - rounding


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Bins.uniform(0, 5, 0), "count.*0"),
        (lambda: Bins.uniform(0, 5, 2.5), r"count.*2\.5"),
        (lambda: Bins.uniform(5, 5, 3), "low.*high.*5"),
        (lambda: Bins.uniform(0, np.inf, 3), "inf"),
        (lambda: Bins.width(0, 5, 0), "width.*0"),
        (lambda: Bins.width(0, 5, -1), "width.*-1"),
        (lambda: Bins.width(0, 5, np.nan), "width.*nan"),
        (lambda: Bins.width(3, 1, 1), "low.*high.*3.*1"),
        (lambda: Bins.quantile([1, 2], 0), "count.*0"),
        (lambda: Bins.quantile([], 3), "labels"),
        (lambda: Bins.quantile([1, np.nan], 3), "labels.*1 of 2.*index 1"),
        (lambda: Bins.auto([]), "labels"),
        (lambda: Bins.auto([np.inf, 1]), "labels.*1 of 2.*index 0"),
    ],
)
def test_bad_arguments_are_named_with_their_value(make, named):
    with pytest.raises(ValueError, match=named):
        make()


# the benchmarks' bins


def test_stsb_bins_are_those_of_float32_edges():
    edges = np.linspace(0, 5, 51).astype(np.float32)
    scores = np.arange(5001) / 1000  # every score with three digits, as the files have them
    expected = []
    for score in scores.astype(np.float32):
        expected.append(min(49, max(i for i in range(51) if edges[i] <= score)))
    bins = Bins.uniform(0, 5, 50)
    assert bins.index(scores).tolist() == expected
    assert bins.index([0.6, 5.0]).tolist() == [6, 49]  # float64 would put 0.6 into bin 5


def test_stsb_training_scores_fill_the_published_bins(shared):
    path = shared / "data" / "sts-b" / "train_new.tsv"
    if not path.exists():
        pytest.skip("no STS-B-DIR split")
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    counts = Bins.uniform(0, 5, 50).counts([float(line.split("\t")[-1]) for line in lines])
    assert counts.sum() == 5249
    many = {0, 49, *range(10, 50, 2)}
    assert {b for b in range(50) if counts[b] > 100} == many
    assert {b for b in (2, 4, 6, 8, 27, 35, 37) if 20 <= counts[b] <= 100} == {2, 4, 6, 8, 27, 35, 37}


def test_depth_bins_follow_the_published_product():
    bins = Bins.uniform(0, 10, 100)
    eight_bit = np.arange(256, dtype=np.float32) / np.float32(255) * np.float32(10)
    millimetres = np.arange(10001).astype(np.float32) / np.float32(1000)
    for depth in (eight_bit, millimetres):
        assert (bins.index(depth) == np.minimum((depth * np.float32(10)).astype(np.int64), 99)).all()


# kernel windows


@settings(max_examples=60)
@given(st.sampled_from(["gaussian", "triang", "laplace"]), st.integers(0, 8), st.floats(0.3, 6))
def test_windows_equal_the_twins(kernel, half, sigma):
    window = get_lds_kernel_window(kernel, 2 * half + 1, sigma)
    assert window.shape == (2 * half + 1,)
    assert window.dtype == np.float64
    assert window.max() == 1
    np.testing.assert_allclose(window, slow.kernel_window(kernel, 2 * half + 1, sigma), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(window, window[::-1], rtol=1e-12)


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 1, 2, 2.7, 10, 1e4])
def test_windows_equal_scipys_to_the_last_bit(sigma):
    for ks in (1, 3, 5, 9, 101):
        impulse = np.zeros(ks)
        impulse[ks // 2] = 1
        filtered = gaussian_filter1d(impulse, sigma)
        np.testing.assert_array_equal(get_lds_kernel_window("gaussian", ks, sigma), filtered / filtered.max())
        np.testing.assert_array_equal(get_lds_kernel_window("triang", ks, sigma), triang(ks))


def test_the_published_gaussian_window_is_nearly_a_box():
    window = get_lds_kernel_window("gaussian", 5, 2)
    np.testing.assert_allclose(window / window.sum(), [0.186, 0.205, 0.217, 0.205, 0.186], atol=5e-4)


def test_triang_and_laplace_are_as_written():
    np.testing.assert_allclose(get_lds_kernel_window("triang", 5, 2), [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(get_lds_kernel_window("laplace", 3, 2), [np.exp(-0.5), 1, np.exp(-0.5)])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("gaussian", 4, 2), r"ks.*for example 5.*\b4\b"),
        (("gaussian", 0, 2), r"ks.*for example 5.*\b0\b"),
        (("triang", -3, 2), "ks.*for example 5.*-3"),
        (("gaussian", 2.5, 2), r"ks.*for example 5.*2\.5"),
        (("gaussian", 5, 0), r"sigma.*for example 2.*\b0\b"),
        (("laplace", 5, -1), "sigma.*for example 2.*-1"),
        (("gaussian", 5, float("nan")), "sigma.*for example 2.*nan"),
        (("box", 5, 2), "kernel.*gaussian.*triang.*laplace.*box"),
    ],
)
def test_a_window_that_cannot_be_is_refused_with_the_value_and_a_valid_example(arguments, named):
    with pytest.raises(ValueError, match=named):
        get_lds_kernel_window(*arguments)


def test_tensors_of_any_kind_are_labels():
    expected = Bins.uniform(0, 5, 5).index([0.5, 1.0, 4.5])
    for labels in (
        torch.tensor([0.5, 1.0, 4.5], requires_grad=True),
        torch.tensor([0.5, 1.0, 4.5], dtype=torch.bfloat16),
        torch.tensor([[0.5], [1.0], [4.5]], dtype=torch.float16),
    ):
        np.testing.assert_array_equal(Bins.uniform(0, 5, 5).index(labels), expected)


@pytest.mark.parametrize("kernel", ["gaussian", "triang", "laplace"])
def test_a_width_out_of_range_is_named_not_computed(kernel):
    for sigma in (1e-300, 1e9, 1e300):
        with pytest.raises(ValueError, match="sigma: expected 0.001 to 10000 bins"):
            get_lds_kernel_window(kernel, 5, sigma)
    for sigma in (1e-3, 1e4):
        assert np.isfinite(get_lds_kernel_window(kernel, 5, sigma)).all()


def test_a_number_is_no_bins():
    from imbalanced_regression import FDS, lds_weights, shot_metrics

    for call in (lambda: lds_weights([1, 2], 5), lambda: FDS(4, bins=5), lambda: shot_metrics([1], [1], [1], 5)):
        with pytest.raises(ValueError, match="bins: expected Bins, for example .* found 5"):
            call()


# labels as own loops and tables hand them over


def test_masked_labels_are_refused_wherever_labels_are_read():
    """Their fill values would count: 30 % masked as -9999 left every good label with weight 0.866."""
    from imbalanced_regression import FDS, DepthMetrics, lds_weights, shot_metrics, weighted_l1_loss
    from imbalanced_regression.methods.lds import effective_density, lds_weights_joint, lds_weights_per_output

    y = np.array([1.0, 2, -9999, 4, -9999])
    bad = np.ma.masked_array(y, mask=y < 0)
    good, bins = np.array([1.0, 2, 3, 4, 5]), Bins.uniform(0, 5, 5)
    depth = DepthMetrics(bins, ["few"] * 5)
    for call, name in (
        (lambda: lds_weights(bad), "labels"), (lambda: bins.index(bad), "labels"), (lambda: Bins.auto(bad), "labels"),
        (lambda: Bins.quantile(bad, 3), "labels"), (lambda: effective_density(bad), "counts"),
        (lambda: lds_weights_joint(np.ma.stack([bad, bad], axis=1)), "labels"),
        (lambda: lds_weights_per_output(np.ma.stack([bad, bad], axis=1)), "labels"),
        (lambda: shot_metrics(bad, good, good), "preds"), (lambda: shot_metrics(good, bad, good), "labels"),
        (lambda: shot_metrics(good, good, bad), "train_labels"),
        (lambda: depth.update(bad, good), "preds"), (lambda: depth.update(good, bad), "labels"),
        (lambda: depth.update(good, good, bad), "mask"),
        (lambda: weighted_l1_loss(torch.ones(5), bad), "targets"),
        (lambda: weighted_l1_loss(torch.ones(5), good, bad), "weights"),
        (lambda: FDS(2, bins=bins).observe(torch.ones(5, 2), bad), "labels"),
        (lambda: lds_weights([bad, good]), "labels"),
    ):
        with pytest.raises(ValueError, match=rf"{name}: \d+ of \d+ are masked, the first at index [24]"):
            call()
    nothing_masked = np.ma.masked_array(good, mask=[0] * 5)
    np.testing.assert_array_equal(lds_weights(nothing_masked, bins), lds_weights(good, bins))
    assert DepthMetrics(bins, ["few"] * 5).update(nothing_masked, good) is None


def test_lists_of_batches_are_joined():
    from imbalanced_regression import lds_weights_joint, shot_metrics

    one, two = torch.rand(32, 1, requires_grad=True), torch.rand(11, 1)
    labels, bins = torch.rand(43), Bins.uniform(0, 5, 5)
    expected = shot_metrics(torch.cat([one, two]), labels, labels, bins)["overall"]
    for batches in ([one, two], (one[:, 0], two), [one.detach().numpy(), two.numpy()[:, 0]], list(torch.cat([one, two]))):
        assert shot_metrics(batches, labels, labels, bins)["overall"] == expected
    assert shot_metrics(list(torch.cat([one, two])[:, 0]), [labels[:20], labels[20:]], labels, bins)["overall"] == expected
    assert bins.index([torch.rand(4), torch.rand(4)]).shape == (8,)
    pairs = torch.rand(9, 2)
    for given_as in ([pairs[:4], pairs[4:]], list(pairs)):
        np.testing.assert_array_equal(lds_weights_joint(given_as), lds_weights_joint(pairs))


def test_columns_of_objects_are_read_where_they_are_numbers():
    from decimal import Decimal

    table = np.array([["a", 1.5], ["b", 2], ["c", Decimal("4.5")]], dtype=object)
    assert Bins.uniform(0, 5, 5).index(table[:, 1]).tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("preds", "named"),
    [
        ([[1.0, 2.0], [3.0]], "preds: .*different lengths"),
        ([torch.rand(4, 2), torch.rand(3, 1)], r"preds: .*list of batches.*\(3, 1\), \(4, 2\)"),
        (np.array(["1", 2.0], dtype=object), "preds: expected numbers, found objects of type str.*to_numeric"),
        (np.array([1.0, object()], dtype=object), "preds: expected numbers, found objects of type object"),
        (np.array([1.0, None], dtype=object), "preds: 1 of 2 are NaN"),
        (["1", "2"], "preds: expected numbers, found <U1; convert"),
        (torch.rand(2, 3), r"preds: expected shape \(N,\) or \(N, 1\), found \(2, 3\)"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_arguments_name_and_a_way_out(preds, named):
    from imbalanced_regression import shot_metrics

    with pytest.raises(ValueError, match=named):
        shot_metrics(preds, [1.0, 2.0], [1.0, 2.0])


# one rule without cliffs


@pytest.mark.parametrize("repeats", [1, 3, 10, 40])
def test_one_more_grid_value_never_changes_the_number_of_bins_by_more_than_half(repeats):
    """Labels 0 to 255 had 256 bins and 0 to 256 had 10."""
    counts = [Bins.auto(np.repeat(np.arange(top), repeats)).count for top in range(2, 400)]
    assert all(0.45 * one <= other <= 2.2 * one for one, other in zip(counts, counts[1:]))
    assert counts[254] == pytest.approx(counts[255], rel=0.1)
    assert max(counts) <= 300


def test_the_window_suits_labels_and_bins():
    ages = np.random.default_rng(0).normal(40, 15, 12_000).clip(0, 100).round()
    assert Bins.auto(ages).count == 101 - int(ages.min()) - (100 - int(ages.max()))
    assert Bins.auto(ages).window(ages) == (5, 2.0)  # the published one
    grades = np.repeat([3, 4, 5, 6, 7, 8], [10, 53, 681, 638, 199, 18])
    assert Bins.auto(grades).window(grades) == (3, 1.0)
    assert Bins([0, 1]).window([0.5]) == (1, 1.0)


def test_a_range_too_small_for_steps_within_it_is_refused():
    with pytest.raises(ValueError, match="^labels: expected a range of at least 1e-300, found 1e-309 to 5e-309; rescale them"):
        Bins.auto([1e-309, 2e-309, 3.3e-309, 5e-309])
