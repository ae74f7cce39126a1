"""A training between its steps: how it begins, the run's folder, what a checkpoint keeps, and how it is taken up from one.

The one idea: whatever decides the next step is in `Training`; `state` writes it down, `resume` reads it, and a run that
was stopped anywhere ends like one that was not. Where nothing is said about a step, a checkpoint is of an epoch's end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import write
from . import checkpoint
from .log import log_to
from .model import Regressor
from .objective import Objective
from .plan import Plan, warn_of_changes, warn_of_other_input, warn_of_other_split
from .randomness import random_state, same_generators, set_random_state
from .runtime import Runtime

logger = logging.getLogger(__name__)


class _OtherOptimizer(ValueError):
    """A checkpoint of another --optimizer; its sums mean nothing to this one."""


@dataclass
class EpochProgress:
    """How far an epoch has come: steps done, the sum of their losses, and on this rank the generators.

    `sums` is what FDS had observed of the running pass when the checkpoint was written, for the loop to take up.
    """

    step: int = 0
    total: float = 0.0
    random: dict | None = None
    sums: list[list[Tensor]] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The mean loss of the steps done."""
        return self.total / max(self.step, 1)


@dataclass
class Training:
    """A training in progress: what learns, and how far it has come."""

    model: Regressor
    wrapped: nn.Module  # the model as it is called, in several processes or on several GPUs
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    objective: Objective
    runtime: Runtime
    rates: list[float] = field(default_factory=list)  # each group's learning rate before the schedule
    renames: checkpoint.Renames = ()
    settings: dict[str, Any] = field(default_factory=dict)
    origin: Path | None = None  # the checkpoint it was taken up from
    epoch: int = 0  # epochs finished
    best_loss: float = math.inf
    best_epoch: int = -1
    best_by: str = ""  # the split and metric that `best_loss` is of
    best_among: int = 0  # and the samples of that split
    bad_checks: int = 0  # validations since the best
    progress: EpochProgress = field(default_factory=EpochProgress)
    took: list[float] = field(default_factory=list)  # seconds of each epoch of this process, with its validation

    def set_rates(self, plan: Plan, epoch: int) -> float:
        """Set every group's learning rate for an epoch; returns the first one's, that of the model."""
        for group, base in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = plan.rate(epoch, base)
        return self.optimizer.param_groups[0]["lr"]

    def judge(self, loss: float, select: str, epoch: int, lr: float) -> bool:
        """End an epoch by its validation metric; whether it is the best so far. Raises ValueError where it is not finite."""
        if not math.isfinite(loss):
            raise ValueError(f"the validation {select} is {loss} after epoch {epoch + 1} at learning rate {lr:g}; lower it")
        is_best = loss < self.best_loss
        self.epoch, self.progress = epoch + 1, EpochProgress()
        self.bad_checks = 0 if is_best else self.bad_checks + 1
        if is_best:
            self.best_loss, self.best_epoch = loss, epoch
        return is_best

    def choose_by(self, name: str, among: int, *, other_samples: bool = False) -> None:
        """Say that the best checkpoint is chosen by the split and metric `name` over `among` samples.

        Where the best so far was chosen otherwise, or among `other_samples`, losses cannot be compared: the search starts anew.
        """
        # files of the first release do not say by which, and are trusted
        changed = other_samples or (self.best_by, self.best_among) != (name, among)
        if math.isfinite(self.best_loss) and self.best_by and changed:
            logger.warning(
                "--resume: the best checkpoint so far was chosen by %s of %d samples, from now on by %s of %d%s: the search "
                "for the best starts anew", self.best_by, self.best_among, name, among, " others" if other_samples else "",
            )
            self.best_loss, self.best_epoch, self.bad_checks = math.inf, -1, 0
        self.best_by, self.best_among = name, among

    # -- within an epoch -----------------------------------------------------------------------------------------------

    def note_progress(self) -> None:
        """Write down where this rank's generators stand, after the last step that `progress` counts; a call of all ranks."""
        self.runtime.average_norms(self.model)
        self.progress.random = random_state(self.runtime.device)

    def take_up_progress(self, *, observes: bool) -> None:
        """Put this rank's generators, and where FDS `observes` the steps its sums of the running pass, as `progress` says."""
        if self.progress.random is not None:
            set_random_state(self.progress.random, self.runtime.device)
        if observes and self.model.fds is not None:
            for sums in self.progress.sums:
                self.model.fds.add_observed(sums)
        self.progress.sums = []

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def save(self, folder: Path, is_best: bool = False) -> None:
        """Write the last checkpoint, and the best if it is; every rank must call it."""
        state = self.state()
        if self.runtime.is_main:
            checkpoint.save(folder, state, is_best)
        self.runtime.barrier()

    def state(self) -> dict:
        """The content of a checkpoint; every rank must call it, as each adds its own generators and sums."""
        state = {
            "epoch": self.epoch, "best_loss": self.best_loss, "best_epoch": self.best_epoch, "best_by": self.best_by,
            "best_among": self.best_among, "bad_checks": self.bad_checks,
            "state_dict": checkpoint.published_names(self.model.state_dict(), self.renames),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "objective": self.objective.state_dict(),
            **getattr(self.model.encoder, "kept_with", dict)(),
            "model": self.settings.get("model"),
            "settings": self.settings,
        }
        sums = [] if self.model.fds is None else self.model.fds.observed()
        ranks = self.runtime.gather({"random": self.progress.random, "sums": [sums] if sums else []})
        if self.progress.step or any(rank["sums"] for rank in ranks):  # sums also between two epochs within one pass
            state["within"] = {"step": self.progress.step, "total": self.progress.total, "ranks": ranks}
        return state

    def resume(self, content: dict, path: Path) -> None:
        """Go on where a checkpoint stands; the model's state is loaded apart, and the optimizer's options stay as they are.

        Raises ValueError for a file that holds no training, or that of another optimizer.
        """
        try:
            self._resume_optimizer(content, path)
            for name, kind in _NUMBERS.items():
                if name in content:
                    setattr(self, name, kind(content[name]))
            if self.scaler is not None and content.get("scaler"):
                self.scaler.load_state_dict(content["scaler"])
            if content.get("objective"):
                self.objective.load_state_dict(content["objective"])
            elif content.get("criterion"):  # as files were before there were terms in them
                self.objective.load_state_dict({f"criterion.{name}": value for name, value in content["criterion"].items()})
            if content.get("within"):
                self._resume_within(content["within"])
        except _OtherOptimizer:
            raise
        # errors that a foreign file raises
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
            raise ValueError(
                f"--resume: {path} holds no training to go on with ({error}); use it with --evaluate or --pretrained"
            ) from None
        step = f" and {self.progress.step} steps" if self.progress.step else ""
        logger.info("resumed from %s after %d epochs%s", path, self.epoch, step)

    def _resume_optimizer(self, content: dict, path: Path) -> None:
        own, saved = self.optimizer.param_groups, content["optimizer"]["param_groups"]
        now = type(self.optimizer).__name__.lower()
        # files of the first release hold no flags, but each kind's options tell it from the other
        before = (content.get("settings") or {}).get("optimizer") or ("adam" if "betas" in saved[0] else "sgd")
        if before != now:
            raise _OtherOptimizer(
                f"--optimizer: {path} was trained with {before}, found {now}; pass --optimizer {before} to go on, "
                "or begin anew from its encoder with --pretrained"
            )
        # the options are the flags', not the file's, and already in loading: where Adam's count of steps lies goes by them;
        # the rate of each epoch is set by the loop
        groups = [dict(group) for group in saved]
        for group, option in zip(groups, own):
            group.update({name: value for name, value in option.items() if name not in ("params", "lr")})
        self.optimizer.load_state_dict({**content["optimizer"], "param_groups": groups})
        _begin_momentum(self.optimizer)

    def _resume_within(self, within: dict) -> None:
        ranks, rank, world = within["ranks"], self.runtime.rank, self.runtime.world
        sums = [part for other in ranks[rank::world] for part in other["sums"]]
        self.progress = EpochProgress(int(within["step"]), float(within["total"]), None, sums)
        if len(ranks) == world:
            self.progress.random = ranks[rank]["random"]
            if self.progress.random is not None:
                set_random_state(self.progress.random, self.runtime.device)  # tried now: a bad state fails before training
                if not same_generators(self.progress.random, self.runtime.device):
                    logger.warning(
                        "--resume: the epoch was begun on other devices than %s: what its other steps draw at random there, "
                        "such as dropout, will differ", self.runtime.device,
                    )
        else:
            logger.warning(
                "--resume: the epoch was begun by %d processes and now there are %d: what its other steps draw at random "
                "will differ", len(ranks), world,
            )

    def load_tested(self, folder: Path, plan: Plan) -> None:
        """Load the checkpoint that is tested: the best one, or the last where the plan keeps that."""
        path = folder / (checkpoint.BEST if plan.keep == "best" else checkpoint.LAST)
        checkpoint.load_model(self.model, checkpoint.load(path), renames=self.renames, path=path)
        if plan.keep == "best":
            logger.info("testing the best checkpoint, of epoch %d (%s %.4g)", self.best_epoch + 1, self.best_by, self.best_loss)


