"""The loop: `run` trains, validates, resumes and tests a Regressor; its parts serve loops of one's own as well.

The one idea: a batch is `(inputs, targets, weights)`, and the loop looks at targets and weights only. One step reads
loss = criterion(pred, target, weights) + sum(strength * term(features, target, pred)).
An epoch here is what lies between two validations: one pass over the data, or a number of steps. FDS counts in passes.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from itertools import count as count_from
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.data import DataLoader, Dataset, default_collate

from ..interrupt import Interrupted, Listener
from . import checkpoint
from .evaluation import measure_arrays, measure_pixels, predict
from .model import Regressor
from .runtime import (
    Batches,
    Runtime,
    Shard,
    Splits,
    counted,
    for_inference,
    make_loader,
    mix,
    progress,
    random_state,
    seed_all,
    set_random_state,
    unwrap,
)
from .session import Training, Within, bring_best, claimed, resume_path, settings_of, warn_of_changes

logger = logging.getLogger(__name__)

__all__ = ["OPTIMIZERS", "measure_arrays", "measure_pixels", "predict", "run", "train_one_epoch", "update_fds"]

OPTIMIZERS = {
    "adam": lambda groups, args: torch.optim.Adam(groups, lr=args.lr, weight_decay=args.weight_decay),
    "sgd": lambda groups, args: torch.optim.SGD(groups, lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay),
}

_LARGEST_LOSS = 1e6
_SHOWN = ("mse", "l1", "gmean")  # the validation metrics in the log and in TensorBoard

# (features, targets, predictions) -> scalar, and its strength
Term = tuple[float, Callable[[Tensor, Tensor, Tensor], Tensor]]


def run(
    args,
    model: Regressor,
    splits: Splits,
    criterion: Callable[[Tensor, Tensor, Tensor], Tensor],
    evaluate: Callable,
    runtime: Runtime,
    folder: Path,
    *,
    select: str = "mse",
    terms: Iterable[Term] = (),
    renames: checkpoint.Renames = (),
    measure: Callable[..., tuple[dict, Any]] | None = None,
) -> dict:
    """Train, validate after every epoch, keep the last and the best checkpoint, and test the best.

    Args:
        args: the parsed flags of `cli.add_training_flags`.
        model: encoder, FDS (or none) and head.
        splits: training, validation and test data.
        criterion: (predictions, targets, weights) -> scalar; a module if it learns.
        evaluate: what `measure` makes metrics with an "overall" group by: (predictions, targets, weights) of a whole split.
        runtime: from `runtime.start`.
        folder: the run's folder, from `cli.run_folder`; made when training begins.
        select: the overall validation metric that chooses the best checkpoint; smaller is better.
        terms: regularisers with their strengths.
        renames: key names of published checkpoints, which are read and written.
        measure: (model, loader, runtime, evaluate, title) -> (metrics, what to keep of the predictions):
            `measure_arrays`, which is None, or `measure_pixels`.

    Returns:
        {"best_epoch", "val", "test": metrics, "predictions": {"val" | "test": what `measure` kept}}.

    Raises:
        ValueError: a checkpoint that does not fit, a loss that is NaN or above 1e6, or another process in the folder.
        Interrupted: SIGTERM or SIGINT, once the step at hand is saved; `--resume` goes on from there.
    """
    measure = measure or measure_arrays
    # 1. built by the caller; the order from here on matters
    model.to(runtime.device)
    if runtime.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # 2. --pretrained loads the encoder
    if args.pretrained:
        content = checkpoint.load(args.pretrained, "--pretrained")
        checkpoint.load_model(
            model, content, renames=renames, path=args.pretrained, flag="--pretrained", encoder_only=True
        )
        logger.info("encoder loaded from %s; the head starts anew", args.pretrained)
    # 3. RRT freezes it
    if args.retrain_fc:
        model.freeze_encoder()
    # 4. the optimizer takes what is trainable, and a learning criterion as a group of its own
    groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    if isinstance(criterion, nn.Module) and any(p.requires_grad for p in criterion.parameters()):
        criterion.to(runtime.device)
        groups.append({"params": list(criterion.parameters())})
    optimizer = OPTIMIZERS[args.optimizer](groups, args)
    scaler = torch.amp.GradScaler(runtime.device.type) if runtime.amp is torch.float16 else None
    if not args.evaluate:
        passes = {len(splits.train): splits.train}  # type: ignore[arg-type]
        if model.fds is not None and args.fds_stats == "second_pass" and splits.stats is not None:
            passes[len(splits.stats)] = splits.stats  # type: ignore[arg-type]
        for count, data in passes.items():
            check_last_batch(model, data, count, args.batch_size, splits.collate, runtime)
    # 5. wrapped for several GPUs or processes
    wrapped = runtime.wrap(model)
    # 6. --resume (and with --evaluate the best checkpoint of the run)
    training = Training(model, optimizer, scaler, criterion, runtime, epoch=vars(args).get("start_epoch", 0))
    settings = settings_of(args)
    resume = resume_path(args.resume, folder, evaluate=args.evaluate)
    if resume is not None:
        content = checkpoint.load(resume)
        checkpoint.load_model(model, content, renames=renames, path=resume)
        if not args.evaluate:
            training.take_up(content, resume)
            if training.epoch >= args.epochs and not (resume.parent / checkpoint.BEST).is_file():
                raise ValueError(
                    f"--resume: {resume} has no epoch left to train and no {checkpoint.BEST} beside it to test; "
                    "allow more epochs, or pass --evaluate"
                )
            warn_of_changes(content.get("settings") or {}, settings)
    if training.epoch < args.epochs or not training.best_by:
        # NYUD2's --select_on test passes the test set as both
        training.choose_by(f"{'test' if splits.val is splits.test else 'val'} {select}", len(splits.val))  # type: ignore[arg-type]

    make = {"workers": args.workers, "collate": splits.collate}
    shard = {"rank": runtime.rank, "world": runtime.world}
    per_rank = max(1, args.batch_size // runtime.world)
    evaluation = {
        name: make_loader(data, Shard(splits.order(data), per_rank, **shard), runtime, **make, keep_workers=True)
        for name, data in (("val", splits.val), ("test", splits.test))
    }

    # 7. --evaluate returns
    def measured(best_epoch: int) -> dict:
        found = {name: measure(wrapped, loader, runtime, evaluate, name) for name, loader in evaluation.items()}
        metrics = {name: numbers for name, (numbers, _) in found.items()}
        return {"best_epoch": best_epoch, **metrics, "predictions": {name: kept for name, (_, kept) in found.items()}}

    if args.evaluate:
        return measured(int(content.get("best_epoch", content.get("epoch", -1))))

    # 8. the loop
    with claimed(folder, settings, runtime, overwrite=args.overwrite and args.resume is None):
        if resume is not None:
            bring_best(training, resume, folder)
        batches = Batches(len(splits.train), args.batch_size, seed=args.seed, steps=args.steps, **shard)  # type: ignore[arg-type]
        train_loader = make_loader(splits.train, batches, runtime, **make)
        stats = splits.train if splits.stats is None else splits.stats
        order = splits.order(stats) if splits.length else None
        stats_batches = Batches(len(stats), args.batch_size, seed=mix(args.seed, 1), order=order, **shard)  # type: ignore[arg-type]
        stats_loader = make_loader(stats, stats_batches, runtime, **make)

        def save(is_best: bool = False) -> None:
            state = training.state(renames, model=args.model, settings=settings)
            if runtime.is_main:
                checkpoint.save(folder, state, is_best)
            runtime.barrier()

        def end_pass(number: int, stop: Listener) -> None:
            """FDS's epoch is a pass over the data, wherever the validations lie."""
            if model.fds is None or number < model.fds.start_update:
                return
            stats_batches.epoch = number
            stats_loader.generator.manual_seed(mix(args.seed, number, 1))
            second_pass = stats_loader if args.fds_stats == "second_pass" else None
            update_fds(wrapped, second_pass, runtime, number, shares=stats_batches.shares(), stop=stop)

        with Listener(speaks=runtime.is_main) as stop, _Events(folder, training.epoch, enabled=runtime.is_main) as events:
            for epoch in range(training.epoch, args.epochs):
                if args.patience is not None and training.bad_checks >= args.patience:
                    logger.info("no improvement in %d checks: stopped early (--patience)", args.patience)
                    break
                began = time.perf_counter()
                lr = args.lr * 0.1 ** sum(epoch >= milestone for milestone in args.schedule)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                seed_all(mix(args.seed, epoch, runtime.rank))
                _set_epoch(train_loader, batches, args.seed, epoch)
                try:
                    train_loss = train_one_epoch(
                        wrapped, train_loader, criterion, optimizer, runtime, epoch=epoch, terms=terms,
                        shares=batches.shares(), max_grad_norm=args.max_grad_norm, scaler=scaler,
                        observe=args.fds_stats == "streaming", print_freq=args.print_freq, within=training.within, stop=stop,
                        per_pass=batches.per_pass, end_pass=functools.partial(end_pass, stop=stop),
                    )
                except Interrupted as signal:
                    save()
                    saved = f"epoch {epoch + 1}, step {training.within.step} of {len(batches)}"
                    raise Interrupted(signal.number, f"{saved} is saved, --resume goes on from there") from None
                metrics, _ = measure(wrapped, evaluation["val"], runtime, evaluate, "val")
                loss = metrics["overall"][select]
                if not math.isfinite(loss):
                    raise ValueError(
                        f"the validation {select} is {loss} after epoch {epoch + 1} at learning rate {lr:g}; lower it"
                    )
                is_best = loss < training.best_loss
                training.epoch, training.within = epoch + 1, Within()
                training.bad_checks = 0 if is_best else training.bad_checks + 1
                if is_best:
                    training.best_loss, training.best_epoch = loss, epoch
                shown = ", ".join(f"{name} {metrics['overall'][name]:.4g}" for name in _SHOWN if name in metrics["overall"])
                logger.info(
                    "epoch %d/%d: lr %.3g, train loss %.5g, val %s%s (%.1f s)", epoch + 1, args.epochs, lr, train_loss, shown,
                    ", the best so far" if is_best else "", time.perf_counter() - began,
                )
                events.add(epoch, {"train_loss": train_loss, "lr": lr}, metrics["overall"])
                save(is_best)
                if number := runtime.highest(stop.heard):  # it came after the last step
                    raise Interrupted(number, f"epoch {epoch + 1} is saved, --resume goes on from there")

        # 9. test the best
        best = folder / checkpoint.BEST
        checkpoint.load_model(model, checkpoint.load(best), renames=renames, path=best)
        logger.info("testing the best checkpoint, of epoch %d (%s %.4g)",
                    training.best_epoch + 1, training.best_by, training.best_loss)
        return measured(training.best_epoch)


