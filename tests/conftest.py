"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# the same examples each time, so that a run of the tests says what it said before; EXAMPLES=2000 looks for new faults
settings.register_profile("ours", derandomize="EXAMPLES" not in os.environ, deadline=None)
settings.load_profile("ours")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout, or IMBALANCED_REGRESSION_SHARED; tests that need it skip without."""
    beside = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("IMBALANCED_REGRESSION_SHARED", beside))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data in {folder}; set IMBALANCED_REGRESSION_SHARED")
    return folder
