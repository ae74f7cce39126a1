"""The demo: drawn faces, trained on without anything, with re-weighting, LDS, and LDS + FDS; the results side by side.

    python demo.py                  # seed 0; runs and pictures in ../demo
    python demo.py --seeds 0-2      # several seeds, with mean and standard deviation

A sweep of four rows of methods.toml, two runs at a time: a few minutes on two cores. Killed, the same command goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent
ROWS = ["vanilla", "sqinv", "sqinv+lds", "sqinv+lds+fds"]
TRAIN = ["--model", "resnet18", "--img_size", "32", "--batch_size", "32", "--epoch", "4", "--schedule", "3", "--workers", "0",
         "--print_freq", "1000"]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", default=["0"], help="seeds to train with, e.g. 0-2")
    parser.add_argument("--out", type=Path, default=HERE.parent / "demo", help="folder for the sample and the runs")
    parser.add_argument("--quick", action="store_true", help="few faces and one epoch: that it runs")
    args = parser.parse_args()
    out = args.out.resolve()
    sample = out / ("sample-quick" if args.quick else "sample")
    faces, train = ["--train", "700"], TRAIN
    if args.quick:
        faces, train = ["--train", "64", "--per_age", "1"], [*TRAIN, "--epoch", "1"]
    call("make_sample.py", *faces, "--size", "32", "--out", str(sample), "--overwrite")
    call(
        "-m", "imbalanced_regression", "sweep", str(HERE), "--methods", *ROWS, "--seeds", *args.seeds, "--no_published",
        "--jobs", str(min(2, os.cpu_count() or 1)), "--out", str(out / "runs"), "--picture", str(out / "gain.png"),
        "--", "--data_dir", str(sample), *train,
    )
    print(f"\nErrors in years on drawn faces, no benchmark result. A report.png lies in each run's folder below {out / 'runs'}")


def call(*words: str) -> None:
    """Run a script or module. Raises ValueError where it fails, once it has said why."""
    done = subprocess.run([sys.executable, *words], cwd=HERE)
    if done.returncode:
        name = "the sweep" if words[0] == "-m" else words[0]
        raise ValueError(f"{name} ended with exit code {done.returncode}; its message stands above")


if __name__ == "__main__":
    guard(main)
