"""The first release's FDS, with the faults that its published numbers and checkpoints were made with (`kind="released"`).

The one idea: its statistics are those of features that were already smoothed, and the running statistics it whitens with
are the storage it updates, so that what it moves features by feeds back into itself and settles. `FDS` has neither.
Source: the paper, section 3.2, as its first release computes it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bin_statistics import check_observed, smoothed_over_bins
from .calibration import Tables
from .fds import FDS

_LEAST_VARIANCE = 1e-10  # of a row, summed over its channels; below it the row's features pass unchanged


class ReleasedFDS(FDS):
    """FDS whose states and outputs equal the first release's in every epoch.

    Its statistics want the features that `smooth` gave, in training mode, not the raw ones; an epoch is one pass over the
    data. The end of epoch e, `finish_epoch(e)` or the published two calls, does in this order:

    1. If e follows `epoch`: smooth the running statistics over the bins, unseen ones counted with mean 0 and variance 1,
       and whiten with the running statistics from now on: with the storage itself, so that step 2 already acts on the
       next epoch, or with `share=False` with a copy.
    2. Update the running statistics with this epoch's.

    So nothing is moved in the epochs 0 and 1 and, with shared storage, features are whitened with statistics up to the epoch
    before and re-coloured with smoothed ones up to the epoch before that.

    Args:
        feature_dim, bucket_num, bucket_start, start_update, start_smooth, kernel, ks, sigma, momentum, bins, clip: as
            for `FDS`. Without `bins` a label belongs to a bin only if it is the bin's number exactly; labels beyond the
            end bins go with those if the batch (for the statistics: the epoch) holds one in the end bin itself.
        share: whiten with the running statistics themselves (ages, STS-B), or with a copy (NYUD2).
        fill_empty: bins without samples take the average of both neighbours' running statistics (STS-B).

    A checkpoint needs no buffer besides the published ones: once the storage is shared both tables are equal, and until
    then they are not, or nothing has been counted. Values are as if shared on any device and after any copy.
    """

    observes_smoothed = True

    def __init__(self, feature_dim: int, *args, kind: str = "released", share: bool = True, fill_empty: bool = False, **how):
        super().__init__(feature_dim, *args, kind=kind, **how)
        self.share, self.fill_empty = share, fill_empty
        self._shared = False

    def _load_from_state_dict(self, *args, **how) -> None:
        super()._load_from_state_dict(*args, **how)
        equal = torch.equal(self.running_mean, self.running_mean_last_epoch)
        equal = equal and torch.equal(self.running_var, self.running_var_last_epoch)
        self._shared = self.share and equal and bool(self.num_samples_tracked.any())

    # -- during the epoch ----------------------------------------------------------------------------------------------

    def _placed(self, rows: Tensor) -> Tensor:
        """As in `FDS`, with one row more, of the identity, for the labels outside."""
        last = len(self.num_samples_tracked) - 1
        for outside, edge in ((last + 1, 0), (last + 2, last)):
            rows = torch.where((rows == outside) & (rows == edge).any(), edge, rows)
        return rows.clamp(max=last + 1)

    def _looked_up(self, rows: Tensor, statistics: list[Tensor]) -> tuple[Tables, Tensor | None]:
        return self._movements(*statistics), rows

    def _movements(self, *statistics: Tensor) -> Tables:
        mean, var, smoothed_mean, smoothed_var, _ = statistics
        moves = (var != 0) if self.bins is None else (var > 0) & (smoothed_var >= 0)
        moves &= var.sum(dim=1, keepdim=True) >= _LEAST_VARIANCE
        scale = (smoothed_var / var).clamp(*self.clip).sqrt()
        parts = ((moves, mean, 0), (moves, scale, 1), (moves, smoothed_mean, 0))
        mean, scale, smoothed_mean = (
            torch.cat([torch.where(*part), mean.new_full((1, mean.shape[1]), part[2])]) for part in parts
        )
        return mean, scale, smoothed_mean

    def _rows(self, features: Tensor, labels: Tensor) -> Tensor:
        """As in `FDS`; without bins also row K for below the first bin, K + 1 above the last, K + 2 between two bins."""
        rows = super()._rows(features, labels)
        if self.bins is not None:
            return rows
        labels, count = self._checked(features, labels), len(self.num_samples_tracked)
        rows = torch.where(labels == labels.trunc(), rows, count + 2) if labels.is_floating_point() else rows
        rows = torch.where(labels < self.bucket_start, count, rows)
        return torch.where(labels > self.bucket_num - 1, count + 1, rows)

    # -- the statistics ------------------------------------------------------------------------------------------------

    def _rows_observed(self) -> int:
        return len(self.num_samples_tracked) + (3 if self.bins is None else 0)

    @torch.no_grad()
    def finish_epoch(self, epoch: int) -> None:
        """End the epoch: `update_last_epoch_stats`, then the running statistics take in what was observed.

        Raises:
            ValueError: nothing was observed, or a feature was NaN or infinite (with the bin).
        """
        self.update_last_epoch_stats(epoch)
        self._update_running(epoch)

    @torch.no_grad()
    def update_last_epoch_stats(self, epoch: int) -> None:
        """Step 1 of the end of an epoch; nothing unless `epoch` follows the buffer of that name."""
        if epoch != int(self.epoch) + 1:
            return
        self.epoch += 1
        everywhere = torch.ones_like(self.num_samples_tracked[:, None])
        for running, last, smoothed in self._pairs():
            last.copy_(running)
            smoothed.copy_(smoothed_over_bins(running, everywhere > 0, self._window))
        self._shared = self.share

    @torch.no_grad()
    def update_running_stats(self, features: Tensor, labels: Tensor, epoch: int) -> None:
        """Step 2, from all the epoch's smoothed features (N, D) and labels (N,); after `update_last_epoch_stats`."""
        self.observe(features, labels)
        self._update_running(epoch)

    def _pairs(self) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        return (
            (self.running_mean, self.running_mean_last_epoch, self.smoothed_mean_last_epoch),
            (self.running_var, self.running_var_last_epoch, self.smoothed_var_last_epoch),
        )

    def _update_running(self, epoch: int) -> None:
        count, mean, m2 = self._merged_over_ranks()
        odd = self._odd
        self.forget_observed()
        if epoch < self.start_update:
            return
        rows = len(self.num_samples_tracked)
        if self.bins is None:
            for outside, edge in ((rows, 0), (rows + 1, rows - 1)):
                _add_row(count, mean, m2, outside, edge)
            count, mean, m2 = count[:rows], mean[:rows], m2[:rows]
        check_observed(count, mean, m2, epoch, self.bucket_start, odd)
        var = m2 / torch.where(count > 1, count - 1, 1)
        self.num_samples_tracked += count[:, 0].to(self.num_samples_tracked)
        if self.momentum is None:
            keep = 1 - count / self.num_samples_tracked[:, None].to(count).clamp(min=1)
        else:
            keep = torch.full_like(count, self.momentum)
        keep = torch.where(count > 0, keep if epoch > self.start_update else torch.zeros_like(keep), 1.0)
        for (running, last, _), new in zip(self._pairs(), (mean, var)):
            values = new.lerp_(running.to(new.dtype), keep)
            running.copy_(_filled(values, count[:, 0] > 0) if self.fill_empty else values)
            if self._shared:
                last.copy_(running)


