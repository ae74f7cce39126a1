"""A sweep that is killed by SIGKILL at random moments ends with the table of an uninterrupted one, to the last digit.

    python benchmarks/killed_sweep.py --data_dir DATA                                       # all rows x 4 tables x 3 seeds
    python benchmarks/killed_sweep.py --methods vanilla lds fds --datasets concrete --seeds 0-1 --epochs 5

Runs of uci-dir, once in one go (a fresh process for each, or --fork always), and once killed and started again, as forks. It
prints the verdict; exit code 2 where metrics or predictions of a run differ, or a run is missing.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, check_least, guard

ROOT = Path(__file__).resolve().parents[1]
COMPARED = ("metrics.json", "predictions.csv")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["all"], help="rows of uci-dir")
    parser.add_argument("--datasets", nargs="+", default=["airfoil", "abalone", "real_estate", "concrete"], help="tables")
    parser.add_argument("--seeds", nargs="+", default=["0-2"], help="numbers and ranges")
    parser.add_argument("--kills", type=int, default=3, help="how often the second sweep is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--epochs", type=int, default=80, help="of every run")
    parser.add_argument("--fork", default="never", choices=("never", "always"),
                        help="of the first sweep: a fresh process for each run, or forks, which take a third of the time")
    parser.add_argument("--data_dir", type=Path, default=ROOT / "uci-dir" / "sample", help="the tables; default: concrete")
    args = parser.parse_args()
    check_least(args, kills=0, jobs=1, epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"

        def words(out: Path, fork: str) -> list[str]:
            return [sys.executable, "-m", "imbalanced_regression", "sweep", str(ROOT / "uci-dir"), "--methods", *args.methods,
                    "--datasets", *args.datasets, "--seeds", *args.seeds, "--jobs", str(args.jobs), "--out", str(out),
                    "--fork", fork, "--format", "csv", "--", "--data_dir", str(args.data_dir.resolve()),
                    "--epochs", str(args.epochs)]

        began = time.monotonic()
        first = finish(words(whole, args.fork))
        took, moments = time.monotonic() - began, random.Random(args.seed)
        for number in range(args.kills):
            kill_after(words(killed, "always"), moments.uniform(0.1, 0.9) * took / (args.kills + 1))
            print(f"kill {number + 1}: {count(killed)} of {count(whole)} runs were done", flush=True)
        second = finish(words(killed, "always"))
        differ = [str(path.relative_to(whole)) for name in COMPARED for path in sorted(whole.rglob(name))
                  if not (killed / path.relative_to(whole)).is_file()
                  or (killed / path.relative_to(whole)).read_bytes() != path.read_bytes()]
        print(f"{count(whole)} runs in one go, {count(killed)} after {args.kills} kills; {len(differ)} files differ")
        print("the tables are equal" if first == second else "the tables differ")
    if differ or first != second:
        raise ValueError("; ".join(differ[:5]) or "the tables differ")


def finish(words: list[str]) -> str:
    """Run to the end; the table as csv. Raises ValueError where the sweep fails."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def kill_after(words: list[str], seconds: float) -> None:
    """Start, and kill after some seconds, if it has not ended before."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sweep:
        try:
            sweep.wait(seconds)
        except subprocess.TimeoutExpired:
            sweep.send_signal(signal.SIGKILL)


def count(out: Path) -> int:
    return len(list(out.rglob("metrics.json")))


if __name__ == "__main__":
    guard(main)
