"""Rows: the checked inputs that terms and losses over a whole batch share.

The one idea: every such method sees B rows, whatever shape they came in, so shapes, types and values are judged in one
place and a column never meets a vector by broadcasting. Legend: B batch, D features, d outputs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..bins import as_array


def may_look(values: Tensor) -> bool:
    """Whether the values may be looked at, to refuse or to leave out rows: on an accelerator that is to wait for it."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def feature_rows(features: Tensor, method: str) -> Tensor:
    """Features (B, D), B and D at least 1, as float32 (float64 is kept): half precision makes ties that are none.

    Raises ValueError, naming `method`, for another shape and, on the CPU alone, for NaN or infinite values.
    """
    if features.dim() != 2 or 0 in features.shape:
        raise ValueError(
            f"{method}: features: expected shape (B, D), found {tuple(features.shape)}; sample pixels of a dense map as rows"
        )
    return _finite(_wide(features), method, "features", "a lower learning rate or gradient clipping may help")


def beside(values, like: Tensor, name: str) -> Tensor:
    """A tensor as it is; a list or an array as a tensor on the device of `like`, float32 or, as `like`, float64."""
    if isinstance(values, Tensor):
        return values
    return torch.from_numpy(as_array(values, name).astype(np.float64)).to(_wide(like))


def label_rows(values, like: Tensor, method: str, name: str = "targets") -> Tensor:
    """One number per row of `like` (B, ...): (B,) or (B, 1) -> (B,), as float32 (float64 is kept).

    Values may be a tensor, an array or a list. Raises ValueError as `feature_rows`.
    """
    values, count = beside(values, like, name), len(like)
    if values.shape not in ((count,), (count, 1)):
        raise ValueError(f"{method}: {name}: expected shape ({count},) or ({count}, 1), found {tuple(values.shape)}")
    return _finite(_wide(values.reshape(count)), method, name, f"take the rows without {name} out")


def same_rows(outputs: Tensor, targets, method: str) -> tuple[Tensor, Tensor]:
    """Outputs and targets, of equal shapes or (B,) and (B, 1), as float32 (float64 is kept): (B, 1), or as they are.

    Raises ValueError for every other pair of shapes, none of which may broadcast, and for no rows.
    """
    targets = beside(targets, outputs, "targets")
    column = outputs.dim() > 0 and {outputs.shape, targets.shape} == {(len(outputs),), (len(outputs), 1)}
    if not outputs.dim() or outputs.numel() == 0 or not (outputs.shape == targets.shape or column):
        found = f"shape {tuple(targets.shape)} does not fit outputs of shape {tuple(outputs.shape)}"
        raise ValueError(f"{method}: targets: {found}; pass (B, 1) for both")
    outputs = _wide(outputs)
    targets = targets.to(outputs)
    if column or outputs.dim() == 1:
        return outputs.reshape(-1, 1), targets.reshape(-1, 1)
    return outputs, targets


def unit_rows(features: Tensor) -> Tensor:
    """Each row over its length, (B, D); a row of zeros has no direction and stays zero, with a finite gradient."""
    return _UnitRows.apply(features)


def cosines(features: Tensor) -> Tensor:
    """The cosines of all pairs of rows, (B, D) of any lengths -> (B, B); 0 for a row of zeros."""
    return _Cosines.apply(features)


