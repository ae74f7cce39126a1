"""The trial of FDS in benchmarks/: its batched variants are the library's, and its measures say what they claim."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

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
