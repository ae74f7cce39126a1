"""UVOTE against loops over heads and samples: loss, weights, and who speaks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow.uvote as loops
import torch
from hypothesis import given
from hypothesis import strategies as st

from imbalanced_regression.bins import Bins
from imbalanced_regression.methods.uvote import UVOTE, uvote_loss, uvote_point, uvote_weights

Y, PREDS = torch.tensor([[1.0], [2], [4], [7], [7]]), torch.tensor([[1.5], [1], [5], [6], [3]])
W, LOG_B = torch.tensor([[0.5], [0.5], [1], [1.5], [1.5]]), torch.tensor([[0.0], [-1], [0.5], [1], [2]])


def stacks(heads, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mus, log_bs = torch.randn(2, heads, n, 1, generator=generator, dtype=torch.float64)
    targets = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    return mus, 3 * log_bs, targets, torch.rand(n, heads, generator=generator, dtype=torch.float64)


def test_one_head_gives_the_golden_value():
    for weights in (W, W[None], W[:, 0]):
        assert uvote_loss(PREDS[None], LOG_B[None], Y, weights, 0, 90).item() == pytest.approx(2.3090476676, abs=1e-6)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 1000), st.integers(0, 5))
def test_loss_and_point_equal_the_loops(heads, n, seed, epoch):
    mus, log_bs, targets, weights = stacks(heads, n, seed)
    listed = mus[..., 0].tolist(), log_bs[..., 0].tolist()
    expected = loops.uvote_loss(*listed, targets[:, 0].tolist(), weights.tolist(), epoch, 5)
    for given_weights in (weights, weights.T[..., None]):
        found = uvote_loss(mus, log_bs, targets, given_weights, epoch, 5).item()
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-10)
    assert uvote_point(mus, log_bs)[:, 0].tolist() == loops.uvote_point(*listed)


def test_weights_of_one_column_serve_every_head():
    mus, log_bs, targets, weights = stacks(3, 5)
    one = weights[:, :1]
    expected = uvote_loss(mus, log_bs, targets, one.expand(5, 3), 2, 4).item()
    assert uvote_loss(mus, log_bs, targets, one, 2, 4).item() == pytest.approx(expected)
    ones = uvote_loss(mus, log_bs, targets, torch.ones(5, 3), 2, 4).item()
    assert uvote_loss(mus, log_bs, targets, None, 2, 4).item() == pytest.approx(ones)


def test_at_epoch_zero_the_first_head_alone_learns():
    torch.manual_seed(0)
    head, features = UVOTE(heads=3, feature_dim=4), torch.randn(5, 4)
    head.loss(head(features), Y, torch.ones(5, 3), 0, 10).backward()
    learnt = head.weight.grad.abs().sum(1) > 0
    assert learnt.tolist() == [True, False, False, True, False, False]
    head.loss(head(features), Y, torch.ones(5, 3), 1, 10).backward()
    assert (head.weight.grad.abs().sum(1) > 0).all()


def test_the_surest_head_speaks_for_point_and_spread():
    head = UVOTE(heads=2, feature_dim=3)
    outputs = torch.tensor([[10.0, 20.0, 0.0, 1.0], [10.0, 20.0, 2.0, -1.0], [10.0, 20.0, 3.0, -9.0]])  # mus, then log_bs
    assert head.point(outputs).tolist() == [[10.0], [20.0], [20.0]]
    expected = [math.sqrt(2) * math.exp(value) for value in (0, -1, -5)]
    assert head.spread(outputs)[:, 0].tolist() == pytest.approx(expected, rel=1e-5)
    mus, log_bs = head.stacks(outputs)
    assert mus.shape == log_bs.shape == (2, 3, 1)
    assert mus[1].unique().tolist() == [20.0]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 4))
def test_weights_equal_the_loops_with_mean_one(labels, heads):
    weights = uvote_weights(labels, Bins.width(0, 7, 1), heads)
    assert weights.shape == (len(labels), heads)
    assert weights.dtype == np.float32
    assert np.allclose(weights, loops.uvote_weights(labels, heads), rtol=1e-5)
    assert np.allclose(weights.mean(0), 1, rtol=1e-5)


def test_counts_give_a_row_per_bin_empty_ones_too():
    labels = np.repeat([0, 1, 3], [2, 30, 5000])
    bins = Bins.width(0, 4, 1)
    by_bin = uvote_weights(counts=bins.counts(labels), heads=3)
    assert np.allclose(by_bin[bins.index(labels)], uvote_weights(labels, bins, 3))
    ratios = by_bin / by_bin[1]
    assert ratios[0].tolist() == pytest.approx([1, math.sqrt(30 / 2), 30 / 5], rel=1e-5)
    assert ratios[2].tolist() == pytest.approx([1, math.sqrt(30), 30 / 5], rel=1e-5)
    assert ratios[3].tolist() == pytest.approx([1, math.sqrt(30 / 5000), 30 / 1000], rel=1e-5)


def test_extreme_weights_stay_finite():
    mus, log_bs, targets, _ = stacks(2, 4)
    loss = uvote_loss(mus, log_bs, targets, torch.tensor([[0.0, 1e12]] * 4), 1, 1)
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: UVOTE(heads=2), "feature_dim"),
        (lambda: UVOTE(heads=0, feature_dim=4), "heads"),
        (lambda: uvote_loss(PREDS, LOG_B, Y, W, 0, 1), r"\(M, B, 1\)"),
        (lambda: uvote_loss(PREDS[None], LOG_B[None, :3], Y, W, 0, 1), r"\(M, B, 1\)"),
        (lambda: uvote_loss(PREDS[None], LOG_B[None], Y, W.expand(5, 2), 0, 1), "weights"),
        (lambda: uvote_loss(PREDS[None], LOG_B[None], Y.expand(5, 5), W, 0, 1), "targets"),
        (lambda: uvote_loss(PREDS[None], LOG_B[None], Y, W, 0, 0), "epochs"),
        (lambda: uvote_point(PREDS, LOG_B), r"\(M, B, 1\)"),
        (lambda: uvote_weights([1, 2]), "bins"),
        (lambda: uvote_weights(), "labels, counts"),
        (lambda: uvote_weights([1, 2], Bins.width(0, 3, 1), counts=[1]), "labels, counts"),
        (lambda: uvote_weights(counts=[-1, 2]), "counts"),
        (lambda: uvote_weights(counts=[0, 0]), "counts"),
        (lambda: uvote_weights([float("nan")], Bins.width(0, 3, 1)), "NaN"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
