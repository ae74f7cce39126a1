"""Nothing is lost: runs that are killed, interrupted, or robbed of their disk end as runs that were not."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
import small_runs
from commands import ROOT, SUPPORT, execute

KILLS = int(os.environ.get("KILLS", "6"))  # KILLS=20 is the long form
# image and text, with and without FDS, epochs of passes and of steps (sts-b-dir)
RUNS = [("agedb-dir", "second_pass"), ("sts-b-dir", "streaming")]
SAVED = [("sts-b-dir", "second_pass"), ("sts-b-dir", "streaming")]
if "KILLS" in os.environ:
    SAVED.append(("agedb-dir", "streaming"))
    RUNS += [("agedb-dir", "vanilla"), ("sts-b-dir", "vanilla")]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, Path]:
    return {folder: small_runs.make_sample(folder, tmp_path_factory.mktemp(folder)) for folder in sorted({f for f, _ in RUNS})}


def attempted(path: Path, folder: str, data: Path, method: str, attempts: list[dict], epochs: int, *more: str) -> dict:
    """Run the attempts of tests/support/killing.py; returns what it printed, with "whole" and "parts", the two outcomes."""
    words = small_runs.words(folder, data, epochs, *small_runs.METHODS[method], *more)
    file = path / "spec.json"
    file.write_text(json.dumps({"words": words, "attempts": attempts, "seed": len(method), "epochs": epochs}))
    said = json.loads(execute([SUPPORT / "killing.py", file], ROOT / folder).splitlines()[-1])
    log = (path / "parts.log").read_text()
    assert said["last"] == 0, log
    return {**said, "log": log, **{name: small_runs.outcome(path / name) for name in ("whole", "parts")}}


@pytest.mark.parametrize(("folder", "method"), RUNS)
def test_kills_change_nothing(samples, tmp_path, folder, method):
    """SIGKILL at random moments, half of them while a checkpoint is being written: the same to the last bit."""
    attempts = [{"signal": signal.SIGKILL, "when": "writing" if i % 2 else "any"} for i in range(KILLS)]
    more = ["--optimizer", "sgd"] if folder == "agedb-dir" else []  # its checkpoints are smaller by a third: 90 MB
    found = attempted(tmp_path, folder, samples[folder], method, attempts, 4 if KILLS < 10 else 8, *more)
    assert [end["code"] for end in found["ends"]] == [-signal.SIGKILL] * KILLS
    assert sum(end["part"] for end in found["ends"]) >= 1  # half-written files were left
    assert sum(end["after"] > end["before"] for end in found["ends"]) >= 1  # and some checkpoints written
    assert small_runs.same(found["whole"], found["parts"])


@pytest.mark.parametrize(("folder", "method"), SAVED)
def test_signals_save_the_step_and_nothing_is_lost(samples, tmp_path, folder, method):
    """SIGTERM and SIGINT at random steps, by turns: the conventional exit code, a line, and the same result to the last bit."""
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT]
    found = attempted(tmp_path, folder, samples[folder], method, [{"signal": n, "when": "step"} for n in numbers], 3)
    assert [end["code"] for end in found["ends"]] == [128 + number for number in numbers]
    assert "train.py: interrupted by SIGTERM; epoch 1" in found["log"]
    assert found["log"].count("is saved, --resume goes on from there") == len(numbers)
    assert re.search(r"resumed from .* after \d epochs and [1-9]\d* steps", found["log"])
    assert small_runs.same(found["whole"], found["parts"])
