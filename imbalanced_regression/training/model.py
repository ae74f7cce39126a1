"""Regressor: encoder -> neck -> FDS -> head, the one shape of every model here; and the freezing of its encoder for RRT."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..methods.fds import FDS


class Regressor(nn.Module):
    """Any encoder and head, with FDS between them while training.

    Args:
        encoder: inputs (whatever the data set gives: a tensor, a tuple, a dict) -> features (B, D) or (B, D, H, W).
        head: features -> predictions (B, 1) or (B, 1, H, W).
        fds: calibrates the features on their way to the head; None trains without.
        neck: what lies between the encoder and FDS and is re-trained together with the head; None for nothing.

    Source: the paper, section 3.2, figure of FDS.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, fds: FDS | None = None, neck: nn.Module | None = None):
        super().__init__()
        self.encoder, self.neck, self.head, self.fds = encoder, neck, head, fds
        self.frozen = False

    def forward(self, inputs, targets: Tensor | None = None, epoch: int | None = None) -> tuple[Tensor, Tensor]:
        """Predictions and the features FDS takes its statistics from: raw, but smoothed where `fds.observes_smoothed`.

        FDS acts only in training mode, given targets and epoch.

        `targets` are in the unit of the bins of `fds`, `epoch` counts passes over the data from 0.
        """
        features = self.encoder(inputs)
        if self.neck is not None:
            features = self.neck(features)
        smoothed = features
        if self.fds is not None and targets is not None and epoch is not None:
            smoothed = self.fds.smooth(features, targets, epoch)
        return self.head(smoothed), smoothed if self.fds is not None and self.fds.observes_smoothed else features

    def freeze_encoder(self) -> None:
        """For regressor re-training (RRT): the encoder no longer learns, and its normalisation statistics stay as they are.

        Source: the paper, section 4 (baselines), after the decoupled training of Kang et al. 2020.
        """
        self.encoder.requires_grad_(False)
        self.frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Regressor:
        super().train(mode)
        if self.frozen:
            for module in self.encoder.modules():
                if isinstance(module, _NormBase):  # dropout keeps working, as it did while the encoder learnt
                    module.eval()
        return self
