"""A folder's download script with another hash of the table it expects, so that a sample can stand for the real data.

    python other_hash.py download_agedb SHA256 VALUE WORDS...    # in the folder
"""

from __future__ import annotations

import importlib
import sys

from imbalanced_regression.cli import guard

_, script, name, value, *words = sys.argv
module = importlib.import_module(script)
setattr(module, name, value)
sys.argv = [f"{script}.py", *words]
guard(module.main)
