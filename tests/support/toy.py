"""A small regression problem and run for the tests of the loop: 1-D labels, an MLP with BatchNorm or dropout."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from imbalanced_regression import FDS, Bins, Regressor, shot_metrics, weighted_mse_loss
from imbalanced_regression.training import Arrays, Objective, Plan, Splits, engine, epochs
from imbalanced_regression.training.loaders import Feed
from imbalanced_regression.training.session import prepare

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


def make_plan(**changes) -> Plan:
    values = {"lr": 1e-2, "batch_size": 16, "seed": 3, "epochs": 4, "schedule": [2], "fds_stats": "second_pass"}
    return Plan(**{**values, **changes})


def make_model(*, fds: bool = True, norm: bool = False, dropout: float = 0.1, seed: int = 0) -> Regressor:
    torch.manual_seed(seed)
    # before BatchNorm a bias has no gradient but rounding, which Adam blows up
    layers: list[nn.Module] = [nn.Linear(4, 8, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm1d(8))
    encoder = nn.Sequential(*layers, nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 6))
    return Regressor(encoder, nn.Linear(6, 1), FDS(6, bins=BINS, ks=3) if fds else None)


def make_splits(count: int = 90) -> Splits:
    return Splits(train=Toy(count, 0), val=Toy(31, 1), test=Toy(37, 2))


def evaluate(preds, targets, weights) -> dict:
    return shot_metrics(preds, targets, Toy(90, 0).targets, BINS)


def run(folder, *, model=None, splits=None, ranks=None, criterion=weighted_mse_loss, terms=(), renames=(), select="mse",
        **changes):
    """engine.run on the toy; returns (result, model). What a plan does not know is a setting kept beside the run."""
    model = make_model() if model is None else model
    known = {field.name for field in dataclasses.fields(Plan)}
    plan = make_plan(**{name: value for name, value in changes.items() if name in known})
    settings = {**plan.settings(), "model": "toy", **{name: value for name, value in changes.items() if name not in known}}
    result = engine.run(
        model, make_splits() if splits is None else splits, Objective(criterion, terms), Arrays(evaluate), plan,
        folder=folder, runtime=ranks, renames=renames, select=select, settings=settings,
    )
    return result, model


def one_epoch(model, *, ranks=None, criterion=weighted_mse_loss, terms=(), scaler=None, data=None, observe=False, **changes):
    """One epoch of SGD over 64 samples in four batches, by the loop's own function; returns (loss, training, feed)."""
    changes = {"lr": 1e-2, "optimizer": "sgd", "seed": 0, "momentum": 0.0, **changes}
    plan = make_plan(epochs=1, schedule=[], fds_stats="streaming" if observe else "second_pass", **changes)
    data = Toy(64, 0) if data is None else data
    training = prepare(model, Objective(criterion, terms), plan, ranks)
    training.scaler = scaler
    feed = Feed(Splits(data, data, data), plan, training.runtime)
    fds, model.fds = model.fds, model.fds if observe else None  # the pass that ends the epoch is for tests of its own
    loss = epochs.train_one_epoch(training, feed, 0, plan)
    model.fds = fds
    return loss, training, feed


def end_pass(training, feed, fds_stats="second_pass") -> None:
    """End the first pass over the data by the loop's own function: FDS's second pass, and its epoch."""
    epochs.end_pass(training, feed, 0, make_plan(fds_stats=fds_stats))
