"""Loads every public name of the package, and says where that lies."""

from __future__ import annotations

import imbalanced_regression
from imbalanced_regression.training import Plan  # noqa: F401

for name in imbalanced_regression.__all__:
    getattr(imbalanced_regression, name)
print(imbalanced_regression.__file__)
