"""Machines that lack something: shared memory, open files, workers that live, a terminal. One line, and a way out."""

from __future__ import annotations

import errno
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from commands import PROGRAMS, ROOT, SUPPORT, running

from imbalanced_regression import cli
from imbalanced_regression.training import runtime
from imbalanced_regression.training.loaders import Shard, epoch_for_workers, make_loader


def guarded(folder, *words, code: int = 0, before: str = "", launcher: tuple = (), **env) -> Ended:
    """tests/support/guarded.py after what a shell has done `before`; the last of `words` may redirect its streams. Ended."""
    command = " ".join([f'{before} exec "{sys.executable}" guarded.py "{folder}"', *words])
    with running([*launcher, "bash", "-c", command], SUPPORT, **env) as program:
        assert "Traceback" not in program.end(code)
        return Ended(program.said(), program.error())


@dataclass
class Ended:
    said: str
    error: str


# -- workers -----------------------------------------------------------------------------------------------------------

SHARED = "unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)"


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (RuntimeError(f"Caught RuntimeError in DataLoader worker process 0.\n{SHARED}"), r"--workers .* /dev/shm .*--shm-size"),
        (RuntimeError("DataLoader worker (pid 5) is killed by signal: Bus error. It is possible that dataloader's workers are "
                      "out of shared memory."), r"--workers .* /dev/shm .*--shm-size"),
        (RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. "), "was killed from outside.*--workers"),
        (RuntimeError("DataLoader worker (pid(s) 5, 6) exited unexpectedly"), "was killed from outside.*--workers"),
        (RuntimeError("Too many open files. Communication with the workers is no longer possible."), "--workers.*ulimit -n"),
        (RuntimeError("received 0 items of ancdata"), "--workers.*ulimit -n"),
        (OSError(errno.EMFILE, "Too many open files"), "--workers.*ulimit -n"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory; a smaller batch"),
        (RuntimeError("unable to mmap 8 bytes from file <x>: Cannot allocate memory (12)"), "out of memory; a smaller batch"),
        (MemoryError(), "out of memory; a smaller batch"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_machine_lacks_is_one_line_with_a_way_out(capsys, error, way_out):
    def main():
        raise error

    with pytest.raises(SystemExit) as left:
        cli.guard(main)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(way_out, said)


def test_other_runtime_errors_stay_as_they_are():
    def main():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        cli.guard(main)


@pytest.fixture
def small_shm() -> str:
    """What a shell does to see a /dev/shm of 256 KiB, alone; only a superuser can."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no rights for a mount namespace")
    return "mount -t tmpfs -o size=256k tmpfs /dev/shm;"


@pytest.mark.parametrize("collate", ["", "--own_collate"])
def test_a_full_shared_memory_is_one_line(small_shm, tmp_path, collate):
    """With a collate of one's own the batch is moved by a thread, whose error would let the main process wait for ever."""
    words = ["--width", "20000", *collate.split()]
    done = guarded(tmp_path / "run", *words, code=2, before=small_shm, launcher=("unshare", "-m"))
    assert done.error.count("\n") == 1
    assert "pass fewer --workers (0 needs none)" in done.error
    assert "/dev/shm (docker run --shm-size" in done.error


def test_a_killed_worker_is_one_line(tmp_path):
    error = guarded(tmp_path / "run", "--kill", code=2).error
    assert error.count("\n") == 1
    assert "was killed from outside, most often because memory ran out; pass fewer --workers" in error


def test_without_shared_memory_the_epoch_is_kept_in_the_process(monkeypatch):
    def full(self):
        raise RuntimeError(SHARED)

    assert epoch_for_workers().is_shared()
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    epoch = epoch_for_workers()
    epoch.fill_(3)
    assert int(epoch) == 3


def test_a_batch_of_ones_own_collate_comes_through_a_worker_unchanged():
    import guarded as program

    data = program.Wide(5, 0)
    loader = make_loader(data, Shard(range(5), 5), runtime.Runtime(), workers=1, collate=program.own_collate)
    (inputs, targets, weights), = loader
    assert inputs["wide"][0].is_shared()
    np.testing.assert_array_equal(inputs["wide"][0], data.inputs)
    np.testing.assert_array_equal(targets, data.targets)
    np.testing.assert_array_equal(weights, data.weights)


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_ends_no_run_and_no_file_takes_its_place(tmp_path, closed):
    """Whatever is written to a closed stdout or stderr would land in the next file that is opened, by its number."""
    guarded(tmp_path / "run", "--workers", "1", closed)
    log = (tmp_path / "run" / "training.log").read_text().splitlines()
    assert "testing the best checkpoint" in log[-1]
    assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in log)
    assert torch.load(tmp_path / "run" / "ckpt.pth.tar", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("words", ["--help", "", "--none"], ids=lambda words: words or "no words")
def test_tools_without_streams_end_as_with_them(words):
    codes = []
    for closed in ("", ">&- 2>&-"):
        command = f'"{sys.executable}" -m imbalanced_regression {words} {closed}'
        codes.append(subprocess.run(["bash", "-c", command], capture_output=True).returncode)
    assert codes[0] == codes[1] != 1


def test_a_character_that_the_terminal_cannot_show_ends_no_run(tmp_path):
    said = guarded(tmp_path / "größe 年", "--workers", "0", "--say", PYTHONIOENCODING="ascii").said
    assert "gr\\xf6\\xdfe \\u5e74" in said
    assert "größe 年" in (tmp_path / "größe 年" / "training.log").read_text()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# -- other processes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_waiting_for_other_processes_is_said_and_ends_with_a_signal(tmp_path, number):
    env = {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    with running([sys.executable, PROGRAMS / "waits_for_ranks.py"], PYTHONPATH=str(ROOT), **env) as first:
        line = f"rank 0 is waiting for 2 other processes at 127.0.0.1:{env['MASTER_PORT']}"
        first.until(lambda: line in first.error())
        first.signal(number)
        first.end(-number)


def test_ranks_that_torchrun_did_not_start_are_an_error(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(ValueError, match=r"process 1 of 2, but not LOCAL_RANK.* by torchrun, or unset RANK"):
        runtime.start("cpu")
