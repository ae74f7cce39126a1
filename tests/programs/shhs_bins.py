"""SHHS-DIR: scores fall into their own bins; run in its folder."""

import numpy as np
from utils import BINS, sample_weights

scores = np.arange(0, 101, 5)
assert BINS.count == 21 and (BINS.index(scores) == np.arange(21)).all()
weights = sample_weights(np.repeat(scores, np.arange(1, 22)), "inverse", True)
assert abs(weights.mean() - 1) < 1e-5 and weights[0] > weights[-1]
