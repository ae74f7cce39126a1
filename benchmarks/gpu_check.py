"""One GPU, one command, under 8 minutes: what every model and method takes there, and that it does what a CPU does.

    python benchmarks/gpu_check.py --json benchmarks/gpu.json     # from the root of the checkout; needs torch and torchvision
    python benchmarks/gpu_check.py --toy --device cpu             # tiny sizes: that it runs; no number means anything

The data are random tensors of real size, so nothing is downloaded and no loader is timed. A line for each check, with its
numbers; "FAIL" for one that raised or went beyond its stated distance, "skipped" for one that needs what is not there. The
exit code is 1 where one failed. Once `--seconds` are spent, what is left is skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.data import TensorDataset

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from commands import from_folder  # noqa: E402  # found through the path set above

from imbalanced_regression import FDS, SRL, Bins, Regressor, choices, shot_metrics  # noqa: E402
from imbalanced_regression.training import Arrays, Objective, Plan, Runtime, Splits, checkpoint, engine  # noqa: E402
from imbalanced_regression.training.log import end_log  # noqa: E402
from imbalanced_regression.training.objective import Moment  # noqa: E402
from imbalanced_regression.training.randomness import random_state, set_random_state  # noqa: E402
from imbalanced_regression.training.session import Training, prepare  # noqa: E402
from imbalanced_regression.training.step import train_step  # noqa: E402

FULL = {
    "resnet": "resnet50", "images": 256, "pixels": 224, "maps": 32, "height": 228, "width": 304, "sentences": 128, "words": 40,
    "lstm": 1500, "nights": 32, "epochs": 960, "night_width": 32, "night_hid": 256, "rows": 256, "features": 2048, "steps": 8,
}
TOY = {
    "resnet": "resnet18", "images": 4, "pixels": 32, "maps": 2, "height": 36, "width": 48, "sentences": 4, "words": 5,
    "lstm": 4, "nights": 2, "epochs": 3, "night_width": 4, "night_hid": 8, "rows": 16, "features": 8, "steps": 1,
}
BINS = Bins.uniform(0, 100, 100)
WEIGHTS_APART = 1e-3  # the stated distance of weights from the CPU's, and of a resumed run's; relative to the largest

Prepared = tuple[Training, tuple, Moment, Plan]


class Skipped(Exception):
    """A check that needs what is not there."""


# -- every method ------------------------------------------------------------------------------------------------------

STEPS: dict[str, dict] = {
    "vanilla": {}, "clipped": {"max_grad_norm": 1.0}, "fds": {"fds": "own"}, "released": {"fds": "released"},
    "ascent": {"ascent": 0.1},
    **{name: {"loss": name} for name in choices.LOSSES}, **{name: {"terms": [name]} for name in choices.TERMS},
    **{name: {"head": name} for name in choices.HEADS},
    **{name: {"pretrain": name} for name in choices.PRETRAINS if name != "none"},
}


def method_step(device: torch.device, rows: int = 16, width: int = 6, fds: str = "", **given) -> Prepared:
    """A training of the method that `given` names, its batch of random features on the device, and its moment."""
    knobs = {name: value[0] for name, value in choices.KNOBS.items()}
    knobs |= {"seed": 0, "lds": False, "loss": "mse", "terms": [], "head": "linear", "pretrain": "none"}
    settings = {**knobs, **{name: value for name, value in given.items() if name in knobs}}
    torch.manual_seed(0)
    values = 100 * np.random.default_rng(0).beta(2, 5, 500)
    labels = choices.Labels(BINS, BINS.counts(values), values)
    head = choices.HEADS[settings["head"]](settings, labels, width)
    objective = choices.make_objective(settings, labels, width, head=head)
    encoder = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, width))
    model = Regressor(encoder, head or nn.Linear(width, 1), FDS(width, bins=BINS, kind=fds) if fds else None)
    plan = Plan(lr=1e-2, batch_size=rows, views=2 if objective.two_views else 1,
                **{name: value for name, value in given.items() if name not in knobs})
    training = prepare(model, objective, plan, Runtime(device))
    for term in objective.modules():
        if isinstance(term, SRL):
            term._begun = True  # as after an epoch, which ends with a look at the device
    batch = rows * plan.views
    weights = torch.ones(batch, 2 if settings["head"] == "uvote" else 1)
    parts = torch.randn(batch, 4), 100 * torch.rand(batch, 1), weights
    return training, tuple(part.to(device) for part in parts), Moment(epochs=4, views=plan.views), plan


def take_step(prepared: Prepared) -> Tensor:
    """A training step, with what FDS observes in it."""
    training, batch, moment, plan = prepared
    fds = training.model.fds
    observe = fds is not None and not fds.observes_smoothed
    loss = train_step(training, batch, moment, plan, fds_epoch=2, observe=observe)
    if fds is not None and not observe and batch[1].dim() == 2:
        fds.observe(batch[1].expand(-1, fds.feature_dim), batch[1])
    return loss


def each_method(device: torch.device, size: dict) -> dict:
    """Milliseconds of a step with a small encoder, and a finite loss."""
    found = {}
    for name, given in STEPS.items():
        prepared = method_step(device, size["rows"], size["features"], **given)
        losses = [float(take_step(prepared)) for _ in range(2)]
        expect(np.isfinite(losses).all(), f"{name}: the loss is {losses}")
        found[name] = round(1000 * timed(prepared, size["steps"])["seconds"], 2)
    return found


def no_waiting(device: torch.device, size: dict) -> dict:
    """No method's step waits for the GPU."""
    if device.type != "cuda":
        raise Skipped("only a GPU is waited for; tests/test_accelerators.py shows it without one")
    waiting = {}
    for name, given in STEPS.items():
        prepared = method_step(device, size["rows"], size["features"], **given)
        take_step(prepared)
        torch.cuda.set_sync_debug_mode("error")
        try:
            take_step(prepared)
        except RuntimeError as error:
            waiting[name] = str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    expect(not waiting, f"{waiting}")
    return {"methods": len(STEPS)}


