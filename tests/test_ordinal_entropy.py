"""Ordinal Entropy against the slow twin and the golden values, its edge cases, and the inputs that must not break it."""

from __future__ import annotations

import pytest
import torch
from slow import ordinal_entropy as twin

from imbalanced_regression.bins import Bins
from imbalanced_regression.methods import rows
from imbalanced_regression.methods.ordinal_entropy import OrdinalEntropy

Z = torch.tensor([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8], [-1, 0.5]], dtype=torch.float64)
Y = torch.tensor([[1.0], [2], [4], [7], [7]], dtype=torch.float64)


def example(count=20, width=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=draw, dtype=torch.float64)
    return features, torch.randint(0, 7, (count, 1), generator=draw).double()


def test_the_golden_values():
    tightness, diversity = OrdinalEntropy().parts(Z, Y)
    assert tightness.item() == pytest.approx(0.2313000356, abs=1e-9)
    assert diversity.item() == pytest.approx(-0.5880906145, abs=1e-9)
    assert OrdinalEntropy()(Z, Y).item() == pytest.approx(-0.3567905788, abs=1e-9)
    assert twin.parts(Z.tolist(), Y[:, 0].tolist()) == pytest.approx((0.2313000356, -0.5880906145), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("looking", [True, False])
def test_parts_and_gradient_equal_the_twin(seed, looking, monkeypatch):
    monkeypatch.setattr(rows, "may_look", lambda _: looking)  # without it, as on an accelerator
    features, targets = example(seed=seed)
    features.requires_grad_()
    term = OrdinalEntropy()
    found = term.parts(features, targets)
    labels, places = targets[:, 0].tolist(), features.detach().tolist()
    assert [part.item() for part in found] == pytest.approx(twin.parts(places, labels), rel=1e-9)
    term(features, targets).backward()
    step = 1e-6
    for i, c in ((0, 0), (7, 3), (13, 5)):
        moved = []
        for sign in (1, -1):
            there = [list(row) for row in places]
            there[i][c] += sign * step
            moved.append(sum(twin.parts(there, labels)))
        assert features.grad[i, c].item() == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("part", [0, 1])
def test_the_whole_gradient_of_each_part_is_the_numerical_one(part):
    features, targets = example(12, 4)
    assert torch.autograd.gradcheck(lambda there: OrdinalEntropy().parts(there, targets)[part], features.requires_grad_())


@pytest.mark.parametrize("count", [1, 6])
def test_one_label_alone_costs_nothing(count):
    features, _ = example(count)
    features.requires_grad_()
    value = OrdinalEntropy()(features, torch.full((count,), 3.0))
    value.backward()
    assert value.item() == 0
    assert features.grad.abs().sum() == 0


def test_samples_without_company_have_no_tightness_until_binned():
    features, _ = example()
    continuous = torch.linspace(0, 9.9, 20)
    assert OrdinalEntropy().parts(features, continuous)[0].item() == 0
    bins = Bins.uniform(0, 10, 5)
    tightness, diversity = OrdinalEntropy(bins).parts(features, continuous)
    expected = twin.parts(features.tolist(), bins.centers[bins.index(continuous)].tolist())
    assert (tightness.item(), diversity.item()) == pytest.approx(expected, rel=1e-9)
    assert tightness > 0
    assert not OrdinalEntropy(bins).state_dict()


def test_two_labels_have_no_diversity_as_the_closest_pair_weighs_nothing():
    features, targets = example()
    tightness, diversity = OrdinalEntropy().parts(features, targets.clamp(max=1))
    assert diversity.item() == 0
    assert tightness > 0


def test_identical_rows_zero_rows_and_half_precision_are_finite():
    features, targets = example()
    features[1], features[2:6], targets[2:4] = 0, features[7], 3
    for dtype in (torch.float32, torch.bfloat16):
        there = features.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            value = OrdinalEntropy()(there, targets.to(dtype))
        value.backward()
        assert value.dtype == torch.float32
        assert there.grad.isfinite().all()
        assert there.grad.abs().max() < 1e3
    same = torch.ones(6, 3).requires_grad_()
    OrdinalEntropy()(same, torch.arange(6.0) // 2).backward()
    assert same.grad.isfinite().all()


def test_vectors_and_columns_are_the_same_rows_and_other_arguments_are_ignored():
    features, targets = example()
    assert OrdinalEntropy()(features, targets[:, 0]).item() == OrdinalEntropy()(features, targets, targets, targets).item()


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (torch.full((3, 2), torch.nan), torch.arange(3.0), "OrdinalEntropy: features: .*NaN or infinity in 3 of 3 rows"),
        (torch.ones(3, 2), torch.tensor([1, torch.nan, 2]), "OrdinalEntropy: targets: .*1 of 3 rows, the first at 1"),
        (torch.ones(3, 2), torch.ones(2), "OrdinalEntropy: targets: expected shape"),
        (torch.ones(3), torch.ones(3), "OrdinalEntropy: features: expected shape"),
    ],
)
def test_bad_input_is_refused_with_the_method_and_the_argument(features, targets, message):
    with pytest.raises(ValueError, match=message):
        OrdinalEntropy()(features, targets)


def test_bins_must_be_bins():
    with pytest.raises(ValueError, match="bins: expected Bins"):
        OrdinalEntropy(10)
