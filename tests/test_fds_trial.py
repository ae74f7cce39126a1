"""The trial of FDS in benchmarks/: its batched variants are the library's, and its measures say what they claim."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ROOT, execute, from_folder

from imbalanced_regression import FDS, Bins

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def trial():
    """The two scripts as modules: (fds_search, fds_leak)."""
    found = []
    for name in ("fds_search", "fds_leak"):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        found.append(module)
    yield tuple(found)
    for name in ("fds_search", "fds_leak"):
        sys.modules.pop(name)


def table(trial, seeds: int = 2, count: int = 120):
    random = np.random.default_rng(0)
    labels = np.concatenate([np.repeat(np.arange(8.0), 3), 8 * random.random(count - 24) ** 2])
    inputs = labels[:, None] + random.normal(size=(count, 4))
    return trial[0].split(inputs, labels, Bins.width(0, 8, 1), seeds)


@pytest.mark.parametrize(
    ("variant", "how"), [("own", {}), ("own, momentum 0", {"momentum": 0.0}), ("released", {"kind": "released"})]
)
def test_the_batched_variants_move_features_as_the_library_does(trial, variant, how):
    data = table(trial)
    kind, knobs = trial[0].VARIANTS[variant]
    batched = kind(data, **knobs)
    each = [FDS(6, bins=data.bins, **how) for _ in range(2)]
    torch.manual_seed(0)
    for epoch in range(5):
        labels = data.labels["train"]
        z = labels[:, :, None] + torch.randn(*labels.shape, 6)
        moved = batched.move(z, batched.rows)
        library = torch.stack([fds.smooth(z[s], labels[s], epoch) for s, fds in enumerate(each)])
        torch.testing.assert_close(moved, library, rtol=1e-3, atol=1e-3)
        batched.end(moved if batched.observes_smoothed else z, epoch, None)
        for s, fds in enumerate(each):
            fds.observe(library[s] if fds.observes_smoothed else z[s], labels[s])
            fds.finish_epoch(epoch)
    assert not torch.equal(moved, z)


def test_validation_and_test_parts_are_balanced_and_share_no_sample(trial):
    data = table(trial)
    parts = [data.bins.counts(data.labels[name][0].numpy()) for name in ("train", "val", "test")]
    assert np.array_equal(parts[1], parts[2])
    assert np.array_equal(parts[1], np.minimum(sum(parts) // 3, trial[0].CAP))
    rows = torch.cat([data.inputs[name][0] for name in ("train", "val", "test")])
    assert len(rows.unique(dim=0)) == len(rows) == 120


def test_the_probe_reads_a_movement_of_the_bins_and_nothing_from_noise(trial):
    torch.manual_seed(0)
    rows = torch.randint(0, 8, (400,))
    assert trial[1].ridge_r2(torch.randn(8, 32)[rows], rows.float()) > 0.95
    assert trial[1].ridge_r2(torch.randn(400, 4), rows.float()) < 0.1
    assert trial[1].ridge_r2(torch.zeros(400, 4), rows.float()) == 0


def test_the_summary_compares_with_vanilla_of_the_same_weights(trial, tmp_path):
    lines = ["table,weights,variant,seed,all,few"]
    lines += [f"concrete,lds,vanilla,{seed},2,{4 + seed}" for seed in range(2)]
    lines += ["concrete,lds,own,0,3,3", "concrete,lds,own,1,3,9"]
    (tmp_path / "found.csv").write_text("\n".join(lines) + "\n")
    said = trial[0].summary(tmp_path / "found.csv").splitlines()
    assert said[2:] == ["| lds | vanilla | 4.50 | | |", "| lds | own | +33.3 % | 1 / 1 | +50.0 % |"]


def test_the_leak_of_finished_runs_is_what_their_checkpoints_say(tmp_path):
    rows = ["vanilla", "fds"]
    shared = ["--data_dir", "sample", "--epochs", "3", "--schedule", "--device", "cpu"]
    execute(["-m", "imbalanced_regression", "sweep", "uci-dir", "--methods", *rows, "--datasets", "concrete",
             "--out", tmp_path / "sweep", "--no_published", "--", *shared], ROOT)
    said = execute([FOLDER / "leak_of_runs.py", tmp_path / "sweep", "--out", tmp_path / "leak.csv"], tmp_path)
    assert "vanilla" in said
    with open(tmp_path / "leak.csv", newline="") as file:
        lines = {line.pop("row"): line for line in csv.DictReader(file)}
    found = {row: {name: float(value) for name, value in line.items()} for row, line in lines.items()}
    assert list(found) == ["fds", "vanilla"]

    data = from_folder("uci-dir", "datasets").read_splits("concrete", ROOT / "uci-dir" / "sample")["train"]
    for row, values in found.items():
        (best,) = (tmp_path / "sweep").glob(f"**/{row}-*/seed0/*/ckpt.best.pth.tar")
        state = {name: value.double().numpy() for name, value in torch.load(best, weights_only=True)["state_dict"].items()}
        z = data.inputs.double().numpy()
        for layer in (0, 2, 4):
            z = np.maximum(z @ state[f"encoder.{layer}.weight"].T + state[f"encoder.{layer}.bias"], 0)
        moved = z.copy()
        if row == "fds":  # the first release's formula, sample by sample
            mean, var, after, spread = (state[f"fds.{name}_last_epoch"] for name in (
                "running_mean", "running_var", "smoothed_mean", "smoothed_var"))
            edges = from_folder("uci-dir", "utils").TABLES["concrete"].bins.edges
            for i, label in enumerate(data.labels):
                b = np.clip(np.searchsorted(edges, label, side="right") - 1, 0, len(mean) - 1)
                if var[b].sum() >= 1e-10:
                    ok = (var[b] > 0) & (spread[b] >= 0)
                    factor = np.sqrt(np.clip(spread[b, ok] / var[b, ok], 0.1, 10))
                    moved[i, ok] = (z[i, ok] - mean[b, ok]) * factor + after[b, ok]
        on, off = (state["head.center"] + state["head.scale"] * (part @ state["head.weight"][0] + state["head.bias"][0])
                   for part in (moved, z))
        assert values["moved"] == pytest.approx(np.abs(on - data.labels).mean(), rel=1e-3)
        assert values["unmoved"] == pytest.approx(np.abs(off - data.labels).mean(), rel=1e-3)
        assert values["distance"] == pytest.approx(np.abs(on - off).mean(), rel=2e-3, abs=1e-6)
    assert found["vanilla"]["probe"] == found["vanilla"]["correlation"] == 0
    assert found["fds"]["distance"] > 0
    assert 0 < found["fds"]["probe"] <= 1
