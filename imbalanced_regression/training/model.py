"""Regressor: encoder -> neck -> FDS -> head, the one shape of every model here; and the freezing of its encoder for RRT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ..methods.fds import FDS


class Regressor(nn.Module):
    """Any encoder and head, with FDS between them while training.

    Args:
        encoder: inputs (whatever the data set gives: a tensor, a tuple, a dict) -> features (B, D) or (B, D, H, W).
        head: features -> predictions (B, 1) or (B, 1, H, W); or outputs (B, P) of a distribution, from which its
            `point(outputs)` takes the predictions.
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

    def point(self, outputs: Tensor) -> Tensor:
        """The predictions in the head's outputs: those of its `point`, or the outputs themselves."""
        point = getattr(self.head, "point", None)
        return outputs if point is None else point(outputs)

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


class ScaledLinear(nn.Linear):
    """A linear layer that learns in `unit` and predicts in the label's unit; its keys are a linear layer's, `weight, bias`."""

    def __init__(self, in_features: int, out_features: int = 1, *, unit: float = 1.0):
        super().__init__(in_features, out_features)
        self.unit = unit

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        return super().forward(features) * self.unit


@contextmanager
def frozen_norms(model: nn.Module) -> Iterator[None]:
    """Within, normalisation layers in training mode leave their running statistics as they are."""
    tracking = [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats and m.training]
    for module in tracking:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True


def unwrap(model: nn.Module) -> Regressor:
    """The model inside DistributedDataParallel or DataParallel."""
    inner = model.module if isinstance(model, (DistributedDataParallel, DataParallel)) else model
    assert isinstance(inner, Regressor)
    return inner
