"""Target transforms and constants: the cheap baselines that any method for imbalanced labels should beat.

The one idea: a skewed label often needs no method, only its logarithm; a transform learns from the training labels, the
model predicts in its unit, and predictions come back before any metric sees them.
Source: Box and Cox (JRSS B, 1964).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

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
    def fit(cls, labels, counts=None) -> BoxCox:
        """The power of most likelihood in [-2, 2] for training labels (N,) or (N, 1), each there `counts` (N,) times.

        Labels that are all above 0 need no shift. Others are shifted so that the least becomes the median gap of
        neighbouring distinct labels: 1 for whole labels, so that counts from 0 give y + 1. With a power below 0 the
        ceiling is twice the largest shifted label.

        Raises ValueError for labels that are not finite, or all equal.
        """
        from scipy.optimize import minimize_scalar

        labels, counts = _counted(labels, counts)
        if np.ptp(labels) == 0:
            raise ValueError(f"BoxCox: labels: expected at least two different ones, found only {labels[0]:g}")
        shift = _shift(labels)
        logs = np.log(labels + shift)
        logs -= _moments(logs, counts)[0]  # in units of the geometric mean, powers of large labels do not overflow

        def surprise(power: float) -> float:
            return math.log(_moments(_power(logs, power), counts)[1])  # the Jacobian is 1 in this unit

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
    def fit(cls, labels, counts=None) -> LogTarget:
        """The shift of `BoxCox.fit`: 0 for training labels above 0, otherwise so that the least becomes a typical gap."""
        return cls(shift=_shift(_counted(labels, counts)[0]))


class TargetUnit(nn.Module):
    """The unit in which a model learns: a transform of the label, so placed that training labels keep mean and deviation.

    Heads, learning rates and constants of losses that suit the labels therefore suit their transform. Predictions come back
    to the label's unit by `inverse`. The numbers are part of the state, so a checkpoint needs no labels.

    Args:
        transform: labels -> t and back.
        offset, factor: u = offset + factor t is what the model learns.
        floor: y + shift is at least this on the way in, as under unknown pixels of depth 0.
    """

    def __init__(self, transform: BoxCox | None = None, offset: float = 0.0, factor: float = 1.0, floor: float = 0.0):
        super().__init__()
        self.transform = BoxCox(1.0) if transform is None else transform
        self.offset, self.factor, self.floor = float(offset), float(factor), float(floor)

    @classmethod
    def fit(cls, kind: str, labels, counts=None) -> TargetUnit:
        """The unit for training labels (N,) or (N, 1), each there `counts` (N,) times; `kind` is one of `TARGETS`.

        A prediction is at most twice the largest shifted label, as a line that goes on would soon be beyond all labels.

        Raises ValueError for another kind, and for labels that are not finite, or all equal.
        """
        if kind not in TARGETS:
            raise ValueError(f"kind: expected one of {', '.join(TARGETS)}, found {kind!r}")
        labels, counts = _counted(labels, counts)
        if np.ptp(labels) == 0:
            raise ValueError(f"labels: expected at least two different ones to transform, found only {labels[0]:g}")
        fitted = TARGETS[kind].fit(labels, counts)
        mean, deviation = _moments(labels, counts)
        at, wide = _moments(fitted.forward(labels), counts)
        factor = deviation / wide
        transform = BoxCox(fitted.power, fitted.shift, 2 * float(labels.max() + fitted.shift))
        return cls(transform, mean - factor * at, factor, float(labels.min() + fitted.shift) / 2)

    def extra_repr(self) -> str:
        return f"{self.transform}, offset={self.offset:g}, factor={self.factor:g}"

    def get_extra_state(self) -> Tensor:
        """A tensor, as checkpoints of models are read as tensors; of float64, whatever the model is cast to."""
        one = self.transform
        return torch.tensor([one.power, one.shift, one.ceiling, self.offset, self.factor, self.floor], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        power, shift, ceiling, self.offset, self.factor, self.floor = state.tolist()
        self.transform = BoxCox(power, shift, ceiling)

    def forward(self, labels: Tensor) -> Tensor:
        """Labels (...) -> what the model learns (...). Raises ValueError for NaN, on the CPU."""
        return self.offset + self.factor * self.transform.forward(labels.clamp(min=self.floor - self.transform.shift))

    def inverse(self, outputs: Tensor) -> Tensor:
        """Outputs of the model (...) -> predictions (...) in the label's unit."""
        return self.transform.inverse((outputs - self.offset) / self.factor)


def constant_baseline(train_labels, kind: str = "mean", counts=None) -> float:
    """The best prediction without any input: the mean (least squares) or the median (least absolute error), in their unit.

    With `counts` (N,) each label is there so many times. Raises ValueError for another kind, and for labels that are not
    finite.
    """
    if kind not in CONSTANTS:
        raise ValueError(f"kind: expected one of {', '.join(CONSTANTS)}, found {kind!r}")
    labels, counts = _counted(train_labels, counts, "train_labels")
    if counts is None:
        return float(CONSTANTS[kind](labels))
    if kind == "mean":
        return _moments(labels, counts)[0]
    order = np.argsort(labels)
    reached = np.cumsum(counts[order])
    middle = np.searchsorted(reached, [reached[-1] / 2, np.nextafter(reached[-1] / 2, np.inf)])
    return float(labels[order][middle].mean())


CONSTANTS: dict[str, Callable] = {"mean": np.mean, "median": np.median}
TARGETS = {"log": LogTarget, "boxcox": BoxCox}


def _counted(labels, counts, name: str = "labels") -> tuple[np.ndarray, np.ndarray | None]:
    """Labels (N,) and their counts (N,) float64, without labels that are there 0 times."""
    labels = as_labels(labels, name)
    if counts is None:
        return labels, None
    counts = np.asarray(counts, dtype=np.float64).reshape(-1)
    if counts.shape != labels.shape or not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise ValueError(f"counts: expected {len(labels)} finite counts of at least 0, not all 0, found shape {counts.shape}")
    return labels[counts > 0], counts[counts > 0]


def _moments(values: np.ndarray, counts: np.ndarray | None) -> tuple[float, float]:
    """Mean and standard deviation."""
    mean = np.average(values, weights=counts)
    return float(mean), float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))


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
