"""Rank-N-Contrast against three nested loops, and at the ends of its range."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slow.rank_n_contrast import rank_n_contrast as loops

from imbalanced_regression.methods import rank_n_contrast as module
from imbalanced_regression.methods.rank_n_contrast import RankNContrast, rank_n_contrast
from imbalanced_regression.methods.rows import rounding

Z = torch.tensor([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8], [-1, 0.5]], dtype=torch.float64)
Y = torch.tensor([1, 2, 4, 7, 7], dtype=torch.float64)


def draw(n, d, seed=0, kind=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=kind), torch.randint(0, 9, (n, 1), generator=generator).to(kind)


def test_five_rows_give_the_golden_value():
    assert rank_n_contrast(Z, Y, 2.0).item() == pytest.approx(0.8213213678, abs=1e-10)
    assert RankNContrast()(Z, Y[:, None], None, None).item() == pytest.approx(0.8213213678, abs=1e-10)
    assert RankNContrast.two_views


@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 1000), st.sampled_from([0.01, 0.1, 2.0, 30.0]))
def test_loss_equals_the_loops(n, d, seed, temperature):
    features, targets = draw(n, d, seed)
    expected = loops(features.tolist(), targets[:, 0].tolist(), temperature)
    for looking in (True, False):  # the latter as on an accelerator
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "may_look", lambda _, looking=looking: looking)
            assert rank_n_contrast(features, targets, temperature).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
            single = rank_n_contrast(features.float(), targets.float(), temperature)
        assert single.dtype == torch.float32
        assert single.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("looking", [True, False])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_gradient_is_the_numerical_one(n, looking, monkeypatch):
    monkeypatch.setattr(module, "may_look", lambda _: looking)
    features, targets = draw(n, 3)
    assert torch.autograd.gradcheck(lambda z: rank_n_contrast(z, targets), features.requires_grad_())


@pytest.mark.parametrize("continuous", [False, True])
def test_groups_of_labels_and_sorted_rows_agree_up_to_the_widest_spread(continuous, monkeypatch):
    features, targets = draw(140, 3)
    targets = torch.rand(140, generator=torch.Generator().manual_seed(2)) if continuous else targets
    for temperature in (2.0, 1.01 * torch.cdist(features, features).max().item() / module._SPREAD):
        values, slopes = [], []
        for looking in (True, False):
            monkeypatch.setattr(module, "may_look", lambda _, looking=looking: looking)
            there = features.clone().requires_grad_()
            loss = rank_n_contrast(there, targets, temperature)
            loss.backward()
            values.append(loss.item())
            slopes.append(there.grad)
        assert values[0] == pytest.approx(values[1], rel=1e-10)
        torch.testing.assert_close(*slopes)


def test_equal_rows_have_a_finite_gradient_and_distance_zero():
    features, targets = draw(4, 3)
    features = features.repeat(2, 1).requires_grad_()
    loss = rank_n_contrast(features, targets)
    loss.backward()
    assert loss.item() == pytest.approx(loops(features.tolist(), targets.repeat(2, 1)[:, 0].tolist()), rel=1e-12)
    assert features.grad.isfinite().all()
    assert features.grad.abs().max() > 0


def test_features_of_any_size_stay_finite_in_float32():
    features, targets = draw(8, 5, kind=torch.float32)
    for size in (1e-30, 1e4, 1e15, 1e30):
        large = (features * size).requires_grad_()
        loss = rank_n_contrast(large, targets)
        loss.backward()
        assert loss.isfinite()
        assert large.grad.isfinite().all()
    expected = loops((features.double() * 1e4).tolist(), targets[:, 0].tolist())
    assert rank_n_contrast(features * 1e4, targets).item() == pytest.approx(expected, rel=1e-4)


def test_a_common_offset_of_the_features_costs_no_digits():
    features, targets = draw(8, 5, kind=torch.float32)
    features = (features * 64).round() / 64  # so that the sum with the offset is exact
    expected = rank_n_contrast(features, targets).item()
    assert rank_n_contrast(features + 4096, targets).item() == pytest.approx(expected, rel=1e-4)


def test_label_distances_apart_by_rounding_alone_are_ties():
    features, _ = draw(6, 3, kind=torch.float32)
    whole = torch.tensor([1.0, 2, 3, 4, 5, 7])
    tenths = whole / 10  # in float32, 0.3 - 0.2 is not 0.2 - 0.1
    assert (tenths[2] - tenths[1]) != (tenths[1] - tenths[0])
    assert rank_n_contrast(features, tenths).item() == pytest.approx(rank_n_contrast(features, whole).item(), rel=1e-6)


def test_one_label_of_a_million_makes_no_ties_of_the_others():
    labels = torch.tensor([0, 0.1, 0.2, 0.4, 0.7, 1e6])
    whole = (10 * labels).double().round()
    for found, exact in zip(module._reach(labels)[2:], module._reach(whole)[2:]):
        assert torch.equal(found[:-1], exact[:-1])
    last = []
    for one in (labels, whole):
        apart = module._without_diagonal((one[:, None] - one).abs()).sort(dim=1, descending=True).values
        last.append(module._last_of_tie(apart, rounding(one, apart[:, 1:])))
    assert torch.equal(last[0][:-1], last[1][:-1])


def test_order_of_the_rows_is_of_no_account():
    features, targets = draw(10, 4)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    assert rank_n_contrast(features[order], targets[order]).item() == pytest.approx(rank_n_contrast(features, targets).item())


def test_labels_of_one_view_serve_both():
    features, _ = draw(10, 4)
    targets = Y[:, None]
    assert rank_n_contrast(features, targets).item() == rank_n_contrast(features, torch.cat([targets, targets])).item()
    assert rank_n_contrast(features, Y).item() == rank_n_contrast(features, torch.cat([Y, Y])).item()


def test_equal_labels_and_a_batch_of_one():
    features, _ = draw(5, 3)
    same = torch.ones(5, 1, dtype=torch.float64)
    assert rank_n_contrast(features, same).item() == pytest.approx(loops(features.tolist(), [1.0] * 5))
    two_views = rank_n_contrast(features[:2].requires_grad_(), same[:1])
    assert two_views.item() == pytest.approx(0)
    with pytest.raises(ValueError, match="at least two rows"):
        rank_n_contrast(features[:1], same[:1])


def test_half_precision_gives_a_finite_float32_loss():
    features, targets = draw(8, 5)
    features = features.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = rank_n_contrast(features, targets.bfloat16())
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert features.grad.isfinite().all()


def test_training_lays_features_along_the_label():
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(24, 1, generator=generator)
    features = (0.1 * torch.randn(24, 2, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([features], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        rank_n_contrast(features, targets).backward()
        optimizer.step()
    apart = (features.detach()[:, None] - features.detach()).norm(dim=2)
    labels_apart = (targets - targets.T).abs()
    ranks = [values.flatten().argsort().argsort().double() for values in (apart, labels_apart)]
    assert torch.corrcoef(torch.stack(ranks))[0, 1] > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature: .*found 0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"features": Z[:, 0]}, "features: expected shape"),
        ({"targets": Y[:3]}, "targets: expected shape"),
        ({"targets": Y[None]}, "targets: expected shape"),
        ({"features": torch.full((5, 2), float("nan"))}, "features: .*NaN"),
        ({"targets": torch.full((5,), float("inf"))}, "targets: .*infinity"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        rank_n_contrast(**{"features": Z, "targets": Y, **change})
    if "temperature" in change:
        with pytest.raises(ValueError, match=message):
            RankNContrast(change["temperature"])
