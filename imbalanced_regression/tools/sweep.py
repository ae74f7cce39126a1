"""Methods x benchmarks x seeds by one command: runs that are finished are skipped, begun ones resumed, failed ones listed.

The one idea: what a sweep has done lies in the runs' own folders and nowhere else, so it can be killed at any moment and
the same command goes on. It starts train.py with --resume, which goes on where a run stands, or begins it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .. import files
from . import evidence
from .compare import TABLES, Method, choose_metrics, read_run
from .rows import Job

logger = logging.getLogger(__name__)

RECORD, OUTPUT, FAILED = "run.json", "output.log", "failed.txt"
_BEST = "ckpt.best.pth.tar"
_LOOK = 0.1  # seconds between looks at the runs


# -- the state of a run, as its folder shows it ------------------------------------------------------------------------


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


# -- running -----------------------------------------------------------------------------------------------------------


def versions(folder: Path) -> dict:
    """Commit, versions and hardware, for the record of a run."""
    from importlib import metadata

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    from .. import __version__

    found = {"version": __version__, "commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno")),
             "python": platform.python_version()}
    for package in ("torch", "numpy", "scipy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return {"software": found, "hardware": _hardware()}


def _hardware() -> dict:
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        cpu = names[0] if names else cpu
    gpus = []
    with contextlib.suppress(OSError):
        done = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
        gpus = done.stdout.split("\n")[:-1] if done.returncode == 0 else []
    return {"cpu": cpu, "cores": os.cpu_count(), "gpus": gpus}


class Started:
    """A run in a process of its own; ends with this process, in whatever way that ends (on Linux)."""

    def __init__(self, job: Job, jobs: list[Job], environment: dict[str, str], about: dict):
        self.job = job
        words = command(job, jobs)
        job.place.mkdir(parents=True, exist_ok=True)
        self.record = {
            "benchmark": job.benchmark.name, "dataset": job.dataset, "row": job.row.name, "seed": job.seed,
            "command": shlex.join(["python", *words[1:]]), "seconds": _seconds(job), "date": time.strftime("%Y-%m-%d"), **about,
        }
        self._keep()
        self.began = time.monotonic()
        with open(job.place / OUTPUT, "ab") as output:
            self.process = subprocess.Popen(
                words, cwd=job.benchmark, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, **environment}, preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    def _keep(self) -> None:
        files.write(self.job.place / RECORD, json.dumps(self.record, indent=1) + "\n")

    def ended(self) -> bool:
        """Whether it has; then its record holds the time it took, and a failure its last line."""
        code = self.process.poll()
        if code is None:
            return False
        self.record["seconds"] = round(self.record["seconds"] + time.monotonic() - self.began, 1)
        self._keep()
        if state(self.job) != "done":
            files.write(self.job.place / FAILED, f"exit code {code}: {_last_line(self.job.place / OUTPUT)}\n")
        return True

    def ask_to_stop(self) -> None:
        """Ask it to save its step and leave; the run is then begun, not failed."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has left."""
        self.process.wait()
        self.record["seconds"] = round(self.record["seconds"] + time.monotonic() - self.began, 1)
        self._keep()


def _end_with_parent() -> None:
    """Linux sends this process SIGTERM when its parent dies, even by SIGKILL; train.py then saves its step and leaves."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _seconds(job: Job) -> float:
    try:
        return float(json.loads((job.place / RECORD).read_text())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


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


def forget_failures(jobs: list[Job]) -> None:
    """Failed runs are tried again: until then they do not keep others from starting that need them."""
    for job in jobs:
        with contextlib.suppress(FileNotFoundError):
            (job.place / FAILED).unlink()


def give_up(job: Job) -> None:
    """Note that a run cannot be started, as one that it needs has failed."""
    job.place.mkdir(parents=True, exist_ok=True)
    files.write(job.place / FAILED, "not started: a run whose checkpoint it needs has failed\n")


def run_all(jobs: list[Job], *, at_once: int, gpus: list[str], say) -> None:
    """Run what is not done, at most `at_once` runs at a time, each on its share of the cores or on its GPU.

    Failed runs do not end the others. On SIGTERM and SIGINT the runs save their step before this returns.
    """
    abouts = {folder: versions(folder) for folder in {job.benchmark for job in jobs}}
    waiting = [job for job in jobs if state(job) != "done"]
    forget_failures(waiting)
    free = list(gpus) if gpus else [""] * at_once
    threads = str(max(1, (os.cpu_count() or 1) // len(free)))
    slots: list[tuple[Started, str]] = []
    try:
        while waiting or slots:
            for started, slot in [pair for pair in slots if pair[0].ended()]:
                slots.remove((started, slot))
                free.append(slot)
                say(started.job, state(started.job))
            for job in list(waiting):
                can_start = ready(job, jobs)
                if can_start is None:
                    give_up(job)
                    waiting.remove(job)
                    say(job, "failed")
                elif can_start and free:
                    slot = free.pop(0)
                    environment = {"OMP_NUM_THREADS": threads, **({"CUDA_VISIBLE_DEVICES": slot} if slot else {})}
                    waiting.remove(job)
                    slots.append((Started(job, jobs, environment, abouts[job.benchmark]), slot))
                    say(job, "started")
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
    took = [seconds for job in jobs if state(job) == "done" and (seconds := _seconds(job)) > 0]
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
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                software = json.loads((job.place / RECORD).read_text())["software"]
                found.add(software.get("commit") or software.get("version"))
    return sorted(found) if len(found) > 1 else []


def methods(jobs: list[Job]) -> dict[str, list[Method]]:
    """The finished runs as methods named by their rows, for each data set: what `compare` makes its tables of."""
    found: dict[str, dict[str, Method]] = {}
    for job in jobs:
        folder = run_folder(job)
        if folder is not None and state(job) == "done":
            run = read_run(folder)
            rows = found.setdefault(" ".join(filter(None, (job.benchmark.name, job.dataset))), {})
            method = rows.setdefault(job.row.name, Method(run.flags, job.row.name))
            method.runs.append(run)
            method.metrics.append(run.metrics["test"])
    return {name: list(rows.values()) for name, rows in found.items()}


def tables(
    jobs: list[Job], form: str, metrics: list[str] | None, *, baseline: str | None = None, intervals: bool = False
) -> str:
    """A table of `compare` for each data set under its name, and what is certain in it; ranks where there are several.

    `baseline` None takes the row vanilla where there is one besides others.
    """
    found = methods(jobs)
    parts = []
    for name, rows in found.items():
        parts += [name, TABLES[form](rows, metrics)]
        if form != "csv":
            own = baseline or next((row.name for row in rows if row.name == "vanilla" and len(rows) > 1), None)
            chosen = choose_metrics(rows, metrics)
            parts += [evidence.report(rows, chosen, baseline=own, intervals=intervals, form=form), evidence.footer(rows)]
    if len(found) > 1 and form != "csv":
        with contextlib.suppress(ValueError):  # fewer than two rows that all have
            metric = choose_metrics(next(iter(found.values())), metrics)[0]
            names, ranks, difference = evidence.rank_table(found, metric, "overall")
            order = sorted(range(len(names)), key=lambda i: ranks[i])
            listed = ", ".join(f"{names[i]} {ranks[i]:.2f}" for i in order)
            parts.append(
                f"average rank by {metric} over {len(found)} data sets, 1 is best; ranks {difference:.2f} apart differ by more "
                f"than luck (Nemenyi, 0.05): {listed}"
            )
    return "\n\n".join(part for part in parts if part)
