"""The cosines and products that the terms share: bands of a triangle equal the whole, gradients are the numerical ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import imbalanced_regression as library
from imbalanced_regression.methods import rows


def draw(count, width, kind=torch.float64, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=kind)


def test_labels_and_weights_come_as_lists_arrays_or_tensors():
    """LDS weights are an array, and a table's labels often are: all methods on rows take them as the losses do."""
    features = draw(6, 2, torch.float32)
    labels, weights = [1.0, 2.5, 3.0, 1.0, 2.5, 7.0], [0.5, 1.0, 1.5, 1.0, 1.0, 1.0]
    spread = features[:, 1]
    calls = {
        "BMC": lambda y, w: library.BMC()(spread, y, w),
        "DistLoss": lambda y, w: library.DistLoss(labels)(spread, y, w),
        "weighted_l1_loss": lambda y, w: library.weighted_l1_loss(spread, y, w),
        "laplace_nll": lambda y, w: library.laplace_nll(features[:, 0], spread, y, w),
        "uvote_loss": lambda y, w: library.uvote_loss(features.T[..., None], features.T[..., None], y, w, 1, 2),
        "nig_loss": lambda y, w: library.nig_loss(torch.cat([features, features], dim=1)[:, :3], y, w),
        "rank_n_contrast": lambda y, w: library.rank_n_contrast(features, y),
        "RankSim": lambda y, w: library.RankSim()(features, y),
        "ConR": lambda y, w: library.ConR()(features, y, y, w),
        "OrdinalEntropy": lambda y, w: library.OrdinalEntropy()(features, y),
    }
    for name, call in calls.items():
        expected = call(torch.tensor(labels), torch.tensor(weights))
        for made in (list, np.array, np.float32, lambda part: np.array(part)[:, None], lambda part: np.array(part[::-1])[::-1]):
            found = call(made(labels), made(weights))
            assert found.dtype == torch.float32, name
            torch.testing.assert_close(found, expected, msg=name)
    with pytest.raises(ValueError, match=r"laplace_nll: weights: expected shape \(6,\) or \(6, 1\), found \(2,\)"):
        calls["laplace_nll"](labels, [1, 2])


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
