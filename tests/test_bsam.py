"""The step uphill: where the parameters stand inside, and that they come back to the last bit."""

from __future__ import annotations

import pytest
import slow.bsam as loops
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from imbalanced_regression.methods.bsam import climbed
from imbalanced_regression.training import Runtime


def example(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    inputs, targets, weights = torch.randn(8, 3), torch.randn(8, 1), torch.rand(8, 1)
    return model, lambda: (weights * (model(inputs) - targets) ** 2).mean()


def states(parameters):
    return [parameter.detach().clone() for parameter in parameters]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.05, 2.0]))
def test_inside_the_parameters_stand_where_the_loop_says(seed, rho):
    generator = torch.Generator().manual_seed(seed)
    parameters = [torch.randn(size, generator=generator, dtype=torch.float64) for size in (3, 1, 2)]
    gradients = [torch.randn(size, generator=generator, dtype=torch.float64) for size in (3, 1, 2)]
    for parameter, gradient in zip(parameters, gradients[:2]):
        parameter.grad = gradient
    listed = [gradient.tolist() for gradient in gradients[:2]]
    expected = loops.climbed([parameter.tolist() for parameter in parameters], [*listed, None], rho)
    before = states(parameters)
    with climbed(iter(parameters), rho):
        for parameter, values in zip(parameters, expected):
            assert parameter.tolist() == pytest.approx(values, rel=1e-12)
    assert same(parameters, before)


def test_a_step_equals_one_written_by_hand():
    (model, loss), (twin, twin_loss) = example(), example()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    hand = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        with climbed(model.parameters(), 0.2):
            optimizer.zero_grad()
            loss().backward()
        optimizer.step()

        gradients = torch.autograd.grad(twin_loss(), list(twin.parameters()))
        norm = sum((gradient**2).sum() for gradient in gradients).sqrt()
        old = states(twin.parameters())
        for parameter, gradient in zip(twin.parameters(), gradients):
            parameter.data += 0.2 * gradient / norm
        uphill = torch.autograd.grad(twin_loss(), list(twin.parameters()))
        for parameter, value, gradient in zip(twin.parameters(), old, uphill):
            parameter.data, parameter.grad = value, gradient
        hand.step()
    for one, other in zip(model.parameters(), twin.parameters()):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_loss_inside_is_the_higher_one():
    model, loss = example()
    before = loss()
    before.backward()
    with climbed(model.parameters(), 0.05):
        assert loss() > before


@pytest.mark.parametrize("scale", [2.0**16, 2.0**-16])
def test_a_scaled_loss_climbs_the_same_step_to_the_last_bit(scale):
    model, loss = example()
    loss().backward()
    with climbed(model.parameters(), 0.2):
        plain = states(model.parameters())
    for parameter in model.parameters():
        parameter.grad *= scale
    with climbed(model.parameters(), 0.2):
        assert same(model.parameters(), plain)


def test_half_precision_gradients_of_a_scaled_loss_do_not_overflow():
    parameter = nn.Parameter(torch.ones(2, dtype=torch.float16))
    parameter.grad = torch.tensor([30_000, 40_000], dtype=torch.float16)
    with climbed([parameter], 1.0):
        assert parameter.tolist() == pytest.approx([1.6, 1.8], rel=1e-3)
    assert parameter.tolist() == [1, 1]


@pytest.mark.parametrize("value", [0.0, float("inf"), float("nan")])
def test_without_a_direction_the_parameters_stay(value):
    model, loss = example()
    loss().backward()
    for parameter in model.parameters():
        parameter.grad.fill_(value)
    before = states(model.parameters())
    with climbed(model.parameters(), 0.2):
        assert same(model.parameters(), before)


def test_parameters_without_a_gradient_stay():
    model, loss = example()
    model[0].requires_grad_(False)
    before = states(model.parameters())
    with climbed(model.parameters(), 0.2):
        assert same(model.parameters(), before)
    loss().backward()
    with climbed(model.parameters(), 0.2):
        assert same(model[0].parameters(), before[:2])
        assert not torch.equal(model[2].weight, before[2])
    with climbed([], 0.2):
        pass


def test_a_shared_weight_climbs_once():
    shared = nn.Parameter(torch.tensor([1.0]))
    shared.grad = torch.tensor([5.0])
    with climbed([shared, shared], 0.5):
        assert shared.item() == 1.5
    assert shared.item() == 1.0


