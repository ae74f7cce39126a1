"""The first release's FDS as literal loops over its formulas; the storage is shared by sharing the very lists.

One idea: nothing is vectorised and nothing is clever, so that it can be read beside the formulas. Features and labels are
lists of floats; a state is lists per row of the statistics.
"""

from __future__ import annotations

import math


def member(labels: list[float], row: int, first: int, last: int) -> list[int]:
    """The samples of a bin without edges: those whose label is its number, at the end bins also those beyond.

    A label beyond the ends counts only if one in the end bin itself is there.
    """
    number = first + row
    exactly = [i for i, label in enumerate(labels) if label == number]
    if not exactly:
        return []
    if number == first:
        return [i for i, label in enumerate(labels) if label <= number]
    if number == last:
        return [i for i, label in enumerate(labels) if label >= number]
    return exactly


class FDS:
    """`rows_of(labels, row)` gives the samples of a row: `member` for ages, those in the bin elsewhere."""

    def __init__(self, dim, rows, rows_of, window, clip=(0.1, 10.0), start_update=0, start_smooth=1, momentum=0.9,
                 share=True, fill_empty=False, any_sign=True):
        self.dim, self.rows, self.rows_of, self.window, self.clip = dim, rows, rows_of, window, clip
        self.start_update, self.start_smooth, self.momentum = start_update, start_smooth, momentum
        self.share, self.fill_empty, self.any_sign = share, fill_empty, any_sign
        self.epoch = start_update
        self.mean, self.var = self.table(0.0), self.table(1.0)
        self.last_mean, self.last_var = self.table(0.0), self.table(1.0)
        self.smoothed_mean, self.smoothed_var = self.table(0.0), self.table(1.0)
        self.tracked = [0] * rows

    def table(self, value):
        return [[value] * self.dim for _ in range(self.rows)]

    def smooth(self, features, labels, epoch):
        out = [list(feature) for feature in features]
        if epoch < self.start_smooth:
            return out
        for row in range(self.rows):
            if sum(self.last_var[row]) < 1e-10:
                continue
            for i in self.rows_of(labels, row):
                for d in range(self.dim):
                    var, smoothed = self.last_var[row][d], self.smoothed_var[row][d]
                    if var == 0 or (not self.any_sign and (var < 0 or smoothed < 0)):
                        continue
                    ratio = min(max(smoothed / var, self.clip[0]), self.clip[1])
                    out[i][d] = (features[i][d] - self.last_mean[row][d]) * math.sqrt(ratio) + self.smoothed_mean[row][d]
        return out

    def over_bins(self, statistics):
        half, smoothed = len(self.window) // 2, self.table(0.0)
        for row in range(self.rows):
            for offset in range(-half, half + 1):
                at = abs(row + offset)  # mirrored at the first row
                if at > self.rows - 1:
                    at = 2 * (self.rows - 1) - at
                for d in range(self.dim):
                    smoothed[row][d] += self.window[offset + half] * statistics[at][d]
        return smoothed

    def update_last_epoch_stats(self, epoch):
        if epoch == self.epoch + 1:
            self.epoch += 1
            if self.share:
                self.last_mean, self.last_var = self.mean, self.var  # the same lists from here on
            else:
                self.last_mean, self.last_var = [list(r) for r in self.mean], [list(r) for r in self.var]
            self.smoothed_mean, self.smoothed_var = self.over_bins(self.mean), self.over_bins(self.var)

    def update_running_stats(self, features, labels, epoch):
        if epoch < self.start_update:
            return
        empty = []
        for row in range(self.rows):
            mine = self.rows_of(labels, row)
            if not mine:
                empty.append(row)
                continue
            self.tracked[row] += len(mine)
            factor = self.momentum if self.momentum is not None else 1 - len(mine) / self.tracked[row]
            factor = 0 if epoch == self.start_update else factor
            for d in range(self.dim):
                values = [features[i][d] for i in mine]
                mean = sum(values) / len(values)
                var = sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
                self.mean[row][d] = (1 - factor) * mean + factor * self.mean[row][d]
                self.var[row][d] = (1 - factor) * var + factor * self.var[row][d]
        for row in empty if self.fill_empty else ():
            for d in range(self.dim):
                for table in (self.mean, self.var):
                    if row == 0:
                        table[row][d] = table[1][d]
                    elif row == self.rows - 1:
                        table[row][d] = table[row - 1][d]
                    else:
                        table[row][d] = (table[row - 1][d] + table[row + 1][d]) / 2
