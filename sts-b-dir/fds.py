"""FDS with STS-B-DIR's bins (50 over the scores 0 to 5) and its bounds on the ratio of variances."""

from __future__ import annotations

from utils import BINS

from imbalanced_regression.methods import fds

CLIP = (0.5, 2.0)


class FDS(fds.FDS):
    """`imbalanced_regression.FDS` whose labels are scores in 0..5.

    Other values of `bucket_num` divide 0..5 into that many bins.
    """

    def __init__(self, feature_dim, bucket_num=BINS.count, bucket_start=0, start_update=0, start_smooth=1,
                 kernel="gaussian", ks=5, sigma=2, momentum=0.9, kind="own"):
        bins = BINS if bucket_num == BINS.count else type(BINS).uniform(0, 5, bucket_num)
        released = {"fill_empty": True} if kind == "released" else {}
        super().__init__(feature_dim, bucket_num, bucket_start, start_update, start_smooth, kernel, ks, sigma, momentum,
                         bins=bins, clip=CLIP, kind=kind, **released)
