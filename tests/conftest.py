"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# the same examples each time, so that a run of the tests says what it said before; EXAMPLES=2000 looks for new faults
settings.register_profile("ours", derandomize="EXAMPLES" not in os.environ, deadline=None, database=None)
settings.load_profile("ours")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout, or IMBALANCED_REGRESSION_SHARED; tests that need it skip without."""
    beside = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("IMBALANCED_REGRESSION_SHARED", beside))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data in {folder}; set IMBALANCED_REGRESSION_SHARED")
    return folder


# -- a run of the tests has a temporary folder of its own ----------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config) -> None:
    # pytest's own numbered folders are shared with other runs: a run would tidy up after one that was killed, and fail
    # where that one left a mounted disk or a process that still writes. Workers of xdist are given a folder by the first.
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.own_folder = config.option.basetemp = tempfile.mkdtemp(prefix="imbalanced_regression-tests-")


def pytest_unconfigure(config) -> None:
    # what a failing test left is kept to be looked at, the rest is gigabytes
    if (folder := getattr(config, "own_folder", None)) and not getattr(config, "failing", False):
        shutil.rmtree(folder, ignore_errors=True)


# -- nothing that a test writes lands in the checkout --------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[1]
OF_TOOLS = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis"}


def pytest_addoption(parser) -> None:
    parser.addoption("--untouched", action="store_true", help="fail where files have appeared in the checkout or changed")


def files_of_the_checkout() -> dict[Path, int]:
    found = {}
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in OF_TOOLS and not name.endswith(".egg-info")]
        found.update({Path(folder, name): os.lstat(Path(folder, name)).st_mtime_ns for name in names})
    return found


def pytest_sessionstart(session) -> None:
    if session.config.getoption("--untouched") and not hasattr(session.config, "workerinput"):
        session.config.before = files_of_the_checkout()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session) -> None:
    session.config.failing = session.exitstatus != 0
    before = getattr(session.config, "before", None)
    if before is None:
        return
    now = files_of_the_checkout()
    session.config.touched = sorted(str(path) for path in now.keys() | before.keys() if now.get(path) != before.get(path))
    if session.config.touched and session.exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter, config) -> None:
    if touched := getattr(config, "touched", None):
        terminalreporter.section("--untouched: the tests wrote into the checkout")
        terminalreporter.line("\n".join(touched))
