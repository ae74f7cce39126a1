"""The statistics behind `compare`: against scipy, against literal loops, and on made data where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from imbalanced_regression.tools.significance import (
    average_ranks,
    bootstrap_interval,
    critical_difference,
    holm,
    paired_bootstrap_p,
    paired_p,
)


def mae(labels, preds):
    return float(np.abs(preds - labels).mean())


def test_the_paired_test_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=7), rng.normal(size=7)
    assert paired_p(a, b) == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-12)


def test_pairs_with_a_hole_are_left_out_and_one_pair_says_nothing():
    a, b = np.array([1.0, 2.0, np.nan, 5.0]), np.array([1.5, 2.1, 3.0, 5.4])
    assert paired_p(a, b) == pytest.approx(stats.ttest_rel(a[[0, 1, 3]], b[[0, 1, 3]]).pvalue)
    assert math.isnan(paired_p([1.0], [2.0]))
    with pytest.raises(ValueError, match="found 2 and 3"):
        paired_p([1, 2], [1, 2, 3])


def test_equal_runs_differ_by_chance_alone_and_a_constant_difference_is_none():
    assert paired_p([0.1, 0.2, 0.7], [0.1, 0.2, 0.7]) == 1
    assert paired_p([1.1, 1.2, 1.7], [0.1, 0.2, 0.7]) == 0


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 times 4 3 2 1, never falling
    assert holm([0.04, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1, 1]
    found = holm([0.03, np.nan, 0.01])
    assert math.isnan(found[1])
    assert found[[0, 2]].tolist() == pytest.approx([0.03, 0.02])
    assert holm([]).tolist() == []
    with pytest.raises(ValueError, match="within 0..1"):
        holm([1.5])


def test_without_a_difference_at_most_five_percent_of_1000_tables_say_there_is_one():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(1000):
        baseline = rng.normal(8, 0.2, size=5)
        others = rng.normal(8, 0.2, size=(4, 5))
        wrong += bool((holm([paired_p(row, baseline) for row in others]) < 0.05).any())
    assert wrong <= 50 + 3 * math.sqrt(1000 * 0.05 * 0.95)  # Holm keeps it at or below 5 %, within the count's own spread


def test_a_difference_of_two_standard_deviations_is_found():
    rng = np.random.default_rng(1)
    found = sum(paired_p(rng.normal(7.6, 0.2, size=10), rng.normal(8, 0.2, size=10)) < 0.05 for _ in range(200))
    assert found >= 180


def test_the_bootstrap_is_the_literal_one():
    rng = np.random.default_rng(3)
    labels = rng.normal(size=12)
    preds = [labels + rng.normal(size=12) for _ in range(3)]
    draws = np.random.default_rng(5)
    means = []
    for _ in range(300):
        samples = draws.integers(12, size=12)
        total = 0.0
        for s in draws.integers(3, size=3):
            total += sum(abs(preds[s][i] - labels[i]) for i in samples) / 12
        means.append(total / 3)
    expected = np.quantile(means, [0.025, 0.975])
    assert bootstrap_interval(mae, labels, preds, repeats=300, seed=5) == pytest.approx(tuple(expected), rel=1e-12)


def test_the_interval_is_about_scipys_where_seeds_do_not_differ():
    rng = np.random.default_rng(0)
    labels = np.zeros(200)
    preds = rng.exponential(size=200)
    ours = bootstrap_interval(mae, labels, [preds], repeats=2000, seed=1)
    theirs = stats.bootstrap((np.abs(preds),), np.mean, n_resamples=2000, method="percentile", rng=2).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.02)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, inside = np.random.default_rng(2), 0
    truth = stats.foldnorm(2, scale=0.5).mean()
    for _ in range(200):
        low, high = bootstrap_interval(mae, np.zeros(40), [np.abs(rng.normal(1, 0.5, size=40)) for _ in range(6)], repeats=200)
        inside += low <= truth <= high
    assert inside >= 180


def test_the_p_over_test_samples_is_the_literal_count():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=30)
    first, second = labels + rng.normal(0, 1.0, 30), labels + rng.normal(0, 1.6, 30)
    draws, below, above = np.random.default_rng(4), 0, 0
    for _ in range(400):
        chosen = draws.integers(30, size=30)
        difference = sum(abs(first[i] - labels[i]) - abs(second[i] - labels[i]) for i in chosen) / 30
        below, above = below + (difference <= 0), above + (difference >= 0)
    expected = 2 * (min(below, above) + 1) / 401
    assert paired_bootstrap_p(mae, labels, first, second, repeats=400, seed=4) == pytest.approx(expected)
    assert paired_bootstrap_p(mae, labels, first, first) == 1
    assert math.isnan(paired_bootstrap_p(lambda labels, preds: math.nan, labels, first, second, repeats=3))
    with pytest.raises(ValueError, match=r"preds, baseline: expected \(N,\) = \(30,\), found \(29,\)"):
        paired_bootstrap_p(mae, labels, first[1:], second)


def test_the_p_over_test_samples_finds_5_percent_where_there_is_nothing_and_most_where_there_is():
    rng, wrong, right = np.random.default_rng(6), 0, 0
    for _ in range(200):
        preds = rng.normal(size=(3, 60)) * [[1.0], [1.0], [2.0]]
        wrong += paired_bootstrap_p(mae, np.zeros(60), preds[0], preds[1], repeats=200) < 0.05
        right += paired_bootstrap_p(mae, np.zeros(60), preds[0], preds[2], repeats=200) < 0.05
    assert wrong <= 10 + 3 * math.sqrt(200 * 0.05 * 0.95)
    assert right >= 190


def test_an_empty_group_has_no_interval_and_bad_shapes_are_named():
    assert all(map(math.isnan, bootstrap_interval(lambda labels, preds: math.nan, np.zeros(3), [np.zeros(3)], repeats=5)))
    with pytest.raises(ValueError, match=r"preds: expected \(N,\) = \(3,\)"):
        bootstrap_interval(mae, np.zeros(3), [np.zeros(4)])
    with pytest.raises(ValueError, match="level: .* found 95"):
        bootstrap_interval(mae, np.zeros(3), [np.zeros(3)], level=95)


def test_average_ranks_share_ties_and_refuse_holes():
    assert average_ranks([[1, 2, 3], [2, 2, 1]]).tolist() == pytest.approx([(1 + 2.5) / 2, (2 + 2.5) / 2, (3 + 1) / 2])
    with pytest.raises(ValueError, match="method 1 has no result on data set 0"):
        average_ranks([[1, np.nan]])


def test_the_critical_difference_is_the_textbooks():
    # Demsar 2006, table 5a: q_0.05 is 1.960 for two methods and 2.343 for three
    assert critical_difference(2, 10) == pytest.approx(1.960 * math.sqrt(2 * 3 / 60), abs=1e-3)
    assert critical_difference(3, 14) == pytest.approx(2.343 * math.sqrt(3 * 4 / 84), abs=2e-3)
    with pytest.raises(ValueError, match="found 1 and 4"):
        critical_difference(1, 4)
