"""train.py of both face folders as their users run it, on drawn faces."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ROOT, completed

FOLDERS = {"agedb-dir": "agedb", "imdb-wiki-dir": "imdb_wiki"}
SMALL = ["--model", "resnet18", "--img_size", "32", "--batch_size", "32", "--epoch", "1", "--schedule", "1", "--workers", "0",
         "--device", "cpu"]


def python(folder: str, *words, code: int = 0, ranks: int = 1) -> subprocess.CompletedProcess:
    return completed(words, ROOT / folder, code, ranks)


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request) -> str:
    return request.param


# what the two folders' train.py share to the letter is shown in one of them
in_one_folder = pytest.mark.parametrize("folder", ["agedb-dir"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def sample(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp(folder)
    python(folder, "make_sample.py", "--train", "96", "--per_age", "1", "--size", "32", "--out", out / "s", "--workers", "1")
    return out / "s"


@pytest.fixture(scope="module")
def train(folder, sample):
    def run(store, *words, code=0, data=sample, ranks=1):
        words = ("train.py", "--data_dir", data, "--store_root", store, *SMALL, *words)
        done = python(folder, *words, code=code, ranks=ranks)
        return done, next(iter(Path(store).iterdir()), None) if Path(store).is_dir() else None

    return run


@pytest.fixture(scope="module")
def both(train, tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("both"), "--reweight", "sqrt_inv", "--lds", "--fds")[1]


def test_a_run_has_the_published_name_and_leaves_its_files(folder, both):
    ks = {"agedb-dir": 9, "imdb-wiki-dir": 5}[folder]
    assert both.name == f"{FOLDERS[folder]}_resnet18_lds_gau_{ks}_1_fds_gau_{ks}_1_0_1_0.9_adam_l1_0.001_32"
    names = {path.name for path in both.iterdir()}
    assert {"ckpt.pth.tar", "ckpt.best.pth.tar", "metrics.json", "predictions.csv", "report.png", "training.log"} <= names


@in_one_folder
def test_an_explicit_split_is_trained_on_and_named(folder, sample, train, tmp_path):
    rows = list(csv.DictReader((sample / f"{FOLDERS[folder]}.csv").read_text().splitlines()))
    kept = [row for row in rows if not (row["split"] != "test" and 20 <= float(row["age"]) <= 70)]
    split = tmp_path / "gap.csv"
    split.write_text("age,path,split\n" + "".join(f"{row['age']},{row['path']},{row['split']}\n" for row in kept))
    _, run = train(tmp_path / "runs", "--split", split)
    assert run.name.endswith("_split_gap")
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    trained = {float(row["age"]) for row in kept if row["split"] == "train"}
    tested = [float(row["age"]) for row in kept if row["split"] == "test"]
    unseen = [age for age in tested if age not in trained and min(trained) < age < max(trained)]
    assert metrics["zero_interp"]["count"] == len(unseen) > 30


def test_the_metrics_are_those_of_the_predictions(both):
    rows = list(csv.DictReader((both / "predictions.csv").read_text().splitlines()))
    metrics = json.loads((both / "metrics.json").read_text())["test"]
    error = np.array([float(row["prediction"]) - float(row["label"]) for row in rows])
    assert metrics["overall"]["count"] == len(rows)
    assert metrics["overall"]["l1"] == pytest.approx(np.abs(error).mean(), rel=1e-5)


def test_published_checkpoints_load_and_ours_have_their_names(folder, both, train, tmp_path):
    """With and without `module.`; the file is a dict of epoch, model, best_loss, state_dict and optimizer."""
    content = torch.load(both / "ckpt.best.pth.tar", weights_only=True)
    assert {"epoch", "model", "best_loss", "state_dict", "optimizer"} <= content.keys()
    state = content["state_dict"]
    names = {"module.conv1.weight", "module.layer4.1.bn2.running_var", "module.linear.bias", "module.FDS.running_mean"}
    assert names <= state.keys()
    assert state["module.FDS.running_mean"].shape == ({"agedb-dir": 97, "imdb-wiki-dir": 100}[folder], 512)
    expected = json.loads((both / "metrics.json").read_text())["test"]["overall"]
    published = {"epoch": 1, "model": "resnet18", "best_loss": 7.0, "optimizer": {}}
    torch.save({**published, "state_dict": {k.removeprefix("module."): v for k, v in state.items()}}, tmp_path / "bare")
    for path in (both / "ckpt.best.pth.tar", tmp_path / "bare"):
        done, _ = train(tmp_path / "none", "--evaluate", "--resume", path)
        assert f"{expected['l1']:.4f}" in done.stdout
    assert not (tmp_path / "none").exists()


@in_one_folder
def test_rrt_trains_the_head_alone(both, train, tmp_path):
    best = both / "ckpt.best.pth.tar"
    _, run = train(tmp_path, "--retrain_fc", "--pretrained", best, "--reweight", "inverse")
    before, after = (torch.load(path, weights_only=True)["state_dict"] for path in (best, run / "ckpt.best.pth.tar"))
    for name, value in after.items():
        assert torch.equal(value, before[name]) != name.startswith("module.linear.")


@in_one_folder
def test_two_processes_equal_one(train, tmp_path):
    """Batches of 32 of 96 faces, BatchNorm over both processes; rounding grows in a fresh network, so to a year."""
    method = ["--reweight", "sqrt_inv", "--lds", "--fds", "--lr", "1e-4"]
    _, one = train(tmp_path / "one", *method)
    _, two = train(tmp_path / "two", *method, ranks=2)
    a, b = (
        [float(line.split(",")[1]) for line in (run / "predictions.csv").read_text().splitlines()[1:]] for run in (one, two)
    )
    print(np.abs(np.subtract(a, b)).max())
    np.testing.assert_allclose(a, b, atol=0.05)


@in_one_folder
def test_resume_equals_uninterrupted(train, tmp_path):
    method = ["--reweight", "sqrt_inv", "--lds", "--fds", "--fds_kind", "own", "--fds_stats", "streaming"]
    _, whole = train(tmp_path / "a", *method, "--epoch", "2")
    train(tmp_path / "b", *method)
    _, parts = train(tmp_path / "b", *method, "--epoch", "2", "--resume", "--workers", "1")
    assert (whole / "predictions.csv").read_text() == (parts / "predictions.csv").read_text()


@in_one_folder
@pytest.mark.parametrize(
    "words",
    [
        ["--loss", "focal_l1", "--optimizer", "sgd", "--cache", "CACHE"],
        ["--loss", "huber", "--amp", "bf16", "--channels_last"],
        ["--loss", "mse", "--fds", "--lds", "--reweight", "inverse", "--lds_kernel", "triang"],
    ],
    ids=lambda words: words[1],
)
def test_other_settings_train(train, tmp_path, words):
    words = [str(tmp_path / "cache") if word == "CACHE" else word for word in words]
    _, run = train(tmp_path / "runs", *words)
    assert np.isfinite(json.loads((run / "metrics.json").read_text())["test"]["overall"]["l1"])


@in_one_folder
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lds"], "--lds: smooths the weights of --reweight"),
        (["--epoch", "0"], "--epoch: expected at least 1, found 0"),
        (["--img_size", "8"], "--img_size: expected at least 32, found 8"),
        (["--model", "resnet19"], "argument --model: expected one of resnet18, resnet34, resnet50"),
        (["--dataset", "other"], "other.csv is missing"),
        (["--gpu", "9"], "--device: cuda:9 was asked for, but"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_flags_get_one_line_and_leave_nothing(folder, sample, tmp_path, words, message):
    small = [word for word in SMALL if word not in ("--device", "cpu")]
    done = python(folder, "train.py", "--data_dir", sample, "--store_root", tmp_path / "runs", *small, *words, code=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@in_one_folder
def test_a_corrupt_image_stops_with_its_path_or_is_skipped(folder, sample, train, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(sample, data)
    victim = sorted(data.rglob("*.jpg"))[0]
    victim.write_bytes(victim.read_bytes()[:100])
    done, _ = train(tmp_path / "a", data=data, code=2)
    assert victim.name in done.stderr
    assert done.stderr.count("\n") == 1
    done, run = train(tmp_path / "b", "--skip_bad_images", data=data)
    assert "skipped 1 of" in (run / "training.log").read_text()


def test_the_published_shots_of_agedb(shared):
    """1530, 448 and 162 test faces are of ages with many, medium and few training faces."""
    from imbalanced_regression import shot_metrics
    from imbalanced_regression.faces.ages import AGE_BINS

    rows = list(csv.DictReader((shared / "data/agedb/agedb.csv").read_text().splitlines()))
    train, test = ([float(row["age"]) for row in rows if row["split"] == split] for split in ("train", "test"))
    metrics = shot_metrics(test, test, train, AGE_BINS)
    assert [metrics[shot]["count"] for shot in ("many", "medium", "few")] == [1530, 448, 162]
