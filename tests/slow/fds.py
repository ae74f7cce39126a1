"""The slow twin of FDS: literal loops over the formulas."""

from __future__ import annotations

import math

from .bins import kernel_window, reflect_without_edge


def epoch_statistics(features, rows, count):
    """Per row: number of samples, mean (D,), unbiased variance (D,), biased when there is one sample."""
    D = len(features[0])
    numbers, means, variances = [0] * count, [[0.0] * D for _ in range(count)], [[0.0] * D for _ in range(count)]
    for b in range(count):
        mine = [z for z, row in zip(features, rows) if row == b]
        numbers[b] = n = len(mine)
        if n == 0:
            continue
        for d in range(D):
            means[b][d] = mean = sum(z[d] for z in mine) / n
            variances[b][d] = sum((z[d] - mean) ** 2 for z in mine) / (n - 1 if n > 1 else 1)
    return numbers, means, variances


def smooth_over_bins(values, seen, window):
    """Convolve a (count, D) table over its rows: reflected ends, rows never seen weigh nothing, the rest sums to 1.

    A row whose whole window is unseen keeps its own values.
    """
    count, D, h = len(values), len(values[0]), len(window) // 2
    smoothed = []
    for b in range(count):
        total, mass = [0.0] * D, 0.0
        for x in range(-h, h + 1):
            i = reflect_without_edge(b + x, count)
            if seen[i]:
                mass += window[x + h]
                for d in range(D):
                    total[d] += window[x + h] * values[i][d]
        smoothed.append([t / mass for t in total] if mass > 0 else list(values[b]))
    return smoothed


def calibrate(z, m1, v1, m2, v2, clip):
    """One sample (D,) from mean m1, variance v1 to m2, v2; a channel without variance stays as it is."""
    out = []
    for d in range(len(z)):
        if v1[d] == 0 or v2[d] < 0:
            out.append(z[d])
        else:
            factor = min(max(v2[d] / v1[d], clip[0]), clip[1])
            out.append((z[d] - m1[d]) * math.sqrt(factor) + m2[d])
    return out


class FDS:
    """Feature distribution smoothing over `count` rows; the caller says which row each sample belongs to."""

    def __init__(self, dim, count, start_update=0, start_smooth=1, window=None, momentum=0.9, clip=(0.1, 10.0)):
        window = window or kernel_window("gaussian", 5, 2)
        self.window = [value / sum(window) for value in window]
        self.count, self.momentum, self.clip = count, momentum, clip
        self.start_update, self.start_smooth = start_update, start_smooth
        self.seen, self.varied = [0] * count, [False] * count  # a bin of one sample has a mean and no variance
        self.mean, self.var = [[0.0] * dim for _ in range(count)], [[1.0] * dim for _ in range(count)]
        self.smoothed_mean, self.smoothed_var = self.mean, self.var

    def finish_epoch(self, features, rows, epoch):
        if epoch < self.start_update:
            return
        numbers, means, variances = epoch_statistics(features, rows, self.count)
        for b in range(self.count):
            n = numbers[b]
            if n == 0:
                continue  # nothing new is known of this bin
            if self.seen[b] == 0 or epoch == self.start_update:
                keep = 0.0
            elif self.momentum is None:
                keep = self.seen[b] / (self.seen[b] + n)
            else:
                keep = self.momentum
            if not self.varied[b] or epoch == self.start_update:
                keep_var = 0.0  # no variance is known yet: the epoch's is taken whole, 0 from one sample
            elif n == 1:
                keep_var = 1.0  # one sample says nothing of the variance
            else:
                keep_var = keep
            self.seen[b] += n
            for d in range(len(means[b])):
                self.mean[b][d] = (1 - keep) * means[b][d] + keep * self.mean[b][d]
                self.var[b][d] = (1 - keep_var) * variances[b][d] + keep_var * self.var[b][d]
            self.varied[b] = any(self.var[b])
        self.smoothed_mean = smooth_over_bins(self.mean, self.seen, self.window)
        self.smoothed_var = smooth_over_bins(self.var, self.varied, self.window)

    def smooth(self, features, rows, epoch):
        out = []
        for z, b in zip(features, rows):
            if epoch < self.start_smooth or self.seen[b] == 0:
                out.append(list(z))
            else:
                after = self.smoothed_mean[b], self.smoothed_var[b]
                out.append(calibrate(z, self.mean[b], self.var[b], *after, self.clip))
        return out
