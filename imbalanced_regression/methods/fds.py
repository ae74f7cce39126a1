"""Feature distribution smoothing (FDS): calibrate features with statistics smoothed over neighbouring target bins.

The one idea: near targets should have near features, so each bin's mean and variance are smoothed over the bins and
every training feature is moved from its bin's statistics to the smoothed ones. Source: the paper, section 3.2.

An epoch: `smooth(features, labels, epoch)` on every training batch, then the raw features of the epoch through
`observe` and one `finish_epoch(epoch)` (or `update_running_stats`, which does both for features held in memory).
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor, nn

from ..bins import Bins, as_array, check_bins
from . import bin_statistics
from .bin_statistics import Sums, merged_over_ranks, smoothed_over_bins, zero_sums
from .calibration import Kept, Tables, can_keep, moved, movements
from .own_types import OwnTypes
from .rows import may_look, refuse_not_finite
from .windows import get_lds_kernel_window

logger = logging.getLogger(__name__)


class FDS(OwnTypes):
    """Calibrates training features per target bin; at evaluation it is the identity.

    Args:
        feature_dim: number of features (channels) D.
        bucket_num: number of bins the labels have, those below `bucket_start` counted in; 100, or `bins.count`.
        bucket_start: first bin that gets statistics; labels below it use that bin's. The buffers have
            K = bucket_num - bucket_start rows.
        start_update: first epoch whose features are used for statistics.
        start_smooth: first epoch in which `smooth` acts.
        kernel, ks, sigma: the window over bins, see `get_lds_kernel_window`; used with sum 1. ks < 2 K.
        momentum: share of the old statistics kept at each update; None averages all epochs by their sample counts.
        bins: how labels map to bins; None takes the whole part of the label, as for ages.
        clip: bounds of the ratio of smoothed to running variance.
        kind: "own", or "released" for the first release's FDS (`ReleasedFDS`, which takes further options).

    Raises:
        ValueError: an argument out of range, with its name and value.

    Buffers (the published names and shapes): `epoch` (1,), `num_samples_tracked` (K,), and (K, D)
    `running_mean`, `running_var`, their values the last epoch used, `*_last_epoch`, and `smoothed_*_last_epoch`. They
    are float32 (float64 where that is torch's default type) and stay so in a model cast to another type.
    """

    observes_smoothed = False  # whether its statistics are of the features that `smooth` gave instead of the raw ones

    epoch: Tensor
    running_mean: Tensor
    running_var: Tensor
    running_mean_last_epoch: Tensor
    running_var_last_epoch: Tensor
    smoothed_mean_last_epoch: Tensor
    smoothed_var_last_epoch: Tensor
    num_samples_tracked: Tensor
    _edges: Tensor | None

    def __new__(cls, *args, kind: str = "own", **how):
        """The class of that kind, so that one name serves all: `cls` where it is one, otherwise one that is both."""
        from .fds_released import ReleasedFDS

        kinds = {"own": FDS, "released": ReleasedFDS}
        if kind not in kinds:
            raise ValueError(f"kind: expected one of {', '.join(kinds)}, found {kind!r}")
        chosen = kinds[kind]
        if issubclass(cls, chosen):
            return super().__new__(cls)
        return super().__new__(chosen if cls is FDS else type(cls.__name__, (cls, chosen), {"__module__": cls.__module__}))

    def __init__(
        self, feature_dim: int, bucket_num: int | None = None, bucket_start: int = 0, start_update: int = 0,
        start_smooth: int = 1, kernel: str = "gaussian", ks: int = 5, sigma: float = 2, momentum: float | None = 0.9, *,
        bins: Bins | None = None, clip: tuple[float, float] = (0.1, 10.0), kind: str = "own",
    ):
        super().__init__()
        if bucket_num is None:
            bucket_num = 100 if bins is None else check_bins(bins).count
        if feature_dim < 1:
            raise ValueError(f"feature_dim: expected at least 1, found {feature_dim}")
        if not 0 <= bucket_start < bucket_num:
            raise ValueError(f"bucket_start: expected 0 <= bucket_start < bucket_num = {bucket_num}, found {bucket_start}")
        if bins is not None and check_bins(bins).count != bucket_num:
            raise ValueError(f"bucket_num: expected the {bins.count} of {bins!r}, found {bucket_num}; leave it out")
        if momentum is not None and not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected None or 0 <= momentum < 1, found {momentum}")
        if not 0 < clip[0] <= clip[1]:
            raise ValueError(f"clip: expected 0 < low <= high, for example (0.1, 10), found {clip}")
        rows = bucket_num - bucket_start
        window = get_lds_kernel_window(kernel, ks, sigma)
        if ks // 2 >= rows:
            raise ValueError(f"ks: a window of {ks} bins does not fit {rows} bins; pass an odd ks below {2 * rows}")
        self.feature_dim, self.bucket_num, self.bucket_start = feature_dim, bucket_num, bucket_start
        self.start_update, self.start_smooth, self.momentum, self.clip = start_update, start_smooth, momentum, clip
        self.bins = bins
        self.kernel, self.ks, self.sigma = kernel, ks, sigma

        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)  # a default of half precision is too narrow
        self.register_buffer("epoch", torch.full((1,), float(start_update), dtype=dtype))
        for when in ("running_{}", "running_{}_last_epoch", "smoothed_{}_last_epoch"):
            self.register_buffer(when.format("mean"), torch.zeros(rows, feature_dim, dtype=dtype))
            self.register_buffer(when.format("var"), torch.ones(rows, feature_dim, dtype=dtype))
        self.register_buffer("num_samples_tracked", torch.zeros(rows, dtype=dtype))

        edges = None if bins is None else torch.tensor(np.array(bins.compared_edges))
        self.register_buffer("_edges", edges, persistent=False)
        self._window = (window / window.sum()).tolist()
        # The sums of the running epoch. Not buffers: DistributedDataParallel would overwrite every rank's with rank 0's.
        self._sums: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self._odd: Tensor | None = None  # how many of the epoch's labels lie outside the bins, and are no finite numbers, (2,)
        self._warned = False
        self._tables = Kept()

    def extra_repr(self) -> str:
        return (
            f"{self.feature_dim}, bins={self.bins or self.bucket_num}, bucket_start={self.bucket_start}, "
            f"kernel={self.kernel}, ks={self.ks}, sigma={self.sigma}, momentum={self.momentum}, clip={self.clip}"
        )

    # -- during the epoch ----------------------------------------------------------------------------------------------

    def smooth(self, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Calibrated features z' = (z - mu_b) sqrt(clip(v~_b / v_b)) + mu~_b, where b is the label's bin.

        A pure function: the input is not written to, and gradient flows through z only. It is the identity at
        evaluation, before `start_smooth`, for bins without statistics, and for channels without variance in the bin.

        Args:
            features: (B, D), or dense (B, D, H, W); any floating type, which the result keeps.
            labels: (B,) or (B, 1), for dense features (B, H, W) or (B, 1, H, W); finite, in the unit of the bins. A
                tensor, an array or a list.
            epoch: the running epoch, counted from 0.

        Returns:
            The calibrated features, shaped as `features`.

        Raises ValueError as `observe`, but not for the labels of dense features.
        """
        if not self.training or epoch < self.start_smooth:
            return features
        labels = self._checked(features, labels)
        if features.dim() == 2 and may_look(labels):  # a dense map may have unknown pixels
            refuse_not_finite(labels)
        rows = self._rows(features, labels)
        dtype = torch.promote_types(features.dtype, self.running_mean.dtype)  # a float64 model is calibrated in float64
        return moved(features, *self._calibration(rows), dtype)

    def _calibration(self, rows: Tensor) -> tuple[Tables, Tensor | None]:
        """mu, scale and mu~ for the rows (B, ...) of labels: tables (K, D) and an index into them, or (B, ..., D) and None."""
        statistics = [
            self.running_mean_last_epoch, self.running_var_last_epoch,
            self.smoothed_mean_last_epoch, self.smoothed_var_last_epoch, self.num_samples_tracked,
        ]
        rows = self._placed(rows)
        if may_look(rows) and can_keep(statistics):
            return self._tables.of(statistics, self._movements), rows
        return self._looked_up(rows, statistics)

    def _looked_up(self, rows: Tensor, statistics: list[Tensor]) -> tuple[Tables, Tensor | None]:
        """`_calibration` where no tables are kept: of all rows, or of those asked for, whichever are fewer."""
        if rows.numel() < len(self.num_samples_tracked):
            return self._movements(*(nn.functional.embedding(rows, part.view(len(part), -1)) for part in statistics)), None
        return self._movements(*statistics), rows

    def _placed(self, rows: Tensor) -> Tensor:
        """Rows of the statistics -> rows of `_movements`."""
        return rows

    def _movements(self, *statistics: Tensor) -> Tables:
        return movements(self.clip, *statistics)

    def _checked(self, features: Tensor, labels) -> Tensor:
        """The labels as a tensor beside the features: (B,), or (B, H, W) for dense features."""
        if not isinstance(features, Tensor):
            raise ValueError(f"features: expected a torch tensor, found {type(features).__name__}; torch.as_tensor makes one")
        if not isinstance(labels, Tensor):
            labels = torch.from_numpy(np.ascontiguousarray(as_array(labels, "labels")))
        if features.dim() not in (2, 4) or features.shape[1] != self.feature_dim:
            expected = f"(B, {self.feature_dim}) or (B, {self.feature_dim}, H, W)"
            raise ValueError(f"features: expected shape {expected}, found {tuple(features.shape)}")
        shape = (len(features), *features.shape[2:])
        if labels.shape != shape and labels.shape != (shape[0], 1, *shape[1:]):
            raise ValueError(f"labels: shape {tuple(labels.shape)} does not fit features of shape {tuple(features.shape)}")
        return labels.detach().to(features.device).reshape(shape)

    def _rows(self, features: Tensor, labels) -> Tensor:
        """The statistics row of each label: (B,), or (B, H, W) for dense features, int64."""
        labels = self._checked(features, labels)
        if self._edges is None:
            return (labels.long() - self.bucket_start).clamp_(0, self.bucket_num - self.bucket_start - 1)
        between = self._edges[self.bucket_start + 1 : self.bucket_num]  # of the rows: labels beyond them fall into the end ones
        return torch.bucketize(labels.to(self._edges.dtype).contiguous(), between, right=True)

    # -- the statistics ------------------------------------------------------------------------------------------------

    @torch.inference_mode(False)  # sums begun in inference mode could not be added to outside of it
    @torch.no_grad()
    def observe(self, features: Tensor, labels: Tensor, known: Tensor | None = None) -> None:
        """Add raw (not smoothed) features to the running epoch's statistics. Shapes as for `smooth`; any batch size.

        Per bin it keeps the count, one reference sample, and the float64 sums of the distances to it and of their
        squares: the memory does not depend on how many samples come, and a large mean costs no digits. No accelerator is
        waited for. Where `known`, bool and shaped as `labels`, is False a sample is left out.

        Raises:
            ValueError: shapes that do not fit; NaN or infinite labels, with how many there are and where the first is (on
                an accelerator `finish_epoch` raises it).
        """
        labels = self._checked(features, labels)
        rows, labels = self._rows(features, labels), labels.reshape(-1)
        x, at = features.detach().movedim(1, -1), rows.reshape(-1)
        here = may_look(x)
        if known is not None and here and not (known := known.reshape(-1)).all():
            x, at, labels = x[known.reshape(rows.shape)], at[known], labels[known]
        elif known is not None:
            at = torch.where(known.reshape(-1), at, self._rows_observed())
        x = x.reshape(-1, self.feature_dim)
        if known is not None and not len(x):
            return
        self._count_odd(labels, known.reshape(-1) if known is not None and not here else None)
        self._sums = self._sums or self._zero_sums(x.device)
        bin_statistics.add_samples(self._sums, x, at, here=here)

    def _count_odd(self, labels: Tensor, known: Tensor | None) -> None:
        """Count the labels outside the bins, and those that are no finite numbers, which on the CPU are refused at once."""
        if may_look(labels):
            refuse_not_finite(labels)
        bad, outside = ~labels.isfinite(), self._are_outside(labels)
        found = torch.stack([part.sum() if known is None else (part & known).sum() for part in (outside, bad)])
        self._odd = found if self._odd is None else self._odd + found

    def _are_outside(self, labels: Tensor) -> Tensor:
        if self._edges is None:
            return (labels < 0) | (labels >= self.bucket_num)
        labels = labels.to(self._edges.dtype)
        return (labels < self._edges[0]) | (labels > self._edges[-1])

    def observed(self) -> list[Tensor]:
        """What `observe` has summed up since the last `finish_epoch`, on the CPU; for a checkpoint within an epoch."""
        return [part.cpu().clone() for part in self._sums or ()]

    def forget_observed(self) -> None:
        """Drop what was observed since the last `finish_epoch`, as after an interrupted second pass."""
        self._sums = self._odd = None

    @torch.inference_mode(False)
    @torch.no_grad()
    def add_observed(self, sums: list[Tensor]) -> None:
        """Add what `observed` gave, here or in another process, to the running epoch's statistics.

        Raises ValueError for sums of another number of bins or features.
        """
        if not sums:
            return
        own = self._sums or self._zero_sums(self.running_mean.device)
        if [part.shape for part in sums] != [part.shape for part in own]:
            raise ValueError(f"sums: expected shapes {[tuple(part.shape) for part in own]}")
        self._sums = bin_statistics.sums_of_both(own, [part.to(mine) for part, mine in zip(sums, own)])

    def _zero_sums(self, device: torch.device) -> Sums:
        return zero_sums(self._rows_observed(), self.feature_dim, device)

    def _rows_observed(self) -> int:
        return len(self.num_samples_tracked)

    @torch.no_grad()
    def finish_epoch(self, epoch: int) -> None:
        """End the epoch: what was observed since the last call becomes the statistics the next epoch smooths with.

        Running and smoothed statistics are updated together, so both are of the same epoch (the first release used
        running statistics of one epoch with smoothed ones of the epoch before). With torch.distributed initialised,
        every rank must call it; the observations of all ranks are merged, and all end with the same statistics.

        A bin with one sample in the epoch has a mean but no variance: its old variance stays, and where there is none it
        is 0, which the smoothing takes as unknown. A warning is logged once when nearly all labels share a row or lie
        outside the bins.

        Raises:
            ValueError: nothing was observed, or a label, or a feature (with the bin), was NaN or infinite.
        """
        count, mean, m2 = self._merged_over_ranks()
        odd = self._odd
        self.forget_observed()
        if epoch < self.start_update:
            return
        bin_statistics.check_observed(count, mean, m2, epoch, self.bucket_start, odd)
        outside = None if odd is None else odd[0]
        self._warn_of_another_unit(count[:, 0], outside)
        var = m2 / torch.where(count > 1, count - 1, 1)  # unbiased; 0 from a single sample
        seen, varied = self._known()
        self.num_samples_tracked += count[:, 0].to(self.num_samples_tracked)
        later, tracked = epoch > self.start_update, self.num_samples_tracked[:, None].to(count)
        kept_shares = bin_statistics.shares_kept(count, tracked, self.momentum, seen & later, varied & later)
        for running, new, kept in zip((self.running_mean, self.running_var), (mean, var), kept_shares):
            running.copy_(new.lerp_(running.to(new.dtype), kept))
        self._publish(epoch)

    def _known(self) -> tuple[Tensor, Tensor]:
        """Which rows have a mean, and which a variance, (K, 1) each: one sample, or only equal ones, have none."""
        seen = self.num_samples_tracked[:, None] > 0
        return seen, seen & (self.running_var > 0).any(dim=1, keepdim=True)

    def _warn_of_another_unit(self, count: Tensor, outside: Tensor | None) -> None:
        # after a resume within the epoch, those outside are known for its rest only
        if not self._warned and (found := bin_statistics.of_another_unit(count, outside)):
            self._warned = True
            logger.warning(
                "FDS: %s (%s), so there is little to smooth. Are labels and bins in the same unit? Give observe and smooth the "
                "labels themselves, not standardised ones, and FDS bins made from them, such as bins=Bins.auto(labels)",
                found, self.bins or f"whole labels {self.bucket_start} to {self.bucket_num - 1}",
            )

    def _publish(self, epoch: int) -> None:
        """The running statistics become those `smooth` uses, together with their smoothed values."""
        self.epoch.fill_(epoch)
        seen, varied = self._known()
        self.running_mean_last_epoch.copy_(self.running_mean)
        self.running_var_last_epoch.copy_(self.running_var)
        if seen.any():
            self.smoothed_mean_last_epoch.copy_(smoothed_over_bins(self.running_mean, seen, self._window))
            self.smoothed_var_last_epoch.copy_(smoothed_over_bins(self.running_var, varied, self._window))

    def _merged_over_ranks(self) -> tuple[Tensor, Tensor, Tensor]:
        return merged_over_ranks(*(self._sums or self._zero_sums(self.running_mean.device)))

    # -- the published calls -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def update_last_epoch_stats(self, epoch: int) -> None:
        """The published call before `update_running_stats`: brings the smoothed statistics up to the running ones.

        `finish_epoch` has done so already; it matters only after loading a checkpoint of the first release, whose
        smoothed statistics are one epoch behind.
        """
        if epoch >= self.start_update:
            self._publish(epoch)

    def update_running_stats(self, features: Tensor, labels: Tensor, epoch: int) -> None:
        """The published end of an epoch: all its raw features (N, D) and labels (N,) at once, then `finish_epoch`."""
        self.observe(features, labels)
        self.finish_epoch(epoch)
