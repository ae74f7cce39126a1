"""The losses of AgeDB-DIR: errors are in years, which the library's constants are made for."""

from imbalanced_regression.methods.losses import *  # noqa: F403  # the library's, by their published names
