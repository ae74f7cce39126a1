"""The state of a run, as its folder shows it: done, failed, begun or waiting; and the command that brings it further.

The one idea: nothing else is written down about a run, so whoever asks, after whatever kill, finds the same.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from .. import files
from .rows import Job

RECORD, OUTPUT, FAILED = "run.json", "output.log", "failed.txt"
_BEST = "ckpt.best.pth.tar"


def run_folder(job: Job) -> Path | None:
    """The folder that train.py has made in the run's place, or None."""
    found = [path.parent for path in job.place.glob("*/args.json")]
    return found[0] if found else None


def state(job: Job) -> str:
    """ "done", "failed", "begun" or "waiting"."""
    folder = run_folder(job)
    if folder is not None and (folder / "metrics.json").is_file():
        return "done"
    if (job.place / FAILED).is_file():
        return "failed"
    return "waiting" if folder is None else "begun"


def is_held(job: Job) -> bool:
    """Whether a process still trains in the run's folder: one that outlived the sweep that started it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    for lock in job.place.glob("*/.lock"):
        with open(lock, "ab") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
    return False


def command(job: Job, jobs: list[Job], *, strict: bool = True) -> list[str]:
    """The words that train the run, in its benchmark's folder. Without `strict` a missing checkpoint keeps its {NAME}."""
    words = []
    for word in job.row.flags:
        for name in job.row.needs:
            needed = _needed(job, name, jobs)
            folder = run_folder(needed)
            if folder is not None and state(needed) == "done":
                word = word.replace(f"{{{name}}}", str((folder / _BEST).resolve()))
            elif strict:
                raise ValueError(f"{job.title}: {needed.title} has no checkpoint yet")
        words.append(word)
    return [sys.executable, "train.py", *job.flags, *words, "--seed", str(job.seed), "--store_root", str(job.place.resolve()),
            "--resume"]


def _needed(job: Job, name: str, jobs: list[Job]) -> Job:
    return next(other for other in jobs
                if (other.row.name, other.benchmark, other.dataset, other.seed) == (name, job.benchmark, job.dataset, job.seed))


def ready(job: Job, jobs: list[Job]) -> bool | None:
    """Whether the run can be started; None where it never can, as a run that it needs has failed."""
    states = [state(_needed(job, name, jobs)) for name in job.row.needs]
    if "failed" in states:
        return None
    return all(found == "done" for found in states) and not is_held(job)


def forget_failures(jobs: list[Job]) -> None:
    """Failed runs are tried again: until then they do not keep others from starting that need them."""
    for job in jobs:
        with contextlib.suppress(FileNotFoundError):
            (job.place / FAILED).unlink()


def give_up(job: Job) -> None:
    """Note that a run cannot be started, as one that it needs has failed."""
    job.place.mkdir(parents=True, exist_ok=True)
    files.write(job.place / FAILED, "not started: a run whose checkpoint it needs has failed\n")


def read_record(place: Path) -> dict:
    """What the sweep wrote down of a run (run.json): row, seed, command, commit, versions, hardware, date, seconds; or {}."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((place / RECORD).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def seconds(job: Job) -> float:
    """How long the run has been trained so far, over all its starts."""
    found = read_record(job.place).get("seconds", 0.0)
    return float(found) if isinstance(found, (int, float)) else 0.0
