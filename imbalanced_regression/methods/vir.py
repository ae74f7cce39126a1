"""The head of VIR: it predicts a normal-inverse-gamma, and a sample's evidence counts by how rare its label is.

The one idea: the network states pseudo-observations (a value, how many of them, their spread), and re-weighting scales
their number, so rare labels are fitted by sharper distributions. Left out are VIR's encoder with two outputs and its decoder.
Source: VIR (NeurIPS 2023, arXiv 2306.06599, section 3.3); the likelihood and the evidence term are those of deep evidential
regression (NeurIPS 2020).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .likelihood import PredictiveHead, row_weights, wide
from .rows import label_rows

_SOFTNESS = 0.1  # of softplus; at 0 it gives 6.9
_LEAST_COUNT, _PRIOR_ALPHA, _EVIDENCE = 2.0, 0.3, 0.01
_LEAST_WEIGHT = 1e-6  # no evidence at all has no density


class NIG(PredictiveHead):
    """Outputs (B, 3): x in the unit of the label, then n and Omega before their softplus. `nig_loss` is its loss.

    The convention and the arguments `center` and `scale` are those of `PredictiveHead`: x = center + scale * raw, and beta
    is scale^2 * Omega. The point is x. The spread is the root of `nig_variance` at weight 1; there alpha > 1.3, so it is
    always finite. It is judged as published, by the Gaussian of that spread.

    Args:
        feature_dim: D.
        center, scale: see `PredictiveHead`.
        floor: the least Omega, above 0; without one the likelihood of a fitted sample has no bound.
        predictive: whether the spread is that of a label, whose intervals hold as many labels as they should, instead of
            the published one, which is that of the mean of the label and sqrt(1 + nu) times smaller.

    Raises:
        ValueError: a size, scale or floor out of range.
    """

    def __init__(
        self, feature_dim: int, center: float = 0.0, scale: float = 1.0, floor: float = 1e-6, *, predictive: bool = False
    ):
        _check_floor(floor)
        super().__init__(feature_dim, 3, center, scale)
        self.floor, self.predictive = float(floor), predictive

    def spread(self, outputs: Tensor) -> Tensor:
        _, nu, alpha, beta = nig_parameters(self._checked(outputs), scale=self.scale, floor=self.floor)
        return nig_variance(nu, alpha, beta, predictive=self.predictive).sqrt()[:, None]

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None, epoch: int = 0, epochs: int = 1) -> Tensor:
        return nig_loss(self._checked(outputs), targets, weights, scale=self.scale, floor=self.floor)

    def _in_unit(self, raw: Tensor) -> Tensor:
        return torch.cat([self.center + self.scale * raw[:, :1], raw[:, 1:]], dim=1)


def nig_parameters(
    outputs: Tensor, weights: Tensor | None = None, *, scale=1.0, floor: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs (B, 3) of `NIG` and weights w -> gamma, nu, alpha, beta, each (B,).

    gamma = x, nu = n w, alpha = 0.3 + n w / 2, beta = Omega scale^2, with n = softplus + 2 and Omega = softplus + floor, the
    softplus log(1 + exp(0.1 raw)) / 0.1. Weights are (B,) or (B, 1), None for 1 as at test; below 1e-6 they count as that.
    """
    _check_floor(floor)
    if outputs.dim() != 2 or outputs.shape[1] != 3:
        raise ValueError(f"nig_parameters: outputs: expected shape (B, 3), found {tuple(outputs.shape)}")
    x, count, omega = wide(outputs).unbind(1)
    count = functional.softplus(count, beta=_SOFTNESS) + _LEAST_COUNT
    evidence = count * row_weights(weights, x, "nig_parameters").clamp(min=_LEAST_WEIGHT)
    beta = (functional.softplus(omega, beta=_SOFTNESS) + floor) * scale**2
    return x, evidence, _PRIOR_ALPHA + evidence / 2, beta


