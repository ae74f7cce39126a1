"""What autocast does badly, done by hand: parts of a model that keep float32 under mixed precision, or that must not leave it.

The one idea: autocast goes by the name of an operation. It rounds predictions to 8 bits, casts cuDNN's recurrent layers to
float16 whatever type it was given, and on GPUs widens resizes and group norms to float32 at several times their memory.
Outside autocast everything here is the plain operation, to the last bit.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm, interpolate
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .recurrent import fits, states


def autocasts(x: Tensor) -> bool:
    """Whether autocast acts on operations on the device of `x`."""
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def widened(x: Tensor) -> Tensor:
    """`x`, in float32 where autocast has made it narrower."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) and autocasts(x) else x


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Within, operations on the device of `x` keep the types of their inputs."""
    return torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()


def run_rnn(rnn: nn.RNNBase, x: Tensor, lengths: Tensor, lengths_here: Tensor | None = None) -> Tensor:
    """States of a batch-first LSTM or GRU over sequences x (B, T, D) of `lengths` (B,) -> (B, T, H), zeros beyond them.

    Under bf16 it runs in float32 (TF32 in cuDNN, so still fast): cuDNN's layers would get float16, and without a GradScaler
    most of their gradients lie below its least number. Under fp16 there is a GradScaler, and autocast acts.
    `lengths_here` are the lengths on the CPU, where the caller has them already: fetching them waits for the device.
    """
    outside = autocasts(x) and torch.get_autocast_dtype(x.device.type) is torch.bfloat16
    if x.is_cuda and getattr(rnn, "_is_replica", False):
        rnn.flatten_parameters()  # DataParallel's replicas hold scattered copies
    lengths = lengths.cpu() if lengths_here is None else lengths_here
    # sorted here: torch, asked to, waits for the device before the layer and again after it
    lengths, order = lengths.sort(descending=True)
    there, back = (places.to(x.device, non_blocking=True) for places in (order, order.argsort()))
    with without_autocast(x) if outside else nullcontext():
        rows = (x.float() if outside else x).index_select(0, there)
        packed = pack_padded_sequence(rows, lengths, batch_first=True)
        own = fits(rnn, x) and (outside or not autocasts(x))
        found = states(rnn, packed) if own else rnn(packed)[0]
        return pad_packed_sequence(found, batch_first=True, total_length=x.shape[1])[0].index_select(0, back)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) resized bilinearly to (B, C, H, W), corners not aligned, in the type of `x`.

    Autocast on a GPU would make float32 of them, which every convolution after it casts and keeps once more.
    """
    with without_autocast(x):
        return interpolate(x, size=size, mode="bilinear", align_corners=False)


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` in the type of its input, which autocast on a GPU would widen and keep; its sums are float32 anyway."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (None if part is None else part.to(x.dtype) for part in (self.weight, self.bias))
        with without_autocast(x):
            return group_norm(x, self.num_groups, weight, bias, self.eps)
