"""What is IMDB-WIKI-DIR's own: its LDS window, its published weights, and its metrics by shot."""

from __future__ import annotations

import numpy as np

from imbalanced_regression import get_lds_kernel_window, shot_metrics
from imbalanced_regression.faces.ages import AGE_BINS, age_weights

__all__ = ["AGE_BINS", "LDS_KS", "LDS_SIGMA", "evaluate", "get_lds_kernel_window", "sample_weights"]

LDS_KS, LDS_SIGMA = 5, 1  # the defaults of the first release; the paper's numbers have 5 and 2


def sample_weights(
    labels, reweight: str, lds: bool, lds_kernel: str = "gaussian", lds_ks: int = LDS_KS, lds_sigma: float = LDS_SIGMA
) -> np.ndarray:
    """The published weight of every training face: ages (N,) -> (N,) float32 with mean 1. See `ages.age_weights`."""
    return age_weights(labels, reweight, lds, lds_kernel, lds_ks, lds_sigma)


def evaluate(preds, ages, train_ages) -> dict:
    """MSE, MAE (l1) and G-Mean in years, by how many training faces have the age: more than 100, 20 to 100, fewer."""
    return shot_metrics(preds, ages, train_ages, AGE_BINS)
