"""RankSim against the slow twin and the golden values, its ties and its draw, and the inputs that must not break it."""

from __future__ import annotations

import pytest
import torch
from slow import ranksim as twin

from imbalanced_regression.methods import ranksim
from imbalanced_regression.methods.ranksim import RankSim, _BlackBoxRanks

Z = torch.tensor([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8], [-1, 0.5]], dtype=torch.float64)
Y = torch.tensor([[1.0], [2], [4], [7], [7]], dtype=torch.float64)


def example(count=24, width=5, seed=0, labels=9):
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=draw, dtype=torch.float64)
    return features, torch.randint(0, labels, (count, 1), generator=draw).double()


def gradient(term, features, targets, factor=1.0):
    features = features.clone().requires_grad_()
    (factor * term(features, targets)).backward()
    return features.grad


def test_the_golden_value_with_average_ranks():
    assert RankSim()(Z[:4], Y[:4]).item() == pytest.approx(0.0546875, abs=1e-12)
    assert twin.loss(Z[:4].tolist(), Y[:4, 0].tolist()) == pytest.approx(0.0546875, abs=1e-12)


def test_the_golden_gradient_of_the_third_similarity_row():
    expected = torch.tensor([0, -0.125, 0, 0.125], dtype=torch.float64)
    ours = twin.similarity_gradient(Z[:4].tolist(), Y[:4, 0].tolist(), 2.0)[2]
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), expected, rtol=0, atol=1e-8)
    similarities = torch.tensor(twin.similarities(Z[:4].tolist()), dtype=torch.float64, requires_grad=True)
    ranks = _BlackBoxRanks.apply(similarities, torch.ones(4, dtype=torch.bool), 2.0, 1.0)
    torch.testing.assert_close(ranks[2].detach(), torch.tensor([1, 0.75, 0.25, 0.5], dtype=torch.float64))
    wanted = torch.tensor([0.875, 0.5, 0.25, 0.875], dtype=torch.float64)
    (ranks[2] - wanted).square().mean().backward()
    torch.testing.assert_close(similarities.grad[2], expected, rtol=0, atol=1e-8)
    assert similarities.grad[[0, 1, 3]].abs().sum() == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("interpolation", "factor"), [(2.0, 1.0), (2.0, 100.0), (0.1, 1.0)])
