"""The models of UCI-DIR: multi-layer perceptrons, whose last hidden layer is what FDS and the linear head take.

Source: "mlp" (d-20-30-10-1) is SRL's, CVPR 2025, section UCI-DIR; "wide" is ours.
"""

from __future__ import annotations

from torch import nn

HIDDEN = {"mlp": (20, 30, 10), "wide": (256, 256, 64)}  # what --model chooses from


class Encoder(nn.Sequential):
    """Inputs (B, d) -> features (B, D) of the last hidden layer, after its ReLU."""

    def __init__(self, inputs: int, model: str = "mlp"):
        layers: list[nn.Module] = []
        for before, width in zip((inputs, *HIDDEN[model]), HIDDEN[model]):
            layers += [nn.Linear(before, width), nn.ReLU()]
        super().__init__(*layers)
        self.feature_dim = HIDDEN[model][-1]
