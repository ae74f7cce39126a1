"""How FDS moves features: (z - mu) s + mu~, where mu, s and mu~ are rows of small tables that each label points at.

The one idea: on a CPU it goes block by block, so that what is looked up stays in the cache and no table of the features' own
size is ever made, on the way back as well. Elsewhere it is the plain expression; both give the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding

from .rows import may_look

_BLOCK = 1 << 17  # numbers that a thread moves at a time
_FEW = 1 << 19  # numbers up to which the scales found on the way there are kept for the way back

Tables = tuple[Tensor, Tensor, Tensor]


def moved(features: Tensor, tables: Tables, index: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Features (B, D) or (B, D, H, W), calibrated in `dtype`, in their own type; gradient flows through them only.

    Args:
        tables: mu, s and mu~, (K, D) each, and `index` (B,) or (B, H, W) into them; or, without an index, one row for each
            label, (B, D) or (B, H, W, D).
    """
    if index is not None and may_look(features) and features.numel():
        return _Moved.apply(features, index, *(table.to(dtype) for table in tables))
    mean, scale, smoothed = (
        (table if index is None else embedding(index, table)).movedim(-1, 1).to(dtype) for table in tables
    )
    # not folded into z * s + shift: with a large mean and a small variance that loses all digits in float32
    return torch.addcmul(smoothed, features - mean, scale).to(features.dtype)


def movements(
    clip: tuple[float, float], mean: Tensor, var: Tensor, smoothed_mean: Tensor, smoothed_var: Tensor, tracked: Tensor
) -> Tables:
    """mu, s and mu~ of statistics (..., D) and counts (...): such as move nothing in bins and channels that have none."""
    tracked = tracked.reshape(*mean.shape[:-1], 1)
    scale = (smoothed_var / var).clamp_(*clip).sqrt_()
    # where every row is seen and every channel varies, to ask is all that it takes
    look = may_look(var) and var.numel() > 0
    if look and tracked.min() > 0 and var.min() > 0 and smoothed_var.min() >= 0:
        return mean, scale, smoothed_mean
    moves = (tracked > 0) & (var > 0) & (smoothed_var >= 0)
    return torch.where(moves, mean, 0), torch.where(moves, scale, 1), torch.where(moves, smoothed_mean, 0)


def can_keep(sources: Sequence[Tensor]) -> bool:
    """Whether tables of these may be kept: tensors of inference mode do not count what is written to them."""
    return not torch.is_inference_mode_enabled() and not any(source.is_inference() for source in sources)


class Kept:
    """Tables made of some tensors, kept for as long as none of these is written to or replaced. A copy begins empty.

    What is written into `.data` or an array that shares the memory is not noticed; nothing here does that.
    """

    def __init__(self) -> None:
        self._of: list[tuple[Tensor, int, int]] = []
        self._tables: Tables | None = None

    def of(self, sources: Sequence[Tensor], make: Callable[..., Tables]) -> Tables:
        """`make(*sources)`, or what it gave before."""
        same = len(self._of) == len(sources) and all(
            source is known and source._version == version and source.data_ptr() == place
            for source, (known, version, place) in zip(sources, self._of)
        )
        if self._tables is None or not same:
            with torch.no_grad():
                self._tables = make(*sources)
            # `source.data = other` changes the place alone
            self._of = [(source, source._version, source.data_ptr()) for source in sources]
        return self._tables

    def __reduce__(self):
        return Kept, ()


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, index: Tensor, mean: Tensor, scale: Tensor, smoothed: Tensor) -> Tensor:
        if features.dim() == 2 and features.numel() <= _FEW:
            factor, apart = scale.index_select(0, index), mean.index_select(0, index)
            ctx.save_for_backward(factor, None)
            torch.sub(features, apart, out=apart)
            return smoothed.index_select(0, index).addcmul_(apart, factor).to(features.dtype)
        ctx.save_for_backward(scale, index)
        out = mean.new_empty(features.shape[0], *features.shape[2:], features.shape[1])
        apart, factor = mean.new_empty(2, _rows_of(features), features.shape[1])
        for z, at, into in _blocks(features, index, out.movedim(-1, 1)):
            mine = torch.index_select(mean, 0, at, out=apart[: len(at)])
            torch.sub(z, mine, out=mine)
            many = torch.index_select(scale, 0, at, out=factor[: len(at)])
            torch.index_select(smoothed, 0, at, out=into).addcmul_(mine, many)
        return out.movedim(-1, 1).to(features.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        scale, index = ctx.saved_tensors
        if index is None:  # of each row already
            return (gradient * scale).to(gradient.dtype), None, None, None, None
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted
            return (gradient * embedding(index, scale).movedim(-1, 1)).to(gradient.dtype), None, None, None, None
        out = torch.empty_like(gradient)
        straight = out.dtype == scale.dtype and out.is_contiguous() and out.dim() == 2
        factor = None if straight else scale.new_empty(_rows_of(gradient), gradient.shape[1])
        for g, at, into in _blocks(gradient, index, out):
            if factor is None:  # no memory but the result's own
                torch.index_select(scale, 0, at, out=into).mul_(g)
            else:
                torch.mul(g, torch.index_select(scale, 0, at, out=factor[: len(at)]), out=into)
        return out, None, None, None, None


def _rows_of(features: Tensor) -> int:
    """How many rows of D channels make a block."""
    return max(1, min(features.numel(), _BLOCK * torch.get_num_threads()) // features.shape[1])


def _blocks(features: Tensor, index: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Views of the features as rows (n, D), their part of the index (n,), and the rows of `out`: blocks, image by image."""
    step = _rows_of(features)
    if features.dim() == 2:
        images = [(features, index, out)]
    else:
        images = [(z.flatten(1).t(), at.flatten(), o.flatten(1).t()) for z, at, o in zip(features, index, out)]
    for image in images:
        yield from zip(*(part.split(step) for part in image))
