"""A frozen backbone, used once: its features are kept, resampled with SMOGN, and a head with FDS and RankSim learns from them.

    python examples/frozen_backbone.py
The one idea: features are a table, so what works on tables works on them; the small layer before FDS is what a term shapes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from skewed import measured, regressor, table
from torch import nn

from imbalanced_regression import RankSim, Relevance, smogn, weighted_mse_loss


def cached(backbone: nn.Module, inputs: torch.Tensor, file: Path) -> torch.Tensor:
    """The backbone's features (N, D) of the inputs, from the file if it is there."""
    if not file.is_file():
        with torch.inference_mode():
            torch.save(torch.cat([backbone.eval()(part) for part in inputs.split(256)]), file)
    return torch.load(file, weights_only=True)


def main(folder: str = "runs/frozen", epochs: int = 30) -> dict:
    torch.manual_seed(0)
    inputs, labels = table()
    backbone = nn.Sequential(nn.Linear(8, 128), nn.Tanh()).requires_grad_(False)  # yours: pre-trained on something else
    Path(folder).mkdir(parents=True, exist_ok=True)
    features = cached(backbone, torch.tensor(inputs), Path(folder) / "features.pt")

    rows, values = smogn(features.numpy(), labels, relevance=Relevance.density(labels), seed=0)
    x, y = torch.tensor(rows), torch.tensor(values)[:, None]
    model, rank = regressor(y, nn.Sequential(nn.Linear(128, 32), nn.ReLU())), RankSim()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        for i in torch.randperm(len(x)).split(64):
            with torch.autocast("cpu", torch.bfloat16):
                preds, seen = model(x[i], y[i], epoch)
            model.fds.observe(seen, y[i])
            loss = weighted_mse_loss(preds / model.head.scale, y[i] / model.head.scale, torch.ones_like(y[i]))
            optimizer.zero_grad()
            (loss + 0.01 * rank(seen, y[i], preds)).backward()
            optimizer.step()
        model.fds.finish_epoch(epoch)
    torch.save(model.state_dict(), Path(folder) / "head.pt")
    model.eval()
    return measured(lambda test: model(backbone(test))[0])


if __name__ == "__main__":
    main(*sys.argv[1:2])
