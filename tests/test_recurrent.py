"""The recurrent layers' own walk over time on a CPU gives torch's values and gradients, an LSTM's to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from imbalanced_regression.training import precision, recurrent


def made(kind: type, layers: int, both: bool, dtype: torch.dtype):
    torch.manual_seed(layers + 2 * both)
    rnn = kind(5, 7, num_layers=layers, bidirectional=both, batch_first=True).to(dtype)
    lengths = torch.tensor([3, 9, 1, 9, 4, 2])
    return rnn, torch.randn(6, 9, 5, dtype=dtype, requires_grad=True), lengths


def with_gradients(rnn, x, lengths):
    states = precision.run_rnn(rnn, x, lengths)
    slopes = torch.linspace(-1, 2, states.numel(), dtype=states.dtype).reshape(states.shape)
    return [states, *torch.autograd.grad((states * slopes).sum(), [x, *rnn.parameters()])]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_and_gradients_are_those_of_torch(kind, layers, both, dtype, monkeypatch):
    rnn, x, lengths = made(kind, layers, both, dtype)
    assert recurrent.fits(rnn, x)
    ours = with_gradients(rnn, x, lengths)
    monkeypatch.setattr(precision, "fits", lambda *_: False)
    for one, other in zip(ours, with_gradients(rnn, x, lengths), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6 if dtype is torch.float32 else 1e-14)
    assert kind is nn.GRU or torch.equal(ours[0], precision.run_rnn(rnn, x, lengths))


def test_the_gradient_of_a_step_is_not_a_zero_of_the_whole_batch():
    """No step is cut out of the batch alone: such a cut's gradient has the batch's size, once for each step."""
    rnn, lengths = nn.LSTM(5, 7, batch_first=True), torch.arange(20, 16, -1)
    packed = pack_padded_sequence(torch.randn(4, 20, 5), lengths, batch_first=True)
    assert cuts_of(recurrent.states(rnn, packed).data.sum(), int(lengths.sum())) == 0
    assert cuts_of(rnn(packed)[0].data.sum(), int(lengths.sum())) == 20  # while this is so, the file is worth its lines


def cuts_of(loss: torch.Tensor, rows: int) -> int:
    """How many slices of a tensor with so many rows lie on the way back from the loss."""
    ahead, seen = [loss.grad_fn], set()
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead.extend(behind for behind, _ in node.next_functions)
    return sum(node.name() == "SliceBackward0" and node._saved_self_sym_sizes[0] == rows for node in seen)


@pytest.mark.parametrize("change", ["no gradient", "dropout", "projection", "without bias", "plain rnn"])
def test_what_it_does_not_compute_is_left_to_torch(change):
    x, lengths = torch.randn(2, 4, 5), torch.tensor([4, 2])
    rnn = {
        "dropout": lambda: nn.LSTM(5, 7, num_layers=2, dropout=0.5, batch_first=True),
        "projection": lambda: nn.LSTM(5, 7, proj_size=3, batch_first=True),
        "without bias": lambda: nn.LSTM(5, 7, bias=False, batch_first=True),
        "plain rnn": lambda: nn.RNN(5, 7, batch_first=True),
    }.get(change, lambda: nn.LSTM(5, 7, batch_first=True))()
    with torch.set_grad_enabled(change != "no gradient"):
        assert not recurrent.fits(rnn, x)
        assert precision.run_rnn(rnn, x, lengths).shape[:2] == (2, 4)
