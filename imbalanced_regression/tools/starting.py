"""Runs in processes of their own: how one is started, asked to stop, and what its record keeps.

The one idea: a run on a small table is shorter than the import of torch, so where many wait each is a fork of a server
that has imported it once; a fork and a fresh process train the same, to the last bit.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import platform
import re
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection
from pathlib import Path

from .. import files
from .rows import Job
from .states import FAILED, OUTPUT, RECORD, command, forget_failures, seconds, state

# what every train.py imports sooner or later; a name that is not installed is passed over
HEAVY = (
    "torch", "torch._dynamo", "torch.utils.data", "torch.utils.tensorboard", "scipy.stats", "scipy.signal", "matplotlib.figure",
    "matplotlib.backends.backend_agg", "tqdm", "sklearn.ensemble", "imbalanced_regression.training.engine",
    "imbalanced_regression.tools.report",
)


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
    return {"software": found, "hardware": hardware()}


def processor() -> str:
    """The processor's name where Linux tells it, otherwise what Python knows."""
    names = []
    with contextlib.suppress(OSError):
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return names[0] if names else platform.processor() or platform.machine()


def hardware() -> dict:
    """The processor, how many cores it has, and the names of the GPUs that nvidia-smi shows."""
    gpus = []
    with contextlib.suppress(OSError):
        done = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
        gpus = done.stdout.split("\n")[:-1] if done.returncode == 0 else []
    return {"cpu": processor(), "cores": os.cpu_count(), "gpus": gpus}


class Started:
    """A run in a process of its own; ends with this process, in whatever way that ends (on Linux).

    `forks` makes it a fork of the server that `serve_forks` has started.
    """

    def __init__(self, job: Job, jobs: list[Job], environment: dict[str, str], about: dict, *, forks: bool = False):
        self.job = job
        words = command(job, jobs)
        job.place.mkdir(parents=True, exist_ok=True)
        self.record = {
            "benchmark": job.benchmark.name, "dataset": job.dataset, "row": job.row.name, "seed": job.seed,
            "flags": shlex.join([*job.flags, *job.row.flags]), "command": shlex.join(["python", *words[1:]]),
            "published": job.row.published_on(job.dataset), "source": job.row.source,
            "seconds": seconds(job), "date": time.strftime("%Y-%m-%d"), **about,
        }
        self._keep()
        self.began = time.monotonic()
        start = Fork if forks else _fresh
        self.process = start(words, job.benchmark, job.place / OUTPUT, environment)

    def _keep(self) -> None:
        files.write(self.job.place / RECORD, json.dumps(self.record, indent=1) + "\n")

    def ended(self) -> bool:
        """Whether it has; then its record holds the time it took, and a failure its last line."""
        code = self.process.poll()
        if code is None:
            return False
        self.record["seconds"] = round(self.record["seconds"] + time.monotonic() - self.began, 1)
        self._keep()
        if state(self.job) == "done":
            forget_failures([self.job])  # of an earlier start
        else:
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


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


def _fresh(words: Sequence[str], folder: Path, output: Path, environment: dict[str, str]) -> subprocess.Popen:
    with open(output, "ab") as file:
        return subprocess.Popen(
            words, cwd=folder, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, **environment}, preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def _end_with_parent() -> None:
    """Linux sends this process SIGTERM when its parent dies, even by SIGKILL; train.py then saves its step and leaves."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


# -- forks -------------------------------------------------------------------------------------------------------------


def can_fork() -> bool:
    """Whether this system has servers that fork."""
    return "forkserver" in multiprocessing.get_all_start_methods()


def serve_forks(threads: str) -> None:
    """Start the server that `Fork` asks for processes, each with so many threads; its imports go on while this returns."""
    from multiprocessing import forkserver

    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = threads  # libraries read it when they are imported
    try:
        forkserver.set_forkserver_preload(list(HEAVY))
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


class Fork:
    """A script as a fork of the server; what `subprocess.Popen` offers, as far as `Started` needs it."""

    def __init__(self, words: Sequence[str], folder: Path, output: Path, environment: dict[str, str]):
        context = multiprocessing.get_context("forkserver")
        given = list(words[1:]), str(Path(folder).resolve()), str(Path(output).resolve()), environment
        self.process = context.Process(target=_run_script, args=given)
        self.process.start()

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def wait(self) -> int | None:
        """Wait for its end; its exit code."""
        self.process.join()
        return self.process.exitcode


def _run_script(words: list[str], folder: str, output: str, environment: dict[str, str]) -> None:
    """In the fork: run `words`, a script of `folder` and its flags, as the main program that writes to `output`."""
    for number, path in ((0, os.devnull), (1, output), (2, output)):
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, number)
        os.close(file)
    os.environ.update(environment)
    os.chdir(folder)
    multiprocessing.set_start_method(None, force=True)  # workers that load data start as those of a fresh process do
    sys.argv = list(words)
    sys.path.insert(0, folder)
    threading.Thread(target=_leave_with_the_sweep, daemon=True).start()
    if "torch" in sys.modules and "OMP_NUM_THREADS" in environment:
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
    runpy.run_path(os.path.join(folder, words[0]), run_name="__main__")  # whole, for workers that read the script anew


def _leave_with_the_sweep() -> None:
    """Once the sweep's process is gone, even by SIGKILL, ask this one to save its step and leave."""
    sweep = multiprocessing.parent_process()
    if sweep is not None:
        connection.wait([sweep.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
