"""How fast the methods are beside the literal loops of tests/slow.py, and what they cost in memory and digits.

    python benchmarks/methods_speed.py            # two minutes, 1.5 GB; exit code 1 if a claim fails
    python benchmarks/methods_speed.py --quick    # small sizes: that it runs, and the digits; times are not judged
    python benchmarks/methods_speed.py --floors   # only FDS beside the least that it must read and write, and as it was before

Times are the best of several runs on the CPU with `--threads` threads. The loops: LDS goes sample by sample over the
edges in plain Python; FDS goes label by label over rows picked with a mask, in torch, with autograd's own backward.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "nyud2-dir")]

import slow  # noqa: E402  # found through the path set above
from utils import bucket_weights, pixel_weights  # noqa: E402  # NYUD2-DIR's

from imbalanced_regression import FDS, Bins, lds_weights  # noqa: E402
from imbalanced_regression.methods import bin_statistics  # noqa: E402
from imbalanced_regression.tools.starting import processor  # noqa: E402

FULL = {"ages": 191_509, "batch": 256, "samples": 50_000, "D": 2048, "maps": 32, "repeats": 5, "seconds": 5, "processes": 6}
QUICK = {"ages": 2_000, "batch": 64, "samples": 1_000, "D": 64, "maps": 1, "repeats": 2, "seconds": 0, "processes": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; judges the digits only")
    parser.add_argument("--threads", type=int, default=1, help="threads torch may use; more than one only on a quiet machine")
    parser.add_argument("--floors", action="store_true", help="only FDS beside its floors")
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    if args.floors:
        rows = floors(size)
    else:
        rows = [memory(size, args.threads)]  # first: while this process is small
        rows += [lds(size), lds_shortcut(size), smoothing(size), statistics(size)]
        rows += [bins_in_smoothing(size), *bins_in_statistics(size), digits(size)]
        rows.insert(4, rows.pop(0))
        rows.insert(2, depth_weights(size))
        rows += floors(size)
    print(
        f"{datetime.date.today()}, {processor()}, {args.threads} threads, "
        f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    )
    print(f"{'claim':<84}{'loops':>12}{'library':>12}{'ratio':>10}{'wanted':>10}  ok")
    for claim, loops, library, ratio, wanted, ok in rows:
        judged = wanted and (not args.quick or "variance" in claim)
        print(
            f"{claim:<84}{loops:>12}{library:>12}{ratio:>10}{wanted or '-':>10}  {('yes' if ok else 'NO') if judged else '-'}"
        )
    failed = [row[0] for row in rows if row[4] and not row[5] and (not args.quick or "variance" in row[0])]
    sys.exit(1 if failed else 0)


def lds(size) -> tuple:
    ages, bins = draw_ages(size), Bins(np.arange(122))
    how = {"reweight": "sqrt_inv", "boundary": "zeros"}
    loops, fast = race(lambda: slow.lds_weights(ages, bins.edges, **how), lambda: lds_weights(ages, bins, **how), size)
    return faster(f"LDS weights of {len(ages):,} ages", loops, fast, 100)


def lds_shortcut(size) -> tuple:
    """Not a claim: the loop as one writes it for whole ages only, `int(age)` instead of a search over edges."""
    ages, bins = draw_ages(size), Bins(np.arange(122))
    loops, fast = race(lambda: slow.age_weights(ages), lambda: lds_weights(ages, bins, boundary="zeros"), size)
    return faster(f"  the same, against int(age) as the bin: no claim ({len(ages):,})", loops, fast, None)


def depth_weights(size) -> tuple:
    """A weight for every pixel of a batch of depth maps, 114 x 152 as in training."""
    depth = 0.7 + 9.2 * torch.rand(size["maps"], 1, 114, 152)
    table = torch.from_numpy(bucket_weights("inverse", True))
    listed = table.tolist()
    seconds = race(lambda: plain_weights(depth, listed), lambda: pixel_weights(depth, table), size)
    return faster(f"weights of {depth.numel():,} pixels (map over pixels)", *seconds, 50)


def plain_weights(depth: torch.Tensor, listed: list[float]) -> torch.Tensor:
    """Python's map over pixels; the bins are defined in float32, so the pixels stay numpy's."""
    ten = np.float32(10)
    return torch.tensor(list(map(lambda d: listed[min(int(d * ten), 99)], depth.numpy().ravel()))).view(depth.shape)  # noqa: C417  # as it is


def smoothing(size) -> tuple:
    fds, features, labels = trained(size, 100), torch.randn(size["batch"], size["D"]), draw_labels(size["batch"])
    gradient = torch.randn_like(features)
    tables = (
        fds.running_mean_last_epoch,
        fds.running_var_last_epoch,
        fds.smoothed_mean_last_epoch,
        fds.smoothed_var_last_epoch,
    )

    def step(function: Callable) -> None:
        function(features.detach().requires_grad_()).backward(gradient)

    loops, fast = race(
        lambda: step(lambda z: slow.smooth_per_label(z, labels, *tables)),
        lambda: step(lambda z: fds.smooth(z, labels, 1)),
        size,
    )
    present = len(labels.unique())
    return faster(f"FDS.smooth, forward and backward, {size['batch']} x {size['D']}, {present} ages", loops, fast, 20)


def statistics(size) -> tuple:
    features, labels = torch.randn(size["samples"], size["D"]), draw_labels(size["samples"])
    batches = list(zip(features.split(256), labels.split(256)))
    fds = FDS(size["D"], 100)
    loops, fast = race(
        lambda: slow.statistics_per_label(batches, 100),
        lambda: fds.update_running_stats(features, labels, 0),
        size,
    )
    return faster(f"FDS statistics of {size['samples']:,} x {size['D']}", loops, fast, 2)


def floors(size) -> list[tuple]:
    """FDS as it was and as it is, in the columns of loops and library; the ratio is to its floor.

    Statistics, with one thread and with two: one read of the features, beside which their copy is measured. Smoothing: a
    product with a number, forward and backward, which reads and writes features and gradients once each.
    """
    found, threads = [], torch.get_num_threads()
    for count, dim, bins in ((size["samples"], size["D"], 100), (size["samples"] // 10 + 249, 6 * size["D"] - 288, 50)):
        features, labels = torch.randn(count, dim), draw_labels(count) * (bins / 100)
        fds, room = FDS(dim, bins=Bins.uniform(0, bins, bins)), torch.empty_like(features)
        rows = fds._rows(features, labels)
        for used, limit in ((1, 8), (2, 4)):
            torch.set_num_threads(used)
            (before,) = race_of(2, partial(before_by_rows, features, rows, bins))
            now, read, copy = race_of(
                8 * size["repeats"], partial(observed, fds, features, labels), features.sum, partial(room.copy_, features)
            )
            gigabytes = features.nbytes / 1e9
            memory = f"{gigabytes / read:.1f} GB/s, copied {2 * gigabytes / copy:.1f}"
            claim = f"FDS.observe {count:,} x {dim:,}, {used} threads, in reads ({memory})"
            found.append(beside(claim, before, now, read, limit))
    torch.set_num_threads(threads)
    fds, features, labels = trained(size, 100), torch.randn(size["batch"], size["D"]), draw_labels(size["batch"])
    gradient = torch.randn_like(features)

    def step(function: Callable) -> None:
        function(features.detach().requires_grad_()).backward(gradient)

    before, now, least = race_of(40 * size["repeats"], lambda: step(lambda z: before_moved(fds, z, labels)),
                                 lambda: step(lambda z: fds.smooth(z, labels, 1)), lambda: step(lambda z: z * 2.0))
    claim = f"FDS.smooth {size['batch']} x {size['D']}, there and back, in products ({1000 * least:.2f} ms)"
    return [*found, beside(claim, before, now, least, 3)]


def observed(fds: FDS, features: torch.Tensor, labels: torch.Tensor) -> None:
    """One epoch's statistics, from the first sample on."""
    fds.forget_observed()
    fds.observe(features, labels)


