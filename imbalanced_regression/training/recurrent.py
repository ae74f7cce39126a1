"""An LSTM (to the last bit torch's own) or GRU over packed sequences on a CPU, its backward pass not far slower.

The one idea: torch cuts each time step out of the whole batch by `narrow`, whose gradient is a zero of the whole batch's
size, so the backward pass grows with the square of the steps. `split` cuts the same, and its gradient is one `cat`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import PackedSequence


def fits(rnn: nn.RNNBase, x: Tensor) -> bool:
    """Whether `states` can stand in for `rnn` here, and is quicker: an LSTM or GRU on a CPU whose gradient is asked for."""
    return (
        type(rnn) in CELLS and x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        and rnn.bias and rnn.proj_size == 0 and not (rnn.dropout and rnn.training)
    )


def states(rnn: nn.RNNBase, packed: PackedSequence) -> PackedSequence:
    """The hidden states of all time steps from zero states: the first part of `rnn(packed)`."""
    inputs, sizes, cell = packed.data, packed.batch_sizes.tolist(), CELLS[type(rnn)]
    for layer in range(rnn.num_layers):
        ways = []
        for suffix in ("", "_reverse") if rnn.bidirectional else ("",):
            ours, theirs, bias, other = (
                getattr(rnn, f"{name}_l{layer}{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            ways.append(_one_way(cell, linear(inputs, ours, bias).split(sizes), theirs, other, bool(suffix)))
        inputs = torch.cat(ways, dim=1)
    return packed._replace(data=inputs)


def _one_way(cell: Callable, steps: tuple[Tensor, ...], weight: Tensor, bias: Tensor, from_the_end: bool) -> Tensor:
    """States (rows of all steps, H) from the inputs' part of the gates; sequences are sorted, the longest first."""
    begin = steps[0].new_zeros(len(steps[0]), weight.shape[1])
    hidden = memory = begin[:0] if from_the_end else begin
    found = []
    for step in reversed(steps) if from_the_end else steps:
        if (more := len(step) - len(hidden)) > 0:  # read from the end, a sequence enters at its last step
            hidden, memory = torch.cat([hidden, begin[:more]]), torch.cat([memory, begin[:more]])
        elif more < 0:
            hidden, memory = hidden[: len(step)], memory[: len(step)]
        hidden, memory = cell(step, linear(hidden, weight, bias), hidden, memory)
        found.append(hidden)
    return torch.cat(found[::-1] if from_the_end else found)


def _lstm(step: Tensor, recurrent: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Hochreiter and Schmidhuber 1997, with a forget gate."""
    enter, forget, new, leave = (recurrent + step).chunk(4, dim=1)
    memory = forget.sigmoid() * memory + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * memory.tanh(), memory


def _gru(step: Tensor, recurrent: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Cho et al. 2014, with the reset gate after the product, as cuDNN computes it; it has no memory of its own."""
    (reset, keep, new), (reset_too, keep_too, new_too) = step.chunk(3, dim=1), recurrent.chunk(3, dim=1)
    new = (new + new_too * (reset_too + reset).sigmoid()).tanh()
    return (hidden - new) * (keep_too + keep).sigmoid() + new, memory


CELLS: dict[type, Callable] = {nn.LSTM: _lstm, nn.GRU: _gru}
