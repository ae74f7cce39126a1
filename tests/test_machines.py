"""Machines that lack something: shared memory, open files, workers that live, a terminal. One line, and a way out."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import ROOT

from imbalanced_regression import cli
from imbalanced_regression.training import runtime
from imbalanced_regression.training.loaders import Shard, epoch_for_workers, make_loader


def guarded(folder, *words, before: str = "", code: int = 0, **env) -> subprocess.CompletedProcess:
    """tests/guarded.py in a shell that has done `before`; its standard streams may be redirected by the last of `words`."""
    command = " ".join([f'{before} exec "{sys.executable}" guarded.py "{folder}"', *words])
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT / "tests", capture_output=True, text=True, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


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
    script = f'{small_shm} exec "{sys.executable}" guarded.py "{tmp_path / "run"}" {" ".join(words)}'
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script], cwd=ROOT / "tests", capture_output=True, text=True, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert "pass fewer --workers (0 needs none)" in done.stderr
    assert "/dev/shm (docker run --shm-size" in done.stderr


def test_a_killed_worker_is_one_line(tmp_path):
    error = guarded(tmp_path / "run", "--kill", code=2).stderr
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
