"""SHHS-DIR: takes a segment of one signal out of the night that it is given."""

import sys

import numpy as np

night = dict(np.load(sys.argv[1]))
night["ecg"] = night["ecg"][1:]
np.savez(sys.argv[1], **night)
