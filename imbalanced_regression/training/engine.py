"""The loop: `run` trains, validates, resumes and tests a Regressor.

The one idea: a run is begun, its epochs are trained, validated, judged and saved, and its best is tested; `epochs` says what
an epoch does and `step` what happens to a batch. A batch is `(inputs, targets, weights)`, and the loop looks at targets and
weights only.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from torch import nn

from ..interrupt import Interrupted, Listener
from . import checkpoint
from .checks import check_batches
from .cost import cost_of
from .epochs import train_one_epoch
from .evaluation import Measure
from .loaders import Feed, Splits
from .log import Events, shown
from .model import Regressor
from .objective import Objective
from .plan import Plan
from .runtime import Runtime
from .session import Training, begin, copy_best_checkpoint, locked_folder

logger = logging.getLogger(__name__)


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
