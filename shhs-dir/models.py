"""The model of SHHS-DIR, a CNN-RNN: each 30-second epoch -> a vector by a 1-D ResNet, a night of vectors -> one by a GRU.

One encoder class serves EEG, ECG and breathing. Only true epochs go through the convolutions and nothing is normalised over
the batch, so padding, the company in the batch, and working by segments change no prediction.
Source: the paper, section 4 (SHHS-DIR) and appendix, which name the parts (CNN-RNN, ResNet blocks, MLP) and no sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from imbalanced_regression.training.model import ScaledLinear

UNIT = 100.0  # of the weights of the head
CHANNELS = {"eeg": 1, "ecg": 1, "breathing": 3}


class Block(nn.Module):
    """Pre-activation ResNet block that shortens its input 4 times: (M, c, n) -> (M, d, ceil(n / 4)).

    Norms act in the branch only, so that amplitude, which a norm over one epoch forgets, survives along the skip.
    """

    def __init__(self, c: int, d: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.GroupNorm(_groups(c), c), nn.ReLU(), nn.Conv1d(c, d, 7, stride=4, padding=3, bias=False),
            nn.GroupNorm(_groups(d), d), nn.ReLU(), nn.Conv1d(d, d, 3, padding=1, bias=False),
        )
        self.skip = nn.Conv1d(c, d, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.skip(avg_pool1d(x, 4, ceil_mode=True))


def _groups(channels: int) -> int:
    return 4 if channels % 4 == 0 else 1


class SignalEncoder(nn.Module):
    """Epochs of one kind of signal -> one vector a night, (B, d_hid).

    Args:
        channels: of the signal. width: channels of the first layer, four times as many in the last.
        d_hid: of the epochs' vectors and of the night's; even.
        segment: epochs whose activations are kept at a time in training; more are computed again on the way back.
    """

    def __init__(self, channels: int, *, width: int, d_hid: int, segment: int):
        super().__init__()
        self.segment = segment
        self.cnn = nn.Sequential(
            nn.Conv1d(channels, width, 16, stride=4, padding=6), nn.ReLU(),
            Block(width, width), Block(width, 2 * width), Block(2 * width, 4 * width),
            nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4 * width, d_hid),
        )
        self.gru = nn.GRU(d_hid, d_hid // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, channels, n) signals, (B,) true epochs -> (B, d_hid): mean over the true epochs of the GRU's states."""
        true = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        parts = x[true].to(self.cnn[-1].weight.dtype).contiguous().split(self.segment)
        again = len(parts) > 1 and torch.is_grad_enabled()
        vectors = torch.cat([checkpoint(self.cnn, part, use_reentrant=False) if again else self.cnn(part) for part in parts])
        night = vectors.new_zeros(*true.shape, vectors.shape[1])
        night[true] = vectors
        if night.is_cuda:
            self.gru.flatten_parameters()  # DataParallel's replicas hold scattered copies
        packed = pack_padded_sequence(night, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.shape[1])
        return (states.float() * true[:, :, None]).sum(1) / lengths[:, None]


class NightEncoder(nn.Module):
    """A night -> the features that FDS and the linear head take, (B, d_hid): the hidden layers of a 3-layer MLP."""

    def __init__(self, *, width: int = 32, d_hid: int = 256, segment: int = 2048):
        super().__init__()
        self.signals = nn.ModuleDict(
            {name: SignalEncoder(c, width=width, d_hid=d_hid, segment=segment) for name, c in CHANNELS.items()}
        )
        self.mlp = nn.Sequential(nn.Linear(len(CHANNELS) * d_hid, d_hid), nn.ReLU(), nn.Linear(d_hid, d_hid), nn.ReLU())
        self.feature_dim = d_hid

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """{"eeg" (B, T, 1, n), "ecg" (B, T, 1, n), "breathing" (B, T, 3, m), "lengths" (B,)} -> (B, d_hid)."""
        lengths = inputs["lengths"]
        return self.mlp(torch.cat([encode(inputs[name], lengths) for name, encode in self.signals.items()], dim=1))


def make_head(feature_dim: int, start: float) -> ScaledLinear:
    """features -> score 0..100, (B, 1); predictions start around `start`, so that no epoch is spent on finding the middle.

    It learns in score / 100: in points, steps of the learning rate would take epochs to climb to 75.
    """
    head = ScaledLinear(feature_dim, scale=UNIT)
    nn.init.constant_(head.bias, start / UNIT)
    return head
