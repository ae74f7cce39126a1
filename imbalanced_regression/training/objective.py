"""The objective: what is minimised, and the one door between a batch and the methods.

The one idea: a method sees plain tensors of the whole batch. Whatever stands between (several processes, dense maps, the
unit of a published loss, learning rates of what learns in a loss) is dealt with here, once for all methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .randomness import derive_seed
from .runtime import Runtime

# (features, targets, predictions, weights) -> scalar
Term = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

PIXELS = 1024  # the pixels of a dense batch that terms and losses over the whole batch see


@dataclass(frozen=True)
class Moment:
    """Where in a run a batch comes up: all that a share, a draw or an annealed loss may depend on.

    `share` is what this rank's part of the batch counts (`Batches.shares`), `views` how many views of each sample it holds.
    """

    share: float = 1.0
    seed: int = 0
    epoch: int = 0
    epochs: int = 1
    step: int = 0
    views: int = 1


class Objective(nn.Module):
    """criterion + sum of strength * term, over the batch of all processes.

    Args:
        criterion: (outputs, targets, weights) -> scalar, the mean over the batch; a module if it learns. One that also takes
            `epoch` and `epochs` is given them. With an attribute `whole_batch = True` it gets the rows of all processes
            instead of this one's, and is 0 for a last batch of one row. None leaves the terms alone (pre-training).
        terms: (strength, term) each, term: (features (B, D), targets (B, M), predictions (B, M), weights (B, ...)) -> scalar.
            A term's `finish_epoch(epoch)`, where it has one, is called at the end of each epoch.
        unit: the criterion gets outputs and targets divided by it, for losses published in another unit than the label's.
        to_unit: targets -> the unit in which the outputs are, for a model that learns a transform of the label; terms and
            predictions stay in the label's.
        pixels: of dense maps, terms and losses over the whole batch get so many known pixels (weight above 0), drawn by
            (seed, epoch, step) from the batch of all processes.

    What learns in a criterion or term is a group of parameters of its own; a module with `parameter_groups()` may name the
    group's "lr", which the schedule scales as it does the others'.
    """

    def __init__(
        self,
        criterion: Callable[..., Tensor] | None,
        terms: Iterable[tuple[float, Term]] = (),
        *,
        unit: float = 1.0,
        to_unit: Callable[[Tensor], Tensor] | None = None,
        pixels: int = PIXELS,
    ):
        super().__init__()
        if not unit > 0:
            raise ValueError(f"unit: expected a number above 0, for example 5.0, found {unit}")
        self.criterion = criterion
        self.terms = [(float(strength), term) for strength, term in terms]
        if criterion is None and not self.terms:
            raise ValueError("criterion: expected a loss or at least one term, found neither")
        for number, (_, term) in enumerate(self.terms):
            if isinstance(term, nn.Module):
                self.add_module(f"term{number}", term)
        self.unit, self.pixels, self.to_unit = unit, pixels, to_unit
        self.two_views = any(getattr(part, "two_views", False) for part in self._parts())
        self.whole_batch = bool(getattr(criterion, "whole_batch", False))
        self._annealed = criterion is not None and _takes(criterion, "epoch", "epochs")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimizer, of what learns in the criterion and the terms."""
        groups: list[dict[str, Any]] = []
        for part in self._parts():
            if isinstance(part, nn.Module):
                find = getattr(part, "parameter_groups", None)
                own = [{"params": list(part.parameters())}] if find is None else find()
                groups += [group for group in own if any(p.requires_grad for p in group["params"])]
        return groups

    def _parts(self) -> list:
        return [self.criterion, *(term for _, term in self.terms)]

    def forward(
        self,
        outputs: Tensor,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        *,
        point: Callable[[Tensor], Tensor] | None = None,
        runtime: Runtime | None = None,
        moment: Moment | None = None,
    ) -> Tensor:
        """The loss of this process's part of a batch; the mean of its gradient over processes is that of the whole batch.

        Args:
            outputs: (B, P) of the head, or dense (B, P, H, W).
            features: (B, D) or (B, D, H, W), before any smoothing.
            targets, weights: (B, M) or (B, M, H, W); weights also (B, heads).
            point: outputs -> predictions, shaped as `targets`; the outputs themselves when None.
            runtime: the processes; one when None.
            moment: where in the run this is; its beginning when None.

        Raises:
            ValueError: predictions that are not shaped as the targets.
        """
        runtime, moment = runtime or Runtime(), moment or Moment()
        preds = outputs if point is None else point(outputs)
        if preds.shape != targets.shape:
            raise ValueError(
                f"targets: expected the shape of the predictions, {tuple(preds.shape)}, found {tuple(targets.shape)}"
            )
        rows = None
        if self.terms or self.whole_batch:
            rows = self._rows((features, targets, preds, weights, outputs), runtime, moment)
        if self.criterion is None:
            loss = 0.0 * outputs.sum()  # the head takes part in the exchange of gradients, without any
        elif rows is not None and self.whole_batch:
            # the last sample of a pass may be left alone, as on STS-B-DIR in batches of 128, and has none to be compared with
            loss = self._criterion(rows[4], rows[1], rows[3], moment) if len(rows[4]) > 1 else 0.0 * rows[4].sum()
        else:
            loss = moment.share * self._criterion(outputs, targets, weights, moment)
        for strength, term in self.terms:
            assert rows is not None
            loss = loss + strength * term(*rows[:4])
        return loss

    def _criterion(self, outputs: Tensor, targets: Tensor, weights: Tensor, moment: Moment) -> Tensor:
        assert self.criterion is not None
        if self.to_unit is not None:
            targets = self.to_unit(targets)
        if self.unit != 1:
            outputs, targets = outputs / self.unit, targets / self.unit
        more = {"epoch": moment.epoch, "epochs": moment.epochs} if self._annealed else {}
        return self.criterion(outputs, targets, weights, **more)

    def _rows(self, parts: tuple[Tensor, ...], runtime: Runtime, moment: Moment) -> list[Tensor]:
        """(B, ...) or dense (B, ..., H, W) -> rows (R, ...) of all processes, in the order of the whole batch.

        A process without a sample computes along with one of another's, which is left out.
        """
        mine = slice(None if moment.share > 0 else 0)
        count, views = len(parts[0][mine]), moment.views
        if runtime.world == 1 and parts[0].dim() == 2:
            return [_float(part) for part in parts]
        counts = _counts(count, runtime, parts[0].device)
        # this process's samples are every world-th of the batch, and its views follow one another
        whole, (view, sample) = sum(counts) // views, _divmod_range(count, max(count // views, 1))
        place = view * whole + sample * runtime.world + runtime.rank
        if parts[0].dim() == 2:
            order = torch.cat(_gather_whole(place.to(parts[0].device), counts, runtime)).argsort()
            return [gather_rows(_float(part[mine]), counts, runtime)[order] for part in parts]
        return self._pixel_rows([_float(part[mine]) for part in parts], place, runtime, moment)

    def _pixel_rows(self, parts: list[Tensor], place: Tensor, runtime: Runtime, moment: Moment) -> list[Tensor]:
        """Up to `pixels` known pixels of the whole batch: each draws a number by its place, and the least are taken."""
        height, width = parts[0].shape[-2:]
        known = (parts[3] > 0).any(dim=1).flatten()
        draws = []
        for number in place.tolist():  # images, a few dozen
            generator = torch.Generator().manual_seed(derive_seed(moment.seed, moment.epoch, moment.step, number))
            draws.append(torch.rand(height * width, generator=generator, dtype=torch.float64))
        keys = torch.cat(draws) if draws else torch.empty(0, dtype=torch.float64)
        keys = keys.to(known.device, torch.float32 if known.device.type == "mps" else torch.float64)
        at = known.nonzero()[:, 0]
        keys, least = keys[at].topk(min(self.pixels, len(at)), largest=False)
        rows = [part.movedim(1, -1).reshape(-1, part.shape[1])[at[least]] for part in parts]
        if runtime.world > 1:
            counts = _counts(len(keys), runtime, keys.device)
            keys = torch.cat(_gather_whole(keys, counts, runtime))
            order = keys.argsort()[: self.pixels]
            rows = [gather_rows(part, counts, runtime)[order] for part in rows]
        return rows

    def set_loss_scale(self, scaler: torch.amp.GradScaler) -> None:
        """Tell the terms whose gradient depends on the loss's size by how much the scaler multiplies it."""
        for part in self._parts():
            if hasattr(part, "loss_scale"):
                there = scaler._get_scale_async()  # the public one waits for the device
                part.loss_scale = scaler.get_scale() if there is None else there

    def average_gradients(self, runtime: Runtime) -> None:
        """The gradients of what learns here, over all processes: DistributedDataParallel sees to the model's only."""
        if runtime.world > 1:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad = runtime.mean(parameter.grad)

    def finish_epoch(self, epoch: int) -> None:
        """End an epoch, for terms and criteria that keep something over the epoch."""
        for part in self._parts():
            if hasattr(part, "finish_epoch"):
                part.finish_epoch(epoch)


