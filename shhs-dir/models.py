"""The model of SHHS-DIR, a CNN-RNN: each 30-second epoch -> a vector by a 1-D ResNet, a night of vectors -> one by a GRU.

One encoder class serves EEG, ECG and breathing. Only true epochs go through the convolutions and nothing is normalised over
the batch, so padding, the company in the batch, and working by segments change no prediction.
Source: the paper, section 4 (SHHS-DIR) and appendix, which name the parts (CNN-RNN, ResNet blocks, MLP) and no sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d
from torch.utils.checkpoint import checkpoint

from imbalanced_regression.training.model import ScaledLinear
from imbalanced_regression.training.precision import GroupNorm, run_rnn

UNIT = 100.0  # of the weights of the head
CHANNELS = {"eeg": 1, "ecg": 1, "breathing": 3}


class Block(nn.Module):
    """Pre-activation ResNet block that shortens its input 4 times: (M, c, n) -> (M, d, ceil(n / 4)).

    Norms act in the branch only, so that amplitude, which a norm over one epoch forgets, survives along the skip.
    """

    def __init__(self, c: int, d: int):
        super().__init__()
        self.branch = nn.Sequential(
            GroupNorm(_groups(c), c), nn.ReLU(), nn.Conv1d(c, d, 7, stride=4, padding=3, bias=False),
            GroupNorm(_groups(d), d), nn.ReLU(), nn.Conv1d(d, d, 3, padding=1, bias=False),
        )
        self.skip = nn.Conv1d(c, d, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.skip(avg_pool1d(x, 4, ceil_mode=True))


def _groups(channels: int) -> int:
    return 4 if channels % 4 == 0 else 1


@dataclass(frozen=True)
class Epochs:
    """The true 30-second epochs of a batch: `lengths` (B,), the same on the CPU, and `places` (M,) among all B T."""

    lengths: Tensor
    lengths_here: Tensor
    places: Tensor

    @classmethod
    def of(cls, lengths: Tensor, longest: int) -> Epochs:
        """Waits for the device once, so that three encoders need not wait thrice each."""
        here = lengths.cpu()
        places = (torch.arange(longest) < here[:, None]).flatten().nonzero()[:, 0]
        return cls(lengths, here, places.to(lengths.device, non_blocking=True))


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

    def forward(self, x: Tensor, epochs: Epochs) -> Tensor:
        """(B, T, channels, n) signals and their true epochs -> (B, d_hid): mean over these of the GRU's states."""
        true = x.flatten(0, 1).index_select(0, epochs.places)
        parts = true.to(self.cnn[-1].weight.dtype).split(self.segment)
        again = len(parts) > 1 and torch.is_grad_enabled()
        vectors = torch.cat([self._again(part) if again else self.cnn(part) for part in parts])
        night = vectors.new_zeros(x.shape[0] * x.shape[1], vectors.shape[1]).index_copy(0, epochs.places, vectors)
        states = run_rnn(self.gru, night.unflatten(0, x.shape[:2]), epochs.lengths, epochs.lengths_here)
        return states.float().sum(1) / epochs.lengths[:, None]

    def _again(self, part: Tensor) -> Tensor:
        """The vectors, computed once more on the way back; nothing in it draws, so no generator's state is kept."""
        return checkpoint(self.cnn, part, use_reentrant=False, preserve_rng_state=False)


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
        epochs = Epochs.of(inputs["lengths"], inputs["eeg"].shape[1])
        return self.mlp(torch.cat([encode(inputs[name], epochs) for name, encode in self.signals.items()], dim=1))

    def compile_parts(self) -> None:
        """Compile what gains by it: the number of segments changes from batch to batch and would be compiled anew each time."""
        for encode in self.signals.values():
            encode.cnn.compile(dynamic=True)


def make_head(feature_dim: int, start: float) -> ScaledLinear:
    """features -> score 0..100, (B, 1); predictions start around `start`, so that no epoch is spent on finding the middle.

    It learns in score / 100: in points, steps of the learning rate would take epochs to climb to 75.
    """
    head = ScaledLinear(feature_dim, scale=UNIT)
    nn.init.constant_(head.bias, start / UNIT)
    return head
