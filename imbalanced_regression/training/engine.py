"""The loop: `run` trains, validates, resumes and tests a Regressor; `train_step` is all that happens to a batch.

The one idea: a batch is `(inputs, targets, weights)`, and the loop looks at targets and weights only.
An epoch here is what lies between two validations: one pass over the data, or a number of steps. FDS counts in passes.
"""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..interrupt import Interrupted, Listener
from ..methods.bsam import climbed
from . import checkpoint
from .checks import check_batches
from .cost import cost_of
from .evaluation import Measure
from .loaders import Feed, Splits
from .log import Events, progress, shown
from .model import Regressor, frozen_norms
from .objective import Moment, Objective
from .plan import Plan
from .randomness import derive_seed, random_state, seed_all, set_random_state
from .runtime import Runtime, absent_rank_ignored, for_inference
from .session import Training, begin, copy_best_checkpoint, locked_folder

logger = logging.getLogger(__name__)

_LARGEST_LOSS = 1e6
LOOKS_AT_ONCE = ("cpu",)  # devices on which reading a loss does not wait for the steps that are queued


def run(
    model: Regressor,
    splits: Splits,
    objective: Objective,
    measure: Measure,
    plan: Plan,
    *,
    folder: str | Path,
    runtime: Runtime | None = None,
    select: str = "mse",
    renames: checkpoint.Renames = (),
    settings: dict[str, Any] | None = None,
) -> dict:
    """Train, validate after every epoch, keep the last and the best checkpoint, and test the best.

    Args:
        model: encoder, FDS (or none) and head.
        splits: training, validation and test data.
        objective: what is minimised.
        measure: `Arrays(metrics)`, or `Pixels(new_metrics)` for dense labels; metrics have an "overall" group.
        plan: the numbers of the run.
        folder: of the run, made when training begins.
        runtime: from `runtime.start`; this process alone on the CPU when None.
        select: the overall validation metric that chooses the best checkpoint; smaller is better.
        renames: key names of published checkpoints, which are read and written.
        settings: what is kept of the run in its checkpoint and args.json; the plan's own numbers when None.

    Returns:
        {"best_epoch", "val", "test": metrics, "predictions": {"val" | "test": what `measure` kept}, "distribution": that of
        the head's spread, or None, "cost": `cost_of`}.

    Raises:
        ValueError: a checkpoint that does not fit, a loss that is NaN or above 1e6, or another process in the folder.
        Interrupted: SIGTERM or SIGINT, once the step at hand is saved; `resume` goes on from there.
    """
    runtime, folder = runtime or Runtime(), Path(folder)
    settings = plan.settings() if settings is None else settings
    if model.constant is not None:
        return measure_constant(model, Feed(splits, plan, runtime), measure, plan, folder, settings)
    if not plan.evaluate:
        check_batches(model, splits, objective, plan, runtime)
    chosen_on = "test" if splits.val is splits.test else "val"
    chosen_by = (f"{chosen_on} {select}", len(splits.val))  # type: ignore[arg-type]
    training = begin(model, objective, plan, runtime, folder, renames=renames, settings=settings, chosen_by=chosen_by)
    feed = Feed(splits, plan, runtime)
    if plan.evaluate:
        return _result(training, feed, measure)

    with locked_folder(folder, training.settings, runtime, overwrite=plan.overwrite and plan.resume is None):
        copy_best_checkpoint(training, folder)
        with Listener(speaks=runtime.is_main) as stop, Events(folder, training.epoch, enabled=runtime.is_main) as events:
            for epoch in range(training.epoch, plan.epochs):
                if plan.patience is not None and training.bad_checks >= plan.patience:
                    logger.info("no improvement in %d checks: stopped early (--patience)", plan.patience)
                    break
                began, lr = time.perf_counter(), training.set_rates(plan, epoch)
                try:
                    train_loss = train_one_epoch(training, feed, epoch, plan, stop)
                except Interrupted as signal:
                    training.save(folder)
                    saved = f"epoch {epoch + 1}, step {training.progress.step} of {feed.steps}"
                    raise Interrupted(signal.number, f"{saved} is saved, --resume goes on from there") from None
                overall = measure(training.wrapped, feed.val, runtime, "val")[0]["overall"]
                is_best = training.judge(overall[select], select, epoch, lr)
                training.took.append(time.perf_counter() - began)
                logger.info("epoch %d/%d: lr %.3g, train loss %.5g, val %s%s (%.1f s)", epoch + 1, plan.epochs, lr,
                            train_loss, shown(overall), ", the best so far" if is_best else "", training.took[-1])
                events.add(epoch, {"train_loss": train_loss, "lr": lr}, overall)
                training.save(folder, is_best)
                if number := runtime.max_over_ranks(stop.heard):  # the signal came after the epoch's last step
                    raise Interrupted(number, f"epoch {epoch + 1} is saved, --resume goes on from there")

        training.load_tested(folder, plan)
        return _result(training, feed, measure)


