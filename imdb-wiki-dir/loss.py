"""The losses of IMDB-WIKI-DIR: its labels are ages, so the library's constants stand."""

from imbalanced_regression.methods.losses import *  # noqa: F403  # the library's, by their published names
