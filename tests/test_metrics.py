"""Metrics by shot, correlations and depth metrics against the slow twin."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import scores as slow_scores

from imbalanced_regression.bins import Bins
from imbalanced_regression.methods.relevance import Relevance
from imbalanced_regression.metrics import (
    SCORES,
    DepthMetrics,
    DepthReference,
    aorc,
    aore,
    balanced_mae,
    bmase,
    ccc,
    correlations,
    freedman_diaconis_bins,
    sera,
    shot_metrics,
    shot_of_counts,
    shots_of_bins,
)
from imbalanced_regression.tools import report

GROUPS = ("overall", "many", "medium", "few")


def same(found, expected, where=""):
    """Nested dictionaries, arrays and numbers agree; NaN equals NaN."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            same(found[key], value, f"{where}/{key}")
    elif isinstance(expected, list) and isinstance(expected[0], str):
        assert list(found) == expected, where
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=where)


# shots


def test_shots_follow_the_published_rule_at_its_edges():
    counts = [0, 19, 20, 100, 101, 10**10]
    assert shot_of_counts(counts).tolist() == ["few", "few", "medium", "medium", "many", "many"]
    assert shot_of_counts(counts).tolist() == [slow.shot(n) for n in counts]
    assert shot_of_counts([5, 10, 11], many=10, few=6).tolist() == ["few", "medium", "many"]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(0, 200), st.integers(0, 2**32 - 1))
def test_shot_metrics_equal_the_twins(tests, trainings, seed):
    rng = np.random.default_rng(seed)
    labels, train_labels = rng.uniform(-3, 12, tests), rng.normal(2, 2, trainings + 1)
    preds = np.where(rng.random(tests) < 0.2, labels, labels + rng.normal(size=tests))
    edges = np.linspace(-2, 10, 7)
    found = shot_metrics(preds, labels, train_labels, Bins(edges), many=30, few=10)
    same(found, slow.shot_metrics(preds, labels, train_labels, edges, many=30, few=10))


def test_whole_labels_count_by_value_without_bins():
    rng = np.random.default_rng(0)
    train_labels = rng.choice([3, 4, 5, 9], p=[0.7, 0.2, 0.06, 0.04], size=300)
    labels = np.array([3, 4, 5, 9, 7, 40, 1])  # 7, 40 and 1 were never trained on
    preds = labels + rng.normal(size=7)
    found = shot_metrics(preds, labels, train_labels)
    expected = slow.shot_metrics(preds, labels, train_labels, list(range(42)))
    for group in (*GROUPS, "zero_interp", "zero_extrap", "balanced"):
        same(found[group], expected[group], group)
    assert (found["zero_interp"]["count"], found["zero_extrap"]["count"]) == (1, 2)
    assert found["few"]["count"] == int((train_labels == 5).sum() < 20) + int((train_labels == 9).sum() < 20)


def test_a_fixed_list_of_shots_overrides_the_counts():
    edges, shots = [0, 1, 2, 3], ["few", "many", "few"]
    labels, preds = [0.5, 1.5, 2.5, 2.6], [1.0, 1.0, 1.0, 1.0]
    found = shot_metrics(preds, labels, [0.5] * 500, Bins(edges), shots=shots)
    same(found, slow.shot_metrics(preds, labels, [0.5] * 500, edges, shots=shots))
    assert (found["many"]["count"], found["medium"]["count"], found["few"]["count"]) == (1, 0, 3)


def test_numbers_worked_out_by_hand():
    found = shot_metrics([1, 5, 2], [3, 3, 2], [3] * 101 + [2], Bins([2, 3, 4]))
    assert found["overall"] == pytest.approx(
        {"mse": 8 / 3, "rmse": math.sqrt(8 / 3), "l1": 4 / 3, "gmean": (4e-10) ** (1 / 3), "bias": 0, "count": 3}
    )
    assert found["many"] == pytest.approx({"mse": 4, "rmse": 2, "l1": 2, "gmean": 2, "bias": 0, "count": 2})
    assert found["few"]["gmean"] == pytest.approx(1e-10)  # an error of exactly 0 counts as 1e-10
    assert found["balanced"] == pytest.approx({"l1": 1, "mse": 2})  # every bin once: (0 + 2) / 2, (0 + 4) / 2


