"""What is SHHS-DIR's own: its bins on the 21 scores 0, 5, ..., 100, its weights, and its metrics by shot."""

from __future__ import annotations

import numpy as np

from imbalanced_regression import Bins, get_lds_kernel_window, lds_weights, shot_metrics

__all__ = ["BINS", "evaluate", "get_lds_kernel_window", "sample_weights"]

# 5 wide and centred on the scores: SF-36 answers give 20 possible steps, so of bins 1 wide four in five would be empty
BINS = Bins.width(-2.5, 102.5, 5)


def sample_weights(
    labels, reweight: str, lds: bool, lds_kernel: str = "gaussian", lds_ks: int = 5, lds_sigma: float = 2
) -> np.ndarray:
    """The weight of every training night: scores (N,) in 0..100 -> (N,) float32 with mean 1.

    reweight is "none" (all ones), "sqrt_inv" or "inverse". No clipping, zeros beyond the end bins, as for STS-B; nothing
    published cuts the smoothed counts to whole numbers here, so they stay as they are.
    """
    return lds_weights(
        labels, BINS, reweight=reweight, lds=lds, kernel=lds_kernel, ks=lds_ks, sigma=lds_sigma, boundary="zeros",
    )


def evaluate(preds, scores, train_scores) -> dict:
    """MSE, MAE (l1) and G-Mean in points, by how many training nights have the score: more than 100, 20 to 100, fewer."""
    return shot_metrics(preds, scores, train_scores, BINS)
