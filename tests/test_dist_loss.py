"""Dist Loss against the slow twin, the golden values and the paper's toy; its expected labels; the inputs it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow import dist_loss as twin

from imbalanced_regression.bins import Bins
from imbalanced_regression.methods.dist_loss import DistLoss, dist_loss

Y = torch.tensor([[1.0], [2], [4], [7], [7]])
PREDS = torch.tensor([[1.5], [1], [5], [6], [3]])
WEIGHTS = torch.tensor([0.5, 0.5, 1, 1.5, 1.5])
TRAIN = [1, 1, 2, 2, 2, 4, 7, 7]


def test_the_golden_quantiles_and_term():
    quantiles = DistLoss(TRAIN).expected(5)
    assert quantiles.tolist() == [1, 2, 2, 4, 7]
    pointwise = (PREDS - Y).abs().mean().item()
    assert dist_loss(PREDS, Y, None, quantiles).item() == pytest.approx(pointwise + 0.7)
    assert DistLoss(TRAIN, strength=2)(PREDS, Y).item() == pytest.approx(pointwise + 1.4)


def test_the_toy_of_the_paper():
    loss = DistLoss(bins=Bins([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]), counts=[1, 0, 2, 3, 0, 1])
    assert loss.expected(7).tolist() == [1, 3, 3, 4, 4, 4, 6]
    preds = torch.tensor([5.0, 2, 6, 3, 2, 7, 1])
    assert loss(preds, preds).item() == pytest.approx(1.0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 16, 33])
@pytest.mark.parametrize("labels", [TRAIN, [3.5], [5, -2, 0.25, 0.25, 9, 1, 1, 1], list(range(16))])
def test_the_expected_labels_equal_the_twin_for_labels_and_for_counts(size, labels):
    expected = twin.expected(labels, size)
    assert DistLoss(labels).expected(size).tolist() == expected
    values, counts = np.unique(labels, return_counts=True)
    edges = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    of_bins = Bins(edges)
    there = of_bins.centers[np.searchsorted(values, expected)].astype(np.float32)
    for factor in (1, 100_000_000, 0.125):  # up to 1.6 billion labels, and shares
        assert DistLoss(bins=of_bins, counts=counts * factor).expected(size).tolist() == there.tolist()


@pytest.mark.parametrize(("pointwise", "power"), [("l1", 1), ("mse", 2)])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_loss_equals_the_twin_and_weights_act_on_the_first_part(pointwise, power, weighted):
    draw = torch.Generator().manual_seed(0)
    preds, targets, weights = (torch.rand(13, 1, generator=draw, dtype=torch.float64) * 9 for _ in range(3))
    weights = weights if weighted else None
    loss = DistLoss(TRAIN, strength=0.7, pointwise=pointwise)
    quantiles = twin.expected(TRAIN, 13)
    rows = (None if part is None else part[:, 0].tolist() for part in (preds, targets, weights))
    assert loss(preds, targets, weights).item() == pytest.approx(twin.loss(*rows, quantiles, 0.7, power), rel=1e-12)


def test_the_gradient_passes_through_the_order():
    preds = torch.tensor([5.0, 1, 3], requires_grad=True)
    dist_loss(preds, preds.detach(), None, [2.0, 2, 2], pointwise="mse").backward()
    assert preds.grad.tolist() == pytest.approx([2.0, -2 / 3, 2 / 3])


def test_a_vector_and_a_column_are_the_same_rows():
    loss = DistLoss(TRAIN)
    expected = loss(PREDS, Y, WEIGHTS).item()
    for preds in (PREDS, PREDS[:, 0]):
        for targets in (Y, Y[:, 0]):
            for weights in (WEIGHTS, WEIGHTS[:, None]):
                assert loss(preds, targets, weights).item() == expected


def test_batches_of_every_size_and_half_precision():
    loss = DistLoss(TRAIN)
    for size in range(1, 40):
        preds = torch.linspace(0, 8, size).bfloat16().requires_grad_()
        value = loss(preds, torch.ones(size))
        value.backward()
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert preds.grad.isfinite().all()
    assert loss.whole_batch is True


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DistLoss(), "labels: expected either labels, or bins and counts"),
        (lambda: DistLoss([1.0], bins=Bins([0, 1]), counts=[1]), "labels: expected either"),
        (lambda: DistLoss([1.0, np.nan]), "labels: 1 of 2 are NaN"),
        (lambda: DistLoss(bins=Bins([0, 1, 2]), counts=[1]), "counts: expected one for each of the 2 bins"),
        (lambda: DistLoss(bins=Bins([0, 1, 2]), counts=[-1, 2]), "counts: expected finite non-negative"),
        (lambda: DistLoss(TRAIN, strength=-1), "strength: expected"),
        (lambda: DistLoss(TRAIN, pointwise="l2"), "pointwise: expected one of .*l1.*, found 'l2'"),
        (lambda: DistLoss(TRAIN).expected(0), "batch_size: expected a whole number"),
        (lambda: dist_loss(torch.ones(3), torch.ones(3), None, [1.0, 3, 2]), "expected: must be ascending, found a step of -1"),
        (lambda: DistLoss(TRAIN)(torch.ones(0), torch.ones(0)), "outputs: expected at least one"),
        (lambda: DistLoss(TRAIN)(torch.ones(3), torch.ones(2)), "targets: shape"),
        (lambda: DistLoss(TRAIN)(torch.ones(3, 2), torch.ones(3, 2)), "preds: expected shape"),
        (lambda: dist_loss(PREDS, Y, None, [1.0, 2.0]), "expected: shape"),
        (lambda: dist_loss(PREDS, Y, None, 1.0), "expected: expected 5 labels"),
        (lambda: dist_loss(PREDS, Y, torch.ones(4), torch.ones(5)), "weights: shape"),
    ],
)
def test_bad_arguments_are_refused_with_their_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
