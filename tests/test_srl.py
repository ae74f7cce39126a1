"""SRL against the slow twin and the golden values, its state over batches, epochs and checkpoints, and the bad inputs."""

from __future__ import annotations

import math

import pytest
import torch
from slow import srl as twin

from imbalanced_regression.bins import Bins
from imbalanced_regression.methods import srl
from imbalanced_regression.methods.srl import SRL, enveloping, homogeneity, srl_contrastive

Z = torch.tensor([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8], [-1, 0.5]], dtype=torch.float64)
CIRCLE = torch.tensor([[math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)] for k in range(8)], dtype=torch.float64)
LABELS = torch.tensor([1.0, 2, 4, 7], dtype=torch.float64)
INDEX = torch.tensor([0, 1, 2, 3, 3])
BINS = Bins.uniform(0, 12, 6)


def batch(seed=0, count=10, width=4, high=8.0):
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=draw, dtype=torch.float64)
    return features, high * torch.rand(count, 1, generator=draw, dtype=torch.float64)


def make(**how) -> SRL:
    return SRL(BINS, 4, points=50, **how)


def make_twin(term: SRL, **how) -> twin.SRL:
    return twin.SRL(BINS.centers.tolist(), term._points.tolist(), **how)


def test_the_golden_values():
    for scale in (1.0, 3.0):  # centroids of any length
        assert homogeneity(scale * Z[:4], LABELS).item() == pytest.approx(0.9333333333, abs=1e-9)
        assert enveloping(scale * Z[:4], CIRCLE).item() == pytest.approx(1 - 0.6431980515, abs=1e-9)
        assert srl_contrastive(Z, INDEX, scale * Z[:4], 1.0).item() == pytest.approx(0.9134804266, abs=1e-9)
    assert twin.homogeneity(Z[:4].tolist(), LABELS.tolist()) == pytest.approx(0.9333333333, abs=1e-9)
    assert twin.enveloping(Z[:4].tolist(), CIRCLE.tolist()) == pytest.approx(1 - 0.6431980515, abs=1e-9)
    assert 5 * twin.contrastive(Z.tolist(), INDEX.tolist(), Z[:4].tolist(), 1.0) == pytest.approx(4.5674021327, abs=1e-9)


def test_centroids_out_of_use_are_left_out_of_every_part():
    draw = torch.Generator().manual_seed(0)
    centroids, points = torch.randn(7, 3, generator=draw), torch.randn(20, 3, generator=draw)
    labels, used = torch.arange(7.0) ** 2, torch.tensor([True, False, False, True, True, False, True])
    torch.testing.assert_close(enveloping(centroids, points, used), enveloping(centroids[used], points))
    torch.testing.assert_close(homogeneity(centroids, labels, used), homogeneity(centroids[used], labels[used]))
    there, place = torch.tensor([0, 3, 3, 6]), torch.tensor([0, 1, 1, 3])
    rows = torch.randn(4, 3, generator=draw)
    expected = srl_contrastive(rows, place, centroids[used], 0.3)
    torch.testing.assert_close(srl_contrastive(rows, there, centroids, 0.3, used), expected)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 515, 1024])
def test_any_number_of_points_is_covered_as_one_by_one(count):
    draw = torch.Generator().manual_seed(count)
    centroids = torch.randn(6, 5, generator=draw, dtype=torch.float64).requires_grad_()
    points = torch.randn(count, 5, generator=draw, dtype=torch.float64)
    used = torch.tensor([True, True, False, True, True, True])
    unit = centroids / centroids.norm(dim=1, keepdim=True)
    plain = 1 - torch.stack([(unit[used] @ point).max() for point in points]).mean()
    for found in (enveloping(centroids, points, used), enveloping(centroids[used], points)):
        torch.testing.assert_close(found, plain)
        gradients = [torch.autograd.grad(value, centroids, retain_graph=True)[0] for value in (found, plain)]
        torch.testing.assert_close(*gradients)



