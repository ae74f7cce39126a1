"""NYUD2-DIR: the mask of the folder it is given is balanced; run in its folder."""

import sys

import numpy as np
from loaddata import DepthDataset, read_mask, read_pairs
from utils import BINS

data = DepthDataset(read_pairs(sys.argv[1], "nyu2_test.csv"), 32, 44, "16-bit", mask=read_mask(sys.argv[1], 4, 32, 44))
marked, every = np.zeros(100, int), np.zeros(100, int)
for _, depth, weights in (data[i] for i in range(4)):
    assert depth.shape == weights.shape == (1, 32, 44)
    marked += BINS.counts(depth[weights > 0].numpy())
    every += BINS.counts(depth.reshape(-1).numpy())
present = every[every > 0]
assert (marked[every > 0] == present.min()).all(), marked
