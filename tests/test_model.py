"""ScaledLinear: a head in the unit of the label, whose state, precision and training fit what users have."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from imbalanced_regression import ScaledLinear


def test_it_predicts_center_plus_scale_times_a_plain_layer():
    head, plain, x = ScaledLinear(5, center=400_000, scale=150_000), nn.Linear(5, 1), torch.randn(7, 5)
    plain.load_state_dict(head.state_dict())  # the keys of a plain layer, and no others
    torch.testing.assert_close(head(x), 400_000 + 150_000 * plain(x))
    assert (ScaledLinear(3)(torch.zeros(2, 3)).shape) == (2, 1)
    assert "scale=150000" in repr(head)


def test_a_published_state_loads_and_the_scale_read_off_labels_travels_with_the_state():
    ScaledLinear(5, scale=5).load_state_dict({"weight": torch.zeros(1, 5), "bias": torch.zeros(1)}, strict=True)
    labels, x = 1e6 + 1e5 * torch.randn(200, dtype=torch.float64), torch.randn(3, 5)
    one, other = ScaledLinear.of(5, labels), ScaledLinear.of(5, [1.0, 2, 3])
    torch.testing.assert_close(one.center.double(), labels.mean(), rtol=1e-6, atol=0)
    torch.testing.assert_close(one.scale.double(), labels.std(correction=0), rtol=1e-6, atol=0)
    other.load_state_dict(one.state_dict(), strict=True)
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_cast_model_keeps_center_and_scale(kind):
    head, x = ScaledLinear(4, center=400_000, scale=1000), torch.randn(3, 4)
    expected = head.double()(x.double())
    out = head.to(kind)(x.to(kind))
    assert out.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.float()(x).dtype == torch.float32


def test_equal_labels_scale_by_one_and_a_new_start_keeps_the_unit():
    head = ScaledLinear.of(4, [7.0, 7, 7])
    assert (head.center, head.scale) == (7, 1)
    head.reset_parameters()
    assert head.center == 7


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"scale": 0}, "scale: .*found 0"), ({"scale": -1}, "scale: .*found -1"),
        ({"scale": float("nan")}, "scale: .*found nan"),
        ({"center": float("inf")}, "center: .*found inf"),
    ],
)
def test_a_scale_that_is_none_is_named(how, named):
    with pytest.raises(ValueError, match=named):
        ScaledLinear(4, **how)
    with pytest.raises(ValueError, match="labels: 1 of 2 are NaN"):
        ScaledLinear.of(4, [1.0, float("nan")])
