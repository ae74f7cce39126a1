"""A small regression problem and run for the tests of the loop: 1-D labels, an MLP with BatchNorm or dropout."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from imbalanced_regression import FDS, Bins, Regressor, shot_metrics, weighted_mse_loss
from imbalanced_regression.training import engine, runtime

BINS = Bins.uniform(0, 5, 10)


class Toy(Dataset):
    """Inputs (4,), skewed targets (1,) in 0..5, weights (1,)."""

    def __init__(self, count: int, seed: int):
        random = np.random.default_rng(seed)
        self.targets = (5 * random.beta(1, 3, (count, 1))).astype(np.float32)
        self.inputs = np.concatenate([self.targets, self.targets**2, random.normal(size=(count, 2))], axis=1).astype(np.float32)
        self.weights = (0.5 + random.random((count, 1))).astype(np.float32)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return self.inputs[i], self.targets[i], self.weights[i]


def make_args(**changes) -> Namespace:
    values = {
        "pretrained": "", "retrain_fc": False, "optimizer": "adam", "lr": 1e-2, "weight_decay": 0.0, "momentum": 0.9,
        "resume": None, "evaluate": False, "overwrite": False, "workers": 0, "batch_size": 16, "seed": 3, "steps": None,
        "epochs": 4, "patience": None, "schedule": [2], "max_grad_norm": None, "fds_stats": "second_pass",
        "print_freq": 100, "model": "toy",
    }
    return Namespace(**{**values, **changes})


def make_model(*, fds: bool = True, norm: bool = False, dropout: float = 0.1, seed: int = 0) -> Regressor:
    torch.manual_seed(seed)
    # before BatchNorm a bias has no gradient but rounding, which Adam blows up
    layers: list[nn.Module] = [nn.Linear(4, 8, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm1d(8))
    encoder = nn.Sequential(*layers, nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 6))
    return Regressor(encoder, nn.Linear(6, 1), FDS(6, bins=BINS, ks=3) if fds else None)


def make_splits(count: int = 90) -> runtime.Splits:
    return runtime.Splits(train=Toy(count, 0), val=Toy(31, 1), test=Toy(37, 2))


def evaluate(preds, targets, weights) -> dict:
    return shot_metrics(preds, targets, Toy(90, 0).targets, BINS)


def run(
    folder, *, model=None, splits=None, here=None, criterion=weighted_mse_loss, terms=(), renames=(), select="mse", **changes
):
    """engine.run on the toy; returns (result, model)."""
    model = make_model() if model is None else model
    result = engine.run(
        make_args(**changes), model, make_splits() if splits is None else splits, criterion, evaluate,
        here or runtime.Runtime(), folder, terms=terms, renames=renames, select=select,
    )
    return result, model
