"""How fast the models are on a GPU, and what they take: the checks of gpu_check.py whose numbers are times and bytes.

The one idea: each model has a function that prepares a training step of it on random data of real size; what is timed,
counted or compared beside it are steps of that training.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from gpu_steps import (
    STEPS,
    Prepared,
    Skipped,
    clocked,
    expect,
    from_folder,
    method_step,
    model_step,
    searching,
    take_step,
    tf32_set,
    timed,
)
from torch import nn
from torch.nn.functional import interpolate

from imbalanced_regression import FDS, Bins, Regressor
from imbalanced_regression.faces import drawn
from imbalanced_regression.faces.dataset import AgeDataset
from imbalanced_regression.methods import bin_statistics
from imbalanced_regression.training import Plan, Runtime, Splits, checkpoint
from imbalanced_regression.training.epochs import observe_pass
from imbalanced_regression.training.loaders import Feed

# -- training steps ----------------------------------------------------------------------------------------------------


def a_resnet(device: torch.device, size: dict, *, fds: str = "", **how) -> Prepared:
    """ResNet-50 on random images; `fds`: the kind of FDS."""
    make = from_folder("agedb-dir", "resnet").make_model
    model = make(size["resnet"], fds=bool(fds), **({"bucket_num": 100, "bucket_start": 3, "kind": fds} if fds else {}))
    images = torch.randint(0, 256, (size["images"], 3, size["pixels"], size["pixels"]), dtype=torch.uint8)
    return model_step(device, model, images, torch.randint(20, 70, (size["images"], 1)).float(), **how)


def a_room(device: torch.device, size: dict, **how) -> Prepared:
    """NYUD2's model with FDS on random rooms."""
    net = from_folder("nyud2-dir", "models.net")
    images = torch.randn(size["maps"], 3, size["height"], size["width"])
    depths = 0.7 + 9 * torch.rand(size["maps"], 1, *net.output_size(size["height"], size["width"]))
    return model_step(device, net.make_model(size["resnet"], fds=True), images, depths, **how)


