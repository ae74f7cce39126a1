"""Imports a module, and fails where that has loaded one of others.

    python imports_alone.py MODULE OTHERS...
"""

from __future__ import annotations

import importlib
import sys

_, module, *others = sys.argv
importlib.import_module(module)
if loaded := set(others) & set(sys.modules):
    sys.exit(f"{module} has loaded {loaded}")
