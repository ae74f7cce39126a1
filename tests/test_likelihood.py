"""Gaussian and Laplace heads: their losses against loops, and the convention that all predictive heads share."""

from __future__ import annotations

import math

import pytest
import slow.likelihood as loops
import torch
from hypothesis import given
from hypothesis import strategies as st

from imbalanced_regression.methods.likelihood import HEADS, GaussianHead, LaplaceHead, gaussian_loss, laplace_nll
from imbalanced_regression.methods.uvote import UVOTE
from imbalanced_regression.methods.vir import NIG

Y, PREDS = torch.tensor([1.0, 2, 4, 7, 7]), torch.tensor([1.5, 1, 5, 6, 3])
W, LOG_B = torch.tensor([0.5, 0.5, 1, 1.5, 1.5]), torch.tensor([0.0, -1, 0.5, 1, 2])
EVERY = {"gaussian": GaussianHead, "laplace": LaplaceHead, "uvote": lambda d, **how: UVOTE(2, d, **how), "nig": NIG}
every_head = pytest.mark.parametrize("name", EVERY)
both = pytest.mark.parametrize(("fast", "slow"), [(laplace_nll, loops.laplace_nll), (gaussian_loss, loops.gaussian_loss)])


def rows(n=6, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), 3 * torch.randn(n, 1, generator=generator)


def head(name, d=4, seed=0, **how):
    torch.manual_seed(seed)
    made = EVERY[name](d, **how)
    torch.nn.init.normal_(made.weight, std=0.3)
    return made


def test_five_rows_give_the_golden_value():
    assert laplace_nll(PREDS.double(), LOG_B.double(), Y, W).item() == pytest.approx(2.3090476676, abs=1e-9)
    assert laplace_nll(PREDS[:, None], LOG_B[:, None], Y[:, None], W[:, None]).item() == pytest.approx(2.3090476676, abs=1e-6)


@both
@given(st.integers(1, 6), st.integers(0, 1000), st.booleans(), st.sampled_from([1.0, 0.01, 300.0]))
def test_losses_equal_the_loops(fast, slow, n, seed, weighted, scale):
    generator = torch.Generator().manual_seed(seed)
    log_scale = 2 * torch.randn(n, generator=generator, dtype=torch.float64) + math.log(scale)
    mu = torch.randn(n, generator=generator, dtype=torch.float64)
    targets = mu + scale * torch.randn(n, generator=generator, dtype=torch.float64) * 0.1
    weights = torch.rand(n, generator=generator, dtype=torch.float64) if weighted else None
    expected = slow(mu.tolist(), log_scale.tolist(), targets.tolist(), weights.tolist() if weighted else None, scale)
    assert fast(mu, log_scale, targets, weights, scale=scale).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@both
def test_log_scale_is_clamped_and_has_no_gradient_beyond(fast, slow):
    log_scale = torch.tensor([-50.0, 50.0, 5.0, 0.0], requires_grad=True)
    loss = fast(torch.zeros(4), log_scale, torch.ones(4) * 1e-3)
    loss.backward()
    assert loss.item() == pytest.approx(slow([0] * 4, [-5, 5, 5, 0], [1e-3] * 4), rel=1e-5)
    assert log_scale.grad[0] == log_scale.grad[1] == 0
    assert log_scale.grad[3] != 0


@both
def test_shapes_never_broadcast(fast, slow):
    column, vector = torch.zeros(5, 1), torch.zeros(5)
    assert fast(column, vector, Y, W[:, None]).item() == pytest.approx(fast(vector, column, Y[:, None], W).item())
    for arguments in (
        (torch.zeros(5, 2), vector, Y), (vector, torch.zeros(4), Y), (vector, vector, Y[:4]), (vector, vector, Y, W[:1]),
        (vector, vector, Y[None]), (torch.zeros(0), torch.zeros(0), torch.zeros(0)),
    ):
        with pytest.raises(ValueError, match="expected"):
            fast(*arguments)


@both
def test_extreme_values_stay_finite(fast, slow):
    mu, log_scale = torch.tensor([1e6, -1e6], requires_grad=True), torch.tensor([90.0, -90.0], requires_grad=True)
    loss = fast(mu, log_scale, torch.zeros(2), torch.tensor([1e8, 1e-8]))
    loss.backward()
    assert loss.isfinite()
    assert mu.grad.isfinite().all()
    assert log_scale.grad.isfinite().all()


@every_head
def test_every_head_has_outputs_point_spread_and_loss(name):
    made, (features, targets) = head(name), rows()
    outputs = made(features)
    assert outputs.shape == (6, made.out_features)
    assert made.point(outputs).shape == made.spread(outputs).shape == (6, 1)
    assert (made.spread(outputs) > 0).all()
    for weights in (None, torch.ones(6), torch.ones(6, 1)):
        loss = made.loss(outputs, targets, weights, 1, 2)
        assert loss.shape == ()
        assert loss.item() == pytest.approx(made.loss(outputs, targets[:, 0], None, 1, 2).item())
    loss.backward()
    assert made.weight.grad.isfinite().all()
    assert set(made.state_dict()) == {"weight", "bias", "center", "scale"}


@every_head
def test_a_fresh_head_predicts_the_center_for_all(name):
    torch.manual_seed(0)
    made = EVERY[name](64, center=500.0, scale=20.0)
    points = made.point(made(torch.randn(8, 64)))
    assert (points - 500).abs().max() < 20 * 0.5
    assert made.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert not made.bias.any()


