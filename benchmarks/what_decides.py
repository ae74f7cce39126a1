"""UCI-DIR in many settings: four tables x training sets of three shapes, two models and three schedules.

    python benchmarks/what_decides.py --data_dir DATA --out RUNS            # 300 runs; a quarter of an hour on two cores
    python benchmarks/what_decides.py --data_dir DATA --out RUNS --seeds 0  # a third of that

Runs go through `sweep`, so the same command goes on after any kill. The published shape, model and schedule are those of
results/uci-dir.csv: sweep them into the same folder. Then

    python -m imbalanced_regression compare RUNS --decides results/what_decides.csv
    python -m imbalanced_regression results
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "uci-dir")]

from datasets import read_table  # noqa: E402  # found through the path set above
from utils import TABLES  # noqa: E402

from imbalanced_regression.tools import protocols  # noqa: E402

METHODS = ("vanilla", "sqinv", "inv", "lds", "fds")
MODELS = {"wide": ("--model", "wide"), "short": ("--epochs", "20", "--schedule", "12", "17"),
          "long": ("--epochs", "240", "--schedule", "150", "210")}
SHAPES = ("peaked", "flat")


def shape(name: str, labels: np.ndarray) -> protocols.Shape:
    """`peaked` is that of the protocols; `flat` gives every bin the same number of training rows, as far as it has them."""
    if name == "peaked":
        return protocols.SHAPES["peaked"](labels)
    return protocols.Shape(peaks=((float(np.median(labels)), 1e6 * float(np.ptp(labels)), 0.0),))


def write_split(dataset: str, name: str, data_dir: Path, out: Path) -> Path:
    """The split file of a table and a shape; flat with as many rows as the bins' mean in all, so that most bins are cut."""
    labels, table = read_table(dataset, data_dir)[2], TABLES[dataset]
    size = 4.0 if name == "peaked" else 1.0
    rows = protocols.make_split(labels, shape(name, labels), table.bins, cap=table.cap, size=size)
    path = out / f"{name}_{dataset}.csv"
    path.write_text(protocols.split_csv(rows, labels))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="with the four tables, as download_uci.py makes it")
    parser.add_argument("--out", type=Path, default=Path("sweep"), help="where the runs lie")
    parser.add_argument("--seeds", nargs="+", default=["0-2"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--datasets", nargs="+", default=list(TABLES), choices=list(TABLES))
    args = parser.parse_args()
    data_dir, out = args.data_dir.resolve(), args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    settings = [(args.datasets, flags) for flags in MODELS.values()]
    for dataset in args.datasets:
        for name in SHAPES:
            settings.append(([dataset], ("--split", str(write_split(dataset, name, data_dir, out)))))
    for number, (datasets, flags) in enumerate(settings, start=1):
        print(f"setting {number} of {len(settings)}: {', '.join(datasets)} {' '.join(flags)}", flush=True)
        done = subprocess.run([
            sys.executable, "-m", "imbalanced_regression", "sweep", str(ROOT / "uci-dir"), "--methods", *METHODS, "--datasets",
            *datasets, "--seeds", *args.seeds, "--jobs", str(args.jobs), "--out", str(out), "--mixed", "--no_published", "--",
            "--data_dir", str(data_dir), "--device", "cpu", *flags,
        ], cwd=ROOT, stdout=subprocess.DEVNULL)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
