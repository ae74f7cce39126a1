"""The model of SHHS-DIR: three encoders of one architecture (EEG; ECG; breathing), a GRU over the night in each, an MLP.

A night comes as 30-second epochs. Only epochs that exist are convolved, so padding costs nothing and changes nothing;
they go through in segments whose activations may be recomputed, so that whole nights fit a GPU.
Source: the paper, section 4 (SHHS-DIR) and its appendix: CNN-RNN, 256 features a signal. The rest is unpublished.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

SIGNALS = {"eeg": 1, "ecg": 1, "breathing": 3}  # signal -> channels

# published key prefix -> ours; nothing was published, so checkpoints have our names
RENAMES = ()


def _norm(width: int) -> nn.GroupNorm:
    # not BatchNorm: its statistics would depend on how the night was cut into segments, and on the padding
    return nn.GroupNorm(min(8, width), width)


class Block(nn.Module):
    """A residual block: (M, C, n) -> (M, width, ceil(n / stride))."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv1d(channels, width, 7, stride, padding=3, bias=False)
        self.norm1 = _norm(width)
        self.conv2 = nn.Conv1d(width, width, 5, padding=2, bias=False)
        self.norm2 = _norm(width)
        self.shortcut = nn.Sequential(nn.Conv1d(channels, width, 1, stride, bias=False), _norm(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class SignalEncoder(nn.Module):
    """One signal of a night -> its features: epochs (B, T, C, n) and lengths (B,) -> (B, d_hid).

    Args:
        channels: C. width: channels of the first block; they double up to 8 times it.
        d_hid: GRU units in all, half in each direction; even.
        segment: epochs convolved at a time with their activations recomputed for the gradient; 0 keeps all activations.
    """

    def __init__(self, channels: int, *, width: int = 32, d_hid: int = 256, segment: int = 0):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(channels, width, 15, 4, padding=7, bias=False), _norm(width), nn.ReLU())
        self.blocks = nn.Sequential(*(
            Block(width * 2 ** max(i - 1, 0), width * 2**i, 4 if i < 3 else 2) for i in range(4)
        ))
        self.project = nn.Linear(8 * width, d_hid)
        self.gru = nn.GRU(d_hid, d_hid // 2, batch_first=True, bidirectional=True)
        self.segment = segment

    def _convolve(self, epochs: Tensor) -> Tensor:
        """(M, C, n) -> (M, d_hid): each 30-second epoch on its own."""
        return torch.relu(self.project(self.blocks(self.stem(epochs.float())).mean(dim=2)))

    def forward(self, epochs: Tensor, lengths: Tensor) -> Tensor:
        there = torch.arange(epochs.shape[1], device=epochs.device) < lengths[:, None]
        real = epochs[there]
        recompute = self.segment > 0 and self.training and torch.is_grad_enabled()
        if recompute:
            parts = [checkpoint(self._convolve, part, use_reentrant=False) for part in real.split(self.segment)]
        else:
            parts = [self._convolve(part) for part in real.split(self.segment or len(real))]
        vectors = torch.cat(parts)
        night = vectors.new_zeros(*there.shape, vectors.shape[1])
        night[there] = vectors
        if night.is_cuda:
            self.gru.flatten_parameters()  # DataParallel's replicas hold scattered copies
        packed = pack_padded_sequence(night, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=night.shape[1])
        return states.sum(dim=1) / lengths[:, None]  # beyond a night's length the states are 0


class NightEncoder(nn.Module):
    """A night -> features (B, d_hid): {signal: (B, T, C, n), "lengths": (B,)}, the hidden layers of the MLP included."""

    def __init__(self, *, width: int = 32, d_hid: int = 256, segment: int = 0):
        super().__init__()
        self.signals = nn.ModuleDict({
            name: SignalEncoder(channels, width=width, d_hid=d_hid, segment=segment) for name, channels in SIGNALS.items()
        })
        self.mlp = nn.Sequential(
            nn.Linear(len(SIGNALS) * d_hid, d_hid), nn.ReLU(), nn.Linear(d_hid, d_hid), nn.ReLU()
        )
        self.feature_dim = d_hid

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        lengths = inputs["lengths"]
        return self.mlp(torch.cat([encoder(inputs[name], lengths) for name, encoder in self.signals.items()], dim=1))


def make_head(feature_dim: int, scores) -> nn.Linear:
    """features -> score (B, 1); it starts at the mean of the training scores, which spares the first epochs their climb."""
    head = nn.Linear(feature_dim, 1)
    nn.init.constant_(head.bias, float(scores.mean()))
    return head
