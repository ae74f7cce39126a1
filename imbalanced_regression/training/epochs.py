"""An epoch: the steps between two validations, a look at their losses, and the passes over the data that end in it.

The one idea: two things count differently. An epoch is what lies between two validations, one pass over the data or a number
of steps; FDS counts in passes, wherever the validations lie.
"""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor

from ..interrupt import Interrupted, Listener
from .loaders import Feed
from .log import progress
from .model import frozen_norms
from .objective import Moment
from .plan import Plan
from .randomness import derive_seed, seed_all
from .runtime import absent_rank_ignored, for_inference
from .session import Training
from .step import train_step

logger = logging.getLogger(__name__)

_LARGEST_LOSS = 1e6
LOOKS_AT_ONCE = ("cpu",)  # devices on which reading a loss does not wait for the steps that are queued


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
