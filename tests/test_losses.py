"""The five losses against the slow twin, spelled-out numbers, and the shapes that must not broadcast silently."""

from __future__ import annotations

import numpy as np
import pytest
import slow
import torch

from imbalanced_regression.methods.losses import (
    ccc_loss,
    weighted_focal_l1_loss,
    weighted_focal_mse_loss,
    weighted_huber_loss,
    weighted_l1_loss,
    weighted_mse_loss,
)

LOSSES = {
    "mse": weighted_mse_loss,
    "l1": weighted_l1_loss,
    "huber": weighted_huber_loss,
    "focal_mse": weighted_focal_mse_loss,
    "focal_l1": weighted_focal_l1_loss,
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def example(shape=(7, 1), seed=0):
    draw = torch.Generator().manual_seed(seed)
    inputs, targets = (3 * torch.randn(shape, generator=draw) for _ in range(2))
    inputs.view(-1)[0] = targets.view(-1)[0]  # no error at all is a value like any other
    return inputs, targets, torch.rand(shape, generator=draw) + 0.1


def flat(*tensors):
    return [tensor.double().reshape(-1).tolist() for tensor in tensors]


@every_loss
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", [(7,), (7, 1), (2, 1, 3, 4)])
def test_losses_equal_the_twins(name, weighted, shape):
    inputs, targets, weights = example(shape)
    value = LOSSES[name](inputs, targets, weights if weighted else None)
    assert value.shape == ()
    expected = slow.loss(name, *flat(inputs, targets), flat(weights)[0] if weighted else None)
    torch.testing.assert_close(value.item(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["focal_mse", "focal_l1"])
@pytest.mark.parametrize("how", [{"activate": "tanh"}, {"beta": 20}, {"gamma": 2}, {"activate": "tanh", "gamma": 0.5}])
def test_focal_options_equal_the_twins(name, how):
    inputs, targets, weights = example()
    expected = slow.loss(name, *flat(inputs, targets, weights), **how)
    torch.testing.assert_close(LOSSES[name](inputs, targets, weights, **how).item(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0, 4.0])
def test_huber_beta_equals_the_twins(beta):
    inputs, targets, weights = example()
    expected = slow.loss("huber", *flat(inputs, targets, weights), beta=beta)
    torch.testing.assert_close(weighted_huber_loss(inputs, targets, weights, beta=beta).item(), expected)


def test_numbers_worked_out_by_hand():
    inputs, targets, weights = torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0]), torch.tensor([2.0, 0.5])
    assert weighted_mse_loss(inputs, targets).item() == 5.0  # (1 + 9) / 2
    assert weighted_mse_loss(inputs, targets, weights).item() == 3.25  # (2 + 4.5) / 2: over elements, not over weights
    assert weighted_l1_loss(inputs, targets, weights).item() == 1.75
    assert weighted_huber_loss(inputs, targets, weights).item() == 1.125  # (2 * 0.5 + 0.5 * 2.5) / 2
    f = [2 / (1 + np.exp(-0.2 * e)) - 1 for e in (1, 3)]
    np.testing.assert_allclose(weighted_focal_l1_loss(inputs, targets).item(), (f[0] + 3 * f[1]) / 2, rtol=1e-6)
    np.testing.assert_allclose(weighted_focal_mse_loss(inputs, targets).item(), (f[0] + 9 * f[1]) / 2, rtol=1e-6)


@every_loss
def test_weights_may_be_a_tensor_an_array_or_a_list(name):
    inputs, targets, weights = example()
    expected = LOSSES[name](inputs, targets, weights)
    column = weights[:, 0]
    for given in (
        weights.numpy(),
        weights.tolist(),
        column,  # (N,) for (N, 1) predictions
        column.numpy(),
        column.tolist(),
        [np.float32(w) for w in column],  # what the published README builds
        weights.double(),
    ):
        torch.testing.assert_close(LOSSES[name](inputs, targets, given), expected)


@every_loss
def test_a_vector_never_broadcasts_to_a_square(name):
    inputs, targets, weights = example()
    expected = LOSSES[name](inputs, targets, weights)
    torch.testing.assert_close(LOSSES[name](inputs, targets[:, 0], weights[:, 0]), expected)
    torch.testing.assert_close(LOSSES[name](inputs[:, 0], targets, weights), expected)


@every_loss
def test_per_sample_weights_fit_dense_predictions(name):
    inputs, targets, _ = example((3, 1, 2, 4))
    weights = torch.tensor([0.5, 1.0, 2.0])
    expected = LOSSES[name](inputs, targets, weights.view(3, 1, 1, 1).expand_as(inputs))
    torch.testing.assert_close(LOSSES[name](inputs, targets, weights), expected)


