"""Evaluation: predictions of a whole data set gathered over ranks, or dense errors summed without keeping a pixel.

The one idea: every sample is read once over all ranks, nothing is padded, and metrics are computed once over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from .loaders import Shard
from .log import progress
from .model import unwrap
from .runtime import Runtime, for_inference

if TYPE_CHECKING:
    from ..metrics import DepthMetrics

_PER_IMAGE = ("rmse", "l1", "bias", "count")


class Measure(Protocol):
    """What `run` measures a model with: (model, loader, runtime, title) -> (metrics, what it keeps of the predictions)."""

    def __call__(self, model: nn.Module, loader: DataLoader, runtime: Runtime, title: str) -> tuple[dict, Any]: ...


class Arrays:
    """Measures by the predictions of a whole data set.

    `metrics` makes a dictionary with an "overall" group of (predictions, targets, weights), float32 (N, ...) each, in the
    data's order. These three are kept; and a fourth, the predictions' standard deviations, of a head that says them.
    """

    def __init__(self, metrics: Callable[..., dict]):
        self.metrics = metrics

    def __call__(
        self, model: nn.Module, loader: DataLoader, runtime: Runtime, title: str = "predict"
    ) -> tuple[dict, tuple[np.ndarray, ...]]:
        arrays = predict(model, loader, runtime, title=title)
        return self.metrics(*arrays[:3]), arrays


@torch.no_grad()
def predict(model: nn.Module, loader: DataLoader, runtime: Runtime, *, title: str = "predict") -> tuple[np.ndarray, ...]:
    """Predictions, targets and weights of a whole data set, in its order, gathered from all ranks: float32 (N, ...) each.

    Of a head with a `spread` the predictions' standard deviations come fourth. `loader` reads in the order of a `Shard`,
    every sample once over all ranks.
    """
    model.eval()
    forward, inner = for_inference(model), unwrap(model)
    spread = getattr(inner.head, "spread", None)
    parts: list[list[np.ndarray]] = [[] for _ in range(3 if spread is None else 4)]
    for inputs, targets, weights in progress(loader, len(loader), title, runtime):
        if inner.constant is None:
            with runtime.autocast():
                outputs, _ = forward(runtime.move(inputs))
            outputs = outputs.float()
            found = [inner.point(outputs), targets, weights, *([] if spread is None else [spread(outputs)])]
        else:
            found = [torch.full_like(targets, inner.constant), targets, weights]
        for part, values in zip(parts, found):
            part.append(values.float().cpu().numpy())
    shard = loader.batch_sampler
    assert isinstance(shard, Shard)
    local = (shard.indices, [np.concatenate(part) if part else None for part in parts])
    everything = [(indices, arrays) for indices, arrays in runtime.gather(local) if len(indices)]
    order = np.argsort(np.concatenate([indices for indices, _ in everything]), kind="stable")
    return tuple(np.concatenate([arrays[i] for _, arrays in everything])[order] for i in range(len(parts)))


class Pixels:
    """Measures dense labels image by image: no pixel is kept, whatever the size of the data set.

    `new_metrics` makes an empty accumulator. The loader gives (inputs, targets (B, 1, H, W), weights (B, 1, H, W) 0/1: which
    pixels count), in a `Shard`'s order. Predictions of another size are resized to the targets' (bilinear, corners aligned).

    Returns the metrics over all counting pixels of all ranks, and per image, in the data's order, its "rmse", "l1", "bias"
    and "count" of pixels, (N,) each.
    """

    def __init__(self, new_metrics: Callable[[], DepthMetrics]):
        self.new_metrics = new_metrics

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, loader: DataLoader, runtime: Runtime, title: str = "predict"
    ) -> tuple[dict, dict[str, np.ndarray]]:
        model.eval()
        forward, inner = for_inference(model), unwrap(model)
        total, rows = self.new_metrics(), []
        for inputs, targets, weights in progress(loader, len(loader), title, runtime):
            if inner.constant is None:
                with runtime.autocast():
                    outputs, _ = forward(runtime.move(inputs))
                preds = inner.point(outputs.float())
            else:
                preds = torch.full_like(targets, inner.constant)
            if preds.shape != targets.shape:
                preds = nn.functional.interpolate(preds, targets.shape[-2:], mode="bilinear", align_corners=True)
            for image in zip(preds.cpu(), targets, weights):
                one = self.new_metrics()
                one.update(*image)
                total.merge(one)
                rows.append([one.compute()["overall"][name] for name in _PER_IMAGE])
        shard = loader.batch_sampler
        assert isinstance(shard, Shard)
        table = np.asarray(rows, dtype=np.float64).reshape(len(rows), len(_PER_IMAGE))
        everything = runtime.gather((shard.indices, table, total))
        order = np.argsort(np.concatenate([indices for indices, _, _ in everything]), kind="stable")
        table = np.concatenate([rows for _, rows, _ in everything])[order]
        whole = self.new_metrics()
        for _, _, part in everything:
            whole.merge(part)
        return whole.compute(), dict(zip(_PER_IMAGE, table.T))
