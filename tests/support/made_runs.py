"""Runs of which only the files are made, for tests of what reads them, and the tools that do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from imbalanced_regression import __main__ as tools
from imbalanced_regression.metrics import GROUPS


def make_run(folder: Path, seed: int, error: float, reweight: str = "none", labels=None) -> Path:
    """A run's files: every prediction is off by `error`, in the direction of its index."""
    labels = np.arange(12.0) if labels is None else labels
    sign = np.where(np.arange(len(labels)) % 2, 1, -1)
    preds = labels + sign * error
    shots = np.array(["many", "medium", "few"])[np.arange(len(labels)) % 3]
    groups = {}
    for group in GROUPS:
        chosen = np.ones(len(labels), bool) if group == "overall" else shots == group
        off = (preds - labels)[chosen]
        groups[group] = {"mse": float((off**2).mean()), "l1": float(np.abs(off).mean()), "gmean": float(np.abs(off).mean()),
                         "count": int(chosen.sum())}
    per_bin = {"center": list(labels), "train_count": [30] * len(labels), "count": [1] * len(labels),
               "l1": [error] * len(labels), "shot": shots.tolist()}
    folder.mkdir(parents=True)
    (folder / "args.json").write_text(json.dumps({"seed": seed, "reweight": reweight, "lds": False, "fds": False}))
    (folder / "metrics.json").write_text(json.dumps({"best_epoch": 1, "val": groups, "test": {**groups, "per_bin": per_bin}}))
    lines = [f"{label},{pred},0,{shot}" for label, pred, shot in zip(labels, preds, shots)]
    (folder / "predictions.csv").write_text("\n".join(["label,prediction,bin,shot", *lines]) + "\n")
    return folder


def make_sweep(
    root: Path, errors: dict[str, list[float]], *, dataset: str = "", benchmark: str = "toy-dir", commit: str = "c0ffee",
    shared: str = "", parameters: int = 1234,
) -> Path:
    """As `sweep` leaves them: {row: the error of each seed}; a row's flags are the data set's --table, `shared`, and --NAME
    but for vanilla."""
    for name, of_seeds in errors.items():
        for seed, error in enumerate(of_seeds):
            place = root / benchmark / dataset / f"{name}-{'-'.join(shared.split()) or 'abc123'}" / f"seed{seed}"
            make_run(place / "run", seed, error, name)
            cost = {"seconds_per_epoch": 0.5 + seed, "memory_mib": 100.0, "parameters": parameters, "device": "cpu"}
            (place / "run" / "cost.json").write_text(json.dumps(cost))
            parts = [f"--table {dataset}" if dataset else "", "--data_dir /somewhere/x", shared]
            flags = " ".join(filter(None, [*parts, "" if name == "vanilla" else f"--{name}"]))
            record = {
                "benchmark": benchmark, "dataset": dataset, "row": name, "seed": seed, "flags": flags, "seconds": 12.5,
                "date": "2026-11-28", "software": {"version": "0.1.0", "commit": commit, "changed": False},
                "hardware": {"cpu": "a CPU", "cores": 2, "gpus": []}, "published": {}, "source": "",
            }
            (place / "run.json").write_text(json.dumps(record))
    return root


def tool(monkeypatch, *words) -> int:
    """The exit code of `python -m imbalanced_regression`, in this process."""
    monkeypatch.setattr(sys, "argv", ["tools", *map(str, words)])
    try:
        tools.guard(tools.main)
    except SystemExit as end:
        return end.code
    return 0
