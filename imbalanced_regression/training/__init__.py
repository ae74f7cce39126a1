"""The loop: what a run is told (Plan), what it reads (Splits), what it minimises (Objective), and `run`; no method's name.

The public names load their module when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

_HOME = {
    "Arrays": ".evaluation",
    "Objective": ".objective",
    "Pixels": ".evaluation",
    "Plan": ".plan",
    "Runtime": ".runtime",
    "Splits": ".loaders",
    "run": ".engine",
}

__all__ = list(_HOME)

if TYPE_CHECKING:
    from .engine import run
    from .evaluation import Arrays, Pixels
    from .loaders import Splits
    from .objective import Objective
    from .plan import Plan
    from .runtime import Runtime


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)