def test_an_error_inside_restores_as_well():
    model, loss = example()
    loss().backward()
    before = states(model.parameters())

    def fail_inside():
        with climbed(model.parameters(), 0.2):
            assert not same(model.parameters(), before)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert same(model.parameters(), before)


def test_a_sparse_gradient_climbs_as_a_dense_one():
    moved = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table = nn.Embedding(5, 2, sparse=sparse)
        table(torch.tensor([1, 1, 3])).square().sum().backward()
        with climbed(table.parameters(), 0.3):
            moved.append(states(table.parameters()))
    assert torch.allclose(moved[0][0], moved[1][0])


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
def test_bad_rho_is_named(rho):
    with pytest.raises(ValueError, match="rho"), climbed([], rho):
        pass


# -- in the loop, under a loss scaler ----------------------------------------------------------------------------------

RHO = 0.3


def flat(parameters) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def scaled_steps(scale, *, amp=None, batch_size=16, rho=RHO, **changes):
    """An epoch of the loop's steps with ascent: (parameters before and after, its scaler, the passes).

    A pass is (the parameters in its forward pass, the gradients that the pass before left).
    """
    model = toy.make_model(fds=False)
    before, passes = flat(model.parameters()), []

    def forward(*_) -> None:
        left = [parameter.grad for parameter in model.parameters()]
        passes.append((flat(model.parameters()), None if None in left else flat(left)))

    model.register_forward_pre_hook(forward)
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    toy.one_epoch(model, ranks=Runtime(amp=amp), scaler=scaler, ascent=rho, batch_size=batch_size, **changes)
    forward()
    return before, flat(model.parameters()), scaler, passes


@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_a_scaled_loss_trains_as_a_plain_one_to_the_last_bit(max_grad_norm):
    """A scale that is a power of two costs no digit, wherever it is taken out; clipping sees gradients without it."""
    before, plain, _, _ = scaled_steps(None, max_grad_norm=max_grad_norm)
    _, scaled, scaler, _ = scaled_steps(2.0**16, max_grad_norm=max_grad_norm)
    assert torch.equal(scaled, plain)
    assert not torch.equal(plain, before)
    assert scaler.get_scale() == 2.0**16
    _, odd, _, _ = scaled_steps(1000.0, max_grad_norm=max_grad_norm)
    torch.testing.assert_close(odd, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [2.0**6, 1000.0])
def test_in_fp16_the_climb_is_rho_long_whatever_the_scale(scale):
    """The second pass stands rho away, along the gradient of the first; the steps are those of float32 to rounding."""
    before, plain, _, there = scaled_steps(None)
    _, after, scaler, passes = scaled_steps(scale, amp=torch.float16)
    assert scaler.get_scale() == scale
    assert len(passes) == 2 * 4 + 1
    for (start, _), (uphill, gradient) in zip(passes[0:8:2], passes[1:8:2]):
        assert (uphill - start).norm().item() == pytest.approx(RHO, rel=1e-4)
        assert gradient.norm() > 10  # it is scaled still: rho times it would be far away
        torch.testing.assert_close(uphill - start, RHO * gradient / gradient.norm(), rtol=1e-3, atol=1e-5)
    assert (after - plain).norm() < 0.02 * (plain - before).norm()
    torch.testing.assert_close(passes[1][0], there[1][0], rtol=0, atol=0.02 * RHO)


def test_a_first_pass_that_overflows_skips_the_step():
    """Without a direction the second pass overflows where the first did, so the scaler skips the step and halves its scale."""
    before, after, scaler, passes = scaled_steps(2.0**40, amp=torch.float16)
    assert not any(gradient.isfinite().all() for _, gradient in passes[1::2])
    assert all(torch.equal(place, before) for place, _ in passes)
    assert torch.equal(after, before)
    assert scaler.get_scale() == 2.0**36


def test_a_second_pass_that_overflows_skips_the_step_too():
    """The gradient uphill is the larger one here: at some scale it overflows, and the first pass's does not."""
    found = set()
    for power in range(2, 24):
        before, after, scaler, passes = scaled_steps(2.0**power, amp=torch.float16, batch_size=64, rho=3.0)
        first, second = (bool(gradient.isfinite().all()) for _, gradient in passes[1:])
        found.add((first, second))
        assert torch.equal(after, before) is not (first and second)
        assert scaler.get_scale() == 2.0 ** (power if first and second else power - 1)
    assert found == {(True, True), (True, False), (False, False)}
