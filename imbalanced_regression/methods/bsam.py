"""BSAM: sharpness-aware steps on a re-weighted loss, so that rare labels' minima are flat as well.

The one idea: the gradient that updates the parameters is taken a step uphill, where the loss is worst near by; with a
re-weighted loss the hill is that of all labels alike. Two passes a step.
Source: BSAM (ICCV 2025, arXiv 2508.16973), after sharpness-aware minimisation (ICLR 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def climbed(parameters: Iterable[Tensor], rho: float) -> Iterator[None]:
    """Inside, the parameters stand at theta + rho g / |g|; afterwards they are as before, to the last bit.

        loss.backward()                     # g, of the first pass
        with climbed(model.parameters(), rho):
            optimizer.zero_grad()
            criterion(model(inputs), targets, weights).backward()
        optimizer.step()                    # at theta, with the gradient from uphill

    |g| is one norm over the `.grad` of all parameters. A parameter without a gradient stays, and so do all where the norm
    is 0 or not finite: a loss scaler then skips the step, as it does for any overflow. The direction has no scale, so
    gradients of a scaled loss (AMP) give the same step and need not be unscaled before. The gradients are not touched.
    Under DistributedDataParallel they are averaged already, and all ranks climb alike. Nothing here waits for a device.

    The statistics of BatchNorm and the draw of dropout in the second pass are the caller's: both should be the first's.

    Args:
        parameters: those of the optimizer; one given twice counts once.
        rho: at least 0, in the unit of a parameter. Published: 0.2 for AgeDB, 0.05 for IMDB-WIKI, with SGD.

    Raises:
        ValueError: rho below 0 or not finite.
    """
    if not 0 <= rho < math.inf:
        raise ValueError(f"rho: expected a finite number of at least 0, for example 0.05, found {rho}")
    distinct = {id(parameter): parameter for parameter in parameters}.values()
    moved = [parameter for parameter in distinct if parameter.grad is not None]
    before = [parameter.detach().clone() for parameter in moved]
    try:
        with torch.no_grad():
            _climb(moved, rho)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(moved, before):
                parameter.copy_(value)


def _climb(parameters: list[Tensor], rho: float) -> None:
    gradients = [_wide(parameter.grad) for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    total = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
    step = torch.where((total > 0) & total.isfinite(), rho / total, 0)
    for parameter, gradient in zip(parameters, gradients):
        # infinity times a step of 0 would be NaN
        parameter.add_((gradient * step.to(gradient.device)).nan_to_num(0.0, 0.0, 0.0).to(parameter.dtype))


def _wide(gradient: Tensor) -> Tensor:
    """Dense, and float32 at least: in half precision the squares of a scaled loss's gradients overflow."""
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return dense.float() if dense.dtype in (torch.float16, torch.bfloat16) else dense
