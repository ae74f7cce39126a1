"""How much of the label FDS's movement carries, and whether the head reads it, in finished runs of any benchmark.

    python benchmarks/leak_of_runs.py sweep/sts-b-dir --out sts_leak.csv
    python benchmarks/leak_of_runs.py sweep/agedb-dir/fds* sweep/agedb-dir/vanilla* --out faces_leak.csv

Takes the runs that `sweep` made, builds each model and its training data anew from the run's own command, loads its best
checkpoint, and measures on the training samples what the next pass would be trained with; measures as in fds_leak.py, with
the encoder as at test (no dropout). Runs of one benchmark with one label each; vanilla's are measured without a movement.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import os
import shlex
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from fds_leak import ridge_r2
from torch import Tensor, nn

from imbalanced_regression import training
from imbalanced_regression.tools.compare import find_runs
from imbalanced_regression.tools.folders import importable
from imbalanced_regression.tools.states import read_record
from imbalanced_regression.training import checkpoint
from imbalanced_regression.training.loaders import Feed

ROOT = Path(__file__).resolve().parents[1]
MEASURES = ("probe", "correlation", "moved", "unmoved", "distance")
LATE = 10**9  # a pass after FDS's start


class _Built(Exception):
    """Thrown in the place of training: the model and the data are there."""

    def __init__(self, model: nn.Module, splits: Any, plan: Any, options: dict[str, Any]):
        super().__init__()
        self.parts = model, splits, plan, options


def _instead_of_training(model, splits, objective, measure, plan, **options):
    raise _Built(model, splits, plan, options)


def built(script: ModuleType, command: str, best: Path) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
    """The model of a run's command with the state of `best`, and the features and labels of its training data, by batch."""
    words = shlex.split(command)[1:]
    words = words[: words.index("--store_root")]
    before, run = sys.argv, training.run
    training.run = _instead_of_training
    try:
        with tempfile.TemporaryDirectory() as room:
            sys.argv = [*words, "--store_root", room, "--resume", str(best), "--evaluate"]
            script.main()
    except _Built as found:
        model, splits, plan, options = found.parts
    finally:
        sys.argv, training.run = before, run
    checkpoint.load_model(model, checkpoint.load(best), renames=options["renames"], path=best)
    feed = Feed(splits, plan, options["runtime"])
    feed.begin_stats(0)
    model.eval()
    with torch.no_grad():
        parts = [(model(inputs)[1].float(), targets) for inputs, targets, _ in feed.stats]
    return model, parts


def leak(model, parts: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The measures of a model with or without FDS; features must be as FDS observes them, raw."""
    z, labels = (torch.cat(values) for values in zip(*parts))
    labels = labels.reshape(-1)
    fds = model.fds
    with torch.no_grad():
        if fds is None:
            moved = z
            shared = torch.zeros_like(z)
        else:
            fds.train()
            moved = fds.smooth(z, labels, LATE)
            rows = fds._rows(z, labels).clamp(max=len(fds.num_samples_tracked) - 1)
            middle = fds.running_mean_last_epoch[rows]
            shared = fds.smooth(middle, labels, LATE) - middle
        on, off, told = (model.point(model.head(part))[:, 0] for part in (moved, z, z + shared))
        told = told - off
        together = torch.stack([told, labels])
        return {
            "probe": ridge_r2(shared, labels),
            "correlation": float(torch.corrcoef(together)[0, 1]) if told.std() > 0 else 0.0,
            "moved": float((on - labels).abs().mean()),
            "unmoved": float((off - labels).abs().mean()),
            "distance": float((on - off).abs().mean()),
        }


def find(paths: list[Path]) -> list[tuple[dict, Path]]:
    """The record and the best checkpoint of each finished run below the paths. Raises ValueError where there is none."""
    found = [(read_record(run.folder.parent), run.folder.resolve() / checkpoint.BEST) for run in find_runs(paths)]
    found = [(record, best) for record, best in found if "command" in record and best.is_file()]
    if not found:
        raise ValueError(f"found no run of a sweep with a checkpoint below {', '.join(map(str, paths))}")
    if len({record["benchmark"] for record, _ in found}) > 1:
        raise ValueError("pass runs of one benchmark at a time")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folders of sweep")
    parser.add_argument("--rows", nargs="+", help="only these rows")
    parser.add_argument("--benchmark", type=Path, help="the benchmark's folder; default: that of this checkout")
    parser.add_argument("--out", type=Path, required=True, help="the csv")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        found = find(args.runs)
    except ValueError as error:
        parser.error(str(error))
    rows: dict[str, list[dict[str, float]]] = {}
    benchmark = (args.benchmark or ROOT / found[0][0]["benchmark"]).resolve()
    with open(args.out, "w", newline="") as file, importable(benchmark):
        os.chdir(benchmark)  # where a sweep starts it: paths in its flags may be of there
        script, writer = importlib.import_module("train"), csv.writer(file)
        writer.writerow(["row", "seed", *MEASURES])
        for record, best in found:
            if args.rows is None or record["row"] in args.rows:
                values = leak(*built(script, record["command"], best))
                writer.writerow([record["row"], record["seed"], *(f"{values[name]:.5g}" for name in MEASURES)])
                rows.setdefault(record["row"], []).append(values)
    for row, values in rows.items():
        means = {name: np.mean([one[name] for one in values]) for name in MEASURES}
        print(f"{row:24} {len(values)} seeds  " + "  ".join(f"{name} {means[name]:.3f}" for name in MEASURES))


if __name__ == "__main__":
    main()
