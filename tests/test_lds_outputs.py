"""LDS weights for labels of several outputs, against the slow twin: each output on its own, and jointly."""

from __future__ import annotations

import numpy as np
import pytest
import slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanced_regression import Bins, lds_weights, lds_weights_joint, lds_weights_per_output, weighted_mse_loss

EDGES = [[-4.5, -2, -1, 0, 0.5, 3, 5], [0, 1, 2, 4, 8]]
BINS = [Bins(edges) for edges in EDGES]
pairs = st.lists(st.tuples(st.integers(-5, 5), st.integers(-1, 9)), min_size=1, max_size=40)
options = st.fixed_dictionaries(
    {
        "reweight": st.sampled_from(["sqrt_inv", "inverse"]),
        "lds": st.booleans(),
        "boundary": st.sampled_from(["renormalize", "zeros", "reflect"]),
        "kernel": st.sampled_from(["gaussian", "triang", "laplace"]),
        "ks": st.sampled_from([1, 3, 5]),
        "sigma": st.sampled_from([0.5, 1, 2]),
        "clip": st.sampled_from([None, (1, 3)]),
    }
)


@settings(max_examples=60, deadline=None)
@given(pairs, options)
def test_weights_of_several_outputs_equal_the_twins(labels, how):
    each, joint = lds_weights_per_output(labels, BINS, **how), lds_weights_joint(labels, BINS, **how)
    assert (each.shape, joint.shape) == ((len(labels), 2), (len(labels),))
    assert each.dtype == joint.dtype == np.float32
    np.testing.assert_allclose(each, slow.weights_per_output(labels, EDGES, **how), rtol=2e-6)
    np.testing.assert_allclose(joint, slow.joint_weights(labels, EDGES, **how), rtol=2e-6)
    np.testing.assert_allclose([*each.mean(axis=0), joint.mean()], 1, rtol=1e-5)


def test_one_output_jointly_is_plain_lds():
    labels = np.random.default_rng(0).gamma(2, 2, 300)
    bins = Bins.uniform(0, 20, 25)
    np.testing.assert_allclose(lds_weights_joint(labels[:, None], bins), lds_weights(labels, bins), rtol=1e-6)


def test_the_kernel_mass_is_normalised_in_the_corners():
    """Of a uniform grid of labels every sample weighs 1, the corners too; with zeros outside they would weigh more."""
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(6), np.arange(5)), axis=-1).reshape(-1, 3) + 0.5
    bins = [Bins.width(0, size, 1) for size in (8, 6, 5)]
    np.testing.assert_allclose(lds_weights_joint(grid, bins, reweight="inverse"), 1, rtol=1e-6)
    assert lds_weights_joint(grid, bins, reweight="inverse", boundary="zeros").max() > 2


def test_a_rare_combination_of_common_labels_weighs_more_only_jointly():
    labels = np.array([[0, 0]] * 50 + [[9, 9]] * 50 + [[0, 9]])
    bins = Bins.uniform(0, 10, 10)
    how = {"reweight": "inverse", "ks": 3, "sigma": 1}
    joint, each = lds_weights_joint(labels, bins, **how), lds_weights_per_output(labels, bins, **how)
    assert joint[-1] / joint[0] == pytest.approx(50, rel=1e-3)
    assert (np.abs(each[-1] - each[:1]) < 0.05).all()


def test_without_bins_they_are_chosen_by_the_data():
    rng = np.random.default_rng(0)
    labels = np.stack([rng.lognormal(size=500), -rng.gamma(2, 2, 500), np.full(500, 3.0)], axis=1)
    for weights in (lds_weights_per_output(labels), lds_weights_joint(labels), lds_weights_joint(torch.tensor(labels))):
        assert np.isfinite(weights).all()
        assert weights.mean() == pytest.approx(1, rel=1e-5)


def test_weights_serve_the_losses():
    labels = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    preds = torch.zeros(20, 3)
    for weights in (lds_weights_per_output(labels), lds_weights_joint(labels)):
        w = np.broadcast_to(weights.reshape(20, -1), (20, 3))
        expected = sum(w[i, m] * labels[i, m].item() ** 2 for i in range(20) for m in range(3)) / 60
        assert weighted_mse_loss(preds, labels, weights).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("function", [lds_weights_per_output, lds_weights_joint])
@pytest.mark.parametrize(
    ("labels", "bins", "how", "named"),
    [
        ([1, 2, 3], None, {}, r"labels.*\(N, M\).*\(3,\).*lds_weights takes"),
        (np.zeros((0, 2)), None, {}, r"labels\[:, 0\].*none"),
        ([[1, 2], [1, np.nan]], None, {}, r"labels\[:, 1\].*1 of 2.*index 1"),
        ([[1, 2], [3, 4]], BINS[:1], {}, "bins.*2 outputs.*1"),
        ([[1, 2], [3, 4]], 5, {}, "bins.*5"),
        ([[1, 2], [3, 4]], [BINS[0], 5], {}, "bins.*Bins.uniform.*5"),
        ([[1, 2], [3, 4]], BINS, {"reweight": "none"}, "reweight.*none"),
        ([[1, 2], [3, 4]], BINS, {"reweight": "inverse", "lds": False, "clip": (0, 0)}, "infinite"),
    ],
)
def test_bad_input_is_named(function, labels, bins, how, named):
    with pytest.raises(ValueError, match=named):
        function(labels, bins, **how)


def test_too_many_cells_are_refused_with_the_way_out():
    labels = np.random.default_rng(0).normal(size=(10, 4))
    with pytest.raises(ValueError, match="100 x 100 x 100 x 100.*1e\\+08.*lds_weights_per_output"):
        lds_weights_joint(labels, Bins.uniform(-3, 3, 100))
    assert (lds_weights_joint(labels, lds=False, reweight="none") == 1).all()
