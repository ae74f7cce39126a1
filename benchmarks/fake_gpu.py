"""A GPU that is not there: tensors with shapes, types and a CUDA device but no contents, under CUDA's own rules of autocast.

The one idea: which type an operation takes, and what autograd keeps of it for the backward pass, is decided before anything
is computed. So it can be counted where no GPU is, and CUDA's rules differ from the CPU's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Within, new tensors and modules lie on a fake CUDA device."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        yield


@contextmanager
def autocast_of_a_gpu(dtype: torch.dtype | None) -> Iterator[None]:
    """`torch.autocast("cuda", dtype)`, which disables itself where there is no GPU; None for none."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), torch.is_autocast_cache_enabled()
    torch.set_autocast_enabled("cuda", dtype is not None)
    torch.set_autocast_cache_enabled(True)
    if dtype is not None:
        torch.set_autocast_dtype("cuda", dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
        torch.set_autocast_cache_enabled(before[2])


@contextmanager
def kept_for_backward(model: torch.nn.Module) -> Iterator[dict[int, int]]:
    """Within, the bytes of each storage that autograd keeps, the model's parameters left out, by an id."""
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    storages: dict[int, int] = {}
    alive = []  # a freed storage's address could be given out again

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        alive.append(storage)
        if storage._cdata not in parameters:
            storages[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield storages
