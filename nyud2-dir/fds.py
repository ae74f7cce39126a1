"""FDS with NYUD2-DIR's buckets: depth bins 7 to 99 of 0.1 m, on every pixel of a 128-channel map."""

from __future__ import annotations

from torch import Tensor
from utils import BINS, BUCKET_NUM, BUCKET_START

from imbalanced_regression.methods import fds

CLIP = (0.2, 5.0)


class FDS(fds.FDS):
    """`imbalanced_regression.FDS` whose labels are depths in metres, (B, 1, H, W) for features (B, D, H, W).

    Nearer pixels than bin `bucket_start` count in it. Other values of `bucket_num` divide 0..10 m into that many bins.
    """

    def __init__(self, feature_dim, bucket_num=BUCKET_NUM, bucket_start=BUCKET_START, start_update=0, start_smooth=1,
                 kernel="gaussian", ks=5, sigma=2, momentum=0.9, kind="own"):
        bins = BINS if bucket_num == BINS.count else type(BINS).uniform(0, 10, bucket_num)
        released = {"share": False} if kind == "released" else {}
        super().__init__(feature_dim, bucket_num, bucket_start, start_update, start_smooth, kernel, ks, sigma, momentum,
                         bins=bins, clip=CLIP, kind=kind, **released)

    def observe(self, features: Tensor, labels: Tensor, known: Tensor | None = None) -> None:
        """As in the library, without the pixels that have no depth (0): the corners that a rotation leaves empty.

        The first release counts them in bin `bucket_start`, and so does its kind.
        """
        dense = features.dim() == 4 and not self.observes_smoothed
        super().observe(features, labels, labels > 0 if dense else None)