def a_pair(device: torch.device, size: dict, **how) -> Prepared:
    """STS-B's BiLSTM on random sentences."""
    models = from_folder("sts-b-dir", "models")
    encoder = models.PairEncoder(torch.randn(1000, 300), train_words=False, d_hid=size["lstm"])
    count, words = size["sentences"], size["words"]
    tokens, lengths = torch.randint(1, 1000, (count, 2, words)), torch.randint(words // 2, words + 1, (count, 2))
    model = Regressor(encoder, models.make_head(encoder.feature_dim))
    return model_step(device, model, (tokens, lengths), 5 * torch.rand(count, 1), **how)


def a_night(device: torch.device, size: dict, *, plain_norms: bool = False, **how) -> Prepared:
    """SHHS's CNN-RNN on random nights of 8 hours; with `plain_norms` its norms are torch's own."""
    models = from_folder("shhs-dir", "models")
    with mock.patch.object(models, "GroupNorm", nn.GroupNorm if plain_norms else models.GroupNorm):
        encoder = models.NightEncoder(width=size["night_width"], d_hid=size["night_hid"])
    samples = {"eeg": 125 * 30, "ecg": 250 * 30, "breathing": 10 * 30}
    count, epochs = size["nights"], size["epochs"]
    inputs = {name: torch.randn(count, epochs, models.CHANNELS[name], samples[name], dtype=torch.float16, device=device)
              for name in samples}
    inputs["lengths"] = torch.randint(epochs // 2, epochs + 1, (count,))
    model = Regressor(encoder, models.make_head(encoder.feature_dim, 75.0))
    return model_step(device, model, inputs, 100 * torch.rand(count, 1), **how)


# -- their times and memory --------------------------------------------------------------------------------------------


def per_second(found: dict, count: int, what: str) -> dict:
    return {f"{what}/s": float(f"{count / found.pop('seconds'):.4g}"), **found}


def resnet(
    device: torch.device, size: dict, *, tf32: bool = True, second_pass: bool = False, search: bool = True, **how
) -> dict:
    """Images per second and peak memory of ResNet-50; without `search` cuDNN takes the convolutions that it guesses."""
    with tf32_set(tf32), searching(search):
        prepared = a_resnet(device, size, **how)
        found = timed(prepared, size["steps"], compiled=how.get("compile", False))
        if second_pass:
            found["seconds"] += passing(prepared, size["steps"])
    return per_second(found, size["images"], "images")


def passing(prepared: Prepared, count: int) -> float:
    """Seconds of a batch in FDS's second pass, as the loop makes it, after a first pass."""
    training, batch, moment, _ = prepared
    batches = SimpleNamespace(shares=lambda: [moment.share] * count)
    feed = SimpleNamespace(stats=[batch] * count, stats_batches=batches)
    observe_pass(training, feed, 2)
    return clocked(lambda: observe_pass(training, feed, 2), training.runtime.device, 1) / count


def depth(device: torch.device, size: dict, *, plain_resize: bool = False, **how) -> dict:
    """NYUD2's model; with `plain_resize` autocast has its way with resizes, as before they were called outside it."""
    prepared = a_room(device, size, **how)
    with ExitStack() as patched:
        if plain_resize:
            up = next(module for module in prepared[0].model.modules() if type(module).__name__ == "UpProjection")
            plain = {"resize": lambda x, size: interpolate(x, size=size, mode="bilinear", align_corners=False)}
            patched.enter_context(mock.patch.dict(type(up).forward.__globals__, plain))
        return per_second(timed(prepared, size["steps"]), size["maps"], "images")


def sentences(device: torch.device, size: dict, *, flattened: bool = False, **how) -> dict:
    """STS-B's BiLSTM; `flattened`: with its weights copied together in each step, which only replicas need."""
    prepared = a_pair(device, size, **how)
    lstm = prepared[0].model.encoder.lstm
    if flattened:
        lstm.register_forward_pre_hook(lambda module, inputs: module.flatten_parameters())
    return per_second(timed(prepared, size["steps"]), size["sentences"], "pairs")


def nights(device: torch.device, size: dict, **how) -> dict:
    """SHHS's CNN-RNN, whose nights are of ever other lengths: cuDNN guesses its convolutions, as in train.py."""
    with searching(False):
        found = timed(a_night(device, size, **how), max(1, size["steps"] // 2))
    return per_second(found, size["nights"], "nights")


def each_method(device: torch.device, size: dict) -> dict:
    """Milliseconds of a step with a small encoder, and a finite loss."""
    found = {}
    for name, given in STEPS.items():
        prepared = method_step(device, size["rows"], size["features"], **given)
        losses = [float(take_step(prepared)) for _ in range(2)]
        expect(np.isfinite(losses).all(), f"{name}: the loss is {losses}")
        found[name] = milliseconds(timed(prepared, size["steps"])["seconds"])
    return found


def milliseconds(seconds: float) -> float:
    return float(f"{1000 * seconds:.3g}")


# -- waiting -----------------------------------------------------------------------------------------------------------


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


def waits(device: torch.device, size: dict) -> dict:
    """How often a step of each model waits for the GPU: never for images; lengths have to come to the CPU once."""
    if device.type != "cuda":
        raise Skipped("only a GPU is waited for; tests/test_gpu_paths.py counts without one")
    found = {}
    for prepare, at_most in ((a_resnet, 0), (a_room, 0), (a_pair, 1), (a_night, 1)):
        prepared = prepare(device, size, amp="bf16")
        take_step(prepared)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                take_step(prepared)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found[prepare.__name__] = sum("synchroniz" in str(warning.message) for warning in said)
        expect(found[prepare.__name__] <= at_most, f"{found}")
    return found


# -- parts of a step and what lies between steps -----------------------------------------------------------------------


def observing(device: torch.device, size: dict) -> dict:
    """Milliseconds of FDS beside the step: a batch of NYUD2's pixels in chunks of three sizes, and ResNet's features."""
    height, width = from_folder("nyud2-dir", "models.net").output_size(size["height"], size["width"])
    pixels = FDS(128, bins=Bins.uniform(0, 10, 100)).to(device)
    features = torch.randn(size["maps"], 128, height, width, device=device)
    depths = 0.7 + 9 * torch.rand(size["maps"], 1, height, width, device=device)
    found = {}
    for power in (19, 24, 26):
        with mock.patch.object(bin_statistics, "_DEVICE_BLOCK", 1 << power):
            pixels.observe(features, depths)  # the first call with chunks of a size asks for their memory
            found[f"pixels, 2^{power}"] = milliseconds(clocked(lambda: pixels.observe(features, depths), device, size["steps"]))
    rows = FDS(size["features"], bins=Bins.uniform(0, 100, 100)).to(device)
    features = torch.randn(size["rows"], size["features"], device=device)
    labels = 100 * torch.rand(size["rows"], 1, device=device)
    for epoch in range(2):
        rows.observe(features, labels)
        rows.finish_epoch(epoch)
    found["rows"] = milliseconds(clocked(lambda: rows.observe(features, labels), device, size["steps"]))
    rows.smooth(features, labels, 2)
    found["smooth"] = milliseconds(clocked(lambda: rows.smooth(features, labels, 2), device, size["steps"]))
    return found


def checkpoints(device: torch.device, size: dict) -> dict:
    """Seconds to write the BiLSTM with Adam's sums as the last and the best checkpoint, beside the 400 steps between two."""
    prepared = a_pair(device, size, amp="bf16")
    step = timed(prepared, size["steps"])["seconds"]
    with tempfile.TemporaryDirectory() as folder:
        state = prepared[0].state()
        seconds = clocked(lambda: checkpoint.save(Path(folder), state, is_best=True), device, 2)
        gigabytes = (Path(folder) / checkpoint.BEST).stat().st_size / 1e9
    return {"seconds": round(seconds, 2), "of 400 steps": float(f"{400 * step:.3g}"), "file GB": float(f"{gigabytes:.3g}")}


def loader(device: torch.device, size: dict) -> dict:
    """Training images per second of processes that read 250 px JPEGs or the cache, and the wait for an epoch's first batch."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        drawings = []
        for number in range(size["drawn"]):
            path = Path(folder) / f"{number}.jpg"
            rng = np.random.default_rng(number)
            drawn.draw_face(rng.uniform(5, 90), "fm"[number % 2], rng, size["face_pixels"]).save(path, quality=90)
            drawings.append(path)
        paths = [drawings[number % len(drawings)] for number in range(size["faces"])]
        ages = np.full(len(paths), 30.0)
        for kind, cache in (("JPEG", None), ("cache", f"{folder}/cache")):
            data = AgeDataset(paths, ages, img_size=size["pixels"], train=True, cache=cache, cache_workers=1)
            for workers in size["workers"]:
                plan = Plan(batch_size=size["images"], workers=workers)
                feed = Feed(Splits(data, data, data), plan, Runtime(device))
                for epoch in range(2):  # the workers of the first live on in the second
                    feed.begin(epoch)
                    began = time.perf_counter()
                    batches = iter(feed.batches_from(0, ""))
                    next(batches)
                    waited = time.perf_counter() - began
                    count = size["images"] + sum(len(batch[1]) for batch in batches)
                    taken = time.perf_counter() - began
                    found[f"{kind}, {workers} workers, first batch of epoch {epoch + 1} (s)"] = float(f"{waited:.3g}")
                found[f"{kind}, {workers} workers, images/s"] = float(f"{count / taken:.4g}")
                del feed, batches  # and with them the workers
    return found