def _add_row(count: Tensor, mean: Tensor, m2: Tensor, outside: int, edge: int) -> None:
    """Put the samples of row `outside` into row `edge` where that has samples of its own."""
    n, more = count[edge].clone(), torch.where(count[edge] > 0, count[outside], 0)
    total, apart = (n + more).clamp(min=1), mean[outside] - mean[edge]
    m2[edge] += torch.where(more > 0, m2[outside] + apart.square() * n * more / total, 0)
    mean[edge] += apart * more / total
    count[edge] += more


def _filled(values: Tensor, seen: Tensor) -> Tensor:
    """Statistics (K, D) whose rows without samples become the mean of both neighbours', in ascending order.

    The first takes the second's and the last those before it. As each sees the one before already filled, row j after the
    last seen row p before it is 2^-(j - p) times that row's, plus 2^-(j - k + 2) times every old row k in p + 2 .. j + 1.
    A first row without samples is as if row 1 stood before it as well.
    """
    rows = len(values)
    if rows < 2 or bool(seen.all()):
        return values
    j, k = torch.arange(rows, device=values.device)[:, None], torch.arange(rows, device=values.device)
    before = torch.where(seen, k, -1).cummax(0).values[:, None]
    weights = torch.where((k >= before + 2) & (k <= j + 1), 0.5 ** (j - k + 2.0), 0.0).to(values)
    start = before.clamp(min=0) + (before < 0).to(before.dtype)
    weights.scatter_add_(1, start, (0.5 ** (j - before).to(values)))
    filled = torch.where(seen[:, None], values, weights @ values)
    if not seen[-1]:
        filled[-1] = filled[-2]
    return filled
