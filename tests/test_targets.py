"""Target transforms: exact inverses, the power of most likelihood, and constants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow.targets as loops
import torch
from hypothesis import given
from hypothesis import strategies as st

from imbalanced_regression.methods.targets import TARGETS, BoxCox, LogTarget, TargetUnit, constant_baseline

powers = st.sampled_from([-2.0, -0.5, -1e-9, 0.0, 1e-9, 0.3, 1.0, 2.0])
labels_above_zero = st.lists(st.floats(0.01, 100), min_size=1, max_size=20)


@given(labels_above_zero, powers)
def test_there_and_back_is_exact_for_arrays_and_tensors(labels, power):
    labels = np.asarray(labels)
    transform = BoxCox(power, shift=0.5)
    back = transform.inverse(transform.forward(labels))
    assert back == pytest.approx(labels, rel=1e-9)
    tensor = torch.from_numpy(labels)[:, None]
    moved = transform.forward(tensor)
    assert moved.shape == tensor.shape
    assert moved.numpy()[:, 0] == pytest.approx(transform.forward(labels), rel=1e-12)
    assert transform.inverse(moved).numpy()[:, 0] == pytest.approx(labels, rel=1e-9)


@given(st.floats(0.01, 100), st.sampled_from([-2.0, -0.5, 0.0, 0.3, 1.0, 2.0]))
def test_both_directions_equal_the_loop(label, power):
    transform = BoxCox(power, shift=0.5)
    value = loops.forward(label, power, 0.5)
    assert float(transform.forward(label)) == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert float(transform.inverse(value)) == pytest.approx(loops.inverse(value, power, 0.5), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("name", TARGETS)
@given(st.lists(st.integers(-50, 1000), min_size=2, max_size=40, unique=True))
def test_a_fit_takes_its_own_labels_there_and_back(name, labels):
    transform = TARGETS[name].fit(labels)
    moved = transform.forward(labels)
    assert np.isfinite(moved).all()
    assert (np.argsort(moved) == np.argsort(labels)).all()
    assert transform.inverse(moved) == pytest.approx(labels, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.5])
def test_the_fit_finds_the_power_that_made_the_labels(power):
    normal = np.random.default_rng(0).normal(size=4000)
    base = normal if power == 0 else np.maximum(1 + power * 0.15 * normal / abs(power), 0.05)
    labels = 30 * (np.exp(0.5 * base) if power == 0 else base ** (1 / power))
    fitted = BoxCox.fit(labels)
    assert fitted.power == pytest.approx(power, abs=0.25)
    assert fitted.shift == 0
    best = loops.log_likelihood(labels, fitted.power)
    for other in (fitted.power - 0.05, fitted.power + 0.05):
        assert loops.log_likelihood(labels, other) < best


def test_the_unit_of_the_label_does_not_change_the_power():
    labels = np.random.default_rng(0).lognormal(size=500)
    powers_found = [BoxCox.fit(factor * labels).power for factor in (1e-6, 1.0, 1e9)]
    assert powers_found == pytest.approx([powers_found[0]] * 3, abs=1e-4)


def test_labels_at_or_below_zero_are_shifted_by_their_typical_gap():
    assert LogTarget.fit([1, 5, 9]).shift == 0
    assert LogTarget.fit([0, 1, 2, 3, 50]) == LogTarget(shift=1.0)
    assert LogTarget.fit([-30, -20, -10]).shift == 40
    assert LogTarget.fit([0.0, 0.001, 0.002, 0.1]).shift == pytest.approx(0.001)
    assert LogTarget.fit([0, 0]).shift == 1
    assert float(LogTarget.fit([0, 1, 2]).forward(0)) == 0


def test_predictions_no_label_has_come_back_to_the_nearest():
    assert float(BoxCox(0.5, shift=1.0).inverse(-100.0)) == -1.0
    assert BoxCox(0.5, shift=1.0).inverse(torch.tensor(-100.0)).item() == -1.0
    skewed = BoxCox.fit(1 / np.random.default_rng(0).uniform(0.1, 1, 500))
    assert skewed.power < 0
    assert skewed.ceiling == pytest.approx(20, rel=0.1)
    assert [float(skewed.inverse(1e6)), skewed.inverse(torch.tensor(1e6)).item()] == pytest.approx([skewed.ceiling] * 2)
    assert LogTarget().inverse(np.array([np.nan, 1.0]))[1] == pytest.approx(math.e)


def test_gradients_pass_and_half_precision_widens():
    labels = torch.tensor([1.0, 2.0], requires_grad=True)
    BoxCox(0.5).inverse(BoxCox(0.5).forward(labels)).sum().backward()
    assert labels.grad.tolist() == pytest.approx([1, 1])
    assert LogTarget().forward(labels.bfloat16()).dtype == LogTarget().inverse(labels.half()).dtype == torch.float32


def test_constants_are_the_mean_and_the_median():
    assert constant_baseline([1, 2, 9]) == 4
    assert constant_baseline(torch.tensor([[1.0], [2], [9]]), "median") == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: constant_baseline([1], "mode"), "kind: .*'mode'"),
        (lambda: constant_baseline([]), "train_labels"),
        (lambda: BoxCox.fit([3, 3]), "two different"),
        (lambda: BoxCox.fit([1, float("nan")]), "NaN"),
        (lambda: BoxCox(float("nan")), "power"),
        (lambda: BoxCox(1.0, float("inf")), "shift"),
        (lambda: BoxCox(1.0, ceiling=0), "ceiling"),
        (lambda: LogTarget().forward([1.0, -2.0]), "LogTarget: labels: expected labels above 0, found -2"),
        (lambda: LogTarget(shift=3.0).forward(torch.tensor([-3.0])), "above -3, found -3"),
        (lambda: LogTarget().forward(float("nan")), "found nan"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- counts in the place of labels, and the unit that a model learns in ----------------------------------------------------


def test_counted_labels_are_those_labels_so_many_times():
    labels, counts = np.array([1.0, 2.0, 5.0, 30.0, 7.0]), np.array([3, 1, 4, 2, 0])
    listed = np.repeat(labels, counts)
    assert BoxCox.fit(labels, counts).power == pytest.approx(BoxCox.fit(listed).power, abs=1e-4)
    assert BoxCox.fit(labels, counts).ceiling == BoxCox.fit(listed).ceiling
    assert LogTarget.fit([-1.0, 0.0, 4.0], [1, 1, 0]) == LogTarget.fit([-1.0, 0.0])
    for kind in ("mean", "median"):
        for number in (counts, np.array([2, 1, 1, 0, 0]), np.array([2, 0, 2, 0, 0])):
            listed = np.repeat(labels, number)
            assert constant_baseline(labels, kind, number) == pytest.approx(constant_baseline(listed, kind))
    with pytest.raises(ValueError, match="counts: expected 2 finite counts"):
        constant_baseline([1, 2], "mean", [0, 0])


@pytest.mark.parametrize("kind", TARGETS)
@given(seed=st.integers(0, 200), scale=st.sampled_from([1e-3, 1.0, 1e4]), move=st.sampled_from([0.0, -3.0]))
def test_a_unit_keeps_mean_and_deviation_and_brings_labels_back(kind, seed, scale, move):
    labels = scale * (np.random.default_rng(seed).lognormal(0, 1, 50) + move)
    unit = TargetUnit.fit(kind, labels)
    column = torch.tensor(labels)[:, None]
    learnt = unit(column)
    assert learnt.mean().item() == pytest.approx(labels.mean(), rel=1e-6, abs=1e-6 * scale)
    assert learnt.std(correction=0).item() == pytest.approx(labels.std(), rel=1e-6)
    np.testing.assert_allclose(unit.inverse(learnt).numpy()[:, 0], labels, rtol=1e-6, atol=1e-6 * scale)
    assert (np.diff(learnt.numpy()[np.argsort(labels), 0]) >= 0).all()


def test_a_unit_has_a_highest_prediction_takes_unknown_depths_and_lies_in_the_state():
    unit = TargetUnit.fit("log", [0.5, 1.0, 8.0])
    assert unit.inverse(torch.tensor(1e9)).item() == 16
    assert torch.isfinite(unit(torch.zeros(2))).all()
    other = TargetUnit()
    other.load_state_dict(unit.half().state_dict())
    values = torch.linspace(-3, 3, 7)
    assert torch.equal(other.inverse(values), unit.inverse(values))
    assert torch.equal(other(values.exp()), unit(values.exp()))
    for kind in TARGETS:
        with pytest.raises(ValueError, match="labels: expected at least two different ones to transform, found only 3"):
            TargetUnit.fit(kind, [3, 3])
    with pytest.raises(ValueError, match="kind: expected one of log, boxcox, found 'sqrt'"):
        TargetUnit.fit("sqrt", [1, 2])
