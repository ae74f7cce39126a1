"""FDS with AgeDB-DIR's buckets: a bin for every year 3 to 99, younger faces in the first, older ones in the last."""

from __future__ import annotations

from imbalanced_regression.methods import fds

BUCKET_NUM, BUCKET_START, CLIP = 100, 3, (0.1, 10.0)


class FDS(fds.FDS):
    """`imbalanced_regression.FDS` whose labels are ages in years."""

    def __init__(self, feature_dim, bucket_num=BUCKET_NUM, bucket_start=BUCKET_START, start_update=0, start_smooth=1,
                 kernel="gaussian", ks=9, sigma=1, momentum=0.9, kind="own"):
        super().__init__(
            feature_dim, bucket_num, bucket_start, start_update, start_smooth, kernel, ks, sigma, momentum, clip=CLIP, kind=kind
        )
