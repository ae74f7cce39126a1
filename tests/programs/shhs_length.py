"""SHHS-DIR: the nights in the folder it is given are four segments long; run in its folder."""

import sys
from pathlib import Path

import numpy as np

assert {len(np.load(path)["eeg"]) for path in Path(sys.argv[1]).glob("*.npz")} == {4}
