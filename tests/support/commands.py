"""Reading the READMEs' commands and blocks, and running a folder's scripts as a user does; nothing of them outlives a test."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from imbalanced_regression.tools.folders import module_of

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS, SUPPORT = ROOT / "tests" / "programs", ROOT / "tests" / "support"
# made by every fresh machine's set-up, not by a test: the environment that runs these tests is what they make
SETUP = {"pip install -e .", 'pip install -e ".[train]"', "make demo", "make test", "make docs", "make results"}


def blocks(readme: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", readme.read_text(), re.DOTALL | re.MULTILINE)


def commands(readme: Path) -> list[str]:
    lines = [line.split(" #")[0].strip() for block in blocks(readme, "bash") for line in block.splitlines()]
    return sorted({line for line in lines if line and line not in SETUP})


SHUT = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}  # variables that shut the network
HANG = 1800  # seconds after which what a test waits for will never come; no test means anything by it


@dataclass
class Running:
    """A program that a test has started, and what it has said so far: its streams are files, so nothing waits for a reader."""

    process: subprocess.Popen
    streams: tuple[IO[bytes], IO[bytes]]

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return "".join(self._read(stream) for stream in self.streams)

    def out(self) -> str:
        return self._read(self.streams[0])

    def error(self) -> str:
        return self._read(self.streams[1])

    @staticmethod
    def _read(stream: IO[bytes]) -> str:
        size = os.fstat(stream.fileno()).st_size
        return os.pread(stream.fileno(), size, 0).decode(errors="replace")  # leaves the place at which the program writes

    def until(self, event: Callable[[], Any]) -> None:
        """Wait for an event; the program must not end before it."""
        end = time.monotonic() + HANG
        while not event():
            assert self.process.poll() is None or event(), self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, code: int | None = None) -> str:
        """Wait for its end, with an exit code (None: any but 0); everything it has said."""
        found = self.process.wait(HANG)
        assert found != 0 if code is None else found == code, f"exit code {found}: {self.said()}"
        return self.said()


def children(pid: int) -> list[int]:
    """The processes that a process has started and that live; none where there is no /proc."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for child in found:
        found += children(child)  # the list grows while it is read: level by level
    return found


@contextmanager
def running(words: list, folder: Path = ROOT, **env) -> Iterator[Running]:
    """A program in a group of processes of its own. Whatever becomes of the test, no process and no file of it is left."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        process = subprocess.Popen(
            [str(word) for word in words], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=error,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env}, start_new_session=True,
        )
        try:
            yield Running(process, (out, error))
        finally:
            below = descendants(process.pid)  # torchrun gives each rank a group of its own
            for kill, number in [(os.killpg, process.pid), *((os.kill, pid) for pid in below)]:
                with suppress(ProcessLookupError):
                    kill(number, signal.SIGKILL)
            process.wait()


def execute(words: list, folder: Path, code: int = 0, **env: str) -> str:
    """What Python says on `words`, stdout before stderr; it must end with exit code `code`."""
    if str(words[0]).endswith(".py") or words[:2] == ["-m", "imbalanced_regression"]:
        found, out, error = warm(words, folder, env=[env])
        assert found == code, out + error
        return out + error
    return fresh(words, folder, code, **env)


def fresh(words: list, folder: Path = ROOT, code: int = 0, **env: str) -> str:
    """`execute` in an interpreter of its own, for what a program loads, and from where."""
    with running([sys.executable, *words], folder, **{"PYTHONPATH": str(ROOT), **env}) as program:
        return program.end(code)


def execute_ranks(words: list, folder: Path, ranks: int = 2) -> str:
    """`execute` in several processes with the variables that torchrun gives each of them, without the agent's own start."""
    found, out, error = warm(words, folder, env=rank_variables(ranks))
    assert found == 0, out + error
    return out + error


def rank_variables(ranks: int) -> list[dict[str, str]]:
    """What torchrun sets in each process; nothing for one."""
    if ranks == 1:
        return [{}]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    sizes = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return [{"RANK": str(rank), "LOCAL_RANK": str(rank), **sizes, **meeting} for rank in range(ranks)]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@functools.cache
def _warm() -> subprocess.Popen:
    """warm.py, one for each process of the tests, until that ends."""
    process = subprocess.Popen(
        [sys.executable, SUPPORT / "warm.py"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )

    def end() -> None:
        process.stdin.close()  # type: ignore[union-attr]
        process.stdout.close()  # type: ignore[union-attr]
        process.wait()

    atexit.register(end)
    return process


def warm(words: list, folder: Path, *, program: bool = False, env: Sequence[dict[str, str]] = ({},)) -> tuple[int, str, str]:
    """Run a script of a folder in a process that has torch already, or with each `env` in one of several processes; the exit
    code, stdout and stderr."""
    process = _warm()
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as error:
        given = {"words": [str(word) for word in words], "folder": str(folder), "out": out.name, "error": error.name,
                 "program": program, "env": list(env)}
        print(json.dumps(given), file=process.stdin, flush=True)
        answered, _, _ = select.select([process.stdout], [], [], HANG)
        code = process.stdout.readline() if answered else ""  # type: ignore[union-attr]
        said = [file.read().decode(errors="replace") for file in (out, error)]
        if not code:  # the next script gets another
            _warm.cache_clear()
            for pid in [process.pid, *descendants(process.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"{words[0]} hangs, or has taken warm.py with it: {said}")
    return int(code), said[0], said[1]


def run_program(name: str, folder: Path, *words) -> str:
    """Run tests/programs/NAME.py in a benchmark's folder, whose modules it imports, warnings being errors; what it says."""
    code, out, error = warm([PROGRAMS / f"{name}.py", *words], folder, program=True)
    assert code == 0, out + error
    return out + error


def completed(words: list, folder: Path, code: int = 0, ranks: int = 1, **env: str) -> subprocess.CompletedProcess:
    """`execute` or `execute_ranks`, with stdout and stderr apart."""
    done = subprocess.CompletedProcess(words, *warm(words, folder, env=[{**env, **own} for own in rank_variables(ranks)]))
    assert done.returncode == code, done.stdout + done.stderr
    return done


def from_folder(folder: str, name: str) -> ModuleType:
    """A benchmark folder's module; other folders have modules of the same names, so nothing of it stays registered."""
    return module_of(ROOT / folder, name)


def together(scripts: list[list], folder: Path, *options: str) -> str:
    """Run scripts of a folder one after the other, with Python's own `options` in one process: starting Python anew takes
    longer than training. Each script must end with exit code 0."""
    if not options:
        return "".join(execute(script, folder) for script in scripts)
    words = [[str(word) for word in script] for script in scripts]
    said = execute([*options, PROGRAMS / "one_by_one.py", json.dumps(words)], folder)
    assert said.count("$ ") >= len(words), said
    return said
