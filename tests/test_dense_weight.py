"""DenseWeight against the slow twin, its knobs and its properties, labels known by counts alone, and the bad inputs."""

from __future__ import annotations

import numpy as np
import pytest
from commands import PROGRAMS, fresh
from slow import dense_weight as twin

from imbalanced_regression.bins import Bins
from imbalanced_regression.methods.dense_weight import dense_bin_weights, dense_weights


def skewed(count=60, seed=0):
    random = np.random.default_rng(seed)
    return np.concatenate([random.normal(0, 1, count), random.normal(7, 2, count // 5)])


def test_the_tiny_case():
    assert twin.from_density([0, 0.5, 1], 0, 1) == pytest.approx([2, 1, 2e-6], rel=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e6])
def test_weights_equal_the_twin_for_labels_of_any_scale(alpha, scale):
    labels = scale * skewed() + 3 * scale
    weights = dense_weights(labels, alpha=alpha)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, twin.weights(labels.tolist(), alpha), atol=3e-3, rtol=1e-3)


@pytest.mark.parametrize("bandwidth", [0.2, 1.0, 30.0])
def test_the_bandwidth_may_be_given(bandwidth):
    labels = skewed()
    expected = twin.weights(labels.tolist(), 0.9, h=bandwidth)
    np.testing.assert_allclose(dense_weights(labels, alpha=0.9, bandwidth=bandwidth), expected, atol=3e-3, rtol=1e-3)


def test_the_mean_is_one_and_rare_labels_weigh_more():
    labels = skewed(600)
    weights = dense_weights(labels, alpha=0.8)
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    assert weights[np.abs(labels) < 0.3].max() < 0.5 < 1 < weights[labels > 5].min()
    assert (dense_weights(labels, alpha=0) == 1).all()
    heavy = dense_weights(labels, alpha=2, eps=1e-3)
    assert heavy[np.abs(labels) < 0.3].max() < 0.01


def test_the_order_and_the_shift_of_the_labels_do_not_matter():
    labels = skewed()
    order = np.random.default_rng(0).permutation(len(labels))
    np.testing.assert_allclose(dense_weights(labels[order]), dense_weights(labels)[order], rtol=1e-5)
    np.testing.assert_allclose(dense_weights(labels - 500), dense_weights(labels), rtol=1e-3)
    np.testing.assert_allclose(dense_weights(labels[:, None]), dense_weights(labels))


@pytest.mark.parametrize("labels", [[5.0], [5, 5, 5], np.full(9, 1e9)])
def test_constant_labels_weigh_one(labels):
    assert dense_weights(labels).tolist() == [1] * len(labels)


def test_heavy_tails_get_a_finer_grid():
    labels = np.concatenate([np.random.default_rng(0).normal(0, 1, 200), [300.0]])
    weights = dense_weights(labels, bandwidth=0.3)
    np.testing.assert_allclose(weights, twin.weights(labels.tolist(), h=0.3, points=8000), atol=0.01)


def test_counts_weigh_as_the_labels_they_stand_for():
    labels = np.clip(skewed(20_000), -5, 15)
    bins = Bins.uniform(-5, 15, 400)
    counts = bins.counts(labels)
    by_bin = dense_bin_weights(bins, counts, alpha=0.9, bandwidth=0.5)
    assert by_bin.shape == (400,)
    assert (counts @ by_bin) / counts.sum() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(by_bin[bins.index(labels)], dense_weights(labels, alpha=0.9, bandwidth=0.5), atol=0.05)
    assert np.isfinite(by_bin).all()  # empty bins too


def test_billions_of_counts_do_not_show_the_bins_as_a_comb():
    bins, counts = Bins.uniform(0, 10, 100), np.full(100, 35_000_000)
    weights = dense_bin_weights(bins, counts, alpha=0.5)
    assert weights[5:-5] == pytest.approx(weights[50], rel=1e-3)
    assert (dense_bin_weights(bins, np.eye(100, dtype=int)[3] * 7) == 1).all()


def test_torch_is_not_needed():
    words = [PROGRAMS / "imports_alone.py", "imbalanced_regression.methods.dense_weight", "torch"]
    assert fresh(words) == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dense_weights([1.0, np.nan]), "labels: 1 of 2 are NaN"),
        (lambda: dense_weights([]), "labels: expected at least one"),
        (lambda: dense_weights([1, 2], alpha=-1), "alpha: expected"),
        (lambda: dense_weights([1, 2], alpha=float("nan")), "alpha: expected"),
        (lambda: dense_weights([1, 2], eps=0), "eps: expected"),
        (lambda: dense_weights([1, 2], bandwidth=0), "bandwidth: expected None or"),
        (lambda: dense_weights([1, 2e9], bandwidth=1e-3), "bandwidth: 0.001 is too small for labels over 2e.09; pass one of"),
        (lambda: dense_bin_weights(Bins([0, 1, 2]), [1]), "counts: expected one for each of the 2 bins"),
        (lambda: dense_bin_weights(Bins([0, 1, 2]), [0, 0]), "counts: expected finite non-negative"),
        (lambda: dense_bin_weights(7, [0, 0]), "bins: expected Bins"),
    ],
)
def test_bad_arguments_are_refused_with_their_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
