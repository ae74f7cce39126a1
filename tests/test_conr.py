"""ConR against the slow twin and the golden values, its empty sets, and the inputs that must not break it."""

from __future__ import annotations

import pytest
import torch
from slow import conr as twin

from imbalanced_regression.methods.conr import ConR

Z = torch.tensor([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8], [-1, 0.5]], dtype=torch.float64)
Y = torch.tensor([[1.0], [2], [4], [7], [7]], dtype=torch.float64)
PREDS = torch.tensor([[1.5], [1], [5], [6], [3]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.5, 1, 1.5, 1.5], dtype=torch.float64)


def example(count=20, width=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=draw, dtype=torch.float64)
    targets, preds, weights = (torch.rand(count, 1, generator=draw, dtype=torch.float64) for _ in range(3))
    return features, (10 * targets).round(), 10 * preds, weights + 0.1


def lists(*tensors):
    return [None if tensor is None else tensor.reshape(len(tensor), -1).squeeze(1).tolist() for tensor in tensors]


def test_the_golden_values():
    assert ConR()(Z, Y, PREDS, WEIGHTS).item() == pytest.approx(0.2024939525, abs=1e-9)
    assert twin.per_anchor(*lists(Z, Y, PREDS, WEIGHTS)) == pytest.approx([0, 0, 0, 1.0124697623595, 0], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("how", [(1.0, 0.2, 0.01), (2.0, 0.07, 0.3), (0.0, 1.0, 0.0)])
def test_loss_and_gradient_equal_the_twin(seed, weighted, how):
    features, targets, preds, weights = example(seed=seed)
    weights = weights if weighted else None
    term = ConR(*how)
    features.requires_grad_()
    value = term(features, targets, preds, weights)
    arguments = lists(features.detach(), targets, preds, weights)
    assert value.item() == pytest.approx(twin.loss(*arguments, *how), rel=1e-10, abs=1e-12)
    value.backward()
    rows, step = arguments[0], 1e-6
    for i, c in ((0, 0), (7, 3), (13, 5)):
        moved = []
        for sign in (1, -1):
            there = [list(row) for row in rows]
            there[i][c] += sign * step
            moved.append(twin.loss(there, *arguments[1:], *how))
        assert features.grad[i, c].item() == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("weighted", [True, False])
def test_the_whole_gradient_is_the_numerical_one(weighted):
    features, targets, preds, weights = example(12, 4)
    term = ConR(2.0, 0.3, 0.1)
    given = [targets, preds, weights if weighted else None]
    assert torch.autograd.gradcheck(lambda there: term(there, *given), features.requires_grad_())


def test_a_batch_large_enough_for_bands_equals_the_twin():
    arguments = example(140, 3)
    assert ConR()(*arguments).item() == pytest.approx(twin.loss(*lists(*arguments), 1.0, 0.2, 0.01), rel=1e-10)


def test_anchors_without_a_positive_or_a_confused_negative_cost_nothing():
    features, targets, preds, _ = example()
    assert ConR()(features, targets, targets).item() == 0  # nobody is confused
    assert ConR(within=0.5)(features, torch.arange(20.0), preds).item() == 0  # nobody has company
    for given in (targets, torch.arange(20.0)):
        there = features.clone().requires_grad_()
        ConR(within=0.5)(there, given, given).backward()
        assert there.grad.abs().sum() == 0


def test_a_batch_of_one_and_equal_labels_cost_nothing():
    features, _, preds, weights = example()
    assert ConR()(features[:1], torch.ones(1), torch.ones(1)).item() == 0
    assert ConR()(features, torch.ones(20), preds, weights).item() == 0


def test_no_gradient_goes_through_predictions_and_weights():
    features, targets, preds, weights = example()
    features, preds, weights = (part.requires_grad_() for part in (features, preds, weights))
    ConR()(features, targets, preds, weights).backward()
    assert features.grad.abs().sum() > 0
    assert preds.grad is None
    assert weights.grad is None


def test_vectors_and_columns_are_the_same_rows():
    arguments = example()
    expected = ConR()(*arguments).item()
    assert ConR()(arguments[0], *(part[:, 0] for part in arguments[1:])).item() == expected


def test_wide_label_ranges_zero_weights_and_half_precision_are_finite():
    features, targets, preds, weights = example()
    features[2], features[5:7], weights[3] = 0, features[8], 0
    for dtype in (torch.float32, torch.bfloat16):
        there = features.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            value = ConR(push=1.0)(there, (1000 * targets).to(dtype), preds.to(dtype), weights)
        value.backward()
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert there.grad.isfinite().all()
        assert there.grad.abs().max() < 1e3


def test_labels_as_far_apart_as_within_up_to_rounding_are_positives():
    features, targets, preds, _ = example()
    tenths = (targets / 10).float()  # 0.7 - 0.6 is more than 0.1 in float32
    found = ConR(0.1, push=0.1)(features, tenths, (preds / 10).float())
    assert found.item() == pytest.approx(ConR(1.0, push=0.01)(features, targets, preds).item(), rel=1e-6)


def test_one_label_of_a_million_makes_no_positives_of_the_others():
    features = example(5)[0]
    labels = torch.tensor([0, 0.1, 0.25, 0.4, 1e6])
    found = ConR(0.12)(features, labels, torch.zeros(5)).item()
    assert found == pytest.approx(ConR(0.12)(features, labels.double(), torch.zeros(5)).item(), rel=1e-5)


def test_it_asks_for_two_views():
    assert ConR.two_views is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Z, Y), "ConR: preds: expected the predictions.*found None"),
        ((torch.full_like(Z, torch.nan), Y, PREDS), "ConR: features: .*NaN or infinity in 5 of 5 rows"),
        ((Z, Y, PREDS[:4]), r"ConR: preds: expected shape \(5,\) or \(5, 1\), found \(4, 1\)"),
        ((Z, Y, PREDS, WEIGHTS[:4]), "ConR: weights: expected shape"),
        ((Z, Y, PREDS, -WEIGHTS), "ConR: weights: expected at least 0, found -"),
        ((Z, Y * torch.inf, PREDS), "ConR: targets: .*NaN or infinity"),
    ],
)
def test_bad_input_is_refused_with_the_method_and_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConR()(*arguments)


@pytest.mark.parametrize(("name", "value"), [("within", -1), ("temperature", 0), ("push", -0.1), ("push", float("nan"))])
def test_arguments_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a finite number"):
        ConR(**{name: value})