def before_by_rows(features: torch.Tensor, rows: torch.Tensor, count: int) -> None:
    """The statistics as all samples were summed once: in double, each added to the row of its bin."""
    sums = bin_statistics.zero_sums(count, features.shape[1], features.device)
    bin_statistics._add_by_rows(sums, features, rows)


def before_moved(fds: FDS, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The smoothing as it was: masks for every channel of every bin, and three tables of the features' own size."""
    mean, var, tracked = fds.running_mean_last_epoch, fds.running_var_last_epoch, fds.num_samples_tracked[:, None]
    smoothed_mean, smoothed_var = fds.smoothed_mean_last_epoch, fds.smoothed_var_last_epoch
    moves = (tracked > 0) & (var > 0) & (smoothed_var >= 0)
    scale = (smoothed_var / var).clamp(*fds.clip).sqrt()
    tables = torch.where(moves, -mean, 0), torch.where(moves, scale, 1), torch.where(moves, smoothed_mean, 0)
    minus, factor, centre = (torch.nn.functional.embedding(fds._rows(z, labels), table) for table in tables)
    return centre.addcmul_(minus.add_(z), factor)


def race_of(rounds: int, *functions: Callable) -> list[float]:
    """The best seconds of each, run in turn."""
    best = [float("inf")] * len(functions)
    for round_ in range(1 + rounds):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            if round_:  # the first run warms up
                best[i] = min(best[i], time.perf_counter() - start)
    return best


def beside(claim: str, before: float, now: float, floor: float, limit: int) -> tuple:
    return claim, f"{before:.5f}", f"{now:.5f}", f"{now / floor:.1f}", f"<= {limit}", now <= limit * floor


def memory(size, threads) -> tuple:
    few, many = size["samples"] // 4, size["samples"]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # a fresh process for each
        jobs = [("library", few), ("library", many), ("loops", many)]
        at_few, at_many, loops = (
            # the allocator's luck varies
            min(pool.apply(extra_memory, (kind, n, size["D"], threads)) for _ in range(size["processes"]))
            for kind, n in jobs
        )
    ratio = at_many / max(at_few, 1)
    claim = f"  their peak extra memory (MiB), growth from {few:,} to {many:,}"
    return claim, f"{loops:.0f}", f"{at_many:.0f}", f"{ratio:.2f}", "<= 1.25", ratio <= 1.25


def extra_memory(kind: str, n: int, dim: int, threads: int) -> float:
    """MiB that the statistics of features already in memory need at their peak, in a process of its own."""
    torch.set_num_threads(threads)
    features, labels = torch.randn(n, dim), draw_labels(n)
    fds = FDS(dim, 100)
    before = peak_memory()
    if kind == "library":
        fds.update_running_stats(features, labels, 0)
    else:
        slow.statistics_per_label(zip(features.split(256), labels.split(256)), 100)
    return peak_memory() - before


def peak_memory() -> float:
    """The most MiB this process has held. Not getrusage on Linux: there a child starts from its parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def bins_in_smoothing(size) -> tuple:
    features, labels = torch.randn(size["batch"], size["D"]), 100 * torch.rand(size["batch"])
    few, many = trained(size, 100), trained(size, 1000)
    at_many, at_few = race(lambda: many.smooth(features, labels, 1), lambda: few.smooth(features, labels, 1), size)
    return independent("FDS.smooth forward, 1000 bins beside 100 (seconds: 1000, 100)", at_many, at_few)


def bins_in_statistics(size) -> list[tuple]:
    """What every sample costs, which is the claim, and the end of the epoch, whose table is the size it is."""
    features, labels = torch.randn(size["samples"], size["D"]), 100 * torch.rand(size["samples"])
    best = {100: [float("inf")] * 2, 1000: [float("inf")] * 2}
    for _ in range(size["repeats"]):
        for count, seconds in best.items():
            fds = trained(size, count)
            start = time.perf_counter()
            fds.observe(features, labels)
            middle = time.perf_counter()
            fds.finish_epoch(1)
            seconds[:] = min(seconds[0], middle - start), min(seconds[1], time.perf_counter() - middle)
    claim, *rest = independent("FDS.finish_epoch, once an epoch: no claim", best[1000][1], best[100][1])
    return [
        independent("FDS.observe, 1000 bins beside 100 (seconds: 1000, 100)", best[1000][0], best[100][0]),
        (f"  {claim}", *rest[:-2], "", True),
    ]


def digits(size) -> tuple:
    """Relative error of the variances of features with mean 1000 and standard deviation 0.01, the worst of all."""
    n, dim = size["samples"] // 4, 16
    features, labels = 1000 + 0.01 * torch.randn(n, dim), torch.randint(0, 10, (n,))
    fds = FDS(dim, 10)
    fds.update_running_stats(features, labels, 0)
    worst, worst_plain = 0.0, 0.0
    for b in range(10):
        mine = features[labels == b]
        exact = mine.double().var(0)
        plain = (mine.square().sum(0) - mine.sum(0).square() / len(mine)) / (len(mine) - 1)  # float32 sum of squares
        worst = max(worst, float((fds.running_var[b] / exact - 1).abs().max()))
        worst_plain = max(worst_plain, float((plain / exact - 1).abs().max()))
    claim = "FDS variance at mean 1000, std 0.01: error (loops: float32 squares)"
    return claim, f"{worst_plain:.1e}", f"{worst:.1e}", "", "<= 1e-4", worst <= 1e-4


def draw_ages(size) -> np.ndarray:
    """Ages as imbalanced as IMDB-WIKI's: most between 20 and 60, few children and old people."""
    return np.clip(np.random.default_rng(0).normal(38, 16, size["ages"]).round(), 0, 120).astype(np.int64)


def draw_labels(n: int) -> torch.Tensor:
    """Ages of a batch: about 60 different ones in 256."""
    return torch.tensor(np.clip(np.random.default_rng(1).normal(40, 15, n).round(), 0, 99), dtype=torch.float32)


def trained(size, count: int) -> FDS:
    fds = FDS(size["D"], bins=Bins.uniform(0, 100, count))
    n = min(size["samples"], 4000)
    fds.update_running_stats(torch.randn(n, size["D"]), torch.linspace(0, 99.9, n), 0)
    return fds


def race(loops: Callable, fast: Callable, size) -> tuple[float, float]:
    """The best seconds of each, run in turn so that a busy moment of the machine hits both; one run each to warm up."""
    best = [float("inf"), float("inf")]
    begin = time.perf_counter()
    rounds = -1
    while rounds < size["repeats"] or time.perf_counter() - begin < size["seconds"]:
        for i, function in enumerate((loops, fast)):
            start = time.perf_counter()
            function()
            if rounds >= 0:
                best[i] = min(best[i], time.perf_counter() - start)
        rounds += 1
    return best[0], best[1]


def faster(claim: str, loops: float, fast: float, wanted: int | None) -> tuple:
    ratio = loops / fast
    limit = f">= {wanted}" if wanted else ""
    return claim, f"{loops:.5f}", f"{fast:.5f}", f"{ratio:.1f}", limit, wanted is None or ratio >= wanted


def independent(claim: str, at_many: float, at_few: float) -> tuple:
    ratio = at_many / at_few
    return claim, f"{at_many:.5f}", f"{at_few:.5f}", f"{ratio:.2f}", "<= 1.5", ratio <= 1.5


if __name__ == "__main__":
    main()