@every_loss
@pytest.mark.parametrize("shape", [(6,), (6, 1), (7, 2), (1, 7), (7, 1, 1, 1, 1)])
@pytest.mark.parametrize("which", ["targets", "weights"])
def test_shapes_that_do_not_fit_are_named(name, shape, which):
    inputs, targets, weights = example()
    wrong = {"targets": targets, "weights": weights, which: torch.ones(shape)}
    shown = str(tuple(shape)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=rf"{which}.*{shown}.*\(7, 1\)"):
        LOSSES[name](inputs, **wrong)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda e: weighted_focal_l1_loss(e, e, activate="relu"), "activate.*sigmoid.*tanh.*relu"),
        (lambda e: weighted_focal_mse_loss(e, e, activate="relu"), "activate.*sigmoid.*tanh.*relu"),
        (lambda e: weighted_focal_l1_loss(e, e, gamma=-1), r"gamma.*-1"),
        (lambda e: weighted_focal_mse_loss(e, e, gamma=float("nan")), "gamma.*nan"),
        (lambda e: weighted_huber_loss(e, e, beta=0), r"beta.*\b0\b"),
        (lambda e: weighted_mse_loss(e[:0], e[:0]), "inputs"),
    ],
)
def test_bad_options_are_named_with_their_value(call, named):
    with pytest.raises(ValueError, match=named):
        call(torch.ones(3))


@every_loss
def test_inputs_are_not_modified_and_gradient_reaches_them(name):
    inputs, targets, weights = example()
    before = [tensor.clone() for tensor in (inputs, targets, weights)]
    inputs.requires_grad_()
    LOSSES[name](inputs, targets, weights).backward()
    assert torch.isfinite(inputs.grad).all()
    assert (inputs.grad[1:] != 0).all()
    for tensor, copy in zip((inputs.detach(), targets, weights), before):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("name", ["focal_mse", "focal_l1"])
@pytest.mark.parametrize("activate", ["sigmoid", "tanh"])
@pytest.mark.parametrize("gamma", [0, 0.01, 0.5, 1, 2])
def test_a_prediction_without_error_has_gradient_0_under_any_gamma(name, activate, gamma):
    """Below 1 the power's slope at 0 is infinite, and one hit would turn the whole model's weights into NaN."""
    inputs, targets, weights = example()
    inputs.requires_grad_()
    LOSSES[name](inputs, targets, weights, activate=activate, gamma=gamma).backward()
    assert inputs.grad[0] == 0
    assert inputs.grad.isfinite().all()
    there = inputs.detach()[1:].double().requires_grad_()
    whole = torch.autograd.functional.jacobian
    slope = whole(lambda x: LOSSES[name](x, targets[1:], weights[1:], activate=activate, gamma=gamma), there) * 6 / 7
    torch.testing.assert_close(inputs.grad[1:], slope.float(), rtol=1e-4, atol=1e-6)


@every_loss
def test_half_precision_predictions_do_not_overflow(name):
    inputs = torch.full((4, 1), 300.0, dtype=torch.float16)
    value = LOSSES[name](inputs, torch.zeros(4, 1))
    torch.testing.assert_close(value.item(), slow.loss(name, [300.0] * 4, [0.0] * 4), rtol=1e-3, atol=0)


# 1 - CCC

Y = torch.tensor([[1.0], [2], [4], [7], [7]], dtype=torch.float64)
PREDS = torch.tensor([[1.5], [1], [5], [6], [3]], dtype=torch.float64)


def test_the_golden_concordance():
    assert 1 - ccc_loss(PREDS, Y).item() == pytest.approx(0.6411929171, abs=1e-9)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", [(7,), (7, 1), (2, 1, 3, 4)])
def test_concordance_equals_the_twin(weighted, shape):
    inputs, targets, weights = example(shape)
    value = ccc_loss(inputs, targets, weights if weighted else None)
    assert value.shape == ()
    expected = 1 - slow.concordance(*flat(inputs, targets), flat(weights)[0] if weighted else None)
    torch.testing.assert_close(value.item(), expected, rtol=1e-5, atol=1e-6)


def test_concordance_of_several_outputs_is_the_mean_over_them():
    inputs, targets, weights = example((9, 3))
    each = [ccc_loss(inputs[:, m], targets[:, m], weights[:, 0]).item() for m in range(3)]
    assert ccc_loss(inputs, targets, weights[:, 0]).item() == pytest.approx(sum(each) / 3, rel=1e-5)


def test_concordance_of_whole_numbers_as_weights_is_that_of_repeated_rows():
    repeats = torch.tensor([1, 3, 2, 1, 2])
    plain = ccc_loss(PREDS.repeat_interleave(repeats, 0), Y.repeat_interleave(repeats, 0))
    torch.testing.assert_close(ccc_loss(PREDS, Y, repeats), plain)


def test_concordance_of_constants_and_half_precision_is_finite():
    ones = torch.ones(4, 1)
    for inputs, targets in ((ones, ones), (ones, Y[:4].float()), (PREDS[:4].bfloat16(), Y[:4])):
        there = inputs.clone().requires_grad_()
        value = ccc_loss(there, targets)
        value.backward()
        assert value.isfinite()
        assert there.grad.isfinite().all()
    assert ccc_loss(Y, Y).item() == pytest.approx(0, abs=1e-12)


def test_concordance_needs_two_rows_of_equal_shapes_and_the_whole_batch():
    assert ccc_loss.whole_batch is True
    with pytest.raises(ValueError, match="ccc_loss: expected a batch of at least 2 rows, found 1"):
        ccc_loss(torch.ones(1, 1), torch.ones(1, 1))
    with pytest.raises(ValueError, match="targets: shape"):
        ccc_loss(torch.ones(4, 1), torch.ones(3, 1))
