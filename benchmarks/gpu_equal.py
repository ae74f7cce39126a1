"""What must come out on a GPU as on a CPU, whatever it takes: the checks of gpu_check.py of one process.

Each raises where it does not, or where it is further away than stated; what it returns is how far it is.
"""

from __future__ import annotations

import contextlib
import functools
import io
import signal
import tempfile
import time
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import torch
from gpu_steps import BINS, Skipped, close, expect, from_folder, method_step, nn_mse, take_step, tf32_set
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn.parallel import DataParallel
from torch.utils.data import Dataset, TensorDataset

from imbalanced_regression import FDS, Regressor, cli, shot_metrics
from imbalanced_regression.interrupt import Interrupted
from imbalanced_regression.training import Arrays, Objective, Plan, Runtime, Splits, checkpoint, engine, precision
from imbalanced_regression.training.epochs import train_one_epoch
from imbalanced_regression.training.loaders import Feed
from imbalanced_regression.training.log import end_log
from imbalanced_regression.training.randomness import random_state, set_random_state
from imbalanced_regression.training.session import EpochProgress, prepare
from imbalanced_regression.training.step import train_step

STATISTICS_APART = 1e-5  # of FDS, of the same features

# -- the loop ---------------------------------------------------------------------------------------------------------


def rows(count: int = 160) -> TensorDataset:
    """Random rows (4,) with labels around 50 that follow the first number."""
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(inputs, 50 + 10 * inputs[:, :1], torch.ones(count, 1))


def small_model(*, dropout: float = 0.1, norm: bool = False) -> Regressor:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 8), *([nn.BatchNorm1d(8)] if norm else []), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 6)]
    return Regressor(nn.Sequential(*layers), nn.Linear(6, 1), FDS(6, bins=BINS))


def small_run(folder: Path, runtime: Runtime, model: Regressor, data: TensorDataset | None = None, **changes) -> dict:
    """The loop's own `run` on random rows; returns the state of its last checkpoint."""
    data = rows() if data is None else data
    measure = Arrays(lambda preds, labels, _: shot_metrics(preds, labels, data.tensors[1].numpy(), BINS))
    values = {"epochs": 2, "lr": 1e-3, "batch_size": 32, "seed": 1, "workers": 0, "print_freq": 1, "optimizer": "sgd",
              "fds_stats": "streaming", **changes}
    try:
        engine.run(model, Splits(data, data, data), Objective(nn_mse), measure, Plan(**values), folder=folder, runtime=runtime)
    finally:
        end_log(folder)
    return checkpoint.load(folder / checkpoint.LAST)["state_dict"]


def as_on_the_cpu(device: torch.device, size: dict) -> dict:
    """Ten steps of a small model with FDS, and its statistics, beside the CPU's."""
    ends = []
    with tf32_set(False):
        for place in (torch.device("cpu"), device):
            prepared = method_step(torch.device("cpu"), fds="own")
            training, batch, moment, plan = prepared
            training.model.encoder[3].p = 0.0  # every device draws dropout by itself
            training = prepare(training.model, training.objective, plan, Runtime(place))
            for step in range(10):
                take_step((training, tuple(part.to(place) for part in batch), replace(moment, step=step), plan))
            training.model.fds.finish_epoch(2)
            ends.append({name: value.cpu() for name, value in training.model.state_dict().items()})
    return {"apart": close(*ends)}


def epochs_as_on_the_cpu(device: torch.device, size: dict) -> dict:
    """Two epochs of the loop with both kinds of FDS statistics beside the CPU's; and statistics of the same features."""
    apart = 0.0
    with tempfile.TemporaryDirectory() as folder, tf32_set(False):
        for fds_stats in ("streaming", "second_pass"):
            ends = []
            for turn, place in enumerate((torch.device("cpu"), device)):
                run = Path(folder) / f"{fds_stats}{turn}"
                ends.append(small_run(run, Runtime(place), small_model(dropout=0.0), fds_stats=fds_stats))
            apart = max(apart, close(*ends))
    features, labels = 1e3 + torch.randn(5000, 6), 100 * torch.rand(5000, 1)
    states = []
    for place in (torch.device("cpu"), device):
        fds = FDS(6, bins=BINS).to(place)
        fds.observe(features.to(place), labels.to(place))
        fds.finish_epoch(0)
        states.append({name: value.cpu() for name, value in fds.state_dict().items()})
    return {"apart": apart, "statistics apart": close(*states, STATISTICS_APART)}