def products(rows: Tensor) -> Tensor:
    """The products of all pairs of rows, (B, D) -> (B, B), without a gradient.

    On the CPU in four bands of the lower triangle, five eighths of the work; an accelerator is faster with all at once.
    """
    count = len(rows)
    if count < 128 or not may_look(rows):
        return rows @ rows.T
    square, band = rows.new_empty(count, count), -(-count // 4)
    for start in range(0, count, band):
        stop = min(start + band, count)
        torch.mm(rows[start:stop], rows[:stop].T, out=square[start:stop, :stop])
        square[:start, start:stop] = square[start:stop, :start].T
    return square


class _UnitRows(torch.autograd.Function):
    """Few passes over (B, D): autograd alone would take twice as many."""

    @staticmethod
    def forward(ctx, features: Tensor) -> Tensor:
        inverse = _one_over(torch.linalg.vector_norm(features, dim=1, keepdim=True))
        unit = features * inverse
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        unit, inverse = ctx.saved_tensors
        product = unit * gradient  # its memory serves every pass; addcmul, given a column, takes twice as long
        torch.mul(unit, product.sum(dim=1, keepdim=True), out=product)
        return torch.sub(gradient, product, out=product).mul_(inverse)


class _Cosines(torch.autograd.Function):
    """One matrix product in each direction and no pass over (B, D) beside them.

    The lengths are the diagonal of the products; backward, what a row loses along itself goes into that diagonal.
    """

    @staticmethod
    def forward(ctx, features: Tensor) -> Tensor:
        square = products(features)
        inverse = _one_over(square.diagonal().sqrt())
        square *= inverse
        square *= inverse[:, None]
        ctx.save_for_backward(features, square, inverse)
        return square

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        features, cosine, inverse = ctx.saved_tensors
        both = gradient + gradient.T
        along = torch.linalg.vecdot(both, cosine)
        both *= inverse
        both.diagonal().sub_(along * inverse)
        both *= inverse[:, None]
        return both @ features


def _one_over(lengths: Tensor) -> Tensor:
    """1 / lengths, and 1 at 0; not one over max(length, eps), for at a row of zeros that gradient is 1 / eps."""
    return torch.where(lengths > torch.finfo(lengths.dtype).tiny ** 0.5, lengths, 1).reciprocal()


def rounding(targets: Tensor, apart: Tensor) -> Tensor:
    """By how much distances `apart` (B, M) from the labels (B,) can be wrong through rounding alone: (B, M).

    It is each distance's own: one label of a million would otherwise make ties of all that differ by a tenth.
    """
    return (apart + targets.abs()[:, None]) * (2 * torch.finfo(targets.dtype).eps)


def groups(targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct labels of (B,): values (S,) ascending, which of them are used (S,) bool, and each row's place (B,).

    On the CPU S is their number m; elsewhere S is B and the last B - m places are unused.
    """
    ordered, order = targets.detach().sort()
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    place = new.cumsum(0) - 1
    index = torch.empty_like(order).scatter_(0, order, place)
    size = int(place[-1]) + 1 if may_look(targets) else len(targets)
    values = ordered.new_zeros(size).scatter_(0, place, ordered)
    used = torch.zeros(size, dtype=torch.bool, device=targets.device).scatter_(0, place, True)
    return values, used, index


def refuse_not_finite(labels: Tensor) -> None:
    """Raise ValueError for labels (n,) that are NaN or infinite."""
    bad = ~labels.isfinite()
    if bad.any():
        where = int(bad.nonzero()[0])
        raise ValueError(f"labels: {int(bad.sum())} of {len(bad)} are NaN or infinite, the first at index {where}")


def bin_of(targets: Tensor, edges: Tensor) -> Tensor:
    """The bin of each label (B,) -> (B,) int64, for `edges` a tensor of `Bins.compared_edges`."""
    labels = targets.detach().to(edges.dtype).contiguous()
    return (torch.bucketize(labels, edges, right=True) - 1).clamp(0, len(edges) - 2)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _finite(values: Tensor, method: str, name: str, way_out: str) -> Tensor:
    if not may_look(values):
        return values
    if values.detach().sum().isfinite():  # a tenth of the time of isfinite on each
        return values
    bad = ~values.detach().reshape(len(values), -1).isfinite().all(dim=1)
    if bad.any():  # otherwise the sum alone is too large
        raise ValueError(
            f"{method}: {name}: expected finite numbers, found NaN or infinity in {int(bad.sum())} of {len(bad)} rows, the "
            f"first at {int(bad.int().argmax())}; {way_out}"
        )
    return values
