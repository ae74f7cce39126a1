"""Regressor: encoder -> neck -> FDS -> head, the one shape of every model here; ScaledLinear, the head in the label's unit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ..bins import as_labels
from ..methods.fds import FDS
from ..methods.own_types import OwnTypes
from .precision import widened, without_autocast

FEATURES = "features of a frozen encoder"  # the key under which inputs are features already


class Regressor(nn.Module):
    """Any encoder and head, with FDS between them while training.

    Args:
        encoder: inputs (whatever the data set gives: a tensor, a tuple, a dict) -> features (B, D) or (B, D, H, W).
        head: features -> predictions (B, 1) or (B, 1, H, W); or outputs (B, P) of a distribution, from which its
            `point(outputs)` takes the predictions.
        fds: calibrates the features on their way to the head; None trains without.
        neck: what lies between the encoder and FDS and is re-trained together with the head; None for nothing.
        target: the unit in which the head learns, a module with `forward(labels)` and `inverse(outputs)` such as `TargetUnit`;
            None where it is the label's own. An `Objective` is told by `to_unit`.

    Attributes:
        constant: where it is a number, `run` trains nothing and predicts it for every sample.

    Source: the paper, section 3.2, figure of FDS.
    """

    constant: float | None = None

    def __init__(
        self, encoder: nn.Module, head: nn.Module, fds: FDS | None = None, neck: nn.Module | None = None,
        target: nn.Module | None = None,
    ):
        super().__init__()
        self.encoder, self.neck, self.head, self.fds, self.target = encoder, neck, head, fds, target
        self.frozen = False

    def forward(self, inputs, targets: Tensor | None = None, epoch: int | None = None) -> tuple[Tensor, Tensor]:
        """Predictions and the features FDS takes its statistics from: raw, but smoothed where `fds.observes_smoothed`.

        FDS acts only in training mode, given targets and epoch. Under autocast both are float32, and so are FDS and the head:
        predictions of 8 bits would hit whole labels exactly, which lowers G-Mean by a quarter, and cost next to nothing more.

        `targets` are in the unit of the bins of `fds`, `epoch` counts passes over the data from 0.
        Inputs {FEATURES: features} are what encoder and neck gave before, see `frozen.py`.
        """
        if isinstance(inputs, dict) and FEATURES in inputs:
            features = inputs[FEATURES]
        else:
            features = self.encoder(inputs)
            if self.neck is not None:
                features = self.neck(features)
        smoothed = features = widened(features)
        if self.fds is not None and targets is not None and epoch is not None:
            smoothed = self.fds.smooth(features, targets, epoch)
        with without_autocast(smoothed):
            outputs = self.head(smoothed)
        return outputs, smoothed if self.fds is not None and self.fds.observes_smoothed else features

    def point(self, outputs: Tensor) -> Tensor:
        """The predictions in the head's outputs: those of its `point`, or the outputs themselves; in the label's unit."""
        point = getattr(self.head, "point", None)
        preds = outputs if point is None else point(outputs)
        return preds if self.target is None else self.target.inverse(preds)  # type: ignore[operator]

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


class ScaledLinear(OwnTypes, nn.Linear):
    """A linear head that predicts center + scale * linear(features), so in the unit of the label whatever that is.

    Its `weight` and `bias` stay of the size that an optimizer's steps suit: a plain layer has to climb to a house price of
    400,000 by steps of the learning rate, and never arrives. Divide predictions and targets by `head.scale` in the loss
    (or take it as the loss's unit), and learning rates, focal betas and gradient clipping mean the same for all labels.

    Args:
        in_features, out_features, bias: as `nn.Linear`.
        center, scale: in the unit of the label; finite, scale above 0.
        keep: write both into the state, as `of` does, since they were read off data. Otherwise they are constants of the
            model's code and the state is that of `nn.Linear`: published checkpoints load.

    Raises:
        ValueError: a center or scale out of range.
    """

    center: Tensor
    scale: Tensor

    def __init__(
        self, in_features: int, out_features: int = 1, bias: bool = True, *, center: float = 0.0, scale: float = 1.0,
        keep: bool = False,
    ):
        super().__init__(in_features, out_features, bias)
        if not math.isfinite(center):
            raise ValueError(f"center: expected a finite number in the unit of the label, found {center}")
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale: expected a number above 0 in the unit of the label, for example their sd, found {scale}")
        self.register_buffer("center", torch.tensor(center, dtype=torch.float32), persistent=keep)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=keep)

    @classmethod
    def of(cls, in_features: int, labels) -> ScaledLinear:
        """The head for training labels (N,) or (N, 1): their mean and standard deviation, kept in the state.

        Raises ValueError as `Bins.index`.
        """
        labels = as_labels(labels)
        return cls(in_features, center=float(labels.mean()), scale=float(labels.std()) or 1.0, keep=True)

    def forward(self, features: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features) in the unit of the label; float32 at least, as half precision ends at
        65,504 and tells 2001 from 2002 no more."""
        out = super().forward(features)
        out = out.to(torch.promote_types(out.dtype, self.scale.dtype))
        return self.center + self.scale * out

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, center={self.center.item():g}, scale={self.scale.item():g}"


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