@dataclass(frozen=True)
class Stopped(Runtime):
    """A process that hears a signal when it is asked for the `at`th time."""

    at: int = 0
    asked: list[int] = field(default_factory=list)

    def max_over_ranks(self, number: int) -> int:
        self.asked.append(number)
        return signal.SIGTERM if len(self.asked) == self.at else number


def resumed(device: torch.device, size: dict) -> dict:
    """Two epochs, and the same ones interrupted in the midst of the second and taken up from the checkpoint: with dropout,
    whose masks only agree where the generators are put back."""
    with tempfile.TemporaryDirectory() as folder, tf32_set(False):
        whole = small_run(Path(folder) / "whole", Runtime(device), small_model())
        interrupted(Path(folder) / "parts", device)
        parts = small_run(Path(folder) / "parts", Runtime(device), small_model(), resume="")
    return {"apart": close(whole, parts)}


def interrupted(folder: Path, device: torch.device, **changes) -> None:
    """A run that is stopped after the second step of its second epoch; five are in each, and each epoch's end asks too."""
    try:
        small_run(folder, Stopped(device, at=8), small_model(), **changes)
    except Interrupted:
        within = checkpoint.load(folder / checkpoint.LAST).get("within") or {}
        expect(within.get("step") == 2, f"stopped after step {within.get('step')}, not 2")
    else:
        expect(False, "the run was not interrupted")


def resumed_elsewhere(device: torch.device, size: dict) -> dict:
    """A checkpoint from the midst of an epoch goes on on the CPU, the CPU's on the GPU, and the GPU's there in fp16, whose
    optimizer is another; what dropout draws differs."""
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        for begun, then in ((device, Runtime(cpu)), (cpu, Runtime(device)), (device, Runtime(device, amp=torch.float16))):
            place = Path(folder) / f"{begun} {then.device} {then.amp}"
            interrupted(place, begun, optimizer="adam")
            end = small_run(place, then, small_model(), optimizer="adam", resume="")
            expect(all(value.isfinite().all() for value in end.values()), "a weight is not finite")
    return {}


def generators(device: torch.device, size: dict) -> dict:
    """The device's generator goes back to where it was, named with its number or without; the CPU takes the state up."""
    for place in (device, torch.device(device.type)):
        state = random_state(place)
        first = torch.rand(4, device=place)
        set_random_state(state, place)
        expect(torch.equal(first, torch.rand(4, device=place)), f"the next draw on {place} is another")
        set_random_state(state, torch.device("cpu"))
    return {}


# -- half precision ----------------------------------------------------------------------------------------------------


def grad_scaler(device: torch.device, size: dict) -> dict:
    """A scale at which gradients overflow: steps are skipped, the scale falls, no weight is spoilt, and the next one learns."""
    training, batch, moment, plan = method_step(device)
    half = torch.float16 if device.type == "cuda" else None  # not every CPU has it
    training = prepare(training.model, training.objective, plan, Runtime(device, amp=half))  # fused, as fp16 is on a GPU
    training.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**127)
    plan = replace(plan, max_grad_norm=1.0)
    for _ in range(20):
        train_step(training, batch, moment, plan, fds_epoch=0)
    scale = training.scaler.get_scale()
    expect(scale < 2.0**127, "the scale did not fall")
    training.scaler.update(1.0)
    weights = training.model.head.weight
    before = weights.detach().clone()
    train_step(training, batch, moment, plan, fds_epoch=0)
    expect(not torch.equal(weights, before), "no step is taken at a scale of 1")
    expect(all(p.isfinite().all() for p in training.model.parameters()), "a weight is not finite")
    return {"scale": scale}


