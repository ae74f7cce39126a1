"""Modules whose buffers keep their own types: `.half()`, `.double()` or `.to(dtype)` of a model casts parameters only.

The one idea: an edge, a count or a variance is no activation. Cast to another type, labels fall into other bins, counts
stop at 65,504 and variances overflow, and nothing is said.
"""

from __future__ import annotations

import torch
from torch import nn


class OwnTypes(nn.Module):
    """Base of modules with buffers that a cast would spoil: they follow the model to its device, never to its type.

    A checkpoint's values are read in the buffers' types as well, `load_state_dict(..., assign=True)` included. A class names
    in `own_types` the buffers meant, where it is not all of them.
    """

    own_types: tuple[str, ...] | None = None

    def _apply(self, fn, recurse=True):  # all of to(), half(), double(), cuda() go through it
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, own in self._kept(before):
            cast = self._buffers[name]
            if cast is not None and cast.dtype != own.dtype:
                self._buffers[name] = own.to(cast.device)  # from the values before the cast, which has rounded them
        return self

    def _load_from_state_dict(self, *args, **kwargs):
        before = dict(self._buffers)
        super()._load_from_state_dict(*args, **kwargs)
        for name, own in self._kept(before):
            loaded = self._buffers[name]
            if loaded is not None and loaded.dtype != own.dtype:
                self._buffers[name] = loaded.to(own.dtype)

    def _kept(self, before: dict[str, torch.Tensor | None]) -> list[tuple[str, torch.Tensor]]:
        names = before if self.own_types is None else self.own_types
        return [(name, own) for name, own in before.items() if own is not None and name in names]
