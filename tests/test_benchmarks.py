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


def test_methods_cost_runs_every_method():
    command = [sys.executable, str(ROOT / "benchmarks" / "methods_cost.py"), "--quick"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    rows = found.stdout.splitlines()[2:]
    assert sum(row.startswith("plain") for row in rows) == 2
    for method in ("RankSim", "SRL", "BNI", "Dist Loss", "UVOTE", "NIG head", "BSAM", "ConR", "Rank-N-Contrast"):
        assert sum(row.startswith(method) for row in rows) == 1
