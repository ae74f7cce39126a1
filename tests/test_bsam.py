"""The step uphill: where the parameters stand inside, and that they come back to the last bit."""

from __future__ import annotations

import pytest
import slow.bsam as loops
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from imbalanced_regression.methods.bsam import climbed


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
