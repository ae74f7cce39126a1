"""What is STS-B-DIR's own: its 50 bins over the scores 0 to 5, its published weights and shots, and its metrics."""

from __future__ import annotations

import numpy as np

from imbalanced_regression import Bins, correlations, get_lds_kernel_window, lds_weights, shot_metrics
from imbalanced_regression.metrics import GROUPS

__all__ = ["BINS", "SHOTS", "evaluate", "get_lds_kernel_window", "sample_weights"]

BINS = Bins.uniform(0, 5, 50)

# The published lists, not the counts, decide a bin's shot: rows of other draws of this data set stay comparable.
_MANY = {0, *range(10, 50, 2), 49}
_MEDIUM = {2, 4, 6, 8, 27, 35, 37}
SHOTS = np.array(["many" if b in _MANY else "medium" if b in _MEDIUM else "few" for b in range(BINS.count)])


def sample_weights(
    labels, reweight: str, lds: bool, lds_kernel: str = "gaussian", lds_ks: int = 5, lds_sigma: float = 2
) -> np.ndarray:
    """The published weight of every training pair: scores (N,) in 0..5 -> (N,) float32 with mean 1.

    reweight is "none" (all ones), "sqrt_inv" or "inverse". No clipping; zeros lie beyond the end bins; "inverse" with LDS
    cuts the smoothed counts to whole numbers, because the published weights do.
    """
    return lds_weights(
        labels, BINS, reweight=reweight, lds=lds, kernel=lds_kernel, ks=lds_ks, sigma=lds_sigma,
        boundary="zeros", truncate=reweight == "inverse",
    )


def evaluate(preds, scores, train_scores) -> dict:
    """MSE, L1, G-Mean by shot on the scale 0..5, with Pearson's and Spearman's correlation in each group."""
    preds, scores = np.ravel(preds), np.ravel(scores)
    metrics = shot_metrics(preds, scores, train_scores, BINS, shots=SHOTS)
    shot = SHOTS[BINS.index(scores)]
    for group in GROUPS:
        chosen = np.ones(len(scores), bool) if group == "overall" else shot == group
        metrics[group].update(
            correlations(preds[chosen], scores[chosen]) if chosen.any() else {"pearson": np.nan, "spearman": np.nan}
        )
    return metrics
