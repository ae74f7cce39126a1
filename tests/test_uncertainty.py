"""Metrics of a predicted spread against loops, closed cases and draws from the distribution itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow.uncertainty as loops
from hypothesis import given
from hypothesis import strategies as st

from imbalanced_regression.bins import Bins
from imbalanced_regression.metrics import shot_metrics
from imbalanced_regression.uncertainty import DISTRIBUTIONS, ause, coverage, gaussian_nll, laplace_nll, spread_metrics, uce


def draw(n, seed=0):
    rng = np.random.default_rng(seed)
    labels, spreads = rng.normal(size=n), 0.1 + rng.random(n)
    return labels, labels + spreads * rng.normal(size=n), spreads


@given(st.integers(3, 40), st.integers(0, 1000))
def test_metrics_equal_the_loops(n, seed):
    labels, preds, spreads = draw(n, seed)
    assert ause(labels, preds, spreads**2) == pytest.approx(loops.ause(labels, preds, spreads**2), abs=1e-10)
    for bins in (1, 4, 100):
        assert uce(labels, preds, spreads, bins) == pytest.approx(loops.uce(labels, preds, spreads, bins), rel=1e-10)
    for name, width in (("gaussian", 1.6448536269514722), ("laplace", math.log(10) / math.sqrt(2))):
        found = coverage(labels, preds, spreads, distribution=name, nominal=0.9)
        assert found == loops.coverage(labels, preds, spreads, width)
    for fast, slow in ((gaussian_nll, loops.gaussian_nll), (laplace_nll, loops.laplace_nll)):
        assert fast(labels, preds, spreads) == pytest.approx([slow(*row) for row in zip(labels, preds, spreads)])


def test_ause_in_closed_cases():
    labels, errors = np.zeros(5), np.array([1.0, 2, 3, 4, 5])
    assert ause(labels, errors, errors) == 0
    assert ause(labels, -errors, errors**2) == 0
    # 1 ... 4 away: least certain first leaves 3.5, 4, 4.5, 5; most wrong first leaves 2.5, 2, 1.5, 1: differences 1, 2, 3, 4
    assert ause(labels, errors, -errors + 6) == pytest.approx((0.25 / 2 + 0.5 + 0.75 + 1 / 2) / 3)
    assert ause(labels, np.ones(5), errors) == 0
    assert ause(labels, labels, errors) == 0
    assert math.isnan(ause([1, 2], [1, 3], [1, 1]))


@given(st.integers(0, 100))
def test_order_of_samples_with_equal_spread_is_of_no_account(seed):
    rng = np.random.default_rng(seed)
    labels, preds, _ = draw(30, seed)
    spreads = rng.integers(1, 4, 30).astype(float)
    order = rng.permutation(30)
    assert ause(labels[order], preds[order], spreads[order]) == pytest.approx(ause(labels, preds, spreads), abs=1e-12)
    assert uce(labels[order], preds[order], spreads[order], 7) == pytest.approx(uce(labels, preds, spreads, 7))


def test_unit_of_the_label_is_of_no_account_to_rank_and_coverage():
    labels, preds, spreads = draw(50)
    assert ause(1e6 * labels, 1e6 * preds, 1e12 * spreads**2) == pytest.approx(ause(labels, preds, spreads**2))
    assert coverage(1e6 * labels, 1e6 * preds, 1e6 * spreads) == coverage(labels, preds, spreads)
    assert uce(10 * labels, 10 * preds, 10 * spreads) == pytest.approx(100 * uce(labels, preds, spreads))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("nominal", [0.5, 0.9])
def test_a_true_distribution_is_covered_as_nominal_and_calibrated(name, nominal):
    rng = np.random.default_rng(0)
    spreads = 0.5 + rng.random(200_000)
    noise = rng.normal(size=200_000) if name == "gaussian" else rng.laplace(scale=1 / math.sqrt(2), size=200_000)
    labels = spreads * noise
    preds = np.zeros_like(labels)
    assert coverage(labels, preds, spreads, distribution=name, nominal=nominal) == pytest.approx(nominal, abs=0.005)
    assert uce(labels, preds, spreads) < 0.05 * np.mean(spreads**2)
    assert uce(labels, preds, 2 * spreads) > 2 * np.mean(spreads**2)
    right = DISTRIBUTIONS[name].nll(labels, preds, spreads).mean()
    for wrong in (0.7, 1.4):
        assert DISTRIBUTIONS[name].nll(labels, preds, wrong * spreads).mean() > right


def test_groups_are_those_of_shot_metrics():
    rng = np.random.default_rng(0)
    train = np.repeat(np.arange(10), [200, 150, 120, 90, 60, 40, 20, 10, 5, 0])
    labels = rng.integers(0, 10, 300).astype(float)
    spreads = 0.5 + rng.random(300)
    preds = labels + spreads * rng.normal(size=300)
    bins = Bins.width(0, 10, 1)
    found = spread_metrics(preds, labels, spreads, train, bins)
    shots = shot_metrics(preds, labels, train, bins)
    assert list(found) == ["overall", "many", "medium", "few"]
    for group, metrics in found.items():
        assert metrics["count"] == shots[group]["count"] > 0
    few = (labels >= 7) & (labels < 9)  # nobody trained on 9: a group of its own
    assert found["few"]["nll"] == pytest.approx(gaussian_nll(labels[few], preds[few], spreads[few]).mean())
    assert found["few"]["ause"] == pytest.approx(ause(labels[few], preds[few], spreads[few] ** 2))
    assert found["few"]["uce"] == pytest.approx(uce(labels[few], preds[few], spreads[few]))
    assert found["few"]["coverage"] == coverage(labels[few], preds[few], spreads[few])
    assert found == spread_metrics(preds[:, None], labels[:, None], spreads[:, None], train)


def test_an_empty_group_is_nan_with_count_zero():
    labels, preds, spreads = draw(20)
    found = spread_metrics(preds, labels, spreads, labels, Bins.uniform(-5, 5, 1), shots=["many"])
    assert found["few"]["count"] == 0
    assert all(math.isnan(found["few"][name]) for name in ("nll", "coverage", "ause", "uce"))
    assert found["many"] == found["overall"]
    one = spread_metrics([1.0], [1.5], [1.0], [1.0], Bins.uniform(0, 2, 1))["overall"]
    assert math.isnan(one["ause"])
    assert one["coverage"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spreads": np.zeros(20)}, "spreads: .*above 0"),
        ({"spreads": np.ones(3)}, "spreads: expected as many"),
        ({"preds": np.ones(3)}, "preds: expected as many"),
        ({"spreads": np.full(20, np.nan)}, "spreads: .*NaN"),
        ({"distribution": "cauchy"}, "distribution: .*laplace.*'cauchy'"),
        ({"nominal": 90}, "nominal"),
        ({"uce_bins": 0}, "bins"),
        ({"shots": ["few"]}, "shots"),
        ({"bins": 5}, "bins"),
    ],
)
def test_bad_input_is_named(change, message):
    labels, preds, spreads = draw(20)
    with pytest.raises(ValueError, match=message):
        spread_metrics(**{"preds": preds, "labels": labels, "spreads": spreads, "train_labels": labels, **change})


def test_negative_variances_are_refused():
    with pytest.raises(ValueError, match="variances"):
        ause([1, 2, 3], [1, 2, 3], [1, -1, 1])