def recurrent(device: torch.device, size: dict) -> dict:
    """The BiLSTM under bf16 runs in float32; shares of its recurrent weights' gradients that are 0, and as autocast has it."""
    models = from_folder("sts-b-dir", "models")
    found, kinds = {}, []
    ways = [("float32", False, False), ("bf16", True, False)]
    if device.type == "cuda":  # not every CPU has these layers in bf16
        ways.append(("autocast's", True, True))
    for name, amp, by_autocast in ways:
        torch.manual_seed(0)
        encoder = models.PairEncoder(torch.randn(100, 30), train_words=False, d_hid=min(300, size["lstm"]), dropout=0.0,
                                     dropout_embs=0.0).to(device)
        encoder.lstm.register_forward_hook(lambda module, inputs, out: kinds.append(out[0].data.dtype))
        tokens = torch.randint(1, 100, (size["sentences"], 2, size["words"]), device=device)
        lengths = torch.full((size["sentences"], 2), size["words"], device=device)
        as_it_is = mock.patch.object(precision, "autocasts", (lambda x: False) if by_autocast else precision.autocasts)
        torchs_own = mock.patch.object(precision, "fits", return_value=False)  # on a CPU too
        with as_it_is, torchs_own, torch.autocast(device.type, torch.bfloat16, enabled=amp):
            features = encoder((tokens, lengths))
        (features.float().square().mean() / 100).backward()
        gradients = [p.grad for name, p in encoder.lstm.named_parameters() if name.startswith("weight_hh")]
        zeros = sum(float((gradient == 0).sum()) for gradient in gradients) / sum(gradient.numel() for gradient in gradients)
        found[f"zeros, {name}"] = float(f"{zeros:.3g}")
    expect(kinds[:2] == [torch.float32] * 2, f"the layers gave {kinds}")
    return {"types": ", ".join(str(kind).removeprefix("torch.") for kind in kinds), **found}


def whole_labels(device: torch.device, size: dict) -> dict:
    """G-Mean of whole labels under bf16 beside float32's; of predictions rounded to 8 bits it is a quarter lower."""
    torch.manual_seed(0)
    model = Regressor(nn.Linear(8, 32), nn.Linear(32, 1)).eval()
    nn.init.constant_(model.head.bias, 45.0)
    nn.init.normal_(model.head.weight, std=0.8)
    inputs = torch.randn(size["whole"], 8)
    with torch.no_grad(), tf32_set(False):
        ages = (model(inputs)[0] + 7 * torch.randn(size["whole"], 1)).round()
        model, inputs = model.to(device), inputs.to(device)
        exact = model(inputs)[0].cpu()
        with torch.autocast(device.type, torch.bfloat16):
            preds = model(inputs)[0].cpu()
    means = [shot_metrics(found, ages, ages)["overall"]["gmean"] for found in (exact, preds, preds.bfloat16().float())]
    expect(abs(means[1] / means[0] - 1) < 0.02, f"G-Mean {means[1]:.3g} under bf16, {means[0]:.3g} in float32")
    return {"G-Mean, float32": round(means[0], 3), "bf16": round(means[1], 3), "rounded to bf16": round(means[2], 3),
            "distinct predictions, bf16": len(preds.unique()), "of": len(exact.unique())}


# -- compiled models ---------------------------------------------------------------------------------------------------


class Pairs(Dataset):
    """Random sentences of up to 12 words, in pairs."""

    def __init__(self, count: int):
        random = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(1, 50, (count, 2, 12), generator=random)
        self.lengths = torch.randint(6, 13, (count, 2), generator=random)
        self.scores = 5 * torch.rand(count, 1, generator=random)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, i: int):
        return (self.tokens[i], self.lengths[i]), self.scores[i], torch.ones(1)


def an_image_model(size: dict) -> Regressor:
    """ResNet-18 with FDS, or at toy size a convolution."""
    if size["compiled"]:
        return from_folder("agedb-dir", "resnet").make_model(size["compiled"], fds=True, bucket_num=100, bucket_start=0,
                                                             kind="own")
    encoder = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Regressor(encoder, nn.Linear(6, 1), FDS(6, bins=BINS))


def a_pair_model(size: dict) -> Regressor:
    models = from_folder("sts-b-dir", "models")
    encoder = models.PairEncoder(torch.randn(50, 30), train_words=False, d_hid=size["compiled_lstm"], dropout=0.0,
                                 dropout_embs=0.0)
    return Regressor(encoder, models.make_head(encoder.feature_dim))


