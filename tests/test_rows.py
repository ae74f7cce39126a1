"""The cosines and products that the terms share: bands of a triangle equal the whole, gradients are the numerical ones."""

from __future__ import annotations

import pytest
import torch

from imbalanced_regression.methods import rows


def draw(count, width, kind=torch.float64, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=kind)


@pytest.mark.parametrize("count", [1, 2, 127, 128, 131, 257])
def test_products_in_bands_are_those_of_all_pairs(count):
    features = draw(count, 5)
    torch.testing.assert_close(rows.products(features), features @ features.T)


@pytest.mark.parametrize("count", [6, 130])
def test_cosines_and_their_gradient_are_those_of_unit_rows(count):
    features, pull = draw(count, 4), draw(count, count, seed=1)
    features[2] *= 1e4
    features[3] = 0
    slopes = []
    for cosines in (rows.cosines, lambda there: (unit := rows.unit_rows(there)) @ unit.T):
        there = features.clone().requires_grad_()
        (cosines(there) * pull).sum().backward()
        slopes.append(there.grad)
    torch.testing.assert_close(rows.cosines(features)[0, 1], torch.cosine_similarity(features[0], features[1], dim=0))
    assert rows.cosines(features)[3].abs().sum() == 0
    torch.testing.assert_close(*slopes)


def test_gradients_are_the_numerical_ones_and_have_none_of_their_own():
    features = draw(5, 3).requires_grad_()
    assert torch.autograd.gradcheck(rows.cosines, features)
    assert torch.autograd.gradcheck(rows.unit_rows, features)
    (slope,) = torch.autograd.grad(rows.cosines(features).square().sum(), features, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
