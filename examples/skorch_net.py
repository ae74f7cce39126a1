"""skorch: FDS, LDS weights and RankSim in a network that scikit-learn takes for one of its own; saved after each epoch.

    pip install skorch; python examples/skorch_net.py
The one idea: targets and weights travel beside the inputs, in a dictionary, and the loss is a method of the net.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from skewed import measured, regressor, tensors
from skorch import NeuralNetRegressor
from skorch.callbacks import Checkpoint
from torch import nn

from imbalanced_regression import RankSim, weighted_mse_loss


class Module(nn.Module):
    def __init__(self, labels):
        super().__init__()
        self.model, self.epoch = regressor(labels), 0

    def forward(self, inputs, targets=None, weights=None):
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(inputs, targets, self.epoch)


class Imbalanced(NeuralNetRegressor):
    rank = RankSim()

    def get_loss(self, outputs, y_true, X, training=False):
        preds, features = outputs
        model, targets, weights = self.module_.model, X["targets"], X["weights"]
        if training:
            model.fds.observe(features, targets)
        loss = weighted_mse_loss(preds / model.head.scale, targets / model.head.scale, weights)
        return loss + 0.01 * self.rank(features, targets, preds, weights)

    def on_epoch_end(self, net, **kwargs):
        self.module_.model.fds.finish_epoch(self.module_.epoch)
        self.module_.epoch += 1
        super().on_epoch_end(net, **kwargs)


def main(folder: str = "runs/skorch", epochs: int = 12) -> dict:
    torch.manual_seed(0)
    inputs, targets, weights = tensors()
    Path(folder).mkdir(parents=True, exist_ok=True)
    net = Imbalanced(Module, module__labels=targets, optimizer=torch.optim.Adam, lr=5e-3, max_epochs=epochs, batch_size=64,
                     train_split=None, verbose=0, callbacks=[Checkpoint(monitor=None, dirname=folder)])
    net.fit({"inputs": inputs, "targets": targets, "weights": weights}, targets)
    return measured(lambda rows: net.predict({"inputs": rows}))


if __name__ == "__main__":
    main(*sys.argv[1:2])
