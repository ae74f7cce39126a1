"""A training between its steps: the run's folder, what a checkpoint keeps, and how training is taken up from one.

The one idea: whatever decides the next step is in `Training`; `state` writes it down, `take_up` reads it, and a run that
was stopped anywhere ends like one that was not. Where nothing is said about a step, a checkpoint is of an epoch's end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import checkpoint
from .model import Regressor
from .runtime import Runtime, log_to, set_random_state

logger = logging.getLogger(__name__)


class _OtherOptimizer(ValueError):
    """A checkpoint of another --optimizer; its sums mean nothing to this one."""


@dataclass
class Within:
    """How far an epoch has come: steps done, the sum of their losses, and on this rank the generators and FDS's sums."""

    step: int = 0
    total: float = 0.0
    random: dict | None = None
    sums: list[list[Tensor]] = field(default_factory=list)


@dataclass
class Training:
    """A training in progress: what learns, and how far it has come."""

    model: Regressor
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    criterion: Callable
    runtime: Runtime
    epoch: int = 0  # epochs finished
    best_loss: float = math.inf
    best_epoch: int = -1
    best_by: str = ""  # the split and metric that `best_loss` is of
    best_among: int = 0  # and the samples of that split
    bad_checks: int = 0  # validations since the best
    within: Within = field(default_factory=Within)

    def state(self, renames: checkpoint.Renames, **more) -> dict:
        """The content of a checkpoint; every rank must call it, as each adds its own generators and sums."""
        learns = isinstance(self.criterion, nn.Module)
        state = {
            "epoch": self.epoch, "best_loss": self.best_loss, "best_epoch": self.best_epoch, "best_by": self.best_by,
            "best_among": self.best_among, "bad_checks": self.bad_checks,
            "state_dict": checkpoint.published_names(self.model.state_dict(), renames),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "criterion": self.criterion.state_dict() if learns else None,  # type: ignore[attr-defined]
            **getattr(self.model.encoder, "kept_with", dict)(),
            **more,
        }
        if self.within.step:
            ranks = self.runtime.gather({"random": self.within.random, "sums": self.within.sums})
            state["within"] = {"step": self.within.step, "total": self.within.total, "ranks": ranks}
        return state

    def take_up(self, content: dict, path: Path) -> None:
        """Go on where a checkpoint stands; but for the model's own state and the optimizer's options.

        Raises ValueError for a file that holds no training, or that of another optimizer.
        """
        try:
            self._take_up_optimizer(content, path)
            for name in ("epoch", "best_loss", "best_epoch", "best_by", "best_among", "bad_checks"):
                if name in content:
                    setattr(self, name, type(getattr(self, name))(content[name]))
            if self.scaler is not None and content.get("scaler"):
                self.scaler.load_state_dict(content["scaler"])
            if isinstance(self.criterion, nn.Module) and content.get("criterion"):
                self.criterion.load_state_dict(content["criterion"])
            if content.get("within"):
                self._take_up_within(content["within"])
        except _OtherOptimizer:
            raise
        # what other contents can end in
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
            raise ValueError(
                f"--resume: {path} holds no training to go on with ({error}); use it with --evaluate or --pretrained"
            ) from None
        step = f" and {self.within.step} steps" if self.within.step else ""
        logger.info("resumed from %s after %d epochs%s", path, self.epoch, step)

    def _take_up_optimizer(self, content: dict, path: Path) -> None:
        own, saved = self.optimizer.param_groups, content["optimizer"]["param_groups"]
        now = type(self.optimizer).__name__.lower()
        # files of the first release hold no flags, but each kind's options tell it from the other
        before = (content.get("settings") or {}).get("optimizer") or ("adam" if "betas" in saved[0] else "sgd")
        if before != now:
            raise _OtherOptimizer(
                f"--optimizer: {path} was trained with {before}, found {now}; pass --optimizer {before} to go on, "
                "or begin anew from its encoder with --pretrained"
            )
        # loading would put the file's options in the place of the flags'; the rate of each epoch is set by the loop
        options = [{name: value for name, value in group.items() if name not in ("params", "lr")} for group in own]
        self.optimizer.load_state_dict(content["optimizer"])
        for group, option in zip(self.optimizer.param_groups, options):
            group.update(option)

    def choose_by(self, name: str, among: int) -> None:
        """Say that the best checkpoint is chosen by the split and metric `name` over `among` samples.

        Where the best so far was chosen otherwise its loss cannot be compared, so the search starts anew.
        """
        # files of the first release do not say by which, and are trusted
        if math.isfinite(self.best_loss) and self.best_by and (self.best_by, self.best_among) != (name, among):
            logger.warning(
                "--resume: the best checkpoint so far was chosen by %s of %d samples, from now on by %s of %d: the search "
                "for the best starts anew", self.best_by, self.best_among, name, among,
            )
            self.best_loss, self.best_epoch, self.bad_checks = math.inf, -1, 0
        self.best_by, self.best_among = name, among

    def _take_up_within(self, within: dict) -> None:
        ranks, here = within["ranks"], self.runtime
        sums = [part for rank in ranks[here.rank :: here.world] for part in rank["sums"]]
        self.within = Within(int(within["step"]), float(within["total"]), None, sums)
        if len(ranks) == here.world:
            self.within.random = ranks[here.rank]["random"]
            set_random_state(self.within.random)  # here to find out early whether it can be
        else:
            logger.warning(
                "--resume: the epoch was begun by %d processes and now there are %d: what its other steps draw at random "
                "will differ", len(ranks), here.world,
            )


