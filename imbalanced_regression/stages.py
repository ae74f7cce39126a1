"""A train.py's run once its data and its model are there: the model gets what the flags name, and learns in one stage or two.

The one idea: a benchmark makes data, model and measure; what the methods do to them is the same for all, and done here.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import choices, flags

if TYPE_CHECKING:
    import numpy as np

    from .training.evaluation import Measure
    from .training.loaders import Splits
    from .training.model import Regressor
    from .training.objective import Objective
    from .training.plan import Plan
    from .training.runtime import Runtime

logger = logging.getLogger(__name__)

FIRST = "pretrain"  # the folder, within the run's, of the first of two stages


def train(
    args: Namespace,
    plan: Plan,
    model: Regressor,
    splits: Splits,
    labels: choices.Labels,
    measure: Measure,
    *,
    folder: Path,
    runtime: Runtime,
    unit: float = 1.0,
    select: str = "",
    renames: Sequence[tuple[str, str]] = (),
    published: Callable | None = None,
) -> dict[str, Any]:
    """What `training.run` returns for the run that the flags describe.

    Args:
        args: of `flags.add`, checked by `flags.plan`, which made `plan`.
        labels: what is known of the training labels.
        unit: of the benchmark's published losses.
        select: the validation metric that chooses the best checkpoint; without one the squared error for --loss mse, and
            the absolute one for all others.
        published: the benchmark's own `sample_weights`, for --resample in the second stage, whose rows are weighed anew.
        splits, measure, folder, runtime, renames: as for `training.run`.

    Raises:
        ValueError: methods that these labels or this model cannot have, with the flag and the way out; and as `training.run`.
    """
    from .training import run

    logger.info("%s", _schedule(args))
    if published is not None:
        splits, labels = second_stage(args, model, splits, labels, published, runtime, renames)
    set_parts(args, model, labels)
    splits = with_sampler(args, splits, labels)
    select = select or ("mse" if args.loss == "mse" else "l1")
    options: dict[str, Any] = {"runtime": runtime, "select": select, "renames": renames, "settings": flags.settings(args)}
    if args.then == "none":
        return run(model, splits, objective(args, model, labels, unit=unit), measure, plan, folder=folder, **options)
    second = Namespace(**{**vars(args), "pretrain": "none"})
    goal = objective(second, model, labels, unit=unit)
    if not plan.evaluate:
        checkpoint = _first_stage(args, plan, model, splits, labels, measure, folder, options)
        plan = _second_plan(second, plan, checkpoint)
    return run(model, splits, goal, measure, plan, folder=folder, **options)


def _first_stage(
    args: Namespace, plan: Plan, model: Regressor, splits: Splits, labels: choices.Labels, measure: Measure, folder: Path,
    options: dict[str, Any],
) -> Path:
    """Pre-train a copy of the model in a folder within the run's, or go on with that; its last checkpoint, for the second."""
    from .training import checkpoint, run
    from .training.log import end_log
    from .training.session import locked_folder

    inner = folder / FIRST
    last = inner / checkpoint.LAST
    anew = plan.resume is None
    with locked_folder(folder, options["settings"], options["runtime"], overwrite=plan.overwrite and anew):
        finished = not anew and last.is_file() and int(checkpoint.load(last).get("epoch", 0)) >= plan.epochs
        if finished:
            logger.info("stage 1 of 2, the pre-training, is done: %s", last)
        else:
            logger.info("stage 1 of 2: the pre-training, in %s", inner)
            first = dataclasses.replace(plan, keep="last", patience=None, overwrite=False)
            trained = copy.deepcopy(model)  # the second stage's head starts as it would in a run of its own
            run(trained, splits, objective(args, trained, labels), measure, first, folder=inner, **options)
            end_log(inner)
    logger.info("stage 2 of 2: --then %s, on the frozen encoder", args.then)
    return last


def _second_plan(args: Namespace, plan: Plan, last: Path) -> Plan:
    own = {"epochs": args.then_epochs, "lr": args.then_lr, "batch_size": args.then_batch_size}
    return dataclasses.replace(
        plan, pretrained=str(last), retrain_fc=True, keep="best", cosine=None, overwrite=False, start_epoch=0,
        views=1, **{name: value for name, value in own.items() if value is not None},
    )


