"""What would stop a run after an epoch's work, found out before it: a pass that ends in a batch of one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count as count_from

import torch
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.data import Dataset, default_collate

from .loaders import Splits
from .model import Regressor, frozen_norms
from .objective import Objective
from .plan import Plan
from .randomness import random_state, set_random_state
from .runtime import Runtime

logger = logging.getLogger(__name__)


def check_batches(model: Regressor, splits: Splits, objective: Objective, plan: Plan, runtime: Runtime) -> None:
    """Raise ValueError for FDS statistics from the wrong place, and for a last batch of one that cannot be used."""
    if objective.two_views and plan.views < 2:
        logger.warning("--views: the objective is made for 2 views of each sample, found %d; --views 2 gives them", plan.views)
    if model.fds is not None and model.fds.observes_smoothed and plan.fds_stats != "second_pass":
        raise ValueError(
            f"fds_stats: FDS of the first release takes its statistics from a second pass, found {plan.fds_stats!r}; pass "
            "Plan(fds_stats=\"second_pass\")"
        )
    runtime.place(model)
    count: int = len(splits.train)  # type: ignore[arg-type]
    if min(plan.batch_size, count) == 1 and objective.whole_batch and torch.as_tensor(splits.train[0][1]).numel() == 1:
        raise ValueError(
            f"--batch_size: the loss compares the samples of a batch, found {plan.batch_size} and {count} training samples; "
            "pass 2 or more, for example 64"
        )
    passes = {count: splits.train}
    if model.fds is not None and plan.fds_stats == "second_pass" and splits.stats is not None:
        passes[len(splits.stats)] = splits.stats  # type: ignore[arg-type]
    for count, data in passes.items():
        check_last_batch(model, data, count, plan.batch_size, splits.collate, runtime)


def _fitting(count: int, batch_size: int, runtime: Runtime | None = None) -> int:
    """The next batch size that leaves no sample alone."""
    return next(size for size in count_from(max(batch_size, 1) + 1) if not _alone(count, size, runtime or Runtime()))


def _alone(count: int, batch_size: int, runtime: Runtime) -> bool:
    """Whether a pass over `count` samples has a batch of which a BatchNorm sees a single sample."""
    sizes = {min(count, batch_size), count % batch_size} - {0}
    return any(runtime.fewest_together(size) == 1 for size in sizes)


def check_last_batch(
    model: Regressor, data: Dataset, count: int, batch_size: int, collate: Callable | None, runtime: Runtime
) -> None:
    """Raise ValueError if a pass over `count` samples ends in a batch of one that the model cannot be trained on.

    Or where a GPU of DataParallel, or a process whose BatchNorm is its own, would get a single sample of a batch.

    BatchNorm cannot normalise a single value per channel, as of one image of 32 pixels behind a ResNet. One sample is tried,
    before the epoch's work instead of after it, and leaves no trace. Nothing is dropped or moved to another batch: at
    other sizes such a batch trains, and published runs did so.
    """
    norms = any(isinstance(module, _NormBase) and module.track_running_stats for module in model.modules())
    if not norms or not _alone(count, batch_size, runtime):
        return
    training = model.training
    state = random_state(runtime.device)
    model.train()
    try:
        inputs, _, _ = runtime.move((collate or default_collate)([data[0]]))
        with torch.no_grad(), runtime.autocast(), frozen_norms(model):
            model(inputs)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        alone = "in a batch" if _alone(count, batch_size, Runtime()) else "on a GPU or in a process"
        raise ValueError(
            f"--batch_size: {batch_size} leaves one of {count} samples alone {alone}, and at this size of the images "
            f"BatchNorm needs two; pass --batch_size {_fitting(count, batch_size, runtime)}, or larger images"
        ) from None
    finally:
        model.train(training)
        set_random_state(state, runtime.device)
