"""A disk that is full, read-only or gone, a folder that two runs want, a second signal: one line, and what was stays whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from commands import PROGRAMS, ROOT, SUPPORT, Running, completed, running

from imbalanced_regression import FDS, interrupt, weighted_mse_loss
from imbalanced_regression.training import Objective, checkpoint, runtime
from imbalanced_regression.training.randomness import random_state
from imbalanced_regression.training.session import prepare

TOY = SUPPORT / "toy_run.py"


def start(folder: Path, *flags) -> AbstractContextManager[Running]:
    """The toy's training in another process, which can be sent signals."""
    return running([sys.executable, TOY, folder, *flags])


def ended(program: Running, code: int) -> str:
    """stderr of a program that must end with `code`, never with a traceback."""
    assert "Traceback" not in program.end(code)
    return program.error()


def finished(folder: Path, *flags, code: int = 0) -> str:
    """stderr of the toy's training, which must end with `code`, never with a traceback."""
    done = completed([TOY, folder, *flags], ROOT, code)
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr


# -- signals -----------------------------------------------------------------------------------------------------------


def test_a_second_signal_leaves_at_once(tmp_path):
    """From the midst of a step that never ends."""
    with start(tmp_path / "run", "--held") as program:
        program.until((tmp_path / "run" / "stepping").exists)
        program.signal(signal.SIGTERM)
        program.until(lambda: "SIGTERM: saving, then leaving; a second signal leaves at once" in program.error())
        program.signal(signal.SIGINT)
        assert "SIGINT: leaving at once" in ended(program, 130)
    assert not (tmp_path / "run" / checkpoint.LAST).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_leaves_the_loaders_workers_to_their_parent(tmp_path, number):
    """As a terminal's Ctrl-C and a scheduler's end do; resumed, the result is that of an undisturbed run."""
    whole, _ = toy.run(tmp_path / "whole", workers=1, epochs=2)
    with start(tmp_path / "run", "--held", "--epochs", 2, "--workers", 1) as program:
        program.until((tmp_path / "run" / "stepping").exists)
        os.killpg(program.pid, number)
        program.until(lambda: "saving, then leaving" in program.error())
        (tmp_path / "run" / "go").touch()
        assert "is saved, --resume goes on from there" in ended(program, 128 + number)
    resumed, _ = toy.run(tmp_path / "run", workers=1, epochs=2, resume="")
    assert resumed["test"]["overall"] == whole["test"]["overall"]


@pytest.mark.parametrize("error", ["ValueError", "KeyError"])
def test_an_error_while_workers_wait_ends_them_too(tmp_path, error):
    """Told by one line or, as of a fault in one's own code, by a traceback: no process stays behind to be waited for."""
    with start(tmp_path / "run", "--raises", error, "--workers", 2) as program:
        assert "sample 7" in program.end(2 if error == "ValueError" else 1)


def test_a_script_that_does_not_train_leaves_with_a_line():
    with running([sys.executable, PROGRAMS / "paused.py"], PYTHONPATH=str(ROOT)) as program:
        program.until(lambda: "on\n" in program.said())
        program.signal(signal.SIGTERM)
        assert ended(program, 143) == "paused.py: interrupted by SIGTERM\n"


