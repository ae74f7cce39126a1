"""The first of several processes, whose others never come: it says after a moment for whom it waits."""

from __future__ import annotations

from imbalanced_regression import cli
from imbalanced_regression.training import runtime

runtime._PATIENCE = 0.01
cli.guard(lambda: runtime.start("cpu"))
