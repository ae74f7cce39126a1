"""Every command of nyud2-dir's README, run on a small sample as a new user would; downloads against a local server."""

from __future__ import annotations

import csv
import functools
import hashlib
import http.server
import json
import shlex
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, SHUT, commands, execute, execute_ranks, together
from PIL import Image

NYU = ROOT / "nyud2-dir"
SIZE = ["--height", "32", "--width", "44"]
SMALL = [*SIZE, "--model", "resnet18", "--no_imagenet", "--epochs", "2", "--batch_size", "3", "--workers", "0",
         "--device", "cpu"]
SAMPLE = ["--scenes", "3", "--frames", "2", "--test", "4", *SIZE]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small sample, the store of runs on it, and the checkpoint of the first."""
    root = tmp_path_factory.mktemp("nyud2_readme")
    first = ["train.py", "--data_dir", str(root / "data"), "--store_root", str(root / "runs"), "--fds", "--reweight", "inverse",
             "--lds", "--bucket_counts", str(root / "data" / "train_bucket_num.txt"), *SMALL]
    together([["make_sample.py", "--out", root / "data", *SAMPLE], first], NYU)
    return root, next((root / "runs").iterdir())


def test_test_py_weighs_by_the_counts_the_run_was_trained_with(trained):
    root, run = trained
    words = ["test.py", "--eval_model", run / "ckpt.best.pth.tar", "--data_dir", root / "data", "--workers", "0",
             "--device", "cpu"]
    trained_with = next(line for line in (run / "training.log").read_text().splitlines() if "SERA" in line and "test" in line)
    assert trained_with.split("test  ")[1] in execute(words, NYU)
    said = execute([*words, "--bucket_counts", root / "none.txt"], NYU, code=2)
    assert "error: --bucket_counts: " in said
    assert trained_with.split("test  ")[1] not in execute([*words, "--bucket_counts", "train_bucket_num.txt"], NYU)


def test_a_run_leaves_its_files(trained):
    root, run = trained
    assert run.name == "nyud2_resnet18_lds_gau_5_2_fds_gau_5_2_0_1_0.9_adam_mse_0.0001_3"
    found = json.loads((run / "metrics.json").read_text())
    counts = np.loadtxt(root / "data" / "train_bucket_num.txt", dtype=int)
    assert found["test"]["per_bin"]["train_count"] == counts.tolist()
    for group in ("overall", "many", "medium", "few"):
        assert {"rmse", "absrel", "log10", "l1", "delta1", "delta2", "delta3", "count"} <= found["test"][group].keys()
    rows = list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))
    assert len(rows) == 4
    assert rows[0]["image"] == "nyu2_test/00000_colors.png"
    assert sum(int(row["count"]) for row in rows) == found["test"]["overall"]["count"]
    squares = sum(int(row["count"]) * float(row["rmse"]) ** 2 for row in rows if row["rmse"])
    assert squares / found["test"]["overall"]["count"] == pytest.approx(found["test"]["overall"]["mse"], rel=1e-4)
    with Image.open(run / "report.png") as picture:
        assert picture.height > picture.width  # the examples stand below the two plots
    assert "are held out, of whole scenes" in (run / "training.log").read_text()


def test_every_command_of_the_nyud2_readme_runs(trained, tmp_path):
    root, run = trained
    lines = []
    for number, command in enumerate(commands(NYU / "README.md")):
        own = tmp_path / str(number)
        program, *words = shlex.split(command.replace("<ckpt>", str(run / "ckpt.best.pth.tar")))
        script, *flags = words[words.index("train.py"):] if program == "torchrun" else words
        here = ["--data_dir", root / "data"]
        if script == "train.py":
            counts = ["--bucket_counts", root / "data" / "train_bucket_num.txt"]
            line = [script, *flags, *counts, *SMALL, *here, "--store_root", own, "--epochs", "1"]
            if program == "torchrun":
                execute_ranks(line, NYU)
                continue
        elif script == "test.py":
            line = [script, *flags, *here, "--workers", "0"]
        elif script == "make_sample.py":
            line = [script, *flags, *SAMPLE, "--out", own]
        elif script == "preprocess_nyud2.py":
            shutil.copytree(root / "data", own)
            line = [script, *flags, *SIZE, "--data_dir", own]
        elif script.startswith("benchmarks/"):
            assert f'"{Path(script).name}"' in (ROOT / "tests" / "test_benchmarks.py").read_text()  # it runs there
            continue
        elif script == "download_nyud2.py":
            assert "download_nyud2.py: error: " in execute([script, *flags, "--data_dir", own], NYU, code=2, **SHUT)
            continue
        else:
            pytest.fail(f"no test runs {command!r}")
        lines.append(line)
    assert len(lines) >= 10
    said = together(lines, NYU, "-W", "ignore")
    assert "--select_on test: the checkpoint is chosen on the test set" in said


def test_a_mirror_is_unpacked_checked_and_the_lists_are_verified(trained, tmp_path):
    """The zip holds `data/...` as the real one does; a list of another content than the published one is refused."""
    root, _ = trained
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with zipfile.ZipFile(mirror / "nyu_data.zip", "w") as archive:
        for path in sorted((root / "data").rglob("*")):
            if path.is_file() and path.name not in ("nyu2_train_FDS_subset.csv", "test_balanced_mask.npy"):
                archive.write(path, f"data/{path.relative_to(root / 'data')}")
    shutil.copy(root / "data" / "nyu2_train_FDS_subset.csv", mirror)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(mirror))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        right = hashlib.sha256((mirror / "nyu_data.zip").read_bytes()).hexdigest()
        flags = ["--url", f"{address}/nyu_data.zip", "--lists_url", address, "--data_dir", tmp_path / "data"]
        try:
            said = execute(["download_nyud2.py", *flags, "--sha256", "0" * 64], NYU, code=2)
            assert "is not the expected file: its sha256 is" in said
            assert not (tmp_path / "data" / "nyu2_train").exists()
            said = execute(["download_nyud2.py", *flags, "--sha256", right], NYU, code=2)
        finally:
            server.shutdown()
            thread.join()
    assert "nyu2_train_FDS_subset.csv is not the expected file" in said
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "nyu2_test", "nyu2_test.csv", "nyu2_train", "nyu2_train.csv", "nyu_data.zip",
    ]
    for name in ("nyu2_train.csv", "nyu2_test.csv"):
        assert (tmp_path / "data" / name).read_bytes() == (root / "data" / name).read_bytes()
