"""What FDS and the files cost: epochs beside vanilla ones, how each cost grows with its size, and the start of a script.

    python benchmarks/trust_speed.py            # under three minutes; exit code 1 if a claim fails
    python benchmarks/trust_speed.py --quick    # small sizes: that it runs; times are not judged

Growth: a cost is measured at a size and at ten times the size, one of samples, bins and feature width at a time; no worse
than linear means at most ten times the time, and a tenth more for the noise of a clock. What goes over plain arrays of labels
begins at a size beyond a processor's caches, as its time jumps once where they are full. One thread, processor time.
"""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from loader_speed import epochs  # noqa: E402  # found through the path set above

from imbalanced_regression import FDS, Bins, lds_weights, shot_metrics  # noqa: E402
from imbalanced_regression.cli import ArgumentParser, guard  # noqa: E402
from imbalanced_regression.tools.starting import processor  # noqa: E402

LINEAR = 11.0  # times the time for ten times the size, at most
STREAMING, SECOND_PASS = 1.05, 1.6  # times a vanilla epoch, at most: a second pass is a forward of the three of a step
HELP = 3.0  # seconds until train.py --help is through, at most
SIZES = {"samples": 20_000, "bins": 100, "width": 256}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, times not judged")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        f"{datetime.date.today()}, {processor()}, one thread, python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {np.__version__}"
    )
    print(f"{'claim':<64}{'small':>11}{'large':>11}{'ratio':>9}{'wanted':>9}  ok")
    failed = 0
    for claim, small, large, wanted in [*growth(args.quick), *epoch_times(args.quick), *starts()]:
        ratio = large / small if small else large
        ok = ratio <= wanted
        failed += not ok
        print(
            f"{claim:<64}{f'{small:.4f} s' if small else '-':>11}{f'{large:.4f} s':>11}{ratio:>9.2f}{f'<= {wanted:g}':>9}  "
            f"{'-' if args.quick else 'yes' if ok else 'NO'}", flush=True,
        )
    sys.exit(1 if failed and not args.quick else 0)


def growth(quick: bool):
    """(claim, seconds at a size, seconds at ten times the size, greatest ratio) of each cost and each size."""
    for cost, (make, grows, own) in COSTS.items():
        base = {name: value // 20 if quick else value for name, value in {**SIZES, **own}.items()}
        base["bins"] = max(base["bins"], 8)
        for axis in grows:
            jobs = [make(**base), make(**{**base, axis: 10 * base[axis]})]
            small, large = best_of(jobs, 2 if quick else 5)
            yield f"{cost}: ten times the {axis}, from {base[axis]:,}", small, large, LINEAR


def lds(samples: int, bins: int, width: int) -> Callable:
    labels, own = np.random.default_rng(0).beta(1, 3, samples), Bins.uniform(0, 1, bins)
    return lambda: [lds_weights(labels, own) for _ in range(3)]


def metrics(samples: int, bins: int, width: int) -> Callable:
    random, own = np.random.default_rng(0), Bins.uniform(0, 1, bins)
    labels = random.beta(1, 3, samples)
    preds = labels + 0.1 * random.normal(size=samples)
    return lambda: shot_metrics(preds, labels, labels, own)


def features(samples: int, bins: int, width: int) -> tuple[FDS, torch.Tensor, torch.Tensor]:
    return FDS(width, bins, ks=5), torch.randn(samples, width), torch.randint(0, bins, (samples,))


def observe(samples: int, bins: int, width: int) -> Callable:
    fds, z, y = features(samples, bins, width)
    return lambda: fds.observe(z, y)


def finish(samples: int, bins: int, width: int) -> Callable:
    fds, z, y = features(bins, bins, width)
    sums = []

    def job() -> None:
        for _ in range(5):
            if not sums:
                fds.observe(z, y)
                sums.append(fds._sums)
            fds._sums = sums[0]
            fds.finish_epoch(0)

    return job


def smooth(samples: int, bins: int, width: int) -> Callable:
    """Steps of 256 samples, so that bins weigh as they do in training."""
    fds, z, y = features(samples, bins, width)
    fds.update_running_stats(z, y, 0)
    batches = list(zip(z.split(256), y.split(256)))

    def job() -> None:
        for part, labels in batches:
            fds.smooth(part.requires_grad_(), labels, 1).sum().backward()

    return job


MANY = {"samples": 200_000}  # as many labels as IMDB-WIKI-DIR
COSTS = {
    "LDS weights": (lds, ("samples", "bins"), MANY),
    "shot metrics": (metrics, ("samples", "bins"), MANY),
    "FDS.observe": (observe, ("samples", "bins", "width"), {}),
    "FDS.finish_epoch": (finish, ("bins", "width"), {}),
    "FDS.smooth, forward and backward": (smooth, ("samples", "bins", "width"), {}),
}


def best_of(jobs: list[Callable], turns: int) -> list[float]:
    """The best processor time of each job, in turns; the first turn warms up."""
    best = [np.inf] * len(jobs)
    for turn in range(turns + 1):
        for i, job in enumerate(jobs):
            began = time.process_time()
            job()
            if turn:
                best[i] = min(best[i], time.process_time() - began)
    return best


def epoch_times(quick: bool):
    seconds = epochs(64 if quick else 256, 1 if quick else 5)
    for name, wanted in (("FDS, streaming", STREAMING), ("FDS, second pass", SECOND_PASS)):
        yield f"an epoch, ResNet-18, 64 px: vanilla, then {name}", seconds["vanilla"], seconds[name], wanted


def starts():
    """Seconds until `train.py --help` is through, the best of three, in each folder."""
    for script in sorted(ROOT.glob("*-dir/train.py")):
        best = np.inf
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run([sys.executable, script.name, "--help"], cwd=script.parent, check=True, capture_output=True)
            best = min(best, time.perf_counter() - began)
        yield f"{script.parent.name}: train.py --help", 0.0, best, HELP


if __name__ == "__main__":
    guard(main)
