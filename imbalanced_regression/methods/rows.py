"""Rows: the checked inputs that terms and losses over a whole batch share.

The one idea: every such method sees B rows, whatever shape they came in, so shapes, types and values are judged in one
place and a column never meets a vector by broadcasting. Legend: B batch, D features, d outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor


def feature_rows(features: Tensor, method: str) -> Tensor:
    """Features (B, D), B and D at least 1, as float32 (float64 is kept): half precision makes ties that are none.

    Raises ValueError, naming `method`, for another shape and, on the CPU alone, for NaN or infinite values: on an
    accelerator to look would be to wait for it.
    """
    if features.dim() != 2 or 0 in features.shape:
        raise ValueError(
            f"{method}: features: expected shape (B, D), found {tuple(features.shape)}; sample pixels of a dense map as rows"
        )
    return _finite(_wide(features), method, "features", "a lower learning rate or gradient clipping may help")


def label_rows(values: Tensor, count: int, method: str, name: str = "targets") -> Tensor:
    """One number per row: (B,) or (B, 1) -> (B,), as float32 (float64 is kept), with B = `count`.

    Raises ValueError as `feature_rows`.
    """
    if values.shape not in ((count,), (count, 1)):
        raise ValueError(f"{method}: {name}: expected shape ({count},) or ({count}, 1), found {tuple(values.shape)}")
    return _finite(_wide(values.reshape(count)), method, name, f"take the rows without {name} out")


def unit_rows(features: Tensor) -> Tensor:
    """Each row over its length, (B, D); a row of zeros has no direction and stays zero, with a finite gradient."""
    squares = features.square().sum(dim=1, keepdim=True)
    tiny = torch.finfo(features.dtype).tiny
    # not divided by max(length, eps): at a row of zeros that gradient is 1 / eps
    return features * torch.where(squares > tiny, squares, 1).rsqrt()


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _finite(values: Tensor, method: str, name: str, way_out: str) -> Tensor:
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        return values
    low, high = values.detach().aminmax()  # NaN if any is; a third of the time of isfinite on each
    if not (low.isfinite() and high.isfinite()):
        bad = ~values.detach().reshape(len(values), -1).isfinite().all(dim=1)
        raise ValueError(
            f"{method}: {name}: expected finite numbers, found NaN or infinity in {int(bad.sum())} of {len(bad)} rows, the "
            f"first at {int(bad.int().argmax())}; {way_out}"
        )
    return values
