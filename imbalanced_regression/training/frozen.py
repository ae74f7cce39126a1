"""The second stage on rows of features: a frozen encoder looks at each training sample once, and its features can be resampled.

The one idea: such rows go where inputs go, under a name of their own, and the model passes them by its encoder. So the loop,
FDS, terms and weights are those of any run, and validation, test and checkpoints are of the whole model.
Of dense labels a row is the surroundings of a pixel that the head, a convolution, looks at; the neck is then frozen as well.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, default_collate

from .evaluation import predict
from .loaders import Shard, Splits, make_loader
from .log import progress
from .model import FEATURES, Regressor
from .randomness import derive_seed
from .runtime import Runtime

logger = logging.getLogger(__name__)

PIXELS = 10_000  # rows that a dense training set becomes, at most

# (rows (N, P), labels (N,)) -> the same with other N, float64 each
Resample = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class FeatureRows(Dataset):
    """Rows of features as a training set: features (N, D) or (N, C, k, k), labels (N,), weights (N,) or (N, heads).

    An item is ({FEATURES: its features}, target, weight). Of a dense row, target and weight are k x k maps in which the
    pixel in the middle alone counts: k^2, so that the mean over the map is its own.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, weights: np.ndarray):
        self.features = torch.tensor(features, dtype=torch.float32)
        self.labels = torch.tensor(labels, dtype=torch.float32)[:, None]
        self.weights = torch.tensor(weights, dtype=torch.float32).reshape(len(labels), -1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        features, label, weight = self.features[index], self.labels[index], self.weights[index]
        if features.dim() == 3:
            side = features.shape[-1]
            middle = torch.zeros(1, side, side)
            middle[:, side // 2, side // 2] = side * side
            return {FEATURES: features}, label[:, None, None].expand(1, side, side), weight[:, None, None] * middle
        return {FEATURES: features}, label, weight


def collate_rows(other: Callable | None, samples: list):
    """A batch of feature rows, or by `other` of what the benchmark's data sets give."""
    inputs = samples[0][0]
    of_rows = isinstance(inputs, dict) and FEATURES in inputs
    return default_collate(samples) if of_rows or other is None else other(samples)


def length_of(other: Callable, dataset: Dataset, index: int) -> int:
    """How long a sample is, by `other`; feature rows are all alike."""
    return 0 if isinstance(dataset, FeatureRows) else other(dataset, index)


def resampled(
    model: Regressor, splits: Splits, resample: Resample, weigh: Callable[[np.ndarray], np.ndarray], *,
    batch_size: int, workers: int, seed: int, runtime: Runtime,
) -> tuple[Splits, np.ndarray]:
    """The splits with resampled feature rows for training, and their labels (N,) float64. Every rank must call it.

    The encoder sees each sample in evaluation mode and, where the data set has `as_they_are()`, without random changes.
    Of a data set of maps up to `PIXELS` pixels with a label are drawn by `seed`, evenly over the images.

    Args:
        model: with the encoder that is frozen. weigh: new labels (N,) -> weights (N,) or (N, heads).

    Raises:
        ValueError: as `resample`.
    """
    runtime.place(model).eval()
    data = splits.train
    if hasattr(data, "as_they_are"):
        data = data.as_they_are()
    dense = torch.as_tensor(data[0][1]).dim() == 3
    order = np.arange(len(data))  # type: ignore[arg-type]
    if dense and len(order) > PIXELS:
        order = np.sort(np.random.default_rng(seed).choice(order, PIXELS, replace=False))
    shard = Shard(order, max(1, batch_size // runtime.world), rank=runtime.rank, world=runtime.world)
    loader = make_loader(data, shard, runtime, workers=workers, collate=splits.collate)
    if dense:
        features, labels = _pixel_rows(model, loader, -(-PIXELS // len(order)), seed, runtime)
        if model.neck is not None:
            model.neck.requires_grad_(False)
    else:
        features, labels, _ = predict(Regressor(model.encoder, nn.Identity()), loader, runtime, title="features")
    shape = features.shape[1:]
    rows, labels = resample(features.reshape(len(features), -1).astype(np.float64), labels.reshape(-1).astype(np.float64))
    logger.info("the head is re-trained on %d rows of features, made of %d", len(rows), len(features))
    train = FeatureRows(rows.reshape(-1, *shape), labels, weigh(labels))
    length = None if splits.length is None else functools.partial(length_of, splits.length)
    collate = functools.partial(collate_rows, splits.collate)
    return replace(splits, train=train, stats=None, collate=collate, length=length), labels


@torch.no_grad()
def _pixel_rows(model: Regressor, loader, each: int, seed: int, runtime: Runtime) -> tuple[np.ndarray, np.ndarray]:
    """Of each image up to `each` pixels with a label: what the head looks at there (N, C, k, k), and the labels (N,)."""
    size = int(model.head.kernel_size[0])  # type: ignore[arg-type, index]
    rows, labels = [], []
    numbers = iter(loader.batch_sampler.indices.tolist())
    for inputs, targets, weights in progress(loader, len(loader), "features", runtime):
        with runtime.autocast():
            maps = model.encoder(runtime.move(inputs))
            maps = maps if model.neck is None else model.neck(maps)
        maps = nn.functional.pad(maps.float(), (size // 2,) * 4).unfold(2, size, 1).unfold(3, size, 1)  # (B, C, H, W, k, k)
        for image, target, weight, number in zip(maps, targets[:, 0], weights[:, 0], numbers):
            known = (weight > 0).nonzero()
            generator = torch.Generator().manual_seed(derive_seed(seed, number))
            y, x = known[torch.randperm(len(known), generator=generator)[:each]].unbind(1)
            rows.append(image[:, y, x].movedim(1, 0).cpu().numpy())
            labels.append(target[y, x].numpy())
    local = loader.batch_sampler.indices, rows, labels
    found = sorted(((n, *pair) for part in runtime.gather(local) for n, *pair in zip(*part)), key=lambda entry: entry[0])
    return np.concatenate([row for _, row, _ in found]), np.concatenate([label for _, _, label in found])
