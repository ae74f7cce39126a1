"""Likelihood heads: a head that predicts a distribution, with its point, its spread and its loss; Gaussian and Laplace.

The one idea: the head owns the meaning of its outputs, so a loop passes them on and never takes them apart. The two
heads here are the baselines of those in uvote.py and vir.py. Source: ICNN 1994 for the likelihood of a mean and a variance,
NeurIPS 2017 for its logarithm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .rows import beside, feature_rows, label_rows

LOG_SCALE = (-5.0, 5.0)  # bounds of a predicted log scale, of labels that have been standardised


class PredictiveHead(nn.Linear):
    """One linear layer whose outputs describe a distribution over the label; the base of all such heads.

    The convention of every one of them, with B batch, D features, P numbers per sample:

    - `head(features)`: (B, D) -> outputs (B, P), in float32 also under autocast;
    - `head.point(outputs)`: (B, 1), the prediction;
    - `head.spread(outputs)`: (B, 1), the standard deviation of the predicted distribution;
    - `head.distribution`: the kind by which that spread is judged, "gaussian" or "laplace";
    - `head.loss(outputs, targets, weights, epoch, epochs)`: a scalar; targets (B,) or (B, 1), weights the same, or (B, M)
      for a head that takes M, or None; `epoch` counts from 0 and of `epochs` there are as many as the run has.

    Point and spread are in the unit of the label. With `center` and `scale`, such as the mean and the standard deviation
    of the training labels, the layer itself works on (label - center) / scale, where its initial outputs and the bounds
    of a log scale fit; labels of any unit then train alike. The defaults 0 and 1 are the published behaviour.

    Args:
        feature_dim: D.
        outputs: P.
        center, scale: in the unit of the label, scale above 0; they are part of the state.

    Raises:
        ValueError: a size below 1, a scale not above 0, values that are not finite.
    """

    distribution = "gaussian"
    center: Tensor
    scale: Tensor

    def __init__(self, feature_dim: int, outputs: int, center: float = 0.0, scale: float = 1.0):
        for name, size in (("feature_dim", feature_dim), ("outputs", outputs)):
            if not (isinstance(size, int) and size >= 1):
                raise ValueError(f"{name}: expected a whole number of at least 1, found {size!r}")
        if not math.isfinite(center):
            raise ValueError(f"center: expected a finite number, for example the mean of the labels, found {center}")
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale: expected a finite number above 0, for example the labels' deviation, found {scale}")
        super().__init__(feature_dim, outputs)
        self.register_buffer("center", torch.tensor(float(center)))
        self.register_buffer("scale", torch.tensor(float(scale)))

    def reset_parameters(self) -> None:
        """Weights from N(0, 0.01^2) and no bias, so that at first all samples get nearly the same distribution."""
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Outputs (B, P) of features (B, D). Raises ValueError for another shape; for NaN or infinity, on the CPU."""
        features = feature_rows(features, type(self).__name__)
        if features.shape[1] != self.in_features:
            raise ValueError(
                f"{type(self).__name__}: features: expected {self.in_features} columns, found {features.shape[1]}; "
                "feature_dim is the width of the encoder"
            )
        with torch.autocast(features.device.type, enabled=False):
            kind = features.dtype
            return self._in_unit(functional.linear(features, self.weight.to(kind), self.bias.to(kind)))

    def point(self, outputs: Tensor) -> Tensor:
        """The prediction (B, 1) of outputs (B, P), in the unit of the label."""
        return self._checked(outputs)[:, :1]

    def spread(self, outputs: Tensor) -> Tensor:
        """The predicted standard deviation (B, 1) of outputs (B, P), in the unit of the label."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None, epoch: int = 0, epochs: int = 1) -> Tensor:
        """The mean loss of outputs (B, P), a scalar; see the class for the other arguments."""
        raise NotImplementedError

    def _in_unit(self, raw: Tensor) -> Tensor:
        """The layer's (B, P) as outputs: a location in column 0 and a log scale in column 1, in the unit of the label."""
        return torch.cat([self.center + self.scale * raw[:, :1], raw[:, 1:] + self.scale.log()], dim=1)

    def _checked(self, outputs: Tensor) -> Tensor:
        if outputs.dim() != 2 or outputs.shape[1] != self.out_features or len(outputs) == 0:
            raise ValueError(
                f"{type(self).__name__}: outputs: expected shape (B, {self.out_features}), found {tuple(outputs.shape)}"
            )
        return wide(outputs)


class GaussianHead(PredictiveHead):
    """Outputs (B, 2): the mean and the log of the standard deviation. `gaussian_loss` is its loss.

    The convention and the arguments `center` and `scale` are those of `PredictiveHead`.
    """

    def __init__(self, feature_dim: int, center: float = 0.0, scale: float = 1.0):
        super().__init__(feature_dim, 2, center, scale)

    def spread(self, outputs: Tensor) -> Tensor:
        return bounded_scale(self._checked(outputs)[:, 1:], self.scale)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None, epoch: int = 0, epochs: int = 1) -> Tensor:
        mu, log_sigma = self._checked(outputs).unbind(1)
        return gaussian_loss(mu, log_sigma, targets, weights, scale=self.scale)


