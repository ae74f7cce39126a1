"""Target transforms and constants: the cheap baselines that any method for imbalanced labels should beat.

The one idea: a skewed label often needs no method, only its logarithm; a transform learns from the training labels, the
model predicts in its unit, and predictions come back before any metric sees them.
Source: Box and Cox, "An Analysis of Transformations" (JRSS B, 1964).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..bins import as_labels

_POWERS = (-2.0, 2.0)  # where a fit looks


@dataclass(frozen=True)
class BoxCox:
    """t = ((y + shift)^power - 1) / power, and log(y + shift) at power 0: from labels to the model's unit and back.

    Args:
        power: lambda of the paper; 1 leaves the shape as it is, 0 is the logarithm.
        shift: added to labels first, in their unit.
        ceiling: y + shift is at most this when a prediction comes back. With a power below 0 t has an upper bound, beyond
            which no label lies; a prediction there gives the ceiling.

    Raises:
        ValueError: a power or shift that is not finite, a ceiling not above 0.
    """

    power: float
    shift: float = 0.0
    ceiling: float = math.inf

    def __post_init__(self):
        for name in ("power", "shift"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}: expected a finite number, found {getattr(self, name)}")
        if not self.ceiling > 0:
            raise ValueError(f"ceiling: expected a number above 0, found {self.ceiling}")

    @classmethod
    def fit(cls, labels) -> BoxCox:
        """The power of most likelihood in [-2, 2] for training labels (N,) or (N, 1).

        Labels that are all above 0 need no shift. Others are shifted so that the least becomes the median gap of
        neighbouring distinct labels: 1 for whole labels, so that counts from 0 give y + 1. With a power below 0 the
        ceiling is twice the largest shifted label.

        Raises ValueError for labels that are not finite, or all equal.
        """
        from scipy.optimize import minimize_scalar

        labels = as_labels(labels)
        if np.ptp(labels) == 0:
            raise ValueError(f"BoxCox: labels: expected at least two different ones, found only {labels[0]:g}")
        shift = _shift(labels)
        logs = np.log(labels + shift)
        logs -= logs.mean()  # in units of the geometric mean, powers of large labels do not overflow

        def surprise(power: float) -> float:
            return math.log(np.std(_power(logs, power)))  # the Jacobian is 1 in this unit

        power = float(minimize_scalar(surprise, bounds=_POWERS, method="bounded").x)
        return cls(power, shift, 2 * float(labels.max() + shift) if power < 0 else math.inf)

    def forward(self, labels):
        """Labels -> t: an array or a tensor of any shape, a list or a number; the kind and the shape stay.

        Half precision becomes float32. Raises ValueError for labels at or below -shift; on an accelerator, where to look
        would be to wait, they become NaN.
        """
        shifted = (_wide(labels) if isinstance(labels, Tensor) else np.asarray(labels, dtype=np.float64)) + self.shift
        if not (isinstance(shifted, Tensor) and shifted.device.type != "cpu"):
            bad = ~(shifted > 0)
            if bad.any():
                found = float(shifted[bad][0]) - self.shift
                raise ValueError(
                    f"{type(self).__name__}: labels: expected labels above {0 - self.shift:g}, found {found:g}; "
                    "fit on labels that reach as low, or pass a larger shift"
                )
        return _power(shifted.log() if isinstance(shifted, Tensor) else np.log(shifted), self.power)

    def inverse(self, values):
        """t -> labels, the inverse of `forward`; the kind and the shape stay, half precision becomes float32.

        A t that no label has, as a model may predict, gives the nearest label: -shift, or the ceiling.
        """
        if isinstance(values, Tensor):
            values = _wide(values)
            logs = values if self.power == 0 else (self.power * values).clamp(min=-1).log1p() / self.power
            return logs.exp().clamp(max=self.ceiling) - self.shift
        values = np.asarray(values, dtype=np.float64)
        with np.errstate(divide="ignore", over="ignore"):  # the bounds have infinite logarithms
            logs = values if self.power == 0 else np.log1p(np.maximum(self.power * values, -1)) / self.power
            return np.minimum(np.exp(logs), self.ceiling) - self.shift


@dataclass(frozen=True)
class LogTarget(BoxCox):
    """t = log(y + shift): `BoxCox` at power 0.

    Raises ValueError for a shift that is not finite.
    """

    power: float = 0.0

    @classmethod
    def fit(cls, labels) -> LogTarget:
        """The shift of `BoxCox.fit`: 0 for training labels above 0, otherwise so that the least becomes a typical gap."""
        return cls(shift=_shift(as_labels(labels)))


def constant_baseline(train_labels, kind: str = "mean") -> float:
    """The best prediction without any input: the mean (least squares) or the median (least absolute error), in their unit.

    Raises ValueError for another kind, and for labels that are not finite.
    """
    if kind not in CONSTANTS:
        raise ValueError(f"kind: expected one of {', '.join(CONSTANTS)}, found {kind!r}")
    return float(CONSTANTS[kind](as_labels(train_labels, "train_labels")))


CONSTANTS: dict[str, Callable] = {"mean": np.mean, "median": np.median}
TARGETS = {"log": LogTarget, "boxcox": BoxCox}


def _shift(labels: np.ndarray) -> float:
    least = float(labels.min())
    if least > 0:
        return 0.0
    gaps = np.diff(np.unique(labels))
    return (float(np.median(gaps)) if len(gaps) else 1.0) - least


def _power(logs, power: float):
    """(e^(power logs) - 1) / power, exact as well for a power near 0."""
    if power == 0:
        return logs
    return (torch.expm1(power * logs) if isinstance(logs, Tensor) else np.expm1(power * logs)) / power


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
