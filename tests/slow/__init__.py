"""The slow twins: every method a second time, as literal loops over the formulas, a file for each.

Written from the paper (arXiv 2102.09554) and the project's decisions, never from the library: where the two agree,
both were read the same way. Everything is float64, one sample at a time. K bins, N samples, D features, h half window.
"""

from __future__ import annotations

from .bins import bin_counts, bin_index, compared, index_among, kernel_window, reflect_with_edge, reflect_without_edge
from .fds import FDS, calibrate, epoch_statistics, smooth_over_bins
from .lds import age_weights, effective_density, joint_weights, lds_weights, weights_per_output
from .losses import concordance, loss
from .metrics import (
    depth_metrics,
    depth_numbers,
    mean_over_bins,
    pearson,
    regression_numbers,
    shot,
    shot_metrics,
    shots_in_order,
    spearman,
)
from .per_label import smooth_per_label, statistics_per_label

