"""What several test files share: the path of the real data, where a machine has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the real data: $IMBALANCED_REGRESSION_SHARED, or ../shared by the checkout; skips without it."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("IMBALANCED_REGRESSION_SHARED") or beside)
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data in {folder}")
    return folder