def measure_constant(
    model: Regressor, feed: Feed, measure: Measure, plan: Plan, folder: Path, settings: dict[str, Any]
) -> dict:
    """What `run` returns of a model that predicts its `constant`: nothing is trained, and the folder holds no checkpoint."""
    with locked_folder(folder, settings, feed.runtime, overwrite=plan.overwrite and plan.resume is None):
        logger.info("nothing is trained: %g is predicted for every sample", model.constant)
        return {"best_epoch": None, **_measured(model, feed, measure), "distribution": None}


def _result(training: Training, feed: Feed, measure: Measure) -> dict:
    """What `run` returns of the model as it stands."""
    told = {"distribution": getattr(training.model.head, "distribution", None), "cost": cost_of(training)}
    return {"best_epoch": training.best_epoch, **_measured(training.wrapped, feed, measure), **told}


def _measured(wrapped: nn.Module, feed: Feed, measure: Measure) -> dict:
    """Metrics of both splits that are measured, and what `measure` kept of their predictions."""
    found = {name: measure(wrapped, getattr(feed, name), feed.runtime, name) for name in ("val", "test")}
    metrics, kept = ({name: both[i] for name, both in found.items()} for i in range(2))
    return {**metrics, "predictions": kept}


def train_one_epoch(training: Training, feed: Feed, epoch: int, plan: Plan, stop: Listener | None = None) -> float:
    """One epoch of training steps; returns the mean loss over the global batches.

    It begins where `training.progress` stands, which on return or interruption stands where training does: the batches
    before are read again without being trained on, so that whatever draws at random in the loader goes on as it would have.
    `stop` is asked between two steps; several processes on accelerators ask when they look at the loss.

    Raises:
        Interrupted: `stop` has heard a signal, on any rank; all ranks stop after the same step.
        ValueError: the loss was NaN or above 1e6, with epoch, step, loss, learning rate and what to try.
    """
    runtime, done, fds = training.runtime, training.progress, training.model.fds
    seed_all(derive_seed(plan.seed, epoch, runtime.rank))
    feed.begin(epoch)
    training.wrapped.train()
    shares, steps, first = feed.shares(), feed.steps, epoch * feed.steps
    look_every = 1 if runtime.device.type in LOOKS_AT_ONCE else plan.print_freq
    pending: list[Tensor] = []
    batches = feed.batches_from(done.step, f"epoch {epoch + 1}")
    training.take_up_progress(observes=plan.fds_stats == "streaming")
    finish_pass = functools.partial(end_pass, training, feed, plan=plan, stop=stop)

    if 0 < done.step < steps and (first + done.step) % feed.per_pass == 0:  # interrupted in the second pass of FDS
        finish_pass((first + done.step) // feed.per_pass - 1)
    for step, batch in enumerate(batches, done.step):
        number, last_of_pass = (first + step) // feed.per_pass, (first + step + 1) % feed.per_pass == 0
        observes = fds is not None and plan.fds_stats == "streaming" and number >= fds.start_update
        moment = Moment(shares[step], plan.seed, epoch, plan.epochs, step, plan.views)
        batch = runtime.as_full(runtime.move(batch), plan.batch_size * plan.views)
        pending.append(train_step(training, batch, moment, plan, fds_epoch=number, observe=observes))
        noted = stop is not None and runtime.world == 1 and stop.heard
        if len(pending) == look_every or step == steps - 1 or noted or last_of_pass:
            _check(pending, training, epoch, steps)
            if stop is not None and (heard := runtime.max_over_ranks(stop.heard)):
                training.note_progress()
                raise Interrupted(heard)
        if last_of_pass and step < steps - 1:
            training.note_progress()
            finish_pass(number)
        if (step + 1) % plan.print_freq == 0:
            logger.info("epoch %d, step %d/%d: train loss %.5g", epoch + 1, step + 1, steps, done.mean)
    training.note_progress()
    if (first + steps) % feed.per_pass == 0:
        finish_pass((first + steps) // feed.per_pass - 1)
    training.objective.finish_epoch(epoch)
    return done.mean


def train_step(
    training: Training, batch: tuple, moment: Moment, plan: Plan, *, fds_epoch: int, observe: bool = False
) -> Tensor:
    """All that happens to a batch: forward, objective, backward, update. Returns this rank's part of the loss.

    `batch` is (inputs, targets, weights) on the device, `fds_epoch` the number of the pass over the data; with `observe`
    FDS takes its statistics from this very forward pass.
    """
    (inputs, targets, weights), runtime = batch, training.runtime
    optimizer, scaler, objective = training.optimizer, training.scaler, training.objective
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def gradients() -> tuple[Tensor, Tensor]:
        with runtime.autocast(), absent_rank_ignored(training.wrapped, moment.share):
            outputs, features = training.wrapped(inputs, targets, fds_epoch)
        if scaler is not None:
            objective.set_loss_scale(scaler)
        loss = objective(
            outputs.float(), features, targets, weights, point=training.model.point, runtime=runtime, moment=moment
        )
        optimizer.zero_grad(set_to_none=True)
        (loss if scaler is None else scaler.scale(loss)).backward()
        objective.average_gradients(runtime)
        return loss.detach(), features.detach()

    drawn = random_state(runtime.device) if plan.ascent else None
    loss, features = gradients()
    if drawn is not None:  # BSAM: once more with the same draws, where the loss is worst near by; the batch counts once
        set_random_state(drawn, runtime.device)
        objective.eval()
        with climbed(parameters, plan.ascent), frozen_norms(training.model):
            gradients()
        objective.train()
    if scaler is not None:
        scaler.unscale_(optimizer)
    if plan.max_grad_norm is not None:
        nn.utils.clip_grad_norm_(parameters, plan.max_grad_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    if observe and moment.share > 0:
        assert training.model.fds is not None
        training.model.fds.observe(features, targets)
    return loss


def _check(pending: list[Tensor], training: Training, epoch: int, steps: int) -> None:
    """Add the losses of the last steps to the epoch's progress. Raises ValueError for one that is out of bounds."""
    done = training.progress
    losses = training.runtime.mean(torch.stack(pending)).tolist()
    pending.clear()
    for back, value in enumerate(losses):
        if not value < _LARGEST_LOSS:
            lr = training.optimizer.param_groups[0]["lr"]
            raise ValueError(
                f"the loss is {value:g} in epoch {epoch + 1}, step {done.step + back + 1} of {steps}, at learning rate "
                f"{lr:g}; try a lower --lr, --amp none, or look for labels or inputs out of range"
            )
    done.step, done.total = done.step + len(losses), done.total + sum(losses)


def end_pass(training: Training, feed: Feed, number: int, plan: Plan, stop: Listener | None = None) -> None:
    """End a pass over the data, wherever the validations lie: it is the epoch that FDS counts in."""
    fds = training.model.fds
    if fds is None or number < fds.start_update:
        return
    if plan.fds_stats == "second_pass":
        feed.begin_stats(number)
        observe_pass(training, feed, number, stop, plan.print_freq)
    fds.finish_epoch(number)


@torch.no_grad()
def observe_pass(
    training: Training, feed: Feed, number: int, stop: Listener | None = None, print_freq: int = 1
) -> None:
    """FDS's statistics from a pass of its own over the training data.

    The pass runs in training mode, as published (dropout acts, batches are normalised by their own statistics), but the
    running statistics of the normalisation layers stay as they are. An interrupted pass leaves the statistics as they were.
    For an FDS that observes smoothed features they are smoothed. Several processes on accelerators ask `stop` every
    `print_freq` batches.
    """
    fds, runtime = training.model.fds, training.runtime
    ask_every = 1 if runtime.world == 1 or runtime.device.type == "cpu" else print_freq
    assert fds is not None
    training.wrapped.train()
    forward, shares = for_inference(training.wrapped), feed.stats_batches.shares()
    with frozen_norms(training.model):
        for step, batch in enumerate(progress(feed.stats, len(feed.stats), f"FDS {number + 1}", runtime)):
            inputs, targets, _ = runtime.move(batch)
            with runtime.autocast(), absent_rank_ignored(training.wrapped, shares[step]):
                _, features = forward(inputs, targets, number) if fds.observes_smoothed else forward(inputs)
            if shares[step] > 0:
                fds.observe(features, targets)
            asks = stop is not None and ((step + 1) % ask_every == 0 or step == len(feed.stats) - 1)
            if asks and (heard := runtime.max_over_ranks(stop.heard)):  # type: ignore[union-attr]
                fds.forget_observed()
                raise Interrupted(heard)