@pytest.mark.parametrize("looking", [True, False])
def test_batches_and_epochs_equal_the_twin(looking, monkeypatch):
    monkeypatch.setattr(srl, "may_look", lambda _: looking)  # without it, as on an accelerator
    how = {"envelope": 0.3, "homogeneity": 0.2, "contrast": 0.7, "temperature": 0.2, "momentum": 0.6}
    term = make(**how)
    slow = make_twin(term, **how)
    for epoch in range(4):
        for step in range(3):
            features, targets = batch(10 * epoch + step, high=4.0 + 3 * step)
            value = term(features, targets)
            index = BINS.index(targets).tolist()
            assert value.item() == pytest.approx(slow.loss(features.tolist(), index), rel=1e-5, abs=1e-7)
        term.finish_epoch(epoch)
        slow.finish_epoch()
        assert term.known.tolist() == [k in slow.surrogates for k in range(BINS.count)]
        for k, surrogate in slow.surrogates.items():
            assert term.surrogates[k].tolist() == pytest.approx(surrogate, abs=1e-6)
    assert not term.known[-1]  # no label ever fell into it


def test_the_gradient_is_that_of_finite_differences():
    term = make()
    term(*batch())
    term.finish_epoch(0)
    term.eval()
    features, targets = batch(1)
    features.requires_grad_()
    term(features, targets).backward()
    step = 1e-6
    for i, c in ((0, 0), (4, 3), (9, 2)):
        moved = []
        for sign in (1, -1):
            there = features.detach().clone()
            there[i, c] += sign * step
            moved.append(term(there, targets).item())
        assert features.grad[i, c].item() == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("looking", [True, False])
def test_the_whole_gradient_is_the_numerical_one(looking, monkeypatch):
    monkeypatch.setattr(srl, "may_look", lambda _: looking)  # without it, as on an accelerator
    term = make(contrast=0.5).eval()
    term.surrogates.copy_(torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(3))))
    term.known.copy_(torch.tensor([True, True, False, True, True, True]))
    term._begun = True
    term.double()  # in float32 the differences would drown
    features, targets = batch(1, high=6.0)
    assert torch.autograd.gradcheck(lambda there: term(there, targets), features.requires_grad_())


def test_the_first_epoch_costs_nothing_and_gathers():
    term = make()
    features, targets = batch()
    features.requires_grad_()
    value = term(features, targets)
    value.backward()
    assert value.item() == 0
    assert features.grad.abs().sum() == 0
    assert term.counts.sum() == 10
    term.finish_epoch(0)
    assert term.counts.sum() == term.sums.abs().sum() == 0
    assert term(features, targets).item() > 0


def test_evaluation_gathers_nothing():
    term = make().eval()
    term(*batch())
    assert term.counts.sum() == 0


def test_a_checkpoint_within_an_epoch_goes_on_as_if_uninterrupted():
    whole, first = make(), make()
    for term in (whole, first):
        term(*batch(0))
        term.finish_epoch(0)
        term(*batch(1))
    resumed = make()
    resumed(*batch(5))  # what it held before is replaced
    resumed.finish_epoch(0)
    resumed(*batch(6))
    resumed.load_state_dict(first.state_dict())
    for step in (2, 3):
        assert resumed(*batch(step)).item() == whole(*batch(step)).item()
    for term in (whole, resumed):
        term.finish_epoch(1)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_points_follow_the_seed():
    term, again, other = make(seed=1), make(seed=1), make(seed=2)
    assert torch.equal(term._points, again._points)
    assert not torch.equal(term._points, other._points)
    torch.testing.assert_close(term._points.norm(dim=1), torch.ones(50))
    assert set(term.state_dict()) == {"surrogates", "known", "sums", "counts"}


