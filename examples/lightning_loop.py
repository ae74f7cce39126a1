"""PyTorch Lightning: FDS, LDS weights and RankSim in a LightningModule; bfloat16, accumulated gradients, checkpoints.

    pip install lightning; python examples/lightning_loop.py
The one idea: FDS and the term are submodules, so a checkpoint holds them, and an epoch of FDS ends in a hook.
"""

from __future__ import annotations

import sys

import lightning
import torch
from skewed import measured, regressor, tensors
from torch.utils.data import DataLoader, TensorDataset

from imbalanced_regression import RankSim, weighted_mse_loss


class Imbalanced(lightning.LightningModule):
    def __init__(self, targets):
        super().__init__()
        self.model, self.rank = regressor(targets), RankSim()

    def training_step(self, batch, _):
        inputs, targets, weights = batch
        preds, features = self.model(inputs, targets, self.current_epoch)
        self.model.fds.observe(features, targets)
        scale = self.model.head.scale
        loss = weighted_mse_loss(preds / scale, targets / scale, weights)
        return loss + 0.01 * self.rank(features, targets, preds, weights)

    def on_train_epoch_end(self):
        self.model.fds.finish_epoch(self.current_epoch)  # merges the statistics of all processes

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(folder: str = "runs/lightning", epochs: int = 12, resume: str | None = None) -> dict:
    lightning.seed_everything(0, verbose=False)
    data = tensors()
    module = Imbalanced(data[1])
    trainer = lightning.Trainer(
        max_epochs=epochs, precision="bf16-mixed", accumulate_grad_batches=2, accelerator="cpu", default_root_dir=folder,
        logger=False, enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(TensorDataset(*data), batch_size=64, shuffle=True), ckpt_path=resume)
    print("checkpoint:", trainer.checkpoint_callback.best_model_path)
    module.eval()
    return measured(lambda inputs: module.model(inputs)[0])


if __name__ == "__main__":
    main(*sys.argv[1:2])
