"""Balanced MSE: BMC, GAI and BNI, losses under which a network learns the prediction for evenly spread labels.

The one idea: turn the balanced prediction into the one for the training labels inside the loss, by multiplying with the
training density and dividing by its integral; the three differ in how they know that density: the batch (BMC), a
Gaussian mixture (GAI), a histogram (BNI). Source: Balanced MSE (CVPR 2022, arXiv 2203.16427, section 3).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..bins import Bins, check_bins
from .lds import effective_density
from .losses import broadcast_onto
from .mixture import fit_mixture
from .rows import same_rows

NOISES = ("gaussian", "laplace")

_MOST_CELLS = 1 << 22  # rows x components held at a time: 16 MiB as float32


class _BalancedLoss(nn.Module):
    """The noise scale sigma, fixed or learnt, and the checks and the mean that the three losses share."""

    def __init__(self, sigma: float, learn: bool, lr: float, noise: str):
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma: expected a finite number above 0, in the unit of the label, found {sigma}")
        if not 0 < lr < math.inf:
            raise ValueError(f"lr: expected a finite number above 0, for example 0.01, found {lr}")
        if noise not in NOISES:
            raise ValueError(f"noise: expected one of {', '.join(NOISES)}, found {noise!r}")
        self.learn, self.lr, self.noise = bool(learn), float(lr), noise
        self._fixed = float(sigma)
        if learn:  # its logarithm, so that no step makes it negative
            self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))

    @property
    def sigma(self) -> Tensor | float:
        """The noise scale, in the unit of the label: a float, or a tensor () with a gradient where it is learnt."""
        return self.log_sigma.exp() if self.learn else self._fixed

    def parameter_groups(self) -> list[dict]:
        """What an optimizer is to be given: sigma with its own learning rate, or nothing where it is fixed."""
        return [{"params": [self.log_sigma], "lr": self.lr, "weight_decay": 0.0}] if self.learn else []

    def extra_repr(self) -> str:
        return f"sigma={float(self.sigma):g}, learn={self.learn}, noise={self.noise}"

    def _variance(self, like: Tensor) -> Tensor:
        """sigma^2 as () of the type of `like`; 2 sigma^2 is the unit of squares."""
        if self.learn:
            return self.log_sigma.exp().to(like).square()
        return like.new_full((), self._fixed**2)  # filled on the device: a copy from here would wait for it

    def _cost(self, difference: Tensor) -> Tensor:
        """Minus the log density of the noise without its normaliser: (..., d) -> (...)."""
        if self.noise == "laplace":
            return difference.abs().sum(dim=-1) / self._variance(difference).sqrt()
        return difference.square().sum(dim=-1) / (2 * self._variance(difference))

    def _mean(self, loss: Tensor, weights) -> Tensor:
        """Mean of w l, times 2 sigma^2 (sigma for Laplace noise), so that the gradient has the size of that of MSE (L1).

        The factor has no gradient of its own: otherwise a learnt sigma would shrink to nothing.
        """
        variance = self._variance(loss).detach()
        loss = loss if weights is None else loss * broadcast_onto(weights, loss, "weights")
        return loss.mean() * (variance.sqrt() if self.noise == "laplace" else 2 * variance)


class BMC(_BalancedLoss):
    """Batch-based Monte-Carlo: the labels of the batch stand for the training density.

    L = 2 sigma^2 mean_i w_i (lse_j l_ij - l_ii), l_ij = -|yhat_i - y_j|^2 / (2 sigma^2): a softmax over the labels of the
    batch, so B x B numbers of memory. Wrong together with re-weighting or a balanced sampler, which change the density
    that the batch stands for.

    Args:
        sigma: the noise scale, in the unit of the label, above 0; where the balanced and the plain prediction differ by
            much more than it, the loss is plain.
        learn: make sigma a parameter (`log_sigma`), in the checkpoint and in `parameter_groups()`.
        lr: its learning rate there.
        noise: "gaussian", or "laplace" for the L1 sibling, with |.|_1 / sigma and the factor sigma.

    Raises:
        ValueError: sigma or lr not above 0, an unknown noise.
    """

    whole_batch = True  # its denominator needs the rows of all ranks

    def __init__(self, sigma: float = 1.0, *, learn: bool = False, lr: float = 1e-2, noise: str = "gaussian"):
        super().__init__(sigma, learn, lr, noise)

    def forward(self, outputs: Tensor, targets, weights=None) -> Tensor:
        """The loss: outputs (B,), (B, 1) or (B, d), targets alike ((B,) and (B, 1) are the same) -> a scalar.

        `weights`, (B,) or (B, 1), weigh the rows of the mean. The logits are computed in float32 at least.

        Raises:
            ValueError: fewer than two rows, whose loss would be 0 whatever the outputs; shapes that do not fit.
        """
        outputs, targets = _rows(outputs, targets, "BMC")
        if outputs.shape[0] < 2:
            raise ValueError(f"BMC: expected a batch of at least 2 rows, found {len(outputs)}; drop the last batch or use GAI")
        with torch.autocast(outputs.device.type, enabled=False):
            if outputs.shape[1] == 1:
                costs = self._cost((outputs - targets.T)[..., None])
            elif self.noise == "laplace":
                costs = torch.cdist(outputs, targets, p=1) / self._variance(outputs).sqrt()
            else:  # not through |a|^2 + |b|^2 - 2 ab, which loses the digits of labels far from 0
                apart = torch.cdist(outputs, targets, compute_mode="donot_use_mm_for_euclid_dist")
                costs = apart.square() / (2 * self._variance(outputs))
            return self._mean(-torch.log_softmax(-costs, dim=1).diagonal(), weights)


class GAI(_BalancedLoss):
    """Gaussian-mixture analytical integration: a mixture stands for the training density; the integral is exact.

    L = 2 sigma^2 mean_i w_i [ |e_i|^2 / (2 sigma^2) + d/2 log sigma^2 + lse_k log(f_k N(yhat_i; m_k, V_k + sigma^2 I)) ],
    up to constants. It can be negative. Memory is bounded for any number of pixels.

    Args:
        means: (K,) or (K, d), in the unit of the label.
        variances: (K,), or (K, d, d) covariances.
        probabilities: (K,) non-negative, with sum 1.
        sigma, learn, lr: see `BMC`.

    Raises:
        ValueError: shapes that do not fit, negative variances or probabilities, a sum other than 1; sigma, lr as `BMC`.

    Buffers: `means` (K, d), `variances` (K, d, d), `log_probabilities` (K,).
    """

    means: Tensor
    variances: Tensor
    log_probabilities: Tensor

    def __init__(self, means, variances, probabilities, sigma: float = 1.0, *, learn: bool = False, lr: float = 1e-2):
        super().__init__(sigma, learn, lr, "gaussian")
        means, log_probabilities = _density(means, probabilities, "means")
        variances = np.asarray(variances, dtype=np.float64)
        count, d = means.shape
        if variances.shape == (count,) and d == 1:
            variances = variances[:, None, None]
        if variances.shape != (count, d, d):
            raise ValueError(f"variances: expected shape ({count}, {d}, {d}) for means {means.shape}, found {variances.shape}")
        if not np.isfinite(variances).all() or (np.linalg.eigvalsh(variances) < 0).any():
            raise ValueError("variances: expected finite numbers, none negative (no negative eigenvalue for d > 1)")
        for name, values in (("means", means), ("variances", variances), ("log_probabilities", log_probabilities)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    @classmethod
    def fit(
        cls, labels=None, *, bins: Bins | None = None, counts=None, components: int = 8, seed: int = 0, sigma: float = 1.0,
        learn: bool = False, lr: float = 1e-2,
    ) -> GAI:
        """The loss with a mixture fitted to labels (N,) or (N, d), or to counts (K,) at the centres of bins.

        Args:
            labels: the training labels; or else
            bins, counts: how many labels each bin holds, of any size (3.5 billion pixels over 100 bins).
            components: Gaussians of the mixture; at most as many as there are distinct labels (bins in use).
            seed: of the start of the fit.
            sigma, learn, lr: see `BMC`.

        Raises:
            ValueError: both or neither of labels and counts, labels that are not finite, too many components.
        """
        if (labels is None) == (counts is None) or (bins is None) != (counts is None):
            raise ValueError("labels: expected either labels, or bins and counts")
        if labels is None:
            points, mass = check_bins(bins).centers, _counts(bins, counts)
        else:
            points, mass = labels, None
        means, variances, probabilities = fit_mixture(points, mass, components=components, seed=seed)
        return cls(means, variances, probabilities, sigma, learn=learn, lr=lr)

    def forward(self, outputs: Tensor, targets, weights=None) -> Tensor:
        """The loss: outputs (B,), (B, 1), (B, d), or for d = 1 dense of any shape, targets alike -> a scalar.

        `weights` are one per row, or one per element of dense outputs. The logits are computed in float32 at least.

        Raises:
            ValueError: shapes that do not fit.
        """
        shape, d = outputs.shape, self.means.shape[1]
        outputs, targets = _rows(outputs, targets, "GAI", d)
        with torch.autocast(outputs.device.type, enabled=False):
            variance = self._variance(outputs)
            spread = self.variances.to(outputs) + variance * torch.eye(d, dtype=outputs.dtype, device=outputs.device)
            if d == 1:
                factor = spread.sqrt()
            else:
                factor = torch.linalg.cholesky_ex(spread)[0]  # cholesky would wait for the device to look at its result
            constant = self.log_probabilities.to(outputs) - factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
            normaliser = _in_chunks(self._normaliser, outputs, self.means.to(outputs), factor, constant)
            loss = self._cost(outputs - targets) + d / 2 * variance.log() + normaliser
            return self._mean(loss.reshape(shape) if d == 1 else loss, weights)

    @staticmethod
    def _normaliser(outputs: Tensor, means: Tensor, factor: Tensor, constant: Tensor) -> Tensor:
        if outputs.shape[1] == 1:
            whitened = (outputs - means.T) / factor[:, 0, 0]
            return _log_sum_exp(constant - whitened.square() / 2)
        identity = torch.eye(factor.shape[1], dtype=factor.dtype, device=factor.device).expand_as(factor)
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        shift = torch.einsum("kde,ke->kd", inverse, means)
        # d numbers for each row and component: the labels are low-dimensional, the rows are taken in chunks
        whitened = torch.einsum("kde,be->bkd", inverse, outputs) - shift
        return _log_sum_exp(constant - whitened.square().sum(dim=2) / 2)


class BNI(_BalancedLoss):
    """Bin-based numerical integration: a histogram stands for the training density; the integral is a sum over bins.

    L = 2 sigma^2 mean_i w_i [ |e_i|^2 / (2 sigma^2) + lse_b (log p_b - |yhat_i - c_b|^2 / (2 sigma^2)) ], up to constants.
    It can be negative. Memory is bounded for any number of pixels. sigma should not be far below the width of a bin.

    Args:
        centers: (K,), or a grid of points (K, 2), in the unit of the label.
        probabilities: (K,) non-negative, with sum 1.
        sigma, learn, lr, noise: see `BMC`.

    Raises:
        ValueError: shapes that do not fit, negative probabilities, a sum other than 1; sigma, lr, noise as `BMC`.

    Buffers: `centers` (K, d), `log_probabilities` (K,).
    """

    centers: Tensor
    log_probabilities: Tensor

    def __init__(
        self, centers, probabilities, sigma: float = 1.0, *, learn: bool = False, lr: float = 1e-2, noise: str = "gaussian"
    ):
        super().__init__(sigma, learn, lr, noise)
        centers, log_probabilities = _density(centers, probabilities, "centers")
        if centers.shape[1] > 2:
            raise ValueError(f"centers: expected at most 2 outputs, found {centers.shape[1]}; use GAI for more")
        self.register_buffer("centers", torch.tensor(centers, dtype=torch.float32))
        self.register_buffer("log_probabilities", torch.tensor(log_probabilities, dtype=torch.float32))

    @classmethod
    def fit(
        cls, bins: Bins, counts, *, sigma: float = 1.0, learn: bool = False, lr: float = 1e-2, noise: str = "gaussian",
        lds: bool = False, kernel: str = "gaussian", ks: int = 5, lds_sigma: float = 2, boundary: str = "renormalize",
    ) -> BNI:
        """The loss with the histogram counts (K,) over bins, with `lds` smoothed by the window of `effective_density`.

        Raises ValueError as `BMC` and `effective_density`, and for counts that do not fit the bins.
        """
        counts = _counts(check_bins(bins), counts)
        density = effective_density(counts, lds=lds, kernel=kernel, ks=ks, sigma=lds_sigma, boundary=boundary)
        return cls(bins.centers, density / density.sum(), sigma, learn=learn, lr=lr, noise=noise)

    def forward(self, outputs: Tensor, targets, weights=None) -> Tensor:
        """The loss; shapes, weights and errors as for `GAI`."""
        shape, d = outputs.shape, self.centers.shape[1]
        outputs, targets = _rows(outputs, targets, "BNI", d)
        with torch.autocast(outputs.device.type, enabled=False):
            density = self.centers.to(outputs), self.log_probabilities.to(outputs)
            # sigma is handed over, as a chunk is computed again in the backward pass
            normaliser = _in_chunks(self._normaliser, outputs, *density, self._variance(outputs))
            loss = self._cost(outputs - targets) + normaliser
            return self._mean(loss.reshape(shape) if d == 1 else loss, weights)

    def _normaliser(self, outputs: Tensor, centers: Tensor, log_probabilities: Tensor, variance: Tensor) -> Tensor:
        size = torch.Tensor.abs if self.noise == "laplace" else torch.square
        apart = size(outputs[:, :1] - centers[:, 0])
        if centers.shape[1] == 2:
            apart = apart + size(outputs[:, 1:] - centers[:, 1])
        unit = variance.sqrt() if self.noise == "laplace" else 2 * variance
        return _log_sum_exp(log_probabilities - apart / unit)


def _log_sum_exp(terms: Tensor) -> Tensor:
    """(B, K) -> (B,), with a gradient whose shares sum to 1 however large the terms are.

    torch.logsumexp takes the shares from its rounded result: far from all labels, where several terms are equal, each of
    them would get the whole gradient.
    """
    largest = terms.detach().amax(dim=1, keepdim=True)
    return largest[:, 0] + (terms - largest).exp().sum(dim=1).log()


def _rows(outputs: Tensor, targets, method: str, d: int | None = None) -> tuple[Tensor, Tensor]:
    """Outputs and targets as (B, d) of one float type; for d = 1 every element of dense outputs is a row."""
    outputs, targets = same_rows(outputs, targets, method)
    if d == 1 and outputs.dim() > 2:
        return outputs.reshape(-1, 1), targets.reshape(-1, 1)
    if outputs.dim() != 2 or outputs.shape[1] != (d or outputs.shape[1]):
        way = "sample pixels as rows, or use GAI or BNI" if d is None else f"its density is over {d} outputs"
        raise ValueError(f"{method}: outputs: expected shape (B, {d or 'd'}), found {tuple(outputs.shape)}; {way}")
    return outputs, targets


def _in_chunks(function, outputs: Tensor, points: Tensor, *constants: Tensor) -> Tensor:
    """function(outputs, points, *constants) (B, d) -> (B,), with at most _MOST_CELLS of rows x points held at a time."""
    step = max(1, _MOST_CELLS // (len(points) * points.shape[1]))
    if len(outputs) <= step:
        return function(outputs, points, *constants)
    return torch.cat([
        checkpoint(function, part, points, *constants, use_reentrant=False, preserve_rng_state=False)
        for part in outputs.split(step)
    ])


def _density(points, probabilities, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (K, d) and log probabilities (K,), checked."""
    points, probabilities = np.asarray(points, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    points = points[:, None] if points.ndim == 1 else points
    if points.ndim != 2 or points.size == 0 or not np.isfinite(points).all():
        raise ValueError(f"{name}: expected finite numbers (K,) or (K, d), found shape {points.shape}")
    if probabilities.shape != (len(points),):
        raise ValueError(f"probabilities: expected shape ({len(points)},), found {probabilities.shape}")
    if not (probabilities >= 0).all():
        raise ValueError(f"probabilities: expected non-negative numbers, found {probabilities.min():g}")
    if abs(probabilities.sum() - 1) > 1e-4:
        raise ValueError(f"probabilities: expected non-negative numbers with sum 1, found sum {probabilities.sum():g}")
    with np.errstate(divide="ignore"):
        return points, np.log(probabilities / probabilities.sum())


def _counts(bins, counts) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.shape != (bins.count,):
        raise ValueError(f"counts: expected one for each of the {bins.count} bins, found shape {counts.shape}")
    return counts