# -- the models --------------------------------------------------------------------------------------------------------


def resnet(device: torch.device, size: dict, *, tf32: bool = True, fds: str = "", second_pass: bool = False, **how) -> dict:
    """Images per second and peak memory of ResNet-50 on random images."""
    make = from_folder("agedb-dir", "resnet").make_model
    model = make(size["resnet"], fds=bool(fds), **({"bucket_num": 100, "bucket_start": 3, "kind": fds} if fds else {}))
    images = torch.randint(0, 256, (size["images"], 3, size["pixels"], size["pixels"]), dtype=torch.uint8)
    targets = torch.randint(20, 70, (size["images"], 1)).float()
    prepared = model_step(device, model, images, targets, **how)
    with tf32_set(tf32):
        found = timed(prepared, size["steps"], compiled=how.get("compile", False))
        if second_pass:
            training, (inputs, labels, _), _, _ = prepared
            with torch.no_grad():
                found["seconds"] += clocked(lambda: training.model.fds.observe(training.wrapped(inputs)[1], labels),
                                            device, size["steps"])
    return per_second(found, size["images"], "images")


def depth(device: torch.device, size: dict, **how) -> dict:
    """NYUD2's model with FDS on random rooms."""
    net = from_folder("nyud2-dir", "models.net")
    model = net.make_model(size["resnet"], fds=True)
    images = torch.randn(size["maps"], 3, size["height"], size["width"])
    targets = 0.7 + 9 * torch.rand(size["maps"], 1, *net.output_size(size["height"], size["width"]))
    prepared = model_step(device, model, images, targets, **how)
    return per_second(timed(prepared, size["steps"]), size["maps"], "images")


