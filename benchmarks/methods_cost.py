"""What each method adds to a training step, in time and in peak memory, beside the plain step.

    python benchmarks/methods_cost.py --threads 2       # a few minutes on a quiet machine; exit code 1 if a limit is broken
    python benchmarks/methods_cost.py --device cuda     # the same on an accelerator; the limits are for CPUs and not judged
    python benchmarks/methods_cost.py --quick           # small sizes: that it runs; nothing is judged

The plain step is a linear head under weighted L1, forward and backward to the features: 256 x 2048, and 512 rows where a
method wants two views. The encoder is left out, as it is the same for all. Times are the best of several runs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from imbalanced_regression.bins import Bins  # noqa: E402  # found through the path set above
from imbalanced_regression.methods.balanced_mse import BMC, BNI, GAI  # noqa: E402
from imbalanced_regression.methods.bsam import climbed  # noqa: E402
from imbalanced_regression.methods.conr import ConR  # noqa: E402
from imbalanced_regression.methods.dist_loss import DistLoss  # noqa: E402
from imbalanced_regression.methods.fds import FDS  # noqa: E402
from imbalanced_regression.methods.likelihood import GaussianHead, LaplaceHead  # noqa: E402
from imbalanced_regression.methods.losses import weighted_l1_loss  # noqa: E402
from imbalanced_regression.methods.ordinal_entropy import OrdinalEntropy  # noqa: E402
from imbalanced_regression.methods.rank_n_contrast import RankNContrast  # noqa: E402
from imbalanced_regression.methods.ranksim import RankSim  # noqa: E402
from imbalanced_regression.methods.srl import SRL  # noqa: E402
from imbalanced_regression.methods.uvote import UVOTE  # noqa: E402
from imbalanced_regression.methods.vir import NIG  # noqa: E402
from imbalanced_regression.tools.starting import processor  # noqa: E402

FULL = {"batch": 256, "D": 2048, "tensors": 24, "repeats": 7, "seconds": 4}  # 24 million parameters: ResNet-50's
QUICK = {"batch": 16, "D": 32, "tensors": 1, "repeats": 1, "seconds": 0}
BINS = Bins.width(0, 100, 1)


class Case(NamedTuple):
    """A method beside the plain step: what it does by itself, the step with it, and the milliseconds it may take."""

    name: str
    alone: Callable[[], object] | None
    step: Callable[[], object]
    limit: float | None = None
    two_views: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is judged")
    parser.add_argument("--threads", type=int, default=1, help="threads torch may use; more than one only on a quiet machine")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    args = parser.parse_args()
    size, device = (QUICK if args.quick else FULL), torch.device(args.device)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    judged = device.type == "cpu" and not args.quick
    where = processor() if device.type == "cpu" else torch.cuda.get_device_name(device)
    versions = f"python {platform.python_version()}, torch {torch.__version__}"
    print(f"{datetime.date.today()}, {where}, {args.threads} threads, {versions}")
    titles = f"{'alone ms':>10}{'step ms':>10}{'x plain':>9}{'peak MiB':>10}{'x plain':>9}{'wanted':>9}"
    print(f"{'step of':<30}{'rows':>6}{titles}  ok")
    failed = []
    for two_views in (False, True):
        batch = Batch(size, device, two_views)
        plain = Case("plain", None, batch.plain, two_views=two_views)
        base_memory = peak_memory(plain.step, batch)
        for case in [plain, *(case for case in cases(batch) if case.two_views == two_views)]:
            alone, step, base = race([case.alone or case.step, case.step, plain.step], size, batch)
            memory = peak_memory(case.step, batch)
            by_itself = f"{alone:.2f}" if case.alone else "-"
            wanted = f"<= {case.limit:g}" if case.limit else "-"
            verdict = ("yes" if alone <= case.limit else "NO") if judged and case.limit else "-"
            times = f"{by_itself:>10}{step:>10.2f}{step / base:>9.1f}{memory:>10.1f}{memory / base_memory:>9.1f}"
            print(f"{case.name:<30}{batch.rows:>6}{times}{wanted:>9}  {verdict}", flush=True)
            if verdict == "NO":
                failed.append(case.name)
    sys.exit(1 if failed else 0)


class Batch:
    """The rows of a step: features of an encoder, imbalanced ages, weights, and the plain head."""

    def __init__(self, size, device: torch.device, two_views: bool):
        self.rows, self.dim, self.device, self.tensors = size["batch"] * (1 + two_views), size["D"], device, size["tensors"]
        self.ages = np.clip(np.random.default_rng(1).normal(40, 15, 20_000).round(), 0, 99)
        labels = torch.tensor(self.ages[: size["batch"]], dtype=torch.float32)[:, None].repeat(1 + two_views, 1)
        self.targets = labels.to(device)
        self.weights = (0.5 + torch.rand(self.rows, 1)).to(device)
        self.features = torch.randn(self.rows, self.dim).relu().to(device).requires_grad_()  # as after a ResNet's last layer
        self.head = nn.Linear(self.dim, 1).to(device)
        nn.init.constant_(self.head.bias, 40.0)
        self.preds = self.head(self.features).detach().requires_grad_()

    def clear(self) -> None:
        """No gradients, as at the start of a step."""
        for tensor in (self.features, self.preds, *self.head.parameters()):
            tensor.grad = None

    def plain(self) -> None:
        weighted_l1_loss(self.head(self.features), self.targets, self.weights).backward()


def cases(batch: Batch) -> list[Case]:
    counts, made = BINS.counts(batch.ages), []
    srl, fds = SRL(BINS, batch.dim).to(batch.device), FDS(batch.dim, bins=BINS).to(batch.device)
    known = torch.randn(400, batch.dim, device=batch.device), torch.linspace(0, 99.9, 400, device=batch.device)
    fds.update_running_stats(*known, 0)
    with torch.no_grad():  # an epoch before, without which the term is 0 and costs nothing
        srl(*known)
    srl.finish_epoch(0)

    for name, term, limit in (
        ("RankSim", RankSim(), 15), ("Ordinal Entropy", OrdinalEntropy(), 10), ("SRL", srl, 15),
        ("ConR", ConR(), 25), ("Rank-N-Contrast", RankNContrast(), 60),
    ):
        made.append(with_term(batch, name, term, limit))
    for name, loss in (
        ("BMC", BMC(8.0)), ("GAI", GAI.fit(bins=BINS, counts=counts, sigma=8.0)), ("BNI", BNI.fit(BINS, counts, sigma=8.0)),
        ("Dist Loss", DistLoss(bins=BINS, counts=counts)),
    ):
        made.append(with_loss(batch, name, loss.to(batch.device), 5))
    for name, head in (
        ("Gaussian head", GaussianHead(batch.dim, 40.0, 15.0)), ("Laplace head", LaplaceHead(batch.dim, 40.0, 15.0)),
        ("UVOTE, 2 heads", UVOTE(2, batch.dim, 40.0, 15.0)), ("NIG head (VIR)", NIG(batch.dim, 40.0, 15.0)),
    ):
        made.append(with_head(batch, name, head.to(batch.device)))
    return [*made, smoothed(batch, fds), uphill(batch)]


def with_term(batch: Batch, name: str, term: nn.Module, limit: float) -> Case:
    def alone():
        term(batch.features, batch.targets, batch.preds.detach(), batch.weights).backward()

    def step():
        preds = batch.head(batch.features)
        loss = weighted_l1_loss(preds, batch.targets, batch.weights)
        (loss + 0.1 * term(batch.features, batch.targets, preds, batch.weights)).backward()

    return Case(name, alone, step, limit, getattr(term, "two_views", False))


def with_loss(batch: Batch, name: str, loss: nn.Module, limit: float) -> Case:
    return Case(
        name,
        lambda: loss(batch.preds, batch.targets).backward(),
        lambda: loss(batch.head(batch.features), batch.targets).backward(),
        limit,
    )


def with_head(batch: Batch, name: str, head) -> Case:
    outputs = head(batch.features).detach().requires_grad_()

    def loss(of: Tensor) -> None:
        head.loss(of, batch.targets, batch.weights, 1, 2).backward()

    return Case(name, lambda: loss(outputs), lambda: loss(head(batch.features)))


def smoothed(batch: Batch, fds: FDS) -> Case:
    def step():
        preds = batch.head(fds.smooth(batch.features, batch.targets, 1))
        weighted_l1_loss(preds, batch.targets, batch.weights).backward()

    return Case("FDS", lambda: fds.smooth(batch.features, batch.targets, 1).sum().backward(), step)


def uphill(batch: Batch) -> Case:
    """BSAM: `alone` is the way up and back of a whole network's parameters; its second pass is in the step."""
    parameters = [nn.Parameter(torch.zeros(1_000_000, device=batch.device)) for _ in range(batch.tensors)]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    parameters += batch.head.parameters()

    def step():
        batch.plain()
        with climbed(parameters, 0.05):
            batch.plain()

    def alone():
        with climbed(parameters, 0.05):
            pass

    return Case("BSAM, 24 million parameters" if batch.tensors == 24 else "BSAM", alone, step)


def race(functions: list[Callable], size, batch: Batch) -> list[float]:
    """The best milliseconds of each, run in turn so that a busy moment of the machine hits all; one run each to warm up."""
    best = [float("inf")] * len(functions)
    begin, rounds = time.perf_counter(), -1
    while rounds < size["repeats"] or time.perf_counter() - begin < size["seconds"]:
        for i, function in enumerate(functions):
            batch.clear()
            wait(batch.device)
            start = time.perf_counter()
            function()
            wait(batch.device)
            if rounds >= 0:
                best[i] = min(best[i], 1000 * (time.perf_counter() - start))
        rounds += 1
    return best


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(step: Callable, batch: Batch) -> float:
    """The most MiB of tensors alive at once in a step beyond those before it, by the allocator's own account."""
    device = batch.device
    batch.clear()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
            step()
        profiler.export_chrome_trace(str(trace))
        events = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    sizes = [event["args"]["Bytes"] for event in sorted(events, key=lambda event: event["ts"])]
    return float(np.cumsum(sizes).max()) / 2**20


if __name__ == "__main__":
    main()