def check_last_batch(
    model: Regressor, data: Dataset, count: int, batch_size: int, collate: Callable | None, runtime: Runtime
) -> None:
    """Raise ValueError if a pass over `count` samples ends in a batch of one that the model cannot be trained on.

    BatchNorm cannot normalise a single value per channel, as of one image of 32 pixels behind a ResNet. One sample is tried,
    before the epoch's work instead of after it, and leaves no trace. Nothing is dropped or moved to another batch: at
    other sizes such a batch trains, and published runs did so.
    """
    norms = [module for module in model.modules() if isinstance(module, _NormBase) and module.track_running_stats]
    if (count % batch_size if batch_size > 1 else 1) != 1 or not norms:
        return
    training = model.training
    state = random_state(runtime.device)
    model.train()
    for module in norms:
        module.track_running_stats = False
    try:
        inputs, _, _ = runtime.move((collate or default_collate)([data[0]]))
        with torch.no_grad(), runtime.autocast():
            model(inputs)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        other = next(size for size in count_from(max(batch_size, 1) + 1) if count % size != 1)
        raise ValueError(
            f"--batch_size: {batch_size} leaves one of {count} samples alone in a batch, and at this size of the images "
            f"BatchNorm needs two; pass --batch_size {other}, or larger images"
        ) from None
    finally:
        for module in norms:
            module.track_running_stats = True
        model.train(training)
        set_random_state(state)