def nig_loss(outputs: Tensor, targets: Tensor, weights: Tensor | None = None, *, scale=1.0, floor: float = 1e-6) -> Tensor:
    """Mean of `nig_nll` + 0.01 |e| (2 nu + alpha), a scalar; e = x - y, in units of `scale`.

    The weights act through the evidence only and multiply no sample's loss.

    Args:
        outputs: (B, 3) of `NIG`.
        targets: (B,) or (B, 1).
        weights: (B,) or (B, 1), for example `lds_weights(..., reweight="sqrt_inv")`; None for 1.
        scale, floor: as the head's.

    Raises:
        ValueError: shapes that do not fit; NaN or infinite targets or weights, on the CPU.
    """
    gamma, nu, alpha, beta = nig_parameters(outputs, weights, scale=scale, floor=floor)
    targets = label_rows(targets, gamma, "nig_loss")
    error = (targets - gamma).abs() / scale
    return (nig_nll(targets, gamma, nu, alpha, beta) + _EVIDENCE * error * (2 * nu + alpha)).mean()


def nig_nll(y, gamma, nu, alpha, beta) -> Tensor:
    """-log p(y) per sample of the predictive Student-t: 2 alpha degrees of freedom, location gamma, and
    scale^2 = beta (1 + nu) / (nu alpha).

    Args:
        y, gamma: any shape (...), in the unit of the label.
        nu, alpha: the same shape, above 0.
        beta: the same shape, above 0, in the square of the unit.

    Each may also be a single number. Returns (...), float64 where no tensor is given.

    Raises:
        ValueError: shapes that differ.
    """
    given = [_as_tensor(value) for value in (y, gamma, nu, alpha, beta)]
    shapes = {tuple(value.shape) for value in given if value.dim()}
    if len(shapes) > 1:
        raise ValueError(f"nig_nll: expected all arguments of one shape, found {sorted(shapes)}")
    y, gamma, nu, alpha, beta = (wide(value) for value in given)
    width = 2 * beta * (1 + nu)
    # a log(width + nu e^2) - a log(width) loses all digits where alpha is large
    surprise = (nu * (y - gamma).square() / width).log1p()
    return 0.5 * (math.log(math.pi) - nu.log()) + (alpha + 0.5) * surprise + 0.5 * width.log() - _half_step_of_lgamma(alpha)


def nig_variance(nu: Tensor, alpha: Tensor, beta: Tensor, *, predictive: bool = False) -> Tensor:
    """The published variance beta / ((alpha - 1) nu), of the mean of the label, where alpha > 1; any one shape.

    `predictive` gives (1 + nu) times as much: the variance of the label, which is that of the Student-t of `nig_nll`.
    Infinite where 1/2 < alpha <= 1, and NaN below, where the distribution has no mean either.
    """
    finite = alpha > 1
    variance = beta / (torch.where(finite, alpha - 1, 1) * nu) * (1 + nu if predictive else 1)
    return torch.where(finite, variance, torch.where(alpha > 0.5, math.inf, math.nan))


def _as_tensor(value) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)  # a single one widens no tensor


def _half_step_of_lgamma(alpha: Tensor) -> Tensor:
    """log Gamma(alpha + 1/2) - log Gamma(alpha); from 8 on by its asymptotic series, where the two cancel in float32."""
    large = alpha > 8
    near = torch.where(large, 8.0, alpha)
    inverse = 1 / torch.where(large, alpha, 8.0)
    square = inverse.square()
    series = -0.5 * inverse.log() - inverse * (1 / 8 - square * (1 / 192 - square * (1 / 640 - square * (17 / 14336))))
    return torch.where(large, series, torch.lgamma(near + 0.5) - torch.lgamma(near))


def _check_floor(floor: float) -> None:
    if not 0 < floor < math.inf:
        raise ValueError(f"floor: expected a finite number above 0, for example 1e-6, found {floor}")
