"""SRL: the trace of the mean features over the labels is to cover the sphere, evenly, with each sample near its place.

The one idea: regularise the curve that the label draws through the feature space, not single pairs; bins without a
sample in the batch are held by a surrogate of the epochs before. Source: surrogate-driven representation learning with
geometric constraints (CVPR 2025); the sign of the homogeneity is the paper's: neighbours are drawn together.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..bins import Bins, check_bins
from .own_types import OwnTypes
from .rows import bin_of, feature_rows, label_rows, may_look, unit_rows


def enveloping(centroids: Tensor, points: Tensor, used: Tensor | None = None) -> Tensor:
    """1 - the mean over points u (P, D) on the sphere of max_k u . c_k: 0 where centroids (K, D) lie at every point.

    Centroids of any length are made unit; `used` (K,) bool leaves the others out. Raises ValueError for shapes that do not fit.
    """
    _check_width("enveloping", "centroids", centroids, "points", points)
    return _enveloping(unit_rows(centroids), points, used)


def _enveloping(unit: Tensor, points: Tensor, used: Tensor | None) -> Tensor:
    return 1 - _Coverage.apply(unit, points, used, None)


class _Coverage(torch.autograd.Function):
    """Mean over points of the nearest centroid's cosine; its gradient sums the points of each centroid.

    Autograd alone would multiply a (K, P) matrix of few nonzeros with the points, as costly as the forward product.
    `floor` (P,) is the greatest cosine of centroids without a gradient.
    """

    @staticmethod
    def forward(ctx, unit: Tensor, points: Tensor, used: Tensor | None, floor: Tensor | None) -> Tensor:
        best, nearest = _nearest(unit, points, used)
        if floor is not None:
            nearest = torch.where(best >= floor, nearest, len(unit))  # of no centroid here
            best = torch.maximum(best, floor)
        ctx.save_for_backward(points, nearest)
        ctx.count = len(unit)
        return best.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        points, nearest = ctx.saved_tensors
        ordered, order = nearest.sort()
        start = torch.searchsorted(ordered, torch.arange(ctx.count + 1, device=ordered.device))
        if may_look(points):
            order = order[: int(start[-1])]
        sums = nn.functional.embedding_bag(order, points, start[:-1], mode="sum")
        return sums * (gradient / len(points)), None, None, None


def _nearest(unit: Tensor, points: Tensor, used: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of each point (P,) the greatest cosine to a centroid in use, and which of the centroids it is."""
    # on a CPU a batch of products, 250 points or so in each, has one thread for each and keeps its points in the cache
    blocks = -(-len(points) // 256) if may_look(points) else 1
    even = len(points) // blocks * blocks
    found = []
    for part, count in ((points[:even], blocks), (points[even:], 1)):
        if len(part):
            nearness = torch.bmm(unit.expand(count, -1, -1), part.view(count, -1, part.shape[1]).transpose(1, 2))
            if used is not None:
                nearness = torch.where(used[:, None], nearness, -torch.inf)
            found.append([values.flatten() for values in nearness.max(dim=1)])
    best, nearest = (torch.cat(values) for values in zip(*found)) if len(found) > 1 else found[0]
    return best, nearest


def homogeneity(centroids: Tensor, labels: Tensor, used: Tensor | None = None) -> Tensor:
    """sum_k |c_{k+1} - c_k|^2 / (y_{k+1} - y_k) over neighbours in the ascending labels (K,); 0 for one centroid.

    Centroids (K, D) of any length are made unit; of those `used` (K,) bool leaves out, the gap is bridged. Raises
    ValueError for shapes that do not fit and, on the CPU, for labels that do not increase.
    """
    _check_width("homogeneity", "centroids", centroids, "centroids", centroids)
    labels = label_rows(labels, centroids, "homogeneity", "labels")
    if may_look(labels):
        gaps = (labels if used is None else labels[used]).diff()
        if (gaps <= 0).any():
            raise ValueError(f"homogeneity: labels: must strictly increase, found a step of {gaps.min():g}; sort them")
    return _homogeneity(unit_rows(centroids), labels, used)


def _homogeneity(unit: Tensor, labels: Tensor, used: Tensor | None) -> Tensor:
    labels = labels.to(unit)
    if used is None:
        return _Unevenness.apply(unit, labels[1:] - labels[:-1])
    order = used.logical_not().to(torch.uint8).argsort(stable=True)  # those in use first, in their order
    unit, labels, used = unit.index_select(0, order), labels[order], used[order]
    steps, gaps = (unit[1:] - unit[:-1]).square().sum(dim=1), labels[1:] - labels[:-1]
    return torch.where(used[1:], steps / torch.where(used[1:], gaps, 1), 0).sum()


class _Unevenness(torch.autograd.Function):
    """sum_k |u_{k+1} - u_k|^2 / gap_k of rows u (K, D), gaps (K - 1,), in a third of the passes that autograd alone takes."""

    @staticmethod
    def forward(ctx, unit: Tensor, gaps: Tensor) -> Tensor:
        steps = unit[1:] - unit[:-1]
        ctx.save_for_backward(steps, gaps)
        return (torch.linalg.vecdot(steps, steps) / gaps).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        steps, gaps = ctx.saved_tensors
        pull = steps * (2 * gradient / gaps)[:, None]
        found = pull.new_zeros(len(pull) + 1, pull.shape[1])
        found[1:].add_(pull)
        found[:-1].sub_(pull)
        return found, None


def srl_contrastive(
    features: Tensor, index: Tensor, centroids: Tensor, temperature: float, used: Tensor | None = None
) -> Tensor:
    """Mean over rows of -log softmax_k( zn_i . c_k / temperature ) at the row's own centroid `index` (B,) int64.

    Features (B, D) and centroids (K, D) of any length are made unit; `used` (K,) bool leaves the others out.

    Raises ValueError for shapes that do not fit, a temperature not above 0 and, on the CPU, an index outside 0 ... K - 1.
    """
    _check_width("srl_contrastive", "features", features, "centroids", centroids)
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature: expected a finite number above 0, for example 0.1, found {temperature}")
    if index.shape != (len(features),):
        raise ValueError(f"srl_contrastive: index: expected shape ({len(features)},), found {tuple(index.shape)}")
    if may_look(index) and not 0 <= index.min() <= index.max() < len(centroids):
        low, high = int(index.min()), int(index.max())
        raise ValueError(f"srl_contrastive: index: expected 0 to {len(centroids) - 1}, found {low} to {high}")
    return _contrastive(unit_rows(features), index, unit_rows(centroids), temperature, used)


def _contrastive(unit: Tensor, index: Tensor, centroids: Tensor, temperature: float, used: Tensor | None) -> Tensor:
    logits = unit @ centroids.T / temperature
    if used is not None:
        logits = torch.where(used, logits, -torch.inf)
    return nn.functional.cross_entropy(logits, index)


def _check_width(method: str, first: str, rows: Tensor, second: str, others: Tensor) -> None:
    for name, given in ((first, rows), (second, others)):
        if given.dim() != 2 or 0 in given.shape or given.shape[1] != rows.shape[1]:
            width = "D" if given is rows else str(rows.shape[1])
            raise ValueError(f"{method}: {name}: expected rows of shape (..., {width}), found {tuple(given.shape)}")


class _Contrast(torch.autograd.Function):
    """The contrast where the first rows of `whole` (K, D) are `own` (M, D): only they, and the features, get a gradient."""

    @staticmethod
    def forward(ctx, unit: Tensor, own: Tensor, whole: Tensor, index: Tensor, temperature: float) -> Tensor:
        logs = torch.log_softmax((unit @ whole.T).div_(temperature), dim=1)
        ctx.save_for_backward(unit, whole, index, logs)
        ctx.count, ctx.temperature = len(own), temperature
        return -logs.gather(1, index[:, None]).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        unit, whole, index, logs = ctx.saved_tensors
        slope = logs.exp()
        slope.scatter_add_(1, index[:, None], slope.new_full((len(slope), 1), -1))
        slope *= gradient / (len(slope) * ctx.temperature)
        return slope @ whole, slope[:, : ctx.count].T @ unit, None, None, None


class SRL(OwnTypes):
    """envelope * enveloping + homogeneity * homogeneity + contrast * srl_contrastive, over bins of the label.

    A bin's centroid is the mean unit feature of its samples in the batch, or else its surrogate of the epochs before,
    both made unit length; bins with neither take no part. In the first epoch the term is 0 and gathers only. In training
    each call adds the rows it sees to the epoch's sums, and `finish_epoch` turns these into the next surrogates:
    S <- momentum S + (1 - momentum) new, made unit. The rows must be those of all ranks; the state is then equal on all.

    Args:
        bins: over the label, K of them.
        feature_dim: number of features D.
        envelope, homogeneity, contrast: the strengths, 0 or above.
        temperature: of the contrast, above 0.
        points: how many points of the sphere measure the coverage, drawn once by `seed`; with many features the nearest
            centroid is far from each of them, so few points say little.
        momentum: share of the old surrogate kept at the end of an epoch, in [0, 1).

    Raises:
        ValueError: an argument out of range.

    Buffers, all in a checkpoint, also one within an epoch: `surrogates` (K, D), `known` (K,) bool, and of the running
    epoch `sums` (K, D) and `counts` (K,).
    """

    surrogates: Tensor
    known: Tensor
    sums: Tensor
    counts: Tensor
    _edges: Tensor
    _labels: Tensor
    _points: Tensor

    own_types = ("_edges",)  # cast edges would put labels into other bins; the surrogates follow the features' type

    def __init__(
        self, bins: Bins, feature_dim: int, *, envelope: float = 0.1, homogeneity: float = 0.1, contrast: float = 1.0,
        temperature: float = 0.1, points: int = 2000, momentum: float = 0.9, seed: int = 0,
    ):
        super().__init__()
        count = check_bins(bins).count
        if int(feature_dim) != feature_dim or feature_dim < 1:
            raise ValueError(f"feature_dim: expected a whole number, at least 1, found {feature_dim}")
        for name, value in (("envelope", envelope), ("homogeneity", homogeneity), ("contrast", contrast)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}: expected a finite number, 0 or above, for example 0.1, found {value}")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature: expected a finite number above 0, for example 0.1, found {temperature}")
        if int(points) != points or points < 1:
            raise ValueError(f"points: expected a whole number, at least 1, for example 2000, found {points}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected 0 <= momentum < 1, found {momentum}")
        self.bins, self.feature_dim, self.momentum = bins, int(feature_dim), float(momentum)
        self.envelope, self.homogeneity, self.contrast = float(envelope), float(homogeneity), float(contrast)
        self.temperature = float(temperature)
        self.register_buffer("surrogates", torch.zeros(count, self.feature_dim))
        self.register_buffer("known", torch.zeros(count, dtype=torch.bool))
        self.register_buffer("sums", torch.zeros(count, self.feature_dim))
        self.register_buffer("counts", torch.zeros(count))
        self.register_buffer("_edges", torch.tensor(np.array(bins.compared_edges)), persistent=False)
        self.register_buffer("_labels", torch.tensor(bins.centers, dtype=torch.float32), persistent=False)
        draw = torch.Generator().manual_seed(int(seed))
        sphere = unit_rows(torch.randn(int(points), self.feature_dim, generator=draw))
        self.register_buffer("_points", sphere, persistent=False)
        self._begun = False  # whether any surrogate is known, without asking the device in a step
        self._reach: Tensor | None = None  # of the surrogates as they are; None after they change

    def extra_repr(self) -> str:
        return (
            f"{self.bins}, {self.feature_dim}, envelope={self.envelope:g}, homogeneity={self.homogeneity:g}, "
            f"contrast={self.contrast:g}, temperature={self.temperature:g}, points={len(self._points)}, "
            f"momentum={self.momentum:g}"
        )

    def forward(self, features: Tensor, targets: Tensor, preds: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """The term: features (B, D), targets (B,) or (B, 1), in the unit of the bins -> a scalar, 0 in the first epoch.

        `preds` and `weights` are not used. In evaluation mode nothing is gathered.

        Raises:
            ValueError: shapes that do not fit; NaN or infinite values, on the CPU.
        """
        features = feature_rows(features, "SRL")
        targets = label_rows(targets, features, "SRL")
        if features.shape[1] != self.feature_dim:
            raise ValueError(f"SRL: features: expected {self.feature_dim} of them, found {features.shape[1]}; see feature_dim")
        with torch.autocast(features.device.type, enabled=False):
            index, unit = bin_of(targets, self._edges), unit_rows(features)
            counts = unit.new_zeros(self.counts.shape).index_add_(0, index, unit.new_ones(len(unit)))
            here = counts > 0
            # on the CPU rows of the bins in the batch alone; an accelerator is not asked which they are
            rows = here.nonzero()[:, 0] if may_look(features) else None
            at, size = (index, len(counts)) if rows is None else ((here.cumsum(0) - 1)[index], len(rows))
            sums = unit.new_zeros(size, self.feature_dim).index_add_(0, at, unit)
            if self.training:
                self.counts += counts
                if rows is None:
                    self.sums += sums.detach()
                else:
                    self.sums.index_add_(0, rows, sums.detach().to(self.sums))
            if not self._begun:
                return sums[:1, :1].sum() * 0
            if rows is None:
                coverage, uneven, contrast = self._of_all(unit, at, sums, here)
            else:
                coverage, uneven, contrast = self._of_those_in_use(unit, at, sums, rows, self.known & ~here)
            return self.envelope * coverage + self.homogeneity * uneven + self.contrast * contrast

    def _of_all(self, unit: Tensor, index: Tensor, sums: Tensor, here: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three parts over all K bins, those out of use masked, as an accelerator is not asked which they are."""
        used = here | self.known
        centroids = unit_rows(torch.where(here[:, None], sums, self.surrogates.to(sums)))
        return (
            _enveloping(centroids, self._points.to(centroids), used),
            _homogeneity(centroids, self._labels, used),
            _contrastive(unit, index, centroids, self.temperature, used),
        )

    def _of_those_in_use(
        self, unit: Tensor, index: Tensor, sums: Tensor, rows: Tensor, away: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same from the bins `rows` (M,) of the batch, with sums (M, D) that `index` points at, and, without a gradient,
        the surrogates of the bins `away` (K,) from it."""
        others = away.nonzero()[:, 0]
        own, rest = unit_rows(sums), self.surrogates.index_select(0, others).to(sums)
        floor = self._cosines_of_surrogates(unit).index_select(0, others).amax(dim=0) if len(others) else None
        labels, order = self._labels[torch.cat([rows, others])].sort()
        whole = torch.cat([own, rest])
        return (
            1 - _Coverage.apply(own, self._points.to(own), None, floor),
            _homogeneity(whole.index_select(0, order), labels, None),
            _Contrast.apply(unit, own, whole.detach(), index, self.temperature),
        )

    def _cosines_of_surrogates(self, unit: Tensor) -> Tensor:
        """(K, P) cosines of the surrogates with the points, which stay the same for an epoch, in the type of `unit`."""
        if self._reach is None or self._reach.dtype != unit.dtype:
            self._reach = self.surrogates.to(unit.dtype) @ self._points.to(unit.dtype).T
        return self._reach

    def _apply(self, fn, recurse=True):
        self._reach = None
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def finish_epoch(self, epoch: int) -> None:
        """End the epoch: the rows gathered since the last call become, or move, the surrogates of their bins.

        Raises ValueError, with the bin, where a gathered feature was NaN or infinite.
        """
        finite = self.sums.isfinite().all(dim=1)
        if not finite.all():
            bad = int((~finite).nonzero()[0])
            raise ValueError(f"SRL: features: NaN or infinite in bin {bad} of epoch {epoch}; a lower learning rate may help")
        here = self.counts > 0
        new = unit_rows(self.sums)
        moved = unit_rows(self.momentum * self.surrogates + (1 - self.momentum) * new)
        self.surrogates.copy_(torch.where(here[:, None], torch.where(self.known[:, None], moved, new), self.surrogates))
        self.known |= here
        self.sums.zero_()
        self.counts.zero_()
        self._begun, self._reach = bool(self.known.any()), None

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._begun, self._reach = bool(self.known.any()), None