@every_head
@pytest.mark.parametrize(("center", "scale"), [(40.0, 12.0), (-3e5, 1e4), (0.0, 1e-3)])
def test_center_and_scale_only_change_the_unit(name, center, scale):
    """The same layer on labels in another unit: points and spreads are converted, gradients are equal, the loss shifts."""
    plain, moved = head(name).double(), head(name, center=center, scale=scale).double()
    center, scale = moved.center.item(), moved.scale.item()  # as float32 holds them
    features, targets = (values.double() for values in rows())
    weights = torch.tensor([[0.1], [0.5], [1.0], [1.0], [1.4], [2.0]], dtype=torch.float64)
    one, other = plain(features), moved(features)
    assert torch.allclose(moved.point(other), center + scale * plain.point(one), rtol=1e-9)
    assert torch.allclose(moved.spread(other), scale * plain.spread(one), rtol=1e-9)
    loss, shifted = plain.loss(one, targets, weights, 1, 2), moved.loss(other, center + scale * targets, weights, 1, 2)
    weight = 1.0 if name == "nig" else weights.mean().item() * (1 + (0.25 if name == "uvote" else 0))
    assert shifted.item() == pytest.approx(loss.item() + weight * math.log(scale), rel=1e-7)
    gradients = torch.autograd.grad(loss, plain.weight)[0], torch.autograd.grad(shifted, moved.weight)[0]
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-8)


@every_head
def test_the_state_carries_center_and_scale(name):
    made, loaded = head(name, center=40.0, scale=12.0), head(name, seed=1)
    loaded.load_state_dict(made.state_dict())
    features = rows()[0]
    assert torch.equal(made.point(made(features)), loaded.point(loaded(features)))
    assert torch.equal(made.spread(made(features)), loaded.spread(loaded(features)))


@every_head
def test_half_precision_and_autocast_give_float32(name):
    made, (features, targets) = head(name, center=2000.0, scale=5.0), rows()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = made(features.bfloat16())
        loss = made.loss(outputs, 2000 + targets.bfloat16())
    assert outputs.dtype == loss.dtype == torch.float32
    assert loss.isfinite()
    # in bfloat16 a value near 2000 would be off by up to 4
    assert torch.allclose(made.point(outputs), made.point(made(features)), atol=0.1)
    low = made.loss(outputs.bfloat16(), targets)
    assert low.dtype == torch.float32
    assert low.isfinite()
    assert made.bfloat16()(features).dtype == torch.float32


@every_head
def test_a_batch_of_one_and_equal_labels_are_ordinary(name):
    made, (features, _) = head(name), rows()
    for n in (1, 6):
        loss = made.loss(made(features[:n]), torch.full((n, 1), 3.0), torch.ones(n, 1), 0, 90)
        made.zero_grad()
        loss.backward()
        assert loss.isfinite()
        assert made.weight.grad.isfinite().all()


@every_head
def test_bad_input_is_named(name):
    made, (features, targets) = head(name), rows()
    features[2, 1] = float("nan")
    with pytest.raises(ValueError, match=f"{type(made).__name__}: features: .*NaN .*first at 2"):
        made(features)
    outputs = made(rows()[0])
    for bad, message in (
        (lambda: made(torch.zeros(6, 5)), "expected 4 columns, found 5"),
        (lambda: made(torch.zeros(4)), "features"),
        (lambda: made.point(outputs[:, :1]), "outputs"),
        (lambda: made.spread(outputs[0]), "outputs"),
        (lambda: made.loss(outputs, targets[:3]), "targets"),
        (lambda: made.loss(outputs, targets * float("inf")), "targets"),
        (lambda: made.loss(outputs, targets, torch.ones(3)), "weights"),
        (lambda: made.loss(outputs, targets, torch.full((6,), float("nan"))), "weights"),
        (lambda: EVERY[name](0), "feature_dim"),
        (lambda: EVERY[name](4, scale=0.0), "scale"),
        (lambda: EVERY[name](4, center=float("nan")), "center"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()


@every_head
def test_a_head_learns_the_noise_of_its_labels(name):
    """Labels around 100 with noise that grows with the feature: the point follows the mean, the spread the noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(500, 1, generator=generator)
    noise = 1 + 4 * x
    targets = 100 + 10 * x + noise * torch.randn(500, 1, generator=generator)
    torch.manual_seed(0)
    made = EVERY[name](1, center=targets.mean().item(), scale=targets.std().item())
    optimizer = torch.optim.Adam(made.parameters(), lr=0.5 if name == "nig" else 0.1)  # its softplus is slow
    for _ in range(150):
        optimizer.zero_grad()
        made.loss(made(x), targets, None, 1, 1).backward()
        optimizer.step()
    outputs = made(x).detach()
    if name == "nig":
        made.predictive = True
    assert (made.point(outputs) - 100 - 10 * x).abs().mean() < 0.6
    spread = made.spread(outputs)
    assert (spread / noise - 1).abs().mean() < 0.4
    assert spread[x[:, 0] > 0.8].mean() > 1.2 * spread[x[:, 0] < 0.2].mean()


def test_names_lead_to_the_heads():
    assert {"gaussian": GaussianHead, "laplace": LaplaceHead} == HEADS