def test_bias_is_prediction_minus_label():
    assert shot_metrics([3.0], [1.0], [1.0])["overall"]["bias"] == 2


def test_an_empty_group_is_nan_and_count_0_never_a_crash():
    found = shot_metrics([1.0, 2.0], [1, 2], [1, 2])
    for group in ("many", "medium"):
        assert found[group]["count"] == 0
        assert all(math.isnan(found[group][name]) for name in ("mse", "rmse", "l1", "gmean", "bias"))


def test_per_bin_arrays_have_one_entry_per_bin_and_nan_where_no_test_label_is():
    per_bin = shot_metrics([1.0], [0.5], [0.5, 2.5], Bins([0, 1, 2, 3]))["per_bin"]
    assert all(len(per_bin[name]) == 3 for name in ("center", "train_count", "count", "l1", "bias", "shot"))
    assert per_bin["count"].tolist() == [1, 0, 0]
    assert per_bin["train_count"].tolist() == [1, 0, 1]
    assert np.isnan(per_bin["l1"]).tolist() == [False, True, True]


def test_every_number_is_computed_once_over_all_predictions():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 5, 50)
    preds = labels + rng.normal(size=50)
    whole = shot_metrics(preds, labels, labels)
    order = rng.permutation(50)
    same(shot_metrics(preds[order], labels[order], labels)["overall"], whole["overall"])
    assert whole["overall"]["gmean"] == pytest.approx(math.exp(np.log(np.abs(preds - labels)).mean()))


def test_columns_tensors_and_lists_measure_alike():
    preds, labels = [1.0, 2.5, 4.0], [1.0, 2.0, 3.0]
    expected = shot_metrics(preds, labels, labels)["overall"]
    for make in (
        np.array,
        torch.tensor,
        lambda v: np.array(v, np.float32)[:, None],
        lambda v: torch.tensor(v)[:, None],
    ):
        same(shot_metrics(make(preds), make(labels), make(labels))["overall"], expected)


def test_agedb_test_set_has_the_published_shots(shared):
    path = shared / "data" / "agedb" / "agedb.csv"
    if not path.exists():
        pytest.skip("no AgeDB-DIR split")
    ages = {"train": [], "val": [], "test": []}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            ages[row["split"]].append(int(row["age"]))
    found = shot_metrics(ages["test"], ages["test"], ages["train"])
    assert [found[group]["count"] for group in GROUPS] == [2140, 1530, 448, 162]


@pytest.mark.parametrize(
    ("arguments", "how", "named"),
    [
        (([1, 2], [1], [1]), {}, "preds.*1.*2"),
        (([1], [np.nan], [1]), {}, "labels.*1 of 1.*index 0"),
        (([np.inf], [1], [1]), {}, "preds.*1 of 1.*index 0"),
        (([1], [1], [np.nan, 1]), {}, "train_labels.*1 of 2.*index 0"),
        (([1], [1], [1]), {"many": 5, "few": 20}, "few.*5.*20"),
        (([1], [1], [1]), {"shots": ["few"]}, "shots.*bins"),
        (([1], [1], [1], Bins([0, 1, 2])), {"shots": ["few"]}, r"shots.*2.*\(1,\)"),
        (([1], [1], [1], Bins([0, 1, 2])), {"shots": ["few", "rare"]}, "shots.*many.*rare"),
    ],
)
def test_bad_input_is_named_with_its_value(arguments, how, named):
    with pytest.raises(ValueError, match=named):
        shot_metrics(*arguments, **how)


# labels without a training label


