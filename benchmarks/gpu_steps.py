"""What the checks of gpu_check.py stand on: their sizes, a training step of every method and of a whole model, and clocks."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from imbalanced_regression import FDS, SRL, Bins, Regressor, choices  # noqa: E402  # found through the path set above
from imbalanced_regression.tools.folders import module_of  # noqa: E402
from imbalanced_regression.training import Objective, Plan, Runtime  # noqa: E402
from imbalanced_regression.training.objective import Moment  # noqa: E402
from imbalanced_regression.training.runtime import AMP  # noqa: E402
from imbalanced_regression.training.session import Training, prepare  # noqa: E402
from imbalanced_regression.training.step import train_step  # noqa: E402

FULL = {
    "resnet": "resnet50", "images": 256, "pixels": 224, "maps": 32, "height": 228, "width": 304, "sentences": 128, "words": 40,
    "lstm": 1500, "nights": 32, "epochs": 960, "night_width": 32, "night_hid": 256, "rows": 256, "features": 2048, "steps": 8,
    "whole": 4000, "compiled": "resnet18", "compiled_pixels": 64, "compiled_lstm": 64, "faces": 4096, "drawn": 64,
    "face_pixels": 250, "workers": (4, 8, 16),
}
TOY = {
    "resnet": "resnet18", "images": 4, "pixels": 32, "maps": 2, "height": 36, "width": 48, "sentences": 4, "words": 5,
    "lstm": 4, "nights": 2, "epochs": 3, "night_width": 4, "night_hid": 8, "rows": 16, "features": 8, "steps": 1,
    "whole": 4000, "compiled": "", "compiled_pixels": 8, "compiled_lstm": 4, "faces": 8, "drawn": 2, "face_pixels": 40,
    "workers": (0,),
}
BINS = Bins.uniform(0, 100, 100)
WEIGHTS_APART = 1e-3  # the stated distance of weights from the CPU's, and of a resumed run's; relative to the largest

Prepared = tuple[Training, tuple, Moment, Plan]


class Skipped(Exception):
    """A check that needs what is not there."""


def from_folder(folder: str, name: str) -> ModuleType:
    """A benchmark folder's module."""
    return module_of(ROOT / folder, name)


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
    # no bias before BatchNorm, which takes it away again: of its gradient, rounding alone, Adam would make full steps
    first = nn.Linear(4, 8, bias=False)
    encoder = nn.Sequential(first, nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, width))
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


# -- a whole model -----------------------------------------------------------------------------------------------------


def model_step(device: torch.device, model: Regressor, inputs, targets: Tensor, *, amp: str = "none",
               compile: bool = False, channels_last: bool = False) -> Prepared:
    """A training of a whole model, its batch on the device."""
    ranks = Runtime(device, amp=AMP[amp], compile=compile, channels_last=channels_last)
    plan = Plan(lr=1e-4, batch_size=len(targets))
    training = prepare(model, Objective(nn_mse), plan, ranks)
    training.wrapped.train()
    return training, ranks.move((inputs, targets, torch.ones_like(targets))), Moment(epochs=4), plan


def nn_mse(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return (weights * (outputs - targets).square()).mean()


# -- tools -------------------------------------------------------------------------------------------------------------


def expect(holds, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def close(one: dict[str, Tensor], other: dict[str, Tensor], at_most: float = WEIGHTS_APART) -> float:
    """The largest distance of two states relative to each tensor's largest value; raises above `at_most`."""
    apart = 0.0
    for name, value in one.items():
        if value.is_floating_point() and value.numel():
            apart = max(apart, float((value - other[name]).abs().max() / value.abs().max().clamp(min=1e-3)))
    expect(apart <= at_most, f"{apart:.2g} apart, at most {at_most:g} is stated")
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


@contextlib.contextmanager
def searching(on: bool) -> Iterator[None]:
    """cuDNN searches for its fastest convolutions, or guesses them."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = on
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def clocked(function: Callable[[], object], device: torch.device, count: int) -> float:
    """Seconds of a call, as a mean over `count`, with the device's work done."""
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)
    wait()
    began = time.perf_counter()
    for _ in range(count):
        function()
    wait()
    return (time.perf_counter() - began) / count


def timed(prepared: Prepared, count: int, *, compiled: bool = False) -> dict:
    """Seconds of a step after the first ones, and its most memory; the first ones take more, to search for convolutions."""
    device = prepared[0].runtime.device
    clocked(lambda: take_step(prepared), device, 3 if compiled or device.type == "cuda" else 1)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    found = {"seconds": clocked(lambda: take_step(prepared), device, count)}
    if device.type == "cuda":
        found["GB"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    return found
