"""A step of STS-B-DIR's BiLSTM and SHHS-DIR's GRU on a CPU: the walk over time of `training/recurrent.py` and of torch.

    python benchmarks/recurrent_speed.py            # one thread, processor time, least of several, both in one run

It ends with exit code 1 where states or gradients differ by more than rounding, or where ours is not the faster.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from imbalanced_regression.training import recurrent

# name, layer, sequences, the longest, width of the input
CASES = {
    "BiLSTM of 64 units, 2 layers, 256 sentences": (nn.LSTM(100, 64, 2, bidirectional=True), 256, 40, 100),
    "BiLSTM of 128 units, 2 layers, 256 sentences": (nn.LSTM(100, 128, 2, bidirectional=True), 256, 40, 100),
    "GRU of 128 units both ways, 16 nights of up to 500 epochs": (nn.GRU(256, 128, bidirectional=True), 16, 500, 256),
}


def gradients(rnn: nn.RNNBase, packed: PackedSequence, own: bool) -> tuple[float, list[torch.Tensor]]:
    """Seconds of a forward and backward pass, and its states and gradients."""
    began = time.process_time()
    states = (recurrent.states(rnn, packed) if own else rnn(packed)[0]).data
    slopes = torch.autograd.grad(states.square().sum(), list(rnn.parameters()))
    return time.process_time() - began, [states.detach(), *slopes]


def main() -> int:
    torch.set_num_threads(1)
    failed = 0
    print("| what | torch's own | here | ratio |\n|---|---|---|---|")
    for name, (rnn, rows, longest, width) in CASES.items():
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(longest // 5, longest + 1, (rows,), generator=generator)
        x = torch.randn(rows, longest, width, generator=generator)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        pairs = [(gradients(rnn, packed, False), gradients(rnn, packed, True)) for _ in range(3)]
        before, now = (min(pair[side][0] for pair in pairs) for side in (0, 1))
        both = zip(pairs[0][0][1], pairs[0][1][1], strict=True)
        equal = all(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max())) for a, b in both)
        failed += not equal or now > before
        print(f"| {name} | {before:.3g} s | {now:.3g} s | {before / now:.1f}{'' if equal else ', DIFFERENT'} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