_NUMBERS = {"epoch": int, "best_loss": float, "best_epoch": int, "best_by": str, "best_among": int, "bad_checks": int}


def prepare(model: Regressor, objective: Objective, plan: Plan, runtime: Runtime | None = None) -> Training:
    """A training before its first step: everything on the device, an optimizer over what learns, the model wrapped.

    The order matters: the encoder is loaded, then frozen for re-training, then the optimizer takes what is left to learn.
    """
    runtime = runtime or Runtime()
    for part in (model, objective):
        runtime.place(part)
    if runtime.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if plan.retrain_fc:
        model.freeze_encoder()
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    groups += objective.parameter_groups()
    # on the CPU a small model's step is mostly the optimizer's calls, one for each tensor and operation; on CUDA the scaler's
    # step would otherwise wait on the host for the whole backward pass
    scaled = runtime.amp is torch.float16
    optimizer = plan.make_optimizer(groups, fused=runtime.device.type == "cpu" or (scaled and runtime.device.type == "cuda"))
    _begin_momentum(optimizer)
    rates = [group["lr"] for group in optimizer.param_groups]
    scaler = torch.amp.GradScaler(runtime.device.type) if scaled else None
    return Training(model, runtime.wrap(model), optimizer, scaler, objective, runtime, rates, epoch=plan.start_epoch)