def set_parts(args: Namespace, model: Regressor, labels: choices.Labels) -> None:
    """Give the model what the flags name: a head in the place of the benchmark's own, a unit to learn in, or a constant."""
    if args.head != "linear":
        if labels.dense:
            raise ValueError(f"--head {args.head}: predicts one label from one vector, not a map of pixels; pass --head linear")
        try:
            with choices.flag_named(args.head):
                model.head = choices.HEADS[args.head](vars(args), labels, model.encoder.feature_dim)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"--head {args.head}: {error}") from None
    if args.target != "none":
        try:
            model.target = choices.TARGETS[args.target](labels)
        except ValueError as error:
            raise ValueError(f"--target {args.target}: {error}; leave it out") from None
        logger.info("--target %s: the model learns in %s", args.target, model.target)
    if args.constant != "none":
        model.constant = choices.CONSTANTS[args.constant](labels)


def with_sampler(args: Namespace, splits: Splits, labels: choices.Labels) -> Splits:
    """The splits, with the probabilities by which --sampler draws."""
    if args.sampler == "none":
        return splits
    if labels.values is None:
        raise ValueError(f"--sampler {args.sampler}: draws samples by their label, and here each has one at every pixel; pass "
                         "--reweight inverse, which weighs pixels instead")
    return dataclasses.replace(splits, probabilities=choices.SAMPLERS[args.sampler](vars(args), labels))


def objective(args: Namespace, model: Regressor, labels: choices.Labels, *, unit: float = 1.0) -> Objective:
    """The loss and the terms that the flags name; `unit` is that of the benchmark's published losses."""
    width, to_unit = model.encoder.feature_dim, None if model.target is None else model.target.forward
    try:
        return choices.make_objective(vars(args), labels, width, unit=unit, head=model.head, to_unit=to_unit)  # type: ignore[arg-type]
    except ValueError as error:
        if str(error).startswith("--"):  # it names its flag
            raise
        raise ValueError(f"--loss {args.loss}, --terms {' '.join(args.terms)}: {error}") from None


def _schedule(args: Namespace) -> str:
    """Whose schedule the run has, and its source."""
    if not args.preset:
        return "schedule: the benchmark's own, as far as no flag says otherwise"
    unused = "" if args.preset in choices.used(vars(args)) else f"; {args.preset} itself is not switched on by any flag"
    return f"schedule: --preset {args.preset}, as far as no flag says otherwise: {args.preset_says}{unused}"


def second_stage(
    args: Namespace, model: Regressor, splits: Splits, labels: choices.Labels, published: Callable, runtime: Runtime,
    renames: Sequence[tuple[str, str]] = (),
) -> tuple[Splits, choices.Labels]:
    """The splits and labels of --retrain_fc --resample: rows of the frozen encoder's features; of other runs as they come.

    `published` is as in `sample_weights`. With dense labels, whose neck lies between encoder and head, the neck comes from
    the checkpoint too, and the head alone is re-trained.

    Raises ValueError for labels of which none is rare, or a checkpoint that does not fit.
    """
    if args.resample == "none" or not args.retrain_fc or args.evaluate:
        return splits, labels
    from .training import checkpoint
    from .training.frozen import resampled

    if labels.dense and args.fds:
        raise ValueError("--fds: smooths maps of features, and --resample makes rows of single pixels; leave one out")
    content = checkpoint.load(args.pretrained, "--pretrained")
    checkpoint.load_model(model, content, renames=renames, path=args.pretrained, flag="--pretrained", encoder_only=True)
    if model.neck is not None:
        state = checkpoint.state_dict_of(content, renames)
        model.neck.load_state_dict({n.removeprefix("neck."): v for n, v in state.items() if n.startswith("neck.")})

    def relabelled(values: np.ndarray) -> choices.Labels:
        return dataclasses.replace(labels, counts=labels.bins.counts(values), values=values)

    try:
        splits, values = resampled(
            model, splits, choices.RESAMPLES[args.resample](vars(args)),
            lambda values: flags.sample_weights(args, relabelled(values), published),
            batch_size=args.batch_size, workers=args.workers, seed=args.seed, runtime=runtime,
        )
    except ValueError as error:
        raise ValueError(f"--resample {args.resample}: {error}") from None
    return splits, relabelled(values)