def test_vectors_and_columns_are_the_same_rows_and_a_batch_of_one_is_finite():
    term = make()
    term(*batch())
    term.finish_epoch(0)
    features, targets = batch(1)
    assert term(features, targets).item() == term(features, targets[:, 0], targets, targets).item()
    assert term(features[:1], targets[:1]).isfinite()
    assert term(features, torch.full((10,), 3.0)).isfinite()


def test_identical_rows_zero_rows_and_half_precision_are_finite():
    term = make()
    features, targets = batch()
    features[:2], features[2:5] = 0, features[7]
    term(features, targets)
    term.finish_epoch(0)
    for dtype in (torch.float32, torch.bfloat16):
        there = features.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            value = term(there, targets.to(dtype))
        value.backward()
        assert value.dtype == torch.float32
        assert there.grad.isfinite().all()
        assert there.grad.abs().max() < 1e3


def test_nan_features_are_refused_at_once_and_on_an_accelerator_at_the_end_of_the_epoch(monkeypatch):
    features, targets = batch()
    features[3] = torch.nan
    with pytest.raises(ValueError, match="SRL: features: .*NaN or infinity in 1 of 10 rows, the first at 3"):
        make()(features, targets)
    monkeypatch.setattr("imbalanced_regression.methods.rows.may_look", lambda _: False)
    term = make()
    term(features, targets)
    with pytest.raises(ValueError, match="SRL: features: NaN or infinite in bin . of epoch 0"):
        term.finish_epoch(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SRL(6, 4), "bins: expected Bins"),
        (lambda: SRL(BINS, 0), "feature_dim: expected a whole number"),
        (lambda: SRL(BINS, 4, envelope=-1), "envelope: expected"),
        (lambda: SRL(BINS, 4, homogeneity=float("nan")), "homogeneity: expected"),
        (lambda: SRL(BINS, 4, contrast=float("inf")), "contrast: expected"),
        (lambda: SRL(BINS, 4, temperature=0), "temperature: expected"),
        (lambda: SRL(BINS, 4, points=0), "points: expected"),
        (lambda: SRL(BINS, 4, momentum=1), "momentum: expected 0 <= momentum < 1"),
        (lambda: SRL(BINS, 4)(torch.ones(3, 5), torch.ones(3)), "SRL: features: expected 4 of them, found 5"),
        (lambda: SRL(BINS, 4)(torch.ones(3, 4), torch.ones(2)), "SRL: targets: expected shape"),
        (lambda: enveloping(Z, torch.ones(3, 5)), r"enveloping: points: .*\(\.\.\., 2\), found \(3, 5\)"),
        (lambda: enveloping(Z[:0], CIRCLE), r"enveloping: centroids: .*found \(0, 2\)"),
        (lambda: homogeneity(Z[:4], LABELS[:3]), r"homogeneity: labels: expected shape \(4,\).*found \(3,\)"),
        (lambda: homogeneity(Z[:4], LABELS[[0, 1, 1, 2]]), "homogeneity: labels: must strictly increase, found a step of 0"),
        (lambda: homogeneity(Z[:4], LABELS[[2, 0, 1, 3]]), "homogeneity: labels: must strictly increase, found a step of -3"),
        (lambda: srl_contrastive(Z, INDEX + 1, Z[:4], 1.0), "srl_contrastive: index: expected 0 to 3, found 1 to 4"),
        (lambda: srl_contrastive(Z, INDEX - 1, Z[:4], 1.0), "srl_contrastive: index: expected 0 to 3, found -1 to 2"),
        (lambda: srl_contrastive(Z, INDEX[:4], Z[:4], 1.0), r"srl_contrastive: index: expected shape \(5,\), found \(4,\)"),
        (lambda: srl_contrastive(Z, INDEX, Z[:4], 0.0), "temperature: expected a finite number above 0.*found 0"),
        (lambda: srl_contrastive(Z[:0], INDEX[:0], Z[:4], 1.0), r"srl_contrastive: features: .*found \(0, 2\)"),
    ],
)
def test_bad_arguments_are_refused_with_their_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
