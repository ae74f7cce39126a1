"""A timm backbone in the library's own loop: FDS, LDS weights and RankSim; bfloat16 and checkpoints with --resume's exactness.

    pip install timm; python examples/timm_backbone.py; in the face folders: python train.py --model timm:resnet26t
The one idea: `num_classes=0` makes any timm model an encoder of `num_features`. The label is how many pixels wide a bar is.
"""

from __future__ import annotations

import sys

import numpy as np
import timm
import torch
from skewed import regressor
from torch.utils.data import TensorDataset

from imbalanced_regression import Bins, RankSim, lds_weights, shot_metrics, weighted_mse_loss
from imbalanced_regression.training import Arrays, Objective, Plan, Splits, run
from imbalanced_regression.training.runtime import Runtime


def bars(labels: np.ndarray, seed: int) -> torch.Tensor:
    """Images (N, 3, 32, 32) of a bar as wide as the label says, somewhere, in noise."""
    random = np.random.default_rng(seed)
    start = random.integers(0, 32 - labels + 1)[:, None]
    drawn = ((np.arange(32) >= start) & (np.arange(32) < start + labels[:, None]))[:, None, None, :].astype(np.float32)
    noise = 0.2 * random.normal(size=(len(labels), 3, 32, 32))
    return torch.tensor(drawn + noise, dtype=torch.float32)


def dataset(labels: np.ndarray, seed: int) -> TensorDataset:
    targets, weights = (torch.tensor(values, dtype=torch.float32)[:, None] for values in (labels, lds_weights(labels)))
    return TensorDataset(bars(labels, seed), targets, weights)


def main(folder: str = "runs/timm", epochs: int = 8, resume: str | None = None, model: str = "test_byobnet") -> dict:
    torch.manual_seed(0)
    train_labels = np.concatenate([np.repeat(np.arange(1, 5), 30), np.repeat(np.arange(5, 9), 5)])
    backbone = timm.create_model(model, pretrained=False, num_classes=0)
    network = regressor(torch.tensor(train_labels, dtype=torch.float32)[:, None], backbone, backbone.num_features)
    train, test = dataset(train_labels, 0), dataset(np.repeat(np.arange(1, 9), 5), 1)
    result = run(
        network, Splits(train, test, test), Objective(weighted_mse_loss, [(0.01, RankSim())], unit=2.0),
        Arrays(lambda preds, labels, _: shot_metrics(preds, labels, train_labels, Bins.width(0.5, 8.5, 1), 20, 10)),
        Plan(epochs=epochs, lr=2e-3, batch_size=32, resume=resume), folder=folder, runtime=Runtime(amp=torch.bfloat16),
    )
    return result["test"]


if __name__ == "__main__":
    print(main(*sys.argv[1:2])["few"])
