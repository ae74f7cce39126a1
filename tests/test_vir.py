"""VIR's head: its likelihood is Student's t, and its loss equals loops over the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow.vir as loops
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from imbalanced_regression.methods.vir import NIG, nig_loss, nig_nll, nig_parameters, nig_variance

positive = st.floats(0.05, 50)


def test_one_sample_gives_the_golden_value():
    assert nig_nll(1, 1.5, 2, 1.3, 0.7).item() == pytest.approx(1.1087030489, abs=1e-10)
    single = nig_nll(*(torch.tensor([value]) for value in (1.0, 1.5, 2.0, 1.3, 0.7)))
    assert single.shape == (1,)
    assert single.item() == pytest.approx(1.1087030489, abs=1e-6)


@given(st.floats(-20, 20), st.floats(-20, 20), positive, positive, positive)
def test_likelihood_is_students_t(y, gamma, nu, alpha, beta):
    scale = math.sqrt(beta * (1 + nu) / (nu * alpha))
    expected = -stats.t.logpdf(y, 2 * alpha, gamma, scale)
    assert nig_nll(y, gamma, nu, alpha, beta).item() == pytest.approx(expected, rel=1e-8, abs=1e-8)
    assert nig_nll(y, gamma, nu, alpha, beta).item() == pytest.approx(loops.nig_nll(y, gamma, nu, alpha, beta), abs=1e-8)


@given(st.floats(-3, 3), st.floats(0.5, 1e6))
def test_float32_keeps_its_digits_whatever_the_evidence(y, evidence):
    alpha, beta = 0.3 + evidence / 2, 2.0 * evidence
    expected = -stats.t.logpdf(y, 2 * alpha, 0, math.sqrt(beta * (1 + evidence) / (evidence * alpha)))
    values = (torch.tensor(value, dtype=torch.float32) for value in (y, 0.0, evidence, alpha, beta))
    assert nig_nll(*values).item() == pytest.approx(expected, abs=2e-5)


@given(st.integers(1, 6), st.integers(0, 1000))
def test_loss_and_spread_equal_the_loops(n, seed):
    generator = torch.Generator().manual_seed(seed)
    outputs = 10 * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    targets, weights = outputs[:, 0] + 2, torch.rand(n, generator=generator, dtype=torch.float64) * 5
    expected = loops.nig_loss(outputs.tolist(), targets.tolist(), weights.clamp(min=1e-6).tolist())
    assert nig_loss(outputs, targets, weights).item() == pytest.approx(expected, rel=1e-9)
    assert nig_loss(outputs, targets[:, None], weights[:, None]).item() == pytest.approx(expected, rel=1e-9)
    head = NIG(4)
    assert head.spread(outputs)[:, 0].tolist() == pytest.approx([loops.spread(row) for row in outputs.tolist()], rel=1e-9)
    assert head.point(outputs).tolist() == outputs[:, :1].tolist()


def test_weights_scale_the_evidence_only():
    outputs, w = torch.zeros(2, 3), torch.tensor([1.0, 3.0])
    gamma, nu, alpha, beta = nig_parameters(outputs, w)
    n = 10 * math.log(2) + 2
    assert gamma.tolist() == [0, 0]
    assert nu.tolist() == pytest.approx([n, 3 * n])
    assert alpha.tolist() == pytest.approx([0.3 + n / 2, 0.3 + 3 * n / 2])
    assert beta.tolist() == pytest.approx([10 * math.log(2)] * 2)


@given(st.floats(0.6, 30), positive, positive)
def test_predictive_variance_is_that_of_students_t(alpha, nu, beta):
    values = [torch.tensor(value, dtype=torch.float64) for value in (nu, alpha, beta)]
    found = nig_variance(*values, predictive=True).item()
    expected = stats.t.var(2 * alpha, scale=math.sqrt(beta * (1 + nu) / (nu * alpha)))
    assert found == (math.inf if alpha <= 1 else pytest.approx(expected, rel=1e-9))
    if alpha > 1:
        assert nig_variance(*values).item() == pytest.approx(beta / ((alpha - 1) * nu))
    assert math.isnan(nig_variance(torch.tensor(1.0), torch.tensor(0.4), torch.tensor(1.0)).item())


def test_a_predictive_head_spreads_by_the_root_of_one_plus_nu():
    outputs = torch.tensor([[3.0, 1.0, 2.0], [3.0, -20.0, 2.0]])
    nu = nig_parameters(outputs)[1]
    assert torch.allclose(NIG(4, predictive=True).spread(outputs)[:, 0], NIG(4).spread(outputs)[:, 0] * (1 + nu).sqrt())


@pytest.mark.parametrize("weight", [0.0, 1e-12, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("raw", [-1e4, -50.0, 0.0, 1e4])
def test_extreme_weights_and_outputs_stay_finite(weight, raw):
    outputs = torch.full((3, 3), raw, requires_grad=True)
    loss = nig_loss(outputs, torch.tensor([0.0, raw, 100.0]), torch.full((3,), weight))
    loss.backward()
    assert loss.isfinite()
    assert outputs.grad.isfinite().all()


def test_the_floor_bounds_the_likelihood_of_a_fitted_sample():
    fitted = torch.tensor([[1.0, 0.0, -1e4]])
    losses = [nig_loss(fitted, torch.ones(1), floor=floor).item() for floor in (1e-2, 1e-4, 1e-6)]
    assert np.diff(losses) == pytest.approx([-math.log(10)] * 2, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.3, 1.3, 7.9, 8.1, 40.0])
def test_gradient_is_the_numerical_one(alpha):
    values = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (1.0, 1.5, 2.0, alpha, 0.7)]
    assert torch.autograd.gradcheck(nig_nll, values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NIG(4, floor=0.0), "floor"),
        (lambda: nig_nll(torch.zeros(3), torch.zeros(3, 1), 1, 1, 1), "one shape"),
        (lambda: nig_loss(torch.zeros(3, 2), torch.zeros(3)), r"\(B, 3\)"),
        (lambda: nig_loss(torch.zeros(3, 3), torch.zeros(1, 3)), "targets"),
        (lambda: nig_loss(torch.zeros(3, 3), torch.zeros(3), torch.ones(3, 2)), "weights"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