def train_one_epoch(
    model: nn.Module,
    loader: Iterable,
    criterion: Callable[[Tensor, Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    runtime: Runtime,
    *,
    epoch: int,
    terms: Iterable[Term] = (),
    shares: list[float] | None = None,
    max_grad_norm: float | None = None,
    scaler: torch.amp.GradScaler | None = None,
    observe: bool = False,
    print_freq: int = 100,
    within: Within | None = None,
    stop: Listener | None = None,
    per_pass: int | None = None,
    end_pass: Callable[[int], None] | None = None,
) -> float:
    """One epoch of training steps; returns the mean loss over the global batches.

    Args:
        loader: gives (inputs, targets, weights).
        shares: what this rank's part of each batch counts (`Batches.shares`); 1 each when None.
        max_grad_norm: gradients are scaled down to this norm; None leaves them.
        observe: collect FDS statistics from these very forward passes, from its `start_update` on.
        print_freq: steps between log lines, and on an accelerator between looks at the loss.
        within: where in the epoch to begin, and on return or interruption where it stands. The batches before are read
            again, without being trained on, so that whatever draws at random in the loader goes on as it would have.
        stop: asked between two steps; several processes on accelerators ask when they look at the loss.
        per_pass: steps of a pass over the data, whose number is the epoch that FDS is told; an epoch's own when None.
        end_pass: called with a pass's number after its last step, even within an epoch. An interruption before its end
            has it called again when the epoch is taken up.

    Raises:
        Interrupted: `stop` has heard a signal, on any rank; all ranks stop after the same step.
        ValueError: the loss was NaN or above 1e6, with epoch, step, loss, learning rate and what to try.
    """
    model.train()
    fds = unwrap(model).fds
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    steps = len(loader)  # type: ignore[arg-type]
    look_every = 1 if runtime.device.type == "cpu" else print_freq  # reading the loss waits for the accelerator
    pending: list[Tensor] = []
    within = Within() if within is None else within
    total, seen = within.total, within.step
    batches = iter(progress(loader, steps, f"epoch {epoch + 1}", runtime) if seen < steps else ())
    for _ in islice(batches, seen):
        pass
    if within.random is not None:
        set_random_state(within.random)
    if observe and fds is not None:
        for sums in within.sums:
            fds.add_observed(sums)
    within.sums = []
    first, per_pass = epoch * steps, steps if per_pass is None else per_pass

    def here() -> None:
        within.step, within.total, within.random = seen, total, random_state(runtime.device)

    def end_of_pass(done: int) -> bool:
        return done > 0 and (first + done) % per_pass == 0

    if end_pass is not None and seen < steps and end_of_pass(seen):
        end_pass((first + seen) // per_pass - 1)
    for step, batch in enumerate(batches, seen):
        inputs, targets, weights = runtime.move(batch)
        share = 1.0 if shares is None else shares[step]
        number = (first + step) // per_pass
        with runtime.autocast(), counted(model, share):
            preds, features = model(inputs, targets, number)
        preds = preds.float()
        loss = criterion(preds, targets, weights)
        for strength, term in terms:
            loss = loss + strength * term(features, targets, preds)
        loss = loss * share
        optimizer.zero_grad(set_to_none=True)
        if scaler is None:
            loss.backward()
        else:
            scaler.scale(loss).backward()
        _average_gradients(criterion, runtime)
        if scaler is not None:
            scaler.unscale_(optimizer)
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        if observe and fds is not None and share > 0 and number >= fds.start_update:
            fds.observe(features, targets)
        pending.append(loss.detach())
        noted = stop is not None and runtime.world == 1 and stop.heard
        if len(pending) == look_every or step == steps - 1 or noted or end_of_pass(step + 1):
            losses = runtime.mean(torch.stack(pending)).tolist()
            for back, value in enumerate(losses):
                if not value < _LARGEST_LOSS:
                    lr = optimizer.param_groups[0]["lr"]
                    raise ValueError(
                        f"the loss is {value:g} in epoch {epoch + 1}, step {seen + back + 1} of {steps}, "
                        f"at learning rate {lr:g}; try a lower --lr, --amp none, or look for labels or inputs out of range"
                    )
            total, seen = total + sum(losses), seen + len(losses)
            pending.clear()
            if stop is not None and (heard := runtime.highest(stop.heard)):
                here()
                raise Interrupted(heard)
        if end_pass is not None and step < steps - 1 and end_of_pass(step + 1):
            here()
            end_pass(number)
        if (step + 1) % print_freq == 0:
            logger.info("epoch %d, step %d/%d: train loss %.5g", epoch + 1, step + 1, steps, total / max(seen, 1))
    here()
    if end_pass is not None and end_of_pass(steps):
        end_pass((first + steps) // per_pass - 1)
    return total / max(seen, 1)


def _average_gradients(criterion: Callable, runtime: Runtime) -> None:
    """The gradients of a learning criterion over all ranks: DistributedDataParallel sees to those of the model only."""
    if isinstance(criterion, nn.Module):
        for parameter in criterion.parameters():
            if parameter.grad is not None:
                parameter.grad = runtime.mean(parameter.grad)


@torch.no_grad()
def update_fds(
    model: nn.Module,
    loader: DataLoader | None,
    runtime: Runtime,
    epoch: int,
    shares: list[float] | None = None,
    stop: Listener | None = None,
) -> None:
    """End an epoch of FDS: its statistics from a pass over `loader`, or with None from what training observed.

    The pass runs in training mode, as published (dropout acts, batches are normalised by their own statistics), but the
    running statistics of the normalisation layers stay as they are. `shares` and `stop` as in `train_one_epoch`; an
    interrupted pass leaves the statistics as they were. For an FDS that observes smoothed features they are smoothed.
    """
    fds = unwrap(model).fds
    assert fds is not None
    if loader is not None:
        model.train()
        tracking = [m for m in unwrap(model).modules() if isinstance(m, _NormBase) and m.track_running_stats and m.training]
        for module in tracking:
            module.track_running_stats = False
        forward = for_inference(model)
        for step, batch in enumerate(progress(loader, len(loader), f"FDS {epoch + 1}", runtime)):
            inputs, targets, _ = runtime.move(batch)
            share = 1.0 if shares is None else shares[step]
            with runtime.autocast(), counted(model, share):
                _, features = forward(inputs, targets, epoch) if fds.observes_smoothed else forward(inputs)
            if share > 0:
                fds.observe(features, targets)
            if stop is not None and (number := runtime.highest(stop.heard)):
                fds.forget_observed()
                raise Interrupted(number)
        for module in tracking:
            module.track_running_stats = True
    fds.finish_epoch(epoch)


def _set_epoch(loader: DataLoader, batches: Batches, seed: int, epoch: int) -> None:
    """Tie everything random in the data to (seed, epoch): the order, the workers' draws, and the data set's own."""
    batches.epoch = epoch
    loader.generator.manual_seed(mix(seed, epoch))
    if hasattr(loader.dataset, "set_epoch"):
        loader.dataset.set_epoch(epoch)


class _Events:
    """TensorBoard events of a run, under the published tags; after a resume those of lost epochs are dropped."""

    def __init__(self, folder: Path, first_epoch: int, *, enabled: bool):
        self.folder, self.writer = folder, None
        if enabled:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(folder, purge_step=first_epoch)
            # its thread keeps an OSError for the next call, and would show it as a traceback besides
            self.hook, threading.excepthook = threading.excepthook, self._of_thread

    def _of_thread(self, failure) -> None:
        if not isinstance(failure.exc_value, OSError):
            self.hook(failure)

    def __enter__(self) -> _Events:
        return self

    def __exit__(self, kind, *rest) -> None:
        if self.writer is None:
            return
        try:
            self.writer.close()
        except OSError as error:
            if kind is None:  # otherwise that is what is to be told
                raise self._failed(error) from None
        finally:
            threading.excepthook = self.hook

    def _failed(self, error: OSError) -> OSError:
        return OSError(error.errno, f"cannot write the events in {self.folder}: {error.strerror}")

    def add(self, epoch: int, training: dict[str, float], validation: dict[str, float]) -> None:
        if self.writer is None:
            return
        values = {**training, **{f"val_loss_{name}": validation[name] for name in _SHOWN if name in validation}}
        try:
            for tag, value in values.items():
                self.writer.add_scalar(tag, value, epoch)
            self.writer.flush()
        except OSError as error:
            raise self._failed(error) from None
