"""The two age benchmarks: their flags, bins and published weights, and their splits as data sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bins import Bins
from ..methods.lds import lds_weights
from ..training.loaders import Splits
from .dataset import AgeDataset
from .table import LAST_BIN, SPLITS, AgeSplit

AGE_BINS = Bins.width(0, LAST_BIN + 1, 1)  # a bin per year, 0..120; larger ages count as 120
PUBLISHED_CLIP = (5, 1000)  # bounds of the counts of "inverse"


def age_weights(ages, reweight: str, lds: bool, lds_kernel: str, lds_ks: int, lds_sigma: float) -> np.ndarray:
    """The published weights: ages (N,) -> (N,) float32 with mean 1; all ones for reweight "none".

    Counts per year, for "inverse" within 5..1000; zeros beyond the end bins; "inverse" with LDS cuts the smoothed counts
    to whole numbers, because the published weights do.
    """
    inverse = reweight == "inverse"
    return lds_weights(
        ages, AGE_BINS, reweight=reweight, lds=lds, kernel=lds_kernel, ks=lds_ks, sigma=lds_sigma,
        clip=PUBLISHED_CLIP if inverse else None, boundary="zeros", truncate=inverse,
    )


def age_splits(
    splits: dict[str, AgeSplit],
    weights: np.ndarray,
    *,
    img_size: int,
    seed: int,
    cache: str | None = None,
    workers: int = 4,
) -> Splits:
    """The csv's splits as data sets; training images are augmented, and the statistics of FDS see them so too."""
    options: dict[str, Any] = {"img_size": img_size, "seed": seed, "cache": cache, "cache_workers": max(workers, 1)}
    train, val, test = (splits[name] for name in SPLITS)
    return Splits(
        train=AgeDataset(train.paths, train.ages, weights, train=True, **options),
        val=AgeDataset(val.paths, val.ages, **options),
        test=AgeDataset(test.paths, test.ages, **options),
    )
