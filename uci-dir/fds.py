"""FDS with the bins of the table."""

from __future__ import annotations

from imbalanced_regression import Bins
from imbalanced_regression.methods import fds


class FDS(fds.FDS):
    """`imbalanced_regression.FDS` over the table's `bins`; other values of `bucket_num` divide their range into that many."""

    def __init__(self, feature_dim, bucket_num=None, bucket_start=0, start_update=0, start_smooth=1,
                 kernel="gaussian", ks=5, sigma=2, momentum=0.9, kind="own", *, bins):
        if bucket_num not in (None, bins.count):
            bins = Bins.uniform(bins.edges[0], bins.edges[-1], bucket_num)
        released = {"fill_empty": True} if kind == "released" else {}
        super().__init__(feature_dim, None, bucket_start, start_update, start_smooth, kernel, ks, sigma, momentum, bins=bins,
                         kind=kind, **released)
