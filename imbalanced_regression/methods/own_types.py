"""Modules whose buffers keep their own types: `.half()`, `.double()` or `.to(dtype)` of a model casts parameters only.

The one idea: an edge, a count or a variance is no activation. Cast to another type, labels fall into other bins, counts
stop at 65,504 and variances overflow, and nothing is said.
"""

from __future__ import annotations

import torch
from torch import nn


class OwnTypes(nn.Module):
    """Base of modules with buffers that a cast would spoil: they follow the model to its device, never to its type.

    A checkpoint's values are read in the buffers' types as well, `load_state_dict(..., assign=True)` included.
    """

    def _apply(self, fn, recurse=True):  # all of to(), half(), double(), cuda() go through it
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        self._restore_types(before)
        return self

    def _load_from_state_dict(self, *args, **kwargs):
        before = dict(self._buffers)
        super()._load_from_state_dict(*args, **kwargs)
        for name, own in before.items():
            loaded = self._buffers[name]
            if own is not None and loaded is not None and loaded.dtype != own.dtype:
                self._buffers[name] = loaded.to(own.dtype)

    def _restore_types(self, before: dict[str, torch.Tensor | None]) -> None:
        for name, own in before.items():
            cast = self._buffers[name]
            if own is not None and cast is not None and cast.dtype != own.dtype:
                self._buffers[name] = own.to(cast.device)  # from the values before the cast, which has rounded them
