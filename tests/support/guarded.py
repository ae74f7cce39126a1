"""A small training behind `cli.guard`, for machines that lack something: the program of tests/test_machines.py.

    python guarded.py FOLDER [--workers N] [--width N] [--own_collate] [--kill] [--say]
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
from pathlib import Path

import numpy as np
import torch
import toy
from torch import nn

from imbalanced_regression import cli
from imbalanced_regression.training import runtime
from imbalanced_regression.training.log import start_log


class Wide(toy.Toy):
    """Inputs of any number of values, so that a batch takes as many bytes as wanted; or one at which the worker is killed."""

    def __init__(self, count: int, seed: int, width: int = 4, kill: bool = False):
        super().__init__(count, seed)
        self.width, self.kill = width, kill

    def __getitem__(self, i):
        if self.kill and i == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        inputs, targets, weights = super().__getitem__(i)
        return np.resize(inputs, self.width), targets, weights


class First(nn.Module):
    """The values that the toy's model knows."""

    def forward(self, inputs):
        return inputs["wide"][0][:, :4] if isinstance(inputs, dict) else inputs[:, :4]


def own_collate(samples):
    """As a benchmark writes it: tensors in nested containers, without a thought of shared memory."""
    inputs, targets, weights = (torch.from_numpy(np.stack(part)) for part in zip(*samples))
    return {"wide": [inputs]}, targets, weights


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--own_collate", action="store_true")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--say", action="store_true", help="the folder's name, in the log")
    args = parser.parse_args()
    start_log(runtime.Runtime())
    splits = toy.make_splits()
    splits.train = Wide(90, 0, args.width, args.kill)
    splits.collate = own_collate if args.own_collate else None
    model = toy.make_model()
    model.encoder.insert(0, First())
    if args.say:
        logging.getLogger("guarded").info("in %s", args.folder)
    toy.run(args.folder, model=model, splits=splits, epochs=1, workers=args.workers)


if __name__ == "__main__":
    cli.guard(main)
