"""Methods x benchmarks x seeds by one command: runs that are finished are skipped, begun ones resumed, failed ones listed.

The one idea: what a sweep has done lies in the runs' own folders and nowhere else, so it can be killed at any moment and
the same command goes on. It starts train.py with --resume, which goes on where a run stands, or begins it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .compare import Method, read_run
from .overview import overview
from .rows import Job
from .starting import Started, can_fork, serve_forks, versions
from .states import FAILED, forget_failures, give_up, read_record, ready, run_folder, seconds, state

logger = logging.getLogger(__name__)

_LOOK = 0.05  # seconds between looks at the runs
MANY = 8  # with so many runs waiting, importing torch once for all of them pays


@contextlib.contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Hold the runs for this sweep alone. Raises ValueError where another sweep works on them."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".sweep.lock", "ab") as file:
        try:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows
            pass
        except OSError:
            raise ValueError(f"--out: another sweep works in {root}; wait for it, or name another folder") from None
        yield


def threads_each(runs: int) -> int:
    """The threads of each of so many runs at a time: its share of the cores, or a smaller OMP_NUM_THREADS of the caller's."""
    share, asked = max(1, (os.cpu_count() or 1) // runs), os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(asked)) if asked.isdecimal() and int(asked) else share


def run_all(jobs: list[Job], *, at_once: int, gpus: list[str], say, fork: str = "auto") -> None:
    """Run what is not done, at most `at_once` runs at a time, each on its share of the cores or on its GPU.

    `fork`: "always" starts each run as a fork of one process that has imported torch, "never" as a fresh process, "auto" as
    a fork where `MANY` runs wait and there is no GPU, which an import that looked for it would keep from the forks. Failed
    runs do not end the others. On SIGTERM and SIGINT the runs save their step before this returns.
    """
    abouts = {folder: versions(folder) for folder in {job.benchmark for job in jobs}}
    waiting = [job for job in jobs if state(job) != "done"]
    forget_failures(waiting)
    free = list(gpus) if gpus else [""] * at_once
    threads = str(threads_each(len(free)))
    on_gpu = any(about["hardware"]["gpus"] for about in abouts.values())
    forks = can_fork() and (fork == "always" or (fork == "auto" and len(waiting) >= MANY and not on_gpu))
    if forks and waiting:
        serve_forks(threads)
    slots: list[tuple[Started, str]] = []
    try:
        while waiting or slots:
            for started, slot in [pair for pair in slots if pair[0].ended()]:
                slots.remove((started, slot))
                free.append(slot)
                say(started.job, state(started.job))
            for job in list(waiting) if free else ():
                can_start = ready(job, jobs)
                if can_start is None:
                    give_up(job)
                    waiting.remove(job)
                    say(job, "failed")
                elif can_start:
                    slot = free.pop(0)
                    environment = {"OMP_NUM_THREADS": threads, **({"CUDA_VISIBLE_DEVICES": slot} if slot else {})}
                    waiting.remove(job)
                    slots.append((Started(job, jobs, environment, abouts[job.benchmark], forks=forks), slot))
                    say(job, "started")
                    if not free:
                        break
            say(None, str(len(slots)))
            time.sleep(_LOOK)
    finally:
        for started, _ in slots:
            started.ask_to_stop()
        for started, _ in slots:
            started.wait()


# -- what is shown -----------------------------------------------------------------------------------------------------


def summary(jobs: list[Job], running: int = 0, at_once: int = 1) -> str:
    """One line: how many runs are done, running, failed and waiting, and about how long the others will take."""
    counts = Counter(state(job) for job in jobs)
    left = len(jobs) - counts["done"] - counts["failed"]
    took = [used for job in jobs if state(job) == "done" and (used := seconds(job)) > 0]
    line = f"{counts['done']} of {len(jobs)} done, {running} running, {counts['failed']} failed"
    if left and took:
        minutes = left * sum(took) / len(took) / max(at_once, 1) / 60
        line += f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"
    return line


def failures(jobs: list[Job]) -> list[str]:
    """A line for each failed run: its title, and the last line it said."""
    return [f"{job.title}: {(job.place / FAILED).read_text().strip()}" for job in jobs if state(job) == "failed"]


def mixed(jobs: list[Job]) -> list[str]:
    """The different versions of this software (commit, or version) that the finished runs were made by, if more than one."""
    found = set()
    for job in jobs:
        if state(job) == "done":
            software = read_record(job.place).get("software")
            if isinstance(software, dict):
                found.add(str(software.get("commit") or software.get("version")))
    return sorted(found) if len(found) > 1 else []


def methods(jobs: list[Job]) -> dict[str, list[Method]]:
    """The finished runs as methods named by their rows, for each data set: what `compare` makes its tables of."""
    found: dict[str, dict[str, Method]] = {}
    for job in jobs:
        folder = run_folder(job)
        if folder is not None and state(job) == "done":
            run = read_run(folder)
            rows = found.setdefault(" ".join(filter(None, (job.benchmark.name, job.dataset))), {})
            made = Method(run.flags, job.row.name, published=job.row.published_on(job.dataset), source=job.row.source)
            method = rows.setdefault(job.row.name, made)
            method.runs.append(run)
            method.metrics.append(run.metrics["test"])
    return {name: list(rows.values()) for name, rows in found.items()}


def tables(
    jobs: list[Job], form: str, metrics: list[str] | None, *, baseline: str | None = None, intervals: bool = False,
    published: bool = True,
) -> str:
    """What `compare` prints of the finished runs, for each data set, with their cost, and the published numbers if wanted.

    `baseline` None takes the row vanilla where every data set has it besides others.
    """
    found = methods(jobs)
    if not found:
        return ""
    if baseline is None and all({"vanilla"} < {row.name for row in rows} for rows in found.values()):
        baseline = "vanilla"
    return overview(found, form, metrics, baseline=baseline, intervals=intervals, cost=True, published=published)