def test_bins_without_training_labels_are_groups_of_their_own():
    counts = [0, 5, 0, 150, 30, 0, 0, 8, 0]
    expected = ["zero_extrap", "few", "zero_interp", "many", "medium", "zero_interp", "zero_interp", "few", "zero_extrap"]
    assert shots_of_bins(counts).tolist() == expected == slow.shots_in_order(counts)
    assert shots_of_bins([0, 0]).tolist() == ["zero_extrap"] * 2


def test_zero_shot_labels_are_measured_apart_from_few_shot_ones():
    train_labels = [10] * 150 + [14] * 3
    labels, preds = [10, 12, 12, 14, 20, 5], [11, 14, 16, 17, 10, 10]
    found = shot_metrics(preds, labels, train_labels)
    assert {g: (found[g]["count"], found[g]["l1"]) for g in ("many", "few", "zero_interp", "zero_extrap")} == {
        "many": (1, 1), "few": (1, 3), "zero_interp": (2, 3), "zero_extrap": (2, 7.5),
    }
    assert sum(found[g]["count"] for g in ("many", "medium", "few", "zero_interp", "zero_extrap")) == 6
    text = report.table(found)
    assert "zero_interp" in text
    assert "zero" not in report.table(shot_metrics([1, 2], [1, 2], [1, 2]))


def test_a_published_list_keeps_its_groups():
    found = shot_metrics([1.0, 1.0], [0.5, 2.5], [1.5] * 9, Bins([0, 1, 2, 3]), shots=["few", "many", "few"])
    assert found["few"]["count"] == 2
    for group in ("zero_interp", "zero_extrap"):
        assert found[group]["count"] == 0
        assert math.isnan(found[group]["l1"])


# one number over all


GOLDEN_Y, GOLDEN_PREDS = [1, 2, 4, 7, 7], [1.5, 1, 5, 6, 3]
SKEWED = [*range(1, 11), 30]


def test_golden_sera():
    assert sera(SKEWED, np.array(SKEWED) + 2.0, Relevance.boxplot(SKEWED)) == pytest.approx(14)


@settings(max_examples=30)
@given(st.integers(8, 60), st.integers(0, 2**32 - 1))
def test_scores_equal_the_twins(n, seed):
    rng = np.random.default_rng(seed)
    labels = np.append(rng.normal(size=n), 9.0)
    preds = labels + rng.normal(size=n + 1)
    relevance = Relevance([(0, 0), (4, 1)])
    assert sera(labels, preds, relevance) == pytest.approx(slow_scores.sera(labels, preds, relevance(labels)), rel=1e-9)
    assert ccc(labels, preds) == pytest.approx(slow_scores.ccc(labels, preds), rel=1e-9)
    edges = slow_scores.freedman_diaconis_edges(labels)
    assert balanced_mae(labels, preds) == pytest.approx(slow_scores.balanced_mae(labels, preds, edges), rel=1e-9)
    rare = relevance(labels) >= 0.5
    assert aore(labels, preds, relevance) == aore(labels, preds, rare)
    assert aore(labels, preds, rare) == pytest.approx(slow_scores.aore(labels, preds, rare), rel=1e-9)


def test_sera_is_the_area_under_the_squared_errors_of_ever_more_relevant_labels():
    rng = np.random.default_rng(0)
    labels = rng.lognormal(size=200)
    preds, relevance = labels + rng.normal(size=200), Relevance.boxplot(labels)
    by_steps = slow_scores.sera_by_trapezoids(labels, preds, relevance(labels), 0.001)
    exact = sera(labels, preds, relevance)
    assert exact < by_steps < exact + 0.0005 * ((preds - labels) ** 2).sum()


def test_sera_without_a_relevant_label_is_refused():
    with pytest.raises(ValueError, match=r"phi is 0 for all.*Relevance\.density"):
        sera([1, 2], [1, 1], Relevance([(5, 0), (6, 1)]))
    with pytest.raises(ValueError, match=r"relevance.*\[0, 1\].*2"):
        sera([1, 2], [1, 1], lambda labels: labels)
    with pytest.raises(ValueError, match="relevance.*Relevance.*'boxplot'"):
        sera([1, 2], [1, 1], "boxplot")


