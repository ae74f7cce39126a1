"""Ranks agree: 1, 2 and 4 processes compute the same, a rank that dies takes the others along, and launchers go on."""

from __future__ import annotations

import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trusted
from commands import ROOT

FOLDER = "sts-b-dir"  # the quickest, for what does not depend on the data
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return trusted.make_sample(FOLDER, tmp_path_factory.mktemp("ranks"))


def launch(folder: str, launcher: list[str], words: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [*launcher, "train.py", *map(str, words)], cwd=ROOT / folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def said(process: subprocess.Popen, code: int | None = 0) -> str:
    out, _ = process.communicate(timeout=280)
    if code is None:
        assert process.returncode != 0, out
    else:
        assert process.returncode == code, out
    return out


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def measures(store: Path) -> dict[str, np.ndarray]:
    """The losses of the log, FDS's statistics, the test metrics and the predictions of a run."""
    found = trusted.outcome(store)
    (log,) = store.glob("*/training.log")
    losses = [float(x) for x in re.findall(r"step \d+/\d+: train loss (\S+)", log.read_text())]
    overall = found["metrics"]["test"]["overall"]
    rows = list(csv.DictReader(found["predictions"].splitlines()))
    return {
        "losses": np.array(losses),
        "fds means": next(v for k, v in found["state"].items() if k.endswith("running_mean_last_epoch")).numpy(),
        "fds counts": next(v for k, v in found["state"].items() if k.endswith("num_samples_tracked")).numpy(),
        "metrics": np.array([overall["mse"], overall["l1"]]),
        "predictions": np.array([float(row.get("prediction") or row["l1"]) for row in rows]),  # or errors of each image
    }


@pytest.mark.parametrize("folder", trusted.BENCHMARKS)
def test_one_two_and_four_processes_agree(tmp_path, folder):
    """Global batches of 16 from 70 or 200 samples, the last smaller; 4 processes share evaluation sets of uneven length."""
    data = trusted.make_sample(folder, tmp_path / "data")
    found = {}
    for world in (1, 2, 4):
        words = trusted.words(
            folder, data, 1, "--fds", "--fds_stats", "streaming", *trusted.BENCHMARKS[folder].exact, "--store_root",
            str(tmp_path / str(world)),
        )
        launcher = [*TORCHRUN, "--standalone", "--nproc_per_node", str(world)] if world > 1 else [sys.executable]
        said(launch(folder, launcher, words))
        found[world] = measures(tmp_path / str(world))
    for world in (2, 4):
        for name, one in found[1].items():
            scale = np.abs(one).max()
            apart = np.abs(found[world][name] - one).max() / scale
            print(f"{folder}, {name} of {world} processes: {apart:.1e} apart")  # the figures of benchmarks/RESULTS.md
            assert apart < 2e-4, f"{name} of {world} processes: {apart:.2e} of {scale:.3g}"
        np.testing.assert_array_equal(found[world]["fds counts"], found[1]["fds counts"])


def children(pid: int) -> list[int]:
    """The ranks of a torchrun."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("no /proc to find the processes in")
    return [int(child) for child in path.read_text().split()]


def wait_for(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_rank_that_dies_brings_the_others_down_and_max_restarts_goes_on(sample, tmp_path):
    """One of two ranks is killed in the middle: without restarts all ends within a minute, with --max-restarts it goes on."""
    words = trusted.words(FOLDER, sample, 30, "--fds", "--dropout", "0", "--dropout_embs", "0", "--patience", "99")
    for restarts in (0, 1):
        store = tmp_path / str(restarts)
        launcher = [*TORCHRUN, "--standalone", "--nproc_per_node", "2", "--max-restarts", str(restarts)]
        process = launch(FOLDER, launcher, [*words, "--store_root", store, "--resume"])
        wait_for(lambda store=store: list(store.glob("*/ckpt.pth.tar")))
        os.kill(children(process.pid)[1], signal.SIGKILL)
        began = time.monotonic()
        if not restarts:
            out = said(process, None)
            print(f"down after {time.monotonic() - began:.1f} s")
            assert time.monotonic() - began < 60
            assert "Signal 9 (SIGKILL)" in out or "exitcode: -9" in out or "exitcode  : -9" in out
            assert torch.load(next(store.glob("*/ckpt.pth.tar")), weights_only=True)["epoch"] >= 1
        else:
            out = said(process)
            assert "resumed from" in out
            assert trusted.outcome(store)["epoch"] == 30


def test_an_error_of_one_rank_ends_the_run_and_is_shown(sample, tmp_path):
    """Only the main process sees that the folder exists."""
    words = trusted.words(FOLDER, sample, 1, "--store_root", str(tmp_path))
    said(launch(FOLDER, [sys.executable], words))
    began = time.monotonic()
    out = said(launch(FOLDER, [*TORCHRUN, "--standalone", "--nproc_per_node", "2"], words), None)
    assert "exists; --resume goes on with it, --overwrite replaces it" in out
    assert time.monotonic() - began < 60


def test_two_nodes_and_a_signal_to_one_of_them(sample, tmp_path):
    """Two torchrun agents on the loopback; one rank hears SIGTERM, both save the same step, and --resume ends the same."""
    exact = ["--dropout", "0", "--dropout_embs", "0", "--fds", "--fds_stats", "streaming", "--patience", "99"]
    words = trusted.words(FOLDER, sample, 12, *exact)
    said(launch(FOLDER, [sys.executable], [*words, "--store_root", tmp_path / "one"]))
    words += ["--store_root", str(tmp_path / "two"), "--resume"]
    for interrupted in (True, False):
        port = free_port()
        nodes = []
        for node in (0, 1):
            address = ["--master_addr", "127.0.0.1", "--master_port", str(port)]
            launcher = [*TORCHRUN, "--nnodes", "2", "--node_rank", str(node), "--nproc_per_node", "1", *address]
            nodes.append(launch(FOLDER, launcher, words))
        if interrupted:
            wait_for(lambda: list((tmp_path / "two").glob("*/ckpt.pth.tar")))
            os.kill(children(nodes[1].pid)[0], signal.SIGTERM)
        outs = [said(node, None if interrupted else 0) for node in nodes]
        if interrupted:
            assert all("train.py: interrupted by SIGTERM; epoch" in out for out in outs)
    one, two = measures(tmp_path / "one"), measures(tmp_path / "two")
    np.testing.assert_allclose(two["predictions"], one["predictions"], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(two["fds counts"], one["fds counts"])