def _begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give a fused SGD its momentum as zeros: torch leaves it uninitialised where the first step's gradient overflows."""
    for group in optimizer.param_groups:
        if group.get("momentum") and group["fused"]:
            for parameter in group["params"]:
                if optimizer.state[parameter].get("momentum_buffer") is None:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def begin(
    model: Regressor,
    objective: Objective,
    plan: Plan,
    runtime: Runtime,
    folder: Path,
    *,
    renames: checkpoint.Renames,
    settings: dict[str, Any],
    chosen_by: tuple[str, int],
) -> Training:
    """The training that a plan describes: anew, from the encoder of `pretrained`, or where a checkpoint of `resume` stands.

    `chosen_by` are the split and metric that choose the best checkpoint, and the number of samples of that split.
    """
    if plan.pretrained:
        content = checkpoint.load(plan.pretrained, "--pretrained")
        checkpoint.load_model(model, content, renames=renames, path=plan.pretrained, flag="--pretrained", encoder_only=True)
        logger.info("encoder loaded from %s; the head starts anew", plan.pretrained)
        warn_of_other_split(content.get("settings") or {}, settings, f"--pretrained: {plan.pretrained}")
        warn_of_other_input(content.get("settings") or {}, settings, f"--pretrained: {plan.pretrained}")
    training = prepare(model, objective, plan, runtime)
    training.renames, training.settings = renames, settings
    training.origin = path = resume_path(plan, folder)
    other_split = False
    if path is not None:
        content = checkpoint.load(path)
        checkpoint.load_model(model, content, renames=renames, path=path)
        other_split = warn_of_other_split(content.get("settings") or {}, settings, f"--resume: {path}")
        if plan.evaluate:
            warn_of_other_input(content.get("settings") or {}, settings, f"--resume: {path}")
            training.best_epoch = int(content.get("best_epoch", content.get("epoch", -1)))
            _check_same_file(training)
            return training
        training.resume(content, path)
        if training.epoch >= plan.epochs and not (path.parent / checkpoint.BEST).is_file():
            raise ValueError(
                f"--resume: {path} has no epoch left to train and no {checkpoint.BEST} beside it to test; "
                "allow more epochs, or pass --evaluate"
            )
        warn_of_changes(content.get("settings") or {}, settings)
    if plan.resume is not None:
        _check_same_file(training)
    if training.epoch < plan.epochs or not training.best_by:
        training.choose_by(*chosen_by, other_samples=other_split)
    return training