class LaplaceHead(PredictiveHead):
    """Outputs (B, 2): the median and the log of the scale b, whose standard deviation is sqrt(2) b. Loss: `laplace_nll`.

    The convention and the arguments `center` and `scale` are those of `PredictiveHead`.
    """

    distribution = "laplace"

    def __init__(self, feature_dim: int, center: float = 0.0, scale: float = 1.0):
        super().__init__(feature_dim, 2, center, scale)

    def spread(self, outputs: Tensor) -> Tensor:
        return math.sqrt(2) * bounded_scale(self._checked(outputs)[:, 1:], self.scale)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None, epoch: int = 0, epochs: int = 1) -> Tensor:
        mu, log_b = self._checked(outputs).unbind(1)
        return laplace_nll(mu, log_b, targets, weights, scale=self.scale)


HEADS = {"gaussian": GaussianHead, "laplace": LaplaceHead}


def gaussian_loss(mu: Tensor, log_sigma: Tensor, targets: Tensor, weights: Tensor | None = None, *, scale=1.0) -> Tensor:
    """Mean of w [ (y - mu)^2 / (2 s^2) + log s + log(2 pi) / 2 ], a scalar that may be below 0.

    Shapes, `scale`, bounds and errors are those of `laplace_nll`, with s = exp(log_sigma) in the place of b.
    """
    mu, sigma, targets, weights = _rows(mu, log_sigma, targets, weights, scale, "gaussian_loss")
    return (weights * (((targets - mu) / sigma).square() / 2 + sigma.log() + math.log(2 * math.pi) / 2)).mean()


def laplace_nll(mu: Tensor, log_b: Tensor, targets: Tensor, weights: Tensor | None = None, *, scale=1.0) -> Tensor:
    """Mean of w [ |y - mu| / b + log(2 b) ], a scalar that may be below 0; b = exp(log b) + 1e-10.

    log b is clamped to [-5, 5] and has no gradient beyond; with `scale` these bounds are those of log(b / scale).

    Args:
        mu, log_b: (B,) or (B, 1), in the unit of the label.
        targets: (B,) or (B, 1); a tensor, an array or a list.
        weights: likewise, or None.
        scale: a number or a tensor of one, above 0, in the unit of the label.

    Raises:
        ValueError: shapes that do not fit; NaN or infinite targets or weights, on the CPU.
    """
    mu, b, targets, weights = _rows(mu, log_b, targets, weights, scale, "laplace_nll")
    return (weights * ((targets - mu).abs() / b + (2 * b).log())).mean()


def bounded_scale(log_scale: Tensor, scale) -> Tensor:
    """The scale, at least 1e-10, of its predicted logarithm: of any shape, clamped to [-5, 5] in units of `scale`."""
    log_unit = scale.log() if isinstance(scale, Tensor) else math.log(scale)
    return ((log_scale - log_unit).clamp(*LOG_SCALE).exp() + 1e-10) * scale


def wide(values: Tensor) -> Tensor:
    """float32, or float64 as it is: half precision holds neither a label nor its error."""
    return values if values.dtype == torch.float64 else values.float()


def column(values: Tensor, method: str, name: str) -> Tensor:
    """Predicted (B,) or (B, 1) -> (B,), at least one row. NaN passes, so that a loss scaler can see and skip the step."""
    if values.dim() not in (1, 2) or len(values) == 0 or values.shape not in ((len(values),), (len(values), 1)):
        raise ValueError(f"{method}: {name}: expected shape (B,) or (B, 1), found {tuple(values.shape)}")
    return wide(values.reshape(-1))


def row_weights(weights: Tensor | None, like: Tensor, method: str) -> Tensor:
    """Weights (B,) for rows `like` (B,): those given, or ones."""
    if weights is None:
        return torch.ones_like(like)
    return label_rows(beside(weights, like, "weights").to(like.device), like, method, "weights")


def _rows(mu: Tensor, log_scale: Tensor, targets: Tensor, weights: Tensor | None, scale, method: str) -> tuple[Tensor, ...]:
    """Everything as (B,): locations, scales, targets, weights."""
    mu, log_scale = column(mu, method, "mu"), column(log_scale, method, "log scale")
    if len(log_scale) != len(mu):
        raise ValueError(f"{method}: log scale: expected {len(mu)} rows as in mu, found {len(log_scale)}")
    targets = label_rows(targets, mu, method)
    return mu, bounded_scale(log_scale, scale), targets, row_weights(weights, mu, method)
