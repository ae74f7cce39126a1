"""The demo: drawn faces, trained on without anything, with re-weighting, LDS, and LDS + FDS; the results side by side.

    python demo.py                  # seed 0; runs and pictures in ../demo
    python demo.py --seeds 0 1 2    # several seeds, with mean and standard deviation

A few minutes on two cores: two runs train at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent
TRAIN = ["--model", "resnet18", "--img_size", "32", "--batch_size", "64", "--epoch", "9", "--schedule", "7",
         "--workers", "1", "--print_freq", "1000"]
WEIGHTS = ["--reweight", "sqrt_inv"]
METHODS = {
    "vanilla": [],
    "sqrt_inv": WEIGHTS,
    "LDS": [*WEIGHTS, "--lds"],
    "LDS + FDS": [*WEIGHTS, "--lds", "--fds"],
}
GROUPS = ("overall", "many", "medium", "few")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds to train with")
    parser.add_argument("--out", type=Path, default=HERE.parent / "demo", help="folder for the sample and the runs")
    parser.add_argument("--quick", action="store_true", help="few faces and one epoch: that it runs")
    args = parser.parse_args()
    out = args.out.resolve()
    faces, train = ("64", [*TRAIN, "--epoch", "1", "--batch_size", "32"]) if args.quick else ("4000", TRAIN)
    call("make_sample.py", "--train", faces, "--size", "32", "--out", str(out / "sample"), "--overwrite")
    results: dict[str, list[dict]] = {name: [] for name in METHODS}
    jobs = [(seed, name) for seed in args.seeds for name in METHODS]
    stores = [out / f"seed{seed}" / name.replace(" ", "") for seed, name in jobs]
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        runs = []
        for (seed, name), store in zip(jobs, stores):
            flags = [*train, *METHODS[name]]
            print(f"{name}, seed {seed}: train.py {' '.join(flags)}", flush=True)
            data = ["--data_dir", str(out / "sample"), "--store_root", str(store), "--seed", str(seed), "--overwrite"]
            runs.append(pool.submit(call, "train.py", *flags, *data, quiet=True))
        for done in runs:
            done.result()
    for (_, name), store in zip(jobs, stores):
        run = next(path for path in store.iterdir() if (path / "metrics.json").is_file())
        results[name].append(json.loads((run / "metrics.json").read_text())["test"])
        print(f"picture: {run / 'report.png'}")
    print(f"\nTest errors in years on the sample (no benchmark result), seeds {', '.join(map(str, args.seeds))}:\n")
    print(table(results))


def call(script: str, *words: str, quiet: bool = False) -> None:
    """Run a script; `quiet` leaves its log to the run's training.log, and its errors to the terminal."""
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))} if quiet else {}  # two runs share the cores
    done = subprocess.run([sys.executable, script, *words], cwd=HERE, env={**threads, **os.environ},
                          stdout=subprocess.DEVNULL if quiet else None)
    if done.returncode:
        raise ValueError(f"{script} ended with exit code {done.returncode}; its message stands above")


def table(results: dict[str, list[dict]]) -> str:
    """MAE and G-Mean by shot, a line per method; mean and standard deviation over seeds where there are several."""
    lines = [f"{'':12}" + "".join(f"{f'{group} MAE':>16}" for group in GROUPS) + "".join(f"{f'{g} GM':>16}" for g in GROUPS)]
    for name, runs in results.items():
        cells = [[run[group][metric] for run in runs] for metric in ("l1", "gmean") for group in GROUPS]
        lines.append(f"{name:12}" + "".join(f"{cell(values):>16}" for values in cells))
    return "\n".join(lines)


def cell(values: list) -> str:
    if values[0] is None:
        return "-"
    return f"{np.mean(values):.2f}" + (f" +- {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    guard(main)