def _check_same_file(training: Training) -> None:
    """Raise ValueError where the ranks go on from different places, which would end in one waiting for another for ever."""
    places = training.runtime.gather((training.epoch, training.progress.step, training.best_epoch))
    if len(set(places)) > 1:
        found = ", ".join(f"rank {rank}: epoch {epoch}, step {step}" for rank, (epoch, step, _) in enumerate(places))
        raise ValueError(
            f"--store_root: the processes would go on from different checkpoints ({found}); put it on a disk that all machines "
            "share, or copy the run's folder to each"
        )


# -- the folder --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked_folder(folder: Path, settings: dict, runtime: Runtime, *, overwrite: bool) -> Iterator[None]:
    """Make the run's folder and hold it for this run alone; start its log, and keep the settings in args.json.

    Raises ValueError where another process trains in it.
    """
    with contextlib.ExitStack() as held:
        if runtime.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            lock = folder / ".lock"
            held.enter_context(_file_lock(lock))
            for path in folder.iterdir() if overwrite else ():
                if path != lock:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            for left in folder.glob("*.part"):  # by a process that was killed while writing
                left.unlink()
            log_to(folder)
            write(folder / "args.json", json.dumps(settings, indent=1) + "\n")
        runtime.barrier()
        yield


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    with open(path, "ab") as file:
        try:
            import fcntl

            # this process's own, unlike flock's: worker processes that outlive a killed one do not hold it
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows
            pass
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(
                    f"{path.parent}: another process is training in it; wait for it, or name another by --store_name"
                ) from None
            # any other errno: a network disk without locks, and training goes on unlocked
        yield


def resume_path(plan: Plan, folder: Path) -> Path | None:
    """The plan's `resume`, or for "" the run's own checkpoint: its best to evaluate, its last to go on from."""
    if plan.resume is None:
        return None
    if plan.resume:
        return Path(plan.resume)
    own = folder / (checkpoint.BEST if plan.evaluate else checkpoint.LAST)
    if not own.is_file() and not plan.evaluate:
        logger.info(
            "--resume: no checkpoint in %s yet, so training starts from the beginning; to go on from another folder's, as "
            "after a change of flags that are in its name, pass --resume PATH", folder,
        )
        return None
    return own


def copy_best_checkpoint(training: Training, folder: Path) -> None:
    """When training goes on in another folder, the best checkpoint so far comes along, or the search for it starts anew."""
    if training.origin is None or training.origin.parent.resolve() == folder.resolve():
        return
    best = training.origin.parent / checkpoint.BEST
    if not best.is_file() or math.isinf(training.best_loss):  # or one that was chosen otherwise
        training.best_loss, training.best_epoch, training.bad_checks = math.inf, -1, 0
    elif training.runtime.is_main:
        write(folder / checkpoint.BEST, best.read_bytes())
    training.runtime.barrier()  # where no epoch is left to train, every rank reads it next
