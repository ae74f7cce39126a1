"""The scripts of benchmarks/ run; their numbers are judged by hand, on a quiet machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_methods_speed_runs_and_its_digits_hold():
    command = [sys.executable, str(ROOT / "benchmarks" / "methods_speed.py"), "--quick", "--threads", "1"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "LDS weights" in found.stdout
    assert found.stdout.count("yes") == 1
