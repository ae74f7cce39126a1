"""The losses of SHHS-DIR: errors are in points of 0..100, about as large as years are for ages.

At the published error of about 15 points the library's focal factor is 0.9, and its Huber loss is linear but near 0.
"""

from imbalanced_regression.methods.losses import *  # noqa: F403  # the library's, by their published names