# -- the folder --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def claimed(folder: Path, settings: dict, runtime: Runtime, *, overwrite: bool) -> Iterator[None]:
    """Make the run's folder and hold it for this run alone; start its log, and keep the flags in args.json.

    Raises ValueError where another process trains in it.
    """
    with contextlib.ExitStack() as held:
        if runtime.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            lock = folder / ".lock"
            held.enter_context(_alone(lock))
            for path in folder.iterdir() if overwrite else ():
                if path != lock:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            for left in folder.glob("*.part"):  # by a process that was killed while writing
                left.unlink()
            log_to(folder)
            checkpoint.write(folder / "args.json", json.dumps(settings, indent=1) + "\n")
        runtime.barrier()
        yield


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
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
                ) from None  # any other number: a network disk without locks
        yield


def resume_path(resume: str | None, folder: Path, *, evaluate: bool) -> Path | None:
    """--resume PATH, or with a bare --resume the run's own checkpoint: its best to evaluate, its last to go on from."""
    if resume is None:
        return None
    if resume:
        return Path(resume)
    own = folder / (checkpoint.BEST if evaluate else checkpoint.LAST)
    if not own.is_file() and not evaluate:
        logger.info("--resume: no checkpoint in %s yet, so training starts from the beginning", folder)
        return None
    return own


def bring_best(training: Training, path: Path, folder: Path) -> None:
    """When training goes on in another folder, the best checkpoint so far comes along, or the search for it starts anew."""
    if path.parent.resolve() == folder.resolve():
        return
    best = path.parent / checkpoint.BEST
    if not best.is_file() or math.isinf(training.best_loss):  # or one that was chosen otherwise
        training.best_loss, training.best_epoch, training.bad_checks = math.inf, -1, 0
    elif training.runtime.is_main:
        checkpoint.write(folder / checkpoint.BEST, best.read_bytes())
    training.runtime.barrier()  # where no epoch is left to train, every rank reads it next


# -- the flags ---------------------------------------------------------------------------------------------------------


def settings_of(args) -> dict[str, Any]:
    """The flags as plain values, to be kept in the checkpoint."""
    return {name: value if isinstance(value, (int, float, str, list, type(None))) else str(value)
            for name, value in vars(args).items()}


_FREE_TO_CHANGE = {"epochs", "epoch", "max_vals", "patience", "resume", "overwrite", "evaluate", "pretrained", "store_root",
                   "store_name", "suffix", "data_dir", "workers", "print_freq", "device", "cuda",
                   "steps"}  # a benchmark that has it sets it from a flag of another name, and that one is compared


def warn_of_changes(before: dict, now: dict) -> None:
    """Say which flags differ from those the checkpoint was trained with, where that changes what is learnt."""
    for name in sorted(before.keys() & now.keys() - _FREE_TO_CHANGE):
        if before[name] != now[name]:
            logger.warning("--resume: --%s was %s and is now %s", name, before[name], now[name])