def sentences(device: torch.device, size: dict, **how) -> dict:
    """STS-B's BiLSTM on random sentences."""
    models = from_folder("sts-b-dir", "models")
    encoder = models.PairEncoder(torch.randn(1000, 300), train_words=False, d_hid=size["lstm"])
    model = Regressor(encoder, models.make_head(encoder.feature_dim))
    count, words = size["sentences"], size["words"]
    tokens, lengths = torch.randint(1, 1000, (count, 2, words)), torch.randint(words // 2, words + 1, (count, 2))
    prepared = model_step(device, model, (tokens, lengths), 5 * torch.rand(count, 1), **how)
    return per_second(timed(prepared, size["steps"]), count, "pairs")


def nights(device: torch.device, size: dict, **how) -> dict:
    """SHHS's CNN-RNN on random nights of 8 hours."""
    models = from_folder("shhs-dir", "models")
    encoder = models.NightEncoder(width=size["night_width"], d_hid=size["night_hid"])
    model = Regressor(encoder, models.make_head(encoder.feature_dim, 75.0))
    samples = {"eeg": 125 * 30, "ecg": 250 * 30, "breathing": 10 * 30}
    count, epochs = size["nights"], size["epochs"]
    inputs = {name: torch.randn(count, epochs, models.CHANNELS[name], samples[name]).half() for name in samples}
    inputs["lengths"] = torch.randint(epochs // 2, epochs + 1, (count,))
    prepared = model_step(device, model, inputs, 100 * torch.rand(count, 1), **how)
    return per_second(timed(prepared, max(1, size["steps"] // 2)), count, "nights")


def model_step(device: torch.device, model: Regressor, inputs, targets: Tensor, *, amp: str = "none",
               compile: bool = False, channels_last: bool = False) -> Prepared:
    """A training of a whole model, its batch on the device."""
    kind = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]
    ranks = Runtime(device, amp=kind, compile=compile, channels_last=channels_last)
    plan = Plan(lr=1e-4, batch_size=len(targets))
    training = prepare(model, Objective(nn_mse), plan, ranks)
    training.wrapped.train()
    return training, ranks.move((inputs, targets, torch.ones_like(targets))), Moment(epochs=4), plan


def nn_mse(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return (weights * (outputs - targets).square()).mean()


# -- what must be equal ------------------------------------------------------------------------------------------------


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


def resumed(device: torch.device, size: dict) -> dict:
    """Two epochs, and one that goes on from the first's checkpoint in another process's place."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(96, 4, generator=generator)
    targets = 50 + 10 * inputs[:, :1]
    data = TensorDataset(inputs, targets, torch.ones(96, 1))
    measure = Arrays(lambda preds, labels, _: shot_metrics(preds, labels, targets.numpy(), BINS))
    ends = []
    with tempfile.TemporaryDirectory() as folder, tf32_set(False):
        for name, epochs in (("whole", (2,)), ("parts", (1, 2))):
            for count in epochs:
                torch.manual_seed(0)
                encoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 6))
                model = Regressor(encoder, nn.Linear(6, 1), FDS(6, bins=BINS))
                plan = Plan(epochs=count, lr=1e-2, batch_size=32, seed=1, resume="" if name == "parts" else None, workers=0)
                engine.run(model, Splits(data, data, data), Objective(nn_mse), measure, plan, folder=Path(folder) / name,
                           runtime=Runtime(device))
            ends.append(checkpoint.load(Path(folder) / name / checkpoint.LAST)["state_dict"])
            end_log(Path(folder) / name)
    return {"apart": close(*ends)}


def generators(device: torch.device, size: dict) -> dict:
    """The device's generator goes back to where it was, and its state may be taken up on the CPU."""
    state = random_state(device)
    first = torch.rand(4, device=device)
    set_random_state(state, device)
    expect(torch.equal(first, torch.rand(4, device=device)), "the next draw is another")
    set_random_state(state, torch.device("cpu"))
    return {}


def grad_scaler(device: torch.device, size: dict) -> dict:
    """A scale at which gradients overflow: steps are skipped, the scale falls, and no weight is spoilt."""
    training, batch, moment, plan = method_step(device)
    training.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**127)
    training.runtime = replace(training.runtime, amp=torch.float16 if device.type == "cuda" else None)
    plan = replace(plan, max_grad_norm=1.0)
    for _ in range(20):
        train_step(training, batch, moment, plan, fds_epoch=0)
    expect(training.scaler.get_scale() < 2.0**127, "the scale did not fall")
    expect(all(p.isfinite().all() for p in training.model.parameters()), "a weight is not finite")
    return {"scale": training.scaler.get_scale()}


# -- several processes, several GPUs -----------------------------------------------------------------------------------


def one_process(device: torch.device, size: dict) -> dict:
    """DistributedDataParallel and SyncBatchNorm over NCCL in a group of one equal the plain model."""
    with tempfile.TemporaryDirectory() as folder, tf32_set(False):
        bound = {"device_id": device} if device.type == "cuda" else {}
        dist.init_process_group("nccl" if bound else "gloo", store=dist.FileStore(f"{folder}/store", 1), rank=0, world_size=1,
                                **bound)
        try:
            ends = []
            for wraps in (False, True):
                training, batch, moment, plan = method_step(device)
                training.model.encoder[3].p = 0.0
                if wraps:
                    if device.type == "cuda":
                        nn.SyncBatchNorm.convert_sync_batchnorm(training.model)
                    training.wrapped = DistributedDataParallel(
                        training.model, device_ids=[device.index] if bound else None, gradient_as_bucket_view=True)
                for _ in range(3):
                    train_step(training, batch, moment, plan, fds_epoch=0)
                ends.append({name: value.cpu() for name, value in training.model.state_dict().items()})
            dist.barrier()
        finally:
            dist.destroy_process_group()
    return {"apart": close(*ends)}


def data_parallel(device: torch.device, size: dict) -> dict:
    """DataParallel over all GPUs, or over the one listed twice: predictions are the plain model's."""
    if device.type != "cuda":
        raise Skipped("needs a GPU")
    gpus = list(range(torch.cuda.device_count()))
    training, (inputs, targets, _), _, _ = method_step(device)
    training.model.eval()
    with torch.no_grad():
        plain = training.model(inputs, targets, 0)[0]
        spread = DataParallel(training.model, gpus if len(gpus) > 1 else [0, 0])(inputs, targets, 0)[0]
    expect(torch.allclose(plain, spread, rtol=1e-4, atol=1e-4), "predictions differ")
    return {"GPUs": len(gpus)}


# -- tools -------------------------------------------------------------------------------------------------------------


def expect(holds, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest distance of two states relative to each tensor's largest value; raises where it is not `WEIGHTS_APART`."""
    apart = 0.0
    for name, value in one.items():
        if value.is_floating_point() and value.numel():
            apart = max(apart, float((value - other[name]).abs().max() / value.abs().max().clamp(min=1e-3)))
    expect(apart <= WEIGHTS_APART, f"{apart:.2g} apart, at most {WEIGHTS_APART:g} is stated")
    return apart


@contextlib.contextmanager
def tf32_set(on: bool) -> Iterator[None]:
    """TF32 in convolutions, recurrent layers and matrix products, or nowhere."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def clocked(function: Callable[[], object], device: torch.device, count: int) -> float:
    """Seconds of a call, as a mean over `count`, with the device's work done."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    for _ in range(count):
        function()
    wait()
    return (time.perf_counter() - began) / count


def timed(prepared: Prepared, count: int, *, compiled: bool = False) -> dict:
    """Seconds of a step after the first ones, and the most memory in use."""
    device = prepared[0].runtime.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    clocked(lambda: take_step(prepared), device, 3 if compiled or device.type == "cuda" else 1)
    found = {"seconds": clocked(lambda: take_step(prepared), device, count)}
    if device.type == "cuda":
        found["GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return found


def per_second(found: dict, count: int, what: str) -> dict:
    return {f"{what}/s": float(f"{count / found.pop('seconds'):.4g}"), **found}


BF16, LAST = {"amp": "bf16"}, {"amp": "bf16", "channels_last": True}

CHECKS: dict[str, tuple[Callable[..., dict], dict]] = {
    "as on the CPU": (as_on_the_cpu, {}),
    "generators": (generators, {}),
    "resume": (resumed, {}),
    "GradScaler": (grad_scaler, {}),
    "no waiting in a step": (no_waiting, {}),
    "DDP and SyncBatchNorm, one process": (one_process, {}),
    "DataParallel": (data_parallel, {}),
    "ResNet, fp32": (resnet, {"tf32": False}),
    "ResNet, tf32": (resnet, {}),
    "ResNet, bf16": (resnet, BF16),
    "ResNet, bf16, channels_last": (resnet, LAST),
    "ResNet, bf16, channels_last, LDS + FDS streaming": (resnet, {**LAST, "fds": "own"}),
    "ResNet, bf16, channels_last, LDS + FDS second pass": (resnet, {**LAST, "fds": "released", "second_pass": True}),
    "NYUD2, tf32": (depth, {}),
    "NYUD2, bf16": (depth, BF16),
    "STS-B, tf32": (sentences, {}),
    "STS-B, bf16": (sentences, BF16),
    "STS-B, fp16": (sentences, {"amp": "fp16"}),
    "SHHS, bf16": (nights, BF16),
    "SHHS, tf32": (nights, {}),
    "every method's step (ms)": (each_method, {}),
    "ResNet, bf16, channels_last, compiled": (resnet, {**LAST, "compile": True}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="the GPU, or cpu")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, nothing compiled")
    parser.add_argument("--seconds", type=float, default=450, help="no check begins after so many")
    parser.add_argument("--only", nargs="*", default=None, help="parts of the names of checks")
    parser.add_argument("--json", default="", metavar="FILE", help="where to write the numbers")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    about = {"date": str(datetime.date.today()), "card": card, "torch": torch.__version__, "toy": args.toy,
             "cuda": torch.version.cuda, "cores": os.cpu_count()}
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    began, rows = time.perf_counter(), []
    for name, (check, how) in CHECKS.items():
        if args.only is not None and not any(part in name for part in args.only):
            continue
        start, found, said = time.perf_counter(), {}, "ok"
        try:
            if start - began > args.seconds:
                raise Skipped("no time is left")
            if args.toy and (how.get("compile") or how.get("amp") == "fp16" and device.type == "cpu"):
                raise Skipped("not at toy size")
            found = check(device, TOY if args.toy else FULL, **how)
        except Skipped as why:
            said = f"skipped: {why}"
        except Exception as error:  # the checks after it are worth as much
            said = f"FAIL: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if device.type == "cuda":
            torch.cuda.empty_cache()
        rows.append({"check": name, "said": said, "took": round(time.perf_counter() - start, 1), **found})
        numbers = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) and key == "apart" else f"{key} {value}"
                            for key, value in found.items())
        print(f"{name:<52} {rows[-1]['took']:>6.1f} s  {said}  {numbers}", flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps({**about, "checks": rows}, indent=1) + "\n")
    sys.exit(1 if any(row["said"].startswith("FAIL") for row in rows) else 0)


if __name__ == "__main__":
    main()