def compiled(device: torch.device, size: dict, *, pairs: bool = False) -> dict:
    """Three epochs whose last batch is short, eager and compiled: the seconds of the first and the third, and the graphs.

    The second epoch brings FDS, and the third compiles nothing. On a CPU a graph runs as it stands.
    """
    batch = size["images"] // 4 or 1
    count = 6 * batch + max(1, batch // 2)
    side = size["compiled_pixels"]
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), generator=random, dtype=torch.uint8)
    images = images if size["compiled"] else images / 255
    ages = 100 * torch.rand(count, 1, generator=random)
    data = Pairs(count) if pairs else TensorDataset(images, ages, torch.ones(count, 1))
    found: dict[str, float] = {}
    losses = []
    for name in ("eager", "compiled"):
        torch._dynamo.reset()
        counters.clear()
        torch.manual_seed(0)
        model = (a_pair_model if pairs else an_image_model)(size)
        if device.type == "cpu":
            model.compile = functools.partial(nn.Module.compile, model, backend="eager")  # type: ignore[method-assign]
        plan = Plan(epochs=3, lr=1e-4, batch_size=batch, workers=0, fds_stats="streaming")
        training = prepare(model, Objective(nn_mse), plan, Runtime(device, compile=name == "compiled"))
        feed, graphs = Feed(Splits(data, data, data), plan, training.runtime), []
        for epoch in range(3):
            training.progress = EpochProgress()
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")  # of tracing an LSTM
                losses.append(train_one_epoch(training, feed, epoch, plan))
            found[f"{name}, epoch {epoch} (s)"] = float(f"{time.perf_counter() - began:.3g}")
            graphs.append(counters["stats"]["unique_graphs"])
    torch._dynamo.reset()
    expect(graphs[0] > 0 and graphs[2] == graphs[1], f"graphs after each epoch: {graphs}")
    expect(abs(losses[-1] / losses[2] - 1) < 0.02, f"the loss is {losses[-1]:.4g} compiled and {losses[2]:.4g} eager")
    return {**found, "graphs": graphs[-1]}


# -- several GPUs, too little memory -----------------------------------------------------------------------------------


class Nested(nn.Module):
    """An encoder that takes its rows from tuples and dicts, as those of sentences and nights do."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs) -> Tensor:
        inputs = inputs["rows"] if isinstance(inputs, dict) else inputs[0] if isinstance(inputs, tuple) else inputs
        return self.encoder(inputs)


def data_parallel(device: torch.device, size: dict) -> dict:
    """DataParallel over all GPUs, or over the one listed twice: its predictions are the plain model's.

    Of a tensor, a tuple, a dict and a single row, in float32 and in fp16.
    """
    if device.type != "cuda":
        raise Skipped("needs a GPU")
    gpus = list(range(torch.cuda.device_count()))
    training, (rows, targets, _), _, _ = method_step(device)
    model = Regressor(Nested(training.model.encoder), training.model.head).eval()
    spread = DataParallel(model, gpus if len(gpus) > 1 else [0, 0])
    for amp in (False, True):
        for inputs in (rows, (rows, targets), {"rows": rows, "more": targets}, rows[:1]):
            with torch.no_grad(), torch.autocast("cuda", torch.float16, enabled=amp):
                plain, found = model(inputs)[0], spread(inputs)[0]
            apart = 1e-2 if amp else 1e-4
            expect(torch.allclose(plain, found, rtol=apart, atol=apart), f"predictions of a {type(inputs).__name__} differ")
    return {"GPUs": len(gpus)}


def too_large(device: torch.device, size: dict) -> dict:
    """A batch that fits no memory ends a script with one line and exit code 2; the next run works."""
    prepared = method_step(device)
    (inputs, targets, weights) = prepared[1]

    def main() -> None:
        rows = torch.empty(1 << 48, inputs.shape[1], device=device)
        take_step((prepared[0], (rows, targets, weights), *prepared[2:]))

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            cli.guard(main)
    except SystemExit as end:
        expect(end.code == 2, f"exit code {end.code}")
    expect("out of memory; a smaller batch or model may fit" in said.getvalue() and said.getvalue().count("\n") == 1,
           f"said: {said.getvalue()!r}")
    expect(bool(take_step(prepared).isfinite()), "the next step's loss is not finite")
    return {}
