"""Nothing is lost: runs that are killed, interrupted, or robbed of their disk end as runs that were not."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import trusted
from commands import ROOT, execute

KILLS = 20
# image and text, with and without FDS, epochs of passes and of steps (sts-b-dir)
RUNS = [("agedb-dir", "vanilla"), ("agedb-dir", "second_pass"), ("sts-b-dir", "vanilla"), ("sts-b-dir", "streaming")]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, Path]:
    return {folder: trusted.make_sample(folder, tmp_path_factory.mktemp(folder)) for folder in sorted({f for f, _ in RUNS})}


def spec(path: Path, folder: str, data: Path, method: str, attempts: list[dict], epochs: int, seed: int) -> dict:
    """Run the attempts of tests/killing.py; returns what it printed, with "whole" and "parts", the two outcomes."""
    store = {name: path / name for name in ("whole", "parts")}
    words = trusted.words(folder, data, epochs, *trusted.METHODS[method])
    began = time.monotonic()
    execute(["train.py", *words, "--store_root", store["whole"]], ROOT / folder)
    began = time.monotonic() - began
    file = path / "spec.json"
    content = {"words": words, "store": str(store["parts"]), "attempts": attempts, "seed": seed, "epochs": epochs}
    file.write_text(json.dumps({**content, "epoch": max(0.1, (began - 4) / epochs)}))
    said = json.loads(execute([ROOT / "tests" / "killing.py", file], ROOT / folder).splitlines()[-1])
    assert said["last"] == 0, store["parts"].with_suffix(".log").read_text()
    return {**said, **{name: trusted.outcome(at) for name, at in store.items()}}


@pytest.mark.parametrize(("folder", "method"), RUNS)
def test_twenty_kills_change_nothing(samples, tmp_path, folder, method):
    """SIGKILL at random moments, a quarter of them while a checkpoint is being written: the same to the last bit."""
    attempts = [{"signal": signal.SIGKILL, "when": "writing" if i % 4 == 3 else "any"} for i in range(KILLS)]
    found = spec(tmp_path, folder, samples[folder], method, attempts, epochs=8, seed=len(method))
    assert [end["code"] for end in found["ends"]] == [-signal.SIGKILL] * KILLS
    assert sum(end["writing"] for end in found["ends"]) >= 2
    assert trusted.same(found["whole"], found["parts"])