def test_loss_and_gradient_equal_the_twin_on_distinct_labels(seed, interpolation, factor):
    features, _ = example(12, 4, seed)
    targets = torch.randperm(12, generator=torch.Generator().manual_seed(seed)).double()  # a grid: many equal distances
    term = RankSim(interpolation)
    rows, labels = features.tolist(), targets.tolist()
    assert term(features, targets).item() == pytest.approx(twin.loss(rows, labels), rel=1e-12)
    expected = torch.tensor(twin.feature_gradient(rows, labels, interpolation, factor), dtype=torch.float64)
    torch.testing.assert_close(gradient(term, features, targets, factor), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_one_row_per_label_is_drawn_and_every_row_in_its_turn(seed):
    features, targets = example(seed=seed)
    labels = sorted(set(targets[:, 0].tolist()))
    term, used = RankSim(seed=seed), set()
    for _ in range(60):
        touched = [i for i, row in enumerate(gradient(term, features, targets, 1e4)) if row.abs().sum() > 0]
        assert len(touched) == len({targets[i, 0].item() for i in touched}) <= len(labels)
        used.update(touched)
    assert len(used) > len(labels)
    chosen = term._one_per_label(targets[:, 0])
    assert sorted(targets[chosen, 0].tolist()) == labels


def test_the_draw_follows_the_seed_and_the_calls_before_it():
    features, targets = example(64, labels=8)
    first, second, other = RankSim(seed=1), RankSim(seed=1), RankSim(seed=2)
    losses = [first(features, targets).item() for _ in range(6)]
    assert losses == [second(features, targets).item() for _ in range(6)]
    assert losses != [other(features, targets).item() for _ in range(6)]
    assert len(set(losses)) > 1
    resumed, half = RankSim(seed=1), RankSim(seed=1)
    [half(features, targets) for _ in range(3)]
    resumed.load_state_dict(half.state_dict())
    assert [resumed(features, targets).item() for _ in range(3)] == losses[3:]


def test_equal_label_distances_up_to_rounding_share_a_rank():
    features, _ = example(11, 4)
    whole = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    tenths = (whole.double() / 10).float()  # their differences are equal in decimals and not in float32
    assert len(set((tenths[:, None] - tenths).abs().view(-1).tolist())) > 11
    assert RankSim()(features, tenths).item() == pytest.approx(RankSim()(features, whole.double()).item(), rel=1e-12)


def test_one_label_of_a_million_makes_no_ties_of_the_others():
    labels = torch.tensor([0.2, 1e6, 0.7, 0, 0.4, 0.1])
    ranks = [ranksim._ranks(ranksim._distances(given, given >= 0), given).double()
             for given in (labels, (10 * labels).double().round())]
    others = torch.arange(6) != 1
    assert torch.equal(ranks[0][others], ranks[1][others])


def test_the_order_of_the_rows_does_not_matter():
    features, _ = example(12)
    features[3] = features[7]  # equal similarities too
    targets = torch.arange(12.0)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(RankSim()(features[order], targets[order]), RankSim()(features, targets))


def test_a_scaled_loss_has_the_scaled_gradient_when_told_the_scale():
    features, targets = example(12, labels=100)
    plain, told = RankSim(), RankSim()
    told.loss_scale = torch.tensor(1024.0)
    torch.testing.assert_close(gradient(told, features, targets, 1024.0) / 1024, gradient(plain, features, targets))


def test_rows_left_out_by_a_mask_as_on_an_accelerator_give_the_same(monkeypatch):
    features, targets = example(40)
    plain = RankSim()(features, targets).item(), gradient(RankSim(), features, targets)
    monkeypatch.setattr(ranksim, "may_look", lambda _: False)
    masked = RankSim()(features, targets).item(), gradient(RankSim(), features, targets)
    assert masked[0] == pytest.approx(plain[0], rel=1e-12)
    torch.testing.assert_close(masked[1], plain[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("count", [1, 5])
def test_one_label_alone_costs_nothing(count):
    features, _ = example(count)
    term = RankSim()
    assert term(features, torch.full((count, 1), 3.0)).item() == 0
    assert gradient(term, features, torch.full((count,), 3.0)).abs().sum() == 0


def test_targets_may_be_a_vector_or_a_column_and_other_arguments_are_ignored():
    features, targets = example(12)
    one, two = RankSim(), RankSim()
    assert one(features, targets[:, 0]).item() == two(features, targets, preds=targets, weights=targets).item()


def test_identical_rows_zero_rows_and_half_precision_are_finite():
    features, targets = example(12, labels=100)
    features[1], features[2:4] = 0, features[4]
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not torch.float32):
            found = gradient(RankSim(), features.to(dtype), targets.to(dtype))
        assert found.isfinite().all()
        assert found.abs().max() < 1e3
        assert found.dtype == dtype


def test_autocast_does_not_round_the_similarities():
    features, targets = example(16, labels=100)
    features, targets = features.float(), targets.float()
    plain = RankSim()(features, targets)
    with torch.autocast("cpu", torch.bfloat16):
        assert RankSim()(features, targets).item() == plain.item()


def test_a_sharper_ranking_of_the_features_lowers_the_loss():
    angle = 3 * torch.linspace(0, 1, 10, dtype=torch.float64) ** 1.7  # no two of its differences are equal
    ordered = torch.stack([angle.cos(), angle.sin()], dim=1)
    mixed = ordered[torch.randperm(10, generator=torch.Generator().manual_seed(0))]
    assert RankSim()(ordered, angle).item() < 1e-12 < 0.5 < RankSim()(mixed, angle).item()


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (torch.full((3, 2), torch.nan), torch.arange(3.0), "RankSim: features.*NaN or infinity in 3 of 3 rows.*learning rate"),
        (torch.ones(3, 2), torch.tensor([1, torch.inf, 2]), "RankSim: targets.*1 of 3 rows, the first at 1"),
        (torch.ones(3, 2), torch.ones(2), r"RankSim: targets: expected shape \(3,\) or \(3, 1\), found \(2,\)"),
        (torch.ones(3, 2, 4, 4), torch.ones(3), "RankSim: features: expected shape"),
        (torch.ones(0, 2), torch.ones(0), "RankSim: features: expected shape"),
    ],
)
def test_bad_input_is_refused_with_the_method_the_argument_and_the_way_out(features, targets, message):
    with pytest.raises(ValueError, match=message):
        RankSim()(features, targets)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_an_interpolation_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="interpolation: expected a finite number above 0"):
        RankSim(value)
