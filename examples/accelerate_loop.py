"""Hugging Face Accelerate: FDS, LDS weights and RankSim in one's own loop; bfloat16, accumulation, checkpoints.

    pip install accelerate; python examples/accelerate_loop.py, or accelerate launch examples/accelerate_loop.py
The one idea: the loop is the README's; `accumulate` and `backward` are Accelerate's, and FDS merges what the processes saw.
"""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from skewed import measured, regressor, tensors
from torch.utils.data import DataLoader, TensorDataset

from imbalanced_regression import RankSim, weighted_mse_loss


def main(folder: str = "runs/accelerate", epochs: int = 12, resume: str | None = None) -> dict:
    accelerator = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=2, cpu=True)
    torch.manual_seed(0)
    data = tensors()
    model, rank = regressor(data[1]), RankSim()
    fds, head = model.fds, model.head
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    loader = DataLoader(TensorDataset(*data), batch_size=64, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    accelerator.register_for_checkpointing(rank)  # its draws; FDS is part of the model
    first = 0
    if resume is not None:
        accelerator.load_state(f"{folder}/{resume}")
        first = int(resume.removeprefix("epoch"))

    for epoch in range(first, epochs):
        model.train()
        for inputs, targets, weights in loader:
            with accelerator.accumulate(model):
                with accelerator.autocast():
                    preds, features = model(inputs, targets, epoch)
                fds.observe(features, targets)
                loss = weighted_mse_loss(preds / head.scale, targets / head.scale, weights)
                accelerator.backward(loss + 0.01 * rank(features, targets, preds, weights))
                optimizer.step()
                optimizer.zero_grad()
        fds.finish_epoch(epoch)
        accelerator.save_state(f"{folder}/epoch{epoch + 1}")

    model.eval()
    return measured(lambda inputs: model(inputs)[0])


if __name__ == "__main__":
    main(*sys.argv[1:2])
