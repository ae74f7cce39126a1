"""The losses of UCI-DIR: errors are in the label's own unit (dB, rings, price, MPa)."""

from imbalanced_regression.methods.losses import *  # noqa: F403  # the library's, by their published names