@pytest.mark.parametrize("fds_stats", ["second_pass", "streaming"])
@pytest.mark.parametrize("steps", [None, 4], ids=["epochs", "steps"])
def test_stopped_after_any_step_or_in_the_second_pass_it_ends_the_same(tmp_path, monkeypatch, fds_stats, steps):
    changes = {"fds_stats": fds_stats, "steps": steps, "epochs": 3}
    whole, model = toy.run(tmp_path / "whole", **changes)
    asked = [0, 1]  # questions so far, and that which is answered with yes

    def highest(self, number):
        asked[0] += 1
        return signal.SIGTERM if asked[0] == asked[1] else 0

    monkeypatch.setattr(runtime.Runtime, "max_over_ranks", highest)
    stops = 0
    while True:  # stopped at the 1st question, resumed and stopped at its 2nd, ... 9th: second pass included
        asked = [0, 1 + stops % 9]
        try:
            parts, resumed = toy.run(tmp_path / "parts", **changes, resume="", model=toy.make_model(seed=stops))
            break
        except interrupt.Interrupted:
            stops += 1
    assert stops >= 3
    assert whole["test"]["overall"] == parts["test"]["overall"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_sums_observed_by_several_add_up_as_if_observed_by_one():
    """What an interrupted epoch of two processes leaves is taken up by one."""
    random = np.random.default_rng(0)
    z, y = torch.tensor(1e3 + 1e-2 * random.normal(size=(60, 3))), torch.tensor(random.integers(0, 8, 60))
    whole, parts, one = FDS(3, 8), FDS(3, 8), FDS(3, 8)
    whole.observe(z, y)
    whole.finish_epoch(0)
    for part in (slice(0, 25), slice(25, 60)):
        one._sums = None
        one.observe(z[part], y[part])
        parts.add_observed(one.observed())
    parts.finish_epoch(0)
    torch.testing.assert_close(parts.running_mean, whole.running_mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(parts.running_var, whole.running_var, rtol=1e-4, atol=1e-12)
    with pytest.raises(ValueError, match="sums: expected shapes"):
        FDS(4, 8).add_observed(one.observed())


def test_only_the_main_thread_listens():
    heard = []
    thread = threading.Thread(target=lambda: heard.append(interrupt.Listener().__enter__().heard))
    thread.start()
    thread.join()
    assert heard == [0]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_is_one_line_and_the_checkpoint_before_is_whole(tmp_path):
    """By the system's limit on the length of a file: the same failing write as that of a full disk, for any user."""
    toy.run(tmp_path / "run", epochs=1)
    before = (tmp_path / "run" / checkpoint.LAST).read_bytes()
    error = finished(tmp_path / "run", "--longest_file", len(before) // 2, "--resume", code=2)
    assert error.startswith("toy_run.py: error: [Errno 27] cannot write ")
    assert error.endswith("File too large; the file before it is kept\n")
    assert (tmp_path / "run" / checkpoint.LAST).read_bytes() == before
    assert not list((tmp_path / "run").glob("*.part"))
    finished(tmp_path / "run", "--resume")


@pytest.fixture
def disk(tmp_path):
    """A disk of 256 KiB of its own; only a superuser can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("no rights to mount a disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("room", [0, 2_000, 20_000])
def test_a_full_disk_is_one_line_and_the_checkpoint_before_is_whole(disk, room):
    """Not even the log fits, the log but not the events, or these but no checkpoint."""
    finished(disk / "run", "--epochs", 1)  # in another process: the log of one in this would still be open
    before = (disk / "run" / checkpoint.LAST).read_bytes()
    with open(disk / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            file.truncate(max(0, file.tell() // 4096 * 4096 - room // 4096 * 4096))
    error = finished(disk / "run", "--resume", code=2)
    assert error.count("\n") == 1
    assert "No space left on device" in error
    assert (disk / "run" / checkpoint.LAST).read_bytes() == before
    (disk / "filler").unlink()
    finished(disk / "run", "--resume")


def test_a_read_only_disk_is_one_line(disk):
    finished(disk / "run", "--epochs", 1)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for name in ("run", "new"):
        error = finished(disk / name, "--resume", code=2)
        assert error.count("\n") == 1
        assert "Read-only file system" in error
    assert checkpoint.load(disk / "run" / checkpoint.LAST)["epoch"] == 1


def test_a_folder_deleted_under_the_run_is_one_line(tmp_path):
    error = finished(tmp_path / "run", "--folder_goes", code=2)
    assert error.count("\n") == 1
    assert error.endswith("its folder has been deleted or moved\n")


def test_a_folder_belongs_to_one_run_at_a_time_and_a_killed_one_lets_go(tmp_path):
    with start(tmp_path / "run", "--held", "--workers", 1) as first:
        first.until((tmp_path / "run" / "stepping").exists)
        for flag in ("--resume", "--overwrite"):
            error = finished(tmp_path / "run", flag, code=2)
            assert "another process is training in it; wait for it, or name another by --store_name" in error
        first.signal(signal.SIGKILL)
        first.end(-signal.SIGKILL)
        finished(tmp_path / "run", "--resume")  # its worker may be there still


def test_resuming_says_when_the_number_of_processes_differs(tmp_path, caplog):
    training = prepare(toy.make_model(), Objective(weighted_mse_loss), toy.make_plan())
    state = random_state(torch.device("cpu"))
    with caplog.at_level("WARNING"):
        training._resume_within({"step": 2, "total": 1.0, "ranks": [{"random": state, "sums": []}] * 2})
    assert "was begun by 2 processes and now there are 1" in caplog.text
    assert training.progress.step == 2
    assert training.progress.random is None
