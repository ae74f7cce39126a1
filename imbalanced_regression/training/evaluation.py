"""Evaluation: predictions of a whole data set gathered over ranks, or dense errors summed without keeping a pixel.

The one idea: every sample is read once over all ranks, nothing is padded, and metrics are computed once over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from .runtime import Runtime, Shard, for_inference, progress

if TYPE_CHECKING:
    from ..metrics import DepthMetrics

_PER_IMAGE = ("rmse", "l1", "bias", "count")


@torch.no_grad()
def predict(
    model: nn.Module, loader: DataLoader, runtime: Runtime, *, title: str = "predict"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, targets and weights of a whole data set, in its order, gathered from all ranks: float32 (N, ...) each.

    `loader` reads in the order of a `Shard`, every sample once over all ranks.
    """
    model.eval()
    forward = for_inference(model)
    parts: list[list[np.ndarray]] = [[], [], []]
    for batch in progress(loader, len(loader), title, runtime):
        inputs, targets, weights = batch
        with runtime.autocast():
            preds, _ = forward(runtime.move(inputs))
        for part, values in zip(parts, (preds, targets, weights)):
            part.append(values.float().cpu().numpy())
    shard = loader.batch_sampler
    assert isinstance(shard, Shard)
    local = (shard.indices, [np.concatenate(part) if part else None for part in parts])
    everything = [(indices, arrays) for indices, arrays in runtime.gather(local) if len(indices)]
    order = np.argsort(np.concatenate([indices for indices, _ in everything]), kind="stable")
    preds, targets, weights = (np.concatenate([arrays[i] for _, arrays in everything])[order] for i in range(3))
    return preds, targets, weights


def measure_arrays(
    model: nn.Module, loader: DataLoader, runtime: Runtime, evaluate: Callable[..., dict], title: str
) -> tuple[dict, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Metrics of a data set by `evaluate(predictions, targets, weights)`, and these three, whole."""
    arrays = predict(model, loader, runtime, title=title)
    return evaluate(*arrays), arrays


@torch.no_grad()
def measure_pixels(
    model: nn.Module, loader: DataLoader, runtime: Runtime, evaluate: Callable[[], DepthMetrics], title: str
) -> tuple[dict, dict[str, np.ndarray]]:
    """Metrics of a dense data set, accumulated image by image: no pixel is kept, whatever the size of the data set.

    Args:
        loader: gives (inputs, targets (B, 1, H, W), weights (B, 1, H, W) 0/1: which pixels count), in a `Shard`'s order.
        evaluate: makes an empty accumulator. Predictions of another size are resized to the targets' (bilinear, corners
            aligned).

    Returns:
        The metrics over all counting pixels of all ranks, and per image, in the data's order, its "rmse", "l1", "bias"
        and "count" of pixels, (N,) each.
    """
    model.eval()
    forward = for_inference(model)
    total, rows = evaluate(), []
    for inputs, targets, weights in progress(loader, len(loader), title, runtime):
        with runtime.autocast():
            preds, _ = forward(runtime.move(inputs))
        preds = preds.float()
        if preds.shape != targets.shape:
            preds = nn.functional.interpolate(preds, targets.shape[-2:], mode="bilinear", align_corners=True)
        for image in zip(preds.cpu(), targets, weights):
            one = evaluate()
            one.update(*image)
            total.merge(one)
            rows.append([one.compute()["overall"][name] for name in _PER_IMAGE])
    shard = loader.batch_sampler
    assert isinstance(shard, Shard)
    table = np.asarray(rows, dtype=np.float64).reshape(len(rows), len(_PER_IMAGE))
    everything = runtime.gather((shard.indices, table, total))
    order = np.argsort(np.concatenate([indices for indices, _, _ in everything]), kind="stable")
    table = np.concatenate([rows for _, rows, _ in everything])[order]
    whole = evaluate()
    for _, _, part in everything:
        whole.merge(part)
    return whole.compute(), dict(zip(_PER_IMAGE, table.T))
