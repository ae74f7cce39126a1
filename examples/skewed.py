"""The data of the examples: a table whose labels, 20 to 80 of some unit, are common at the low end and rare at the high one."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from imbalanced_regression import FDS, Bins, Regressor, ScaledLinear, lds_weights, shot_metrics


def table(count: int = 600, seed: int = 0, *, balanced: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, 8) and labels (N,), float32; `balanced` for a test set in which all labels are equally common."""
    random = np.random.default_rng(seed)
    share = random.random(count) if balanced else random.beta(1, 4, count)
    waves = np.stack([share, share**2, np.sin(4 * share), np.cos(4 * share)], axis=1)
    inputs = np.concatenate([waves + 0.1 * random.normal(size=waves.shape), random.normal(size=(count, 4))], axis=1)
    return inputs.astype(np.float32), (20 + 60 * share).astype(np.float32)


def tensors(count: int = 600) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training inputs (N, 8), targets (N, 1) and LDS weights (N, 1)."""
    inputs, labels = table(count)
    weights = lds_weights(labels, Bins.auto(labels)).astype(np.float32)
    return torch.tensor(inputs), torch.tensor(labels)[:, None], torch.tensor(weights)[:, None]


def regressor(targets: torch.Tensor, encoder: nn.Module | None = None, width: int = 32) -> Regressor:
    """Encoder -> FDS -> a head in the unit of the labels; for the table an MLP unless an encoder is given."""
    bins = Bins.auto(targets.numpy())
    ks, sigma = bins.window(targets.numpy())
    encoder = encoder or nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, width), nn.ReLU())
    return Regressor(encoder, ScaledLinear.of(width, targets.numpy()), FDS(width, bins=bins, ks=ks, sigma=sigma))


def measured(predict, seed: int = 1) -> dict:
    """Errors by shot on a balanced test set of the table; `predict` takes inputs (N, 8) as a tensor."""
    labels, (inputs, answers) = table()[1], table(300, seed, balanced=True)
    with torch.no_grad():
        found = shot_metrics(np.asarray(predict(torch.tensor(inputs))), answers, labels, Bins.auto(labels), 60, 20)
    print(f"few-shot MAE {found['few']['l1']:.2f}, overall {found['overall']['l1']:.2f}")
    return found