def _takes(function: Callable, *names: str) -> bool:
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        return set(names) <= inspect.signature(called).parameters.keys()
    except (TypeError, ValueError):  # built into the interpreter, without a signature
        return False


def _float(part: Tensor) -> Tensor:
    return part if part.dtype == torch.float64 else part.float()


def _divmod_range(count: int, size: int) -> tuple[Tensor, Tensor]:
    """0, 1, ..., count - 1 divided by `size`: (quotients, remainders)."""
    numbers = torch.arange(count)
    return numbers // size, numbers % size


def _counts(count: int, runtime: Runtime, device: torch.device) -> list[int]:
    """How many rows each process has."""
    if runtime.world == 1:
        return [count]
    return torch.cat(runtime.gather_tensors(torch.tensor([count], device=device))).tolist()


def _gather_whole(rows: Tensor, counts: list[int], runtime: Runtime) -> list[Tensor]:
    """Every process's rows, `counts` of them, without a gradient."""
    if runtime.world == 1:
        return [rows]
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    return [part[:count] for part, count in zip(runtime.gather_tensors(padded), counts)]


class _GatherRows(torch.autograd.Function):
    """The rows of all processes on each; a row's gradient is the sum of what every process's loss gives it.

    Every process computes the same loss of all rows, and the mean of gradients over processes, which
    DistributedDataParallel takes, is then that loss's gradient without a factor.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, counts: list[int], runtime: Runtime) -> Tensor:
        ctx.start, ctx.count, ctx.runtime = sum(counts[: runtime.rank]), len(rows), runtime
        return torch.cat(_gather_whole(rows, counts, runtime))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        gradient = ctx.runtime.sum(gradient)
        return gradient[ctx.start : ctx.start + ctx.count], None, None


def gather_rows(rows: Tensor, counts: list[int], runtime: Runtime) -> Tensor:
    """Rows (r, ...) of each process -> (R, ...) of all, in the order of the ranks, with gradients to where they came from."""
    return rows if runtime.world == 1 else _GatherRows.apply(rows, counts, runtime)