def test_golden_freedman_diaconis_bins():
    bins = freedman_diaconis_bins(SKEWED)
    assert (bins.count, bins.edges[0], bins.edges[-1]) == (7, 1, 30)
    assert freedman_diaconis_bins([0] * 30 + [1, 2]).count == 6  # no IQR: log2 32 + 1
    assert freedman_diaconis_bins([3.0] * 5).count == 1
    assert freedman_diaconis_bins([*np.linspace(0, 1, 99), 1e12]).count == 10_000


def test_balanced_mae_counts_every_bin_once():
    # the bin of 10 has one label of three, and half of the say
    assert balanced_mae([0, 0, 10], [1, 3, 10], Bins([0, 5, 11])) == 1
    assert balanced_mae([0, 0, 10], [0, 0, 14], Bins([0, 5, 8, 11])) == 2


def test_bmase_is_1_for_the_median_and_below_for_better():
    labels, train_labels = [0, 1, 10], [0, 0, 1, 1, 10]
    assert bmase(labels, [1, 1, 1], train_labels) == 1
    assert bmase(labels, [0, 1, 6], train_labels) < 1
    assert math.isnan(bmase([1, 1], [1, 2], [1]))


def test_golden_ccc_and_its_ends():
    assert ccc(GOLDEN_Y, GOLDEN_PREDS) == pytest.approx(0.6411929171, abs=1e-10)
    assert ccc([1, 2, 3], [1, 2, 3]) == pytest.approx(1)
    assert ccc([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert ccc([1, 2, 3], [2, 2, 2]) == 0
    assert math.isnan(ccc([2, 2], [2, 2]))


def test_aore_and_aorc_average_all_and_the_rare():
    rare = np.array([False, False, True, True])
    assert aore([1, 2, 3, 4], [1, 2, 5, 8], rare) == (1.5 + 3) / 2
    assert aorc([1, 2, 3, 4], [1, 2, 4, 3], rare) == pytest.approx((0.8 - 1) / 2)
    assert math.isnan(aore([1], [1], np.array([False])))
    assert math.isnan(aorc([1], [1], np.array([False])))
    assert math.isnan(aorc([1, 2], [1, 1], np.array([True, True])))
    with pytest.raises(ValueError, match="rare: expected 2 booleans.*int64"):
        aore([1, 2], [1, 2], [0, 1])


def test_shot_metrics_hold_every_score():
    rng = np.random.default_rng(0)
    train_labels, labels = np.round(rng.lognormal(2, 0.8, 900)), np.round(rng.lognormal(2, 0.8, 200))
    preds = labels + rng.normal(size=200)
    found = shot_metrics(preds, labels, train_labels)
    scores, relevance = found["scores"], Relevance.boxplot(train_labels)
    rare = ~np.isin(shots_of_bins(found["per_bin"]["train_count"]), ("many", "medium"))
    bins = Bins(np.append(found["per_bin"]["center"], found["per_bin"]["center"][-1] + 1) - 0.5)
    rare = rare[bins.index(labels)]
    assert set(SCORES) < set(scores)
    assert scores["relevance"] == "boxplot"
    assert scores["sera"] == pytest.approx(sera(labels, preds, relevance))
    assert scores["sera_mean"] == pytest.approx(scores["sera"] / 200)
    assert scores["bmae_fd"] == balanced_mae(labels, preds)
    assert scores["fd_bins"] == freedman_diaconis_bins(labels).count
    assert scores["bmase"] == pytest.approx(bmase(labels, preds, train_labels, bins))
    assert scores["ccc"] == ccc(labels, preds)
    assert scores["aore"] == aore(labels, preds, rare)
    assert scores["aorc"] == aorc(labels, preds, rare)
    line = report.table(found).splitlines()[-1]
    assert all(heading in line for heading in SCORES.values())


def test_scores_of_labels_without_outliers_take_the_density():
    labels = np.random.default_rng(0).beta(4, 4, 300)
    assert shot_metrics(labels, labels, labels)["scores"]["relevance"] == "density"
    alone = shot_metrics([3.0], [3.0], [3.0])["scores"]
    assert alone["relevance"] is None
    assert math.isnan(alone["sera"])


# correlations


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_correlations_equal_the_twins(n, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) // 2 + 0.5  # with ties
    preds = np.round(labels + rng.normal(size=n), 1)
    if n == 2 or np.ptp(preds) == 0:
        return
    found = correlations(preds, labels)
    assert found["pearson"] == pytest.approx(slow.pearson(preds, labels), abs=1e-9)
    assert found["spearman"] == pytest.approx(slow.spearman(preds, labels), abs=1e-9)


def test_correlations_of_constants_are_nan_not_a_warning():
    for preds, labels in (([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [2, 2, 2]), ([1], [2])):
        assert all(math.isnan(value) for value in correlations(preds, labels).values())


def test_correlations_do_not_depend_on_the_scale_of_predictions():
    rng = np.random.default_rng(0)
    labels, preds = rng.uniform(0, 5, 30), rng.uniform(0, 1, 30)
    same(correlations(preds * 5, labels), correlations(preds, labels))


# depth


def test_depth_scores_equal_those_of_the_pixels_at_once():
    preds, labels, mask = depth_example(shape=(4, 1, 5, 5))
    counts = np.array([30, 200, 180, 140, 1])
    bins = Bins(DEPTH_EDGES)
    metrics, other = (DepthMetrics(bins, DEPTH_SHOTS, DepthReference(bins, counts)) for _ in range(2))
    metrics.update(preds[:2], labels[:2], mask[:2])
    other.update(preds[2:], labels[2:], mask[2:])
    metrics.merge(other)
    scores, pixels = metrics.compute()["scores"], mask == 1
    assert scores["ccc"] == pytest.approx(ccc(labels[pixels], preds[pixels]))
    train = np.repeat(bins.centers, counts)
    assert scores["relevance"] == "boxplot"
    assert scores["sera"] == pytest.approx(sera(labels[pixels], preds[pixels], Relevance.boxplot(train)))
    assert scores["sera_mean"] == pytest.approx(scores["sera"] / pixels.sum())
    assert scores["bmase"] == pytest.approx(bmase(labels[pixels], preds[pixels], train, bins))
    many = DepthReference(bins, counts * 1_000_000)
    assert many.median == np.median(train)
    np.testing.assert_allclose(many.relevance.points, Relevance.boxplot(train).points)
    rare = np.isin(Bins(DEPTH_EDGES).index(labels[pixels]), (0, 4))
    assert scores["aore"] == pytest.approx(aore(labels[pixels], preds[pixels], rare))
    none = DepthMetrics(Bins(DEPTH_EDGES), DEPTH_SHOTS).compute()["scores"]
    assert none.pop("relevance") is None
    assert all(math.isnan(value) for value in none.values())
    with pytest.raises(ValueError, match="counts: expected pixels in two bins or more"):
        DepthReference(bins, [0, 5, 0, 0, 0])


DEPTH_EDGES, DEPTH_SHOTS = [0, 1, 2, 3, 4, 10], ["few", "many", "many", "medium", "few"]


def depth_example(seed=0, shape=(2, 1, 6, 5)):
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0.3, 3.9, shape)
    preds = labels * rng.lognormal(sigma=0.4, size=shape)
    preds.flat[:3] = [-0.5, 0.0, labels.flat[2]]
    return preds, labels, (rng.random(shape) < 0.7).astype(np.uint8)


def test_depth_metrics_equal_the_twins():
    preds, labels, mask = depth_example()
    metrics = DepthMetrics(Bins(DEPTH_EDGES), DEPTH_SHOTS)
    metrics.update(preds, labels, mask)
    found = metrics.compute()
    expected = slow.depth_metrics(preds.ravel(), labels.ravel(), mask.ravel(), DEPTH_EDGES, DEPTH_SHOTS)
    for group in (*GROUPS, "balanced"):
        same(found[group], expected[group], group)
    for name in ("count", "l1"):
        same(found["per_bin"][name], [numbers[name] for numbers in expected["per_bin"]], name)


def test_depth_image_by_image_equals_all_at_once():
    preds, labels, mask = depth_example(shape=(5, 1, 4, 3))
    together, apart = (DepthMetrics(Bins(DEPTH_EDGES), DEPTH_SHOTS) for _ in range(2))
    together.update(preds, labels, mask)
    for i in range(5):
        apart.update(torch.tensor(preds[i]), torch.tensor(labels[i]), torch.tensor(mask[i]))
    for group in GROUPS:
        same(apart.compute()[group], together.compute()[group], group)


def test_depths_predicted_at_or_below_0_are_no_hits():
    metrics = DepthMetrics(Bins(DEPTH_EDGES), DEPTH_SHOTS)
    metrics.update(np.array([-1.0, 0.0]), np.array([1.0, 1.0]))
    overall = metrics.compute()["overall"]
    assert (overall["delta1"], overall["delta3"]) == (0, 0)
    assert overall["log10"] == pytest.approx(3)  # they count as 0.001 m
    assert overall["rmse"] == pytest.approx(math.sqrt((4 + 1) / 2))  # and as they are in the errors


def test_a_depth_predicted_below_a_millimetre_costs_no_more_than_one_below_0():
    """1e-8 m is as wrong as -1 m: both count as 0.001 m where a logarithm or ratio is taken; above it nothing is changed."""
    preds = [-1.0, 0.0, 1e-8, 9.99e-4, 1e-3, 2e-3]
    found = []
    for pred in preds:
        metrics = DepthMetrics(Bins(DEPTH_EDGES), DEPTH_SHOTS)
        metrics.update(np.array([pred]), np.array([1.0]))
        found.append(metrics.compute()["overall"]["log10"])
        assert found[-1] == pytest.approx(slow.depth_numbers([(pred, 1.0)])["log10"])
    assert found == pytest.approx([3, 3, 3, 3, 3, -math.log10(2e-3)])


def test_a_factor_of_exactly_1_25_is_no_hit():
    metrics = DepthMetrics(Bins(DEPTH_EDGES), DEPTH_SHOTS)
    metrics.update(np.array([1.25, 1.24]), np.array([1.0, 1.0]))
    assert metrics.compute()["overall"]["delta1"] == 0.5


def test_masked_pixels_do_not_count_even_without_a_depth():
    metrics = DepthMetrics(Bins(DEPTH_EDGES), DEPTH_SHOTS)
    metrics.update(np.array([2.0, 5.0]), np.array([2.0, 0.0]), np.array([1, 0]))
    assert metrics.compute()["overall"]["count"] == 1
    assert metrics.compute()["overall"]["l1"] == 0


def test_no_pixels_at_all_are_nan_and_count_0():
    found = DepthMetrics(Bins(DEPTH_EDGES), DEPTH_SHOTS).compute()
    for group in GROUPS:
        assert found[group]["count"] == 0
        assert math.isnan(found[group]["rmse"])
    assert math.isnan(found["balanced"]["l1"])


def test_depth_input_that_does_not_fit_is_named():
    metrics = DepthMetrics(Bins(DEPTH_EDGES), DEPTH_SHOTS)
    with pytest.raises(ValueError, match=r"preds.*\(3,\).*\(2,\)"):
        metrics.update(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match=r"mask.*\(2,\).*\(1,\)"):
        metrics.update(np.ones(2), np.ones(2), np.ones(1))
    with pytest.raises(ValueError, match="labels.*0"):
        metrics.update(np.ones(2), np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="preds.*1 of 2.*index 1"):
        metrics.update(np.array([1.0, np.nan]), np.ones(2))
    with pytest.raises(ValueError, match="shots"):
        DepthMetrics(Bins(DEPTH_EDGES), ["few"])
