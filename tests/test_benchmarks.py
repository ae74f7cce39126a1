"""The scripts of benchmarks/ run; their numbers are judged by hand, on a quiet machine."""

from __future__ import annotations

import pytest
from commands import ROOT, execute

SCRIPTS = ROOT / "benchmarks"


def test_methods_speed_runs_and_its_digits_hold():
    said = execute([SCRIPTS / "methods_speed.py", "--quick", "--threads", "1"], ROOT)
    assert "LDS weights" in said
    assert said.count("yes") == 1


@pytest.mark.parametrize(
    "words", [["loader_speed.py", "--quick"], ["depth_speed.py", "--quick"], ["night_speed.py", "--quick"],
              ["depth_memory.py", "--model", "resnet18", "--height", "32"]], ids=lambda words: words[0],
)
def test_a_speed_script_runs(words):
    assert execute([SCRIPTS / words[0], *words[1:]], ROOT)


def test_methods_cost_runs_every_method():
    rows = execute([SCRIPTS / "methods_cost.py", "--quick"], ROOT).splitlines()[2:]
    assert sum(row.startswith("plain") for row in rows) == 2
    for method in ("RankSim", "SRL", "BNI", "Dist Loss", "UVOTE", "NIG head", "BSAM", "ConR", "Rank-N-Contrast"):
        assert sum(row.startswith(method) for row in rows) == 1
