"""FDS with SHHS-DIR's bins (one for each score 0, 5, ..., 100) and its bounds on the ratio of variances."""

from __future__ import annotations

from utils import BINS

from imbalanced_regression.methods import fds

CLIP = (0.5, 2.0)


class FDS(fds.FDS):
    """`imbalanced_regression.FDS` whose labels are scores in 0..100.

    Other values of `bucket_num` divide -2.5..102.5 into that many bins.
    """

    def __init__(self, feature_dim, bucket_num=BINS.count, bucket_start=0, start_update=0, start_smooth=1,
                 kernel="gaussian", ks=5, sigma=2, momentum=0.9, kind="own"):
        bins = BINS if bucket_num == BINS.count else type(BINS).uniform(BINS.edges[0], BINS.edges[-1], bucket_num)
        released = {"fill_empty": True} if kind == "released" else {}
        super().__init__(feature_dim, bucket_num, bucket_start, start_update, start_smooth, kernel, ks, sigma, momentum,
                         bins=bins, clip=CLIP, kind=kind, **released)
