"""A run's numbers: what a training is told, checked in one place, and which of it changes what is learnt.

The one idea: a plan is plain values, so it can be written down beside a run and compared with the plan of another. It is
made from flags by `flags.plan`, or in one line. No torch is imported before an optimizer is asked for.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

OPTIMIZERS = ("adam", "sgd")
FDS_STATS = ("second_pass", "streaming")


@dataclass(frozen=True)
class Plan:
    """What `run` is told.

    Args:
        epochs: how many; an epoch is what lies between two validations.
        steps: training steps of an epoch; None makes it one pass over the data.
        start_epoch: the number of the first epoch, for the rate and for FDS.
        lr: the learning rate, which falls to a tenth at each of the epochs in `schedule`.
        cosine: instead it falls along a cosine to this share of itself, which it would reach after the last epoch.
        optimizer: "adam" or "sgd" (with `momentum`), both with `weight_decay`.
        batch_size: samples of a step, over all processes.
        views: how many views of each sample a batch holds; index i + N is another view of sample i of N.
        max_grad_norm: gradients are scaled down to this norm; None leaves them.
        ascent: radius of the step up before each step down (BSAM); 0 takes none.
        fds_stats: FDS's statistics from a pass over the training set ("second_pass", as published) or "streaming".
        retrain_fc: re-train the head on a frozen encoder (RRT).
        pretrained: a checkpoint whose encoder training starts from; "" for none.
        patience: stop after so many validations without improvement; None never does.
        keep: "best" tests the checkpoint of the best validation, "last" the last one (for pre-training).
        seed: of everything drawn at random.
        resume: a checkpoint to go on from, "" for the run's own last, None to start anew.
        evaluate: only measure the checkpoint of `resume`.
        overwrite: delete the run's folder if it exists.
        workers: processes that load data, for each training process.
        print_freq: steps between lines of the log, and on an accelerator between looks at the loss.

    Raises:
        ValueError: a number out of range, with its name, the value, and what is expected.
    """

    epochs: int = 90
    steps: int | None = None
    start_epoch: int = 0
    lr: float = 1e-3
    schedule: tuple[int, ...] = ()
    cosine: float | None = None
    optimizer: str = "adam"
    weight_decay: float = 0.0
    momentum: float = 0.9
    batch_size: int = 64
    views: int = 1
    max_grad_norm: float | None = None
    ascent: float = 0.0
    fds_stats: str = "streaming"
    retrain_fc: bool = False
    pretrained: str = ""
    patience: int | None = None
    keep: str = "best"
    seed: int = 0
    resume: str | None = None
    evaluate: bool = False
    overwrite: bool = False
    workers: int = 0
    print_freq: int = 100

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", tuple(self.schedule))
        least = {"epochs": 1, "steps": 1, "batch_size": 1, "views": 1, "patience": 1, "print_freq": 1, "workers": 0, "seed": 0,
                 "weight_decay": 0, "ascent": 0, "start_epoch": 0, "momentum": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= bound):
                raise ValueError(f"{name}: expected at least {bound}, found {value}")
        for name in ("lr", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a number above 0, found {value}")
        if self.cosine is not None and not 0 <= self.cosine <= 1:
            raise ValueError(f"cosine: expected a share of the rate, from 0 to 1, found {self.cosine}")
        if self.seed >= 2**63:
            raise ValueError(f"seed: expected a number below 2^63, found {self.seed}")
        for name, choices in (("optimizer", OPTIMIZERS), ("fds_stats", FDS_STATS), ("keep", ("best", "last"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, found {getattr(self, name)!r}")
        if self.start_epoch >= self.epochs:
            raise ValueError(f"start_epoch: expected below epochs = {self.epochs}, found {self.start_epoch}")
        if self.retrain_fc and not self.pretrained:
            raise ValueError("retrain_fc: re-trains the head of a trained model; pass it by --pretrained CKPT")
        if self.evaluate and self.resume is None:
            raise ValueError("evaluate: measures a checkpoint; pass it by --resume CKPT (--resume alone: the run's own best)")

    def rate(self, epoch: int, base: float | None = None) -> float:
        """The learning rate of an epoch; `base` is the rate of a group of parameters that has one of its own."""
        base = self.lr if base is None else base
        if self.cosine is not None:
            return base * (self.cosine + (1 - self.cosine) * (1 + math.cos(math.pi * epoch / self.epochs)) / 2)
        return base * 0.1 ** sum(epoch >= milestone for milestone in self.schedule)

    def make_optimizer(self, groups: list[dict[str, Any]], fused: bool = False) -> torch.optim.Optimizer:
        """The optimizer over parameter groups, each with an "lr" of its own where it names one.

        `fused`: one kernel for all parameters, which also learns on the device whether a scaled gradient has overflowed.
        """
        import torch

        if self.optimizer == "sgd":
            return torch.optim.SGD(
                groups, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=fused or None
            )
        return torch.optim.Adam(groups, lr=self.lr, weight_decay=self.weight_decay, fused=fused or None)

    def settings(self) -> dict[str, Any]:
        """The plan as plain values, to be kept beside the run."""
        return plain(dataclasses.asdict(self))


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as numbers, text and lists, which JSON and checkpoints hold."""
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    return {name: value if isinstance(value, (int, float, str, list, type(None))) else str(value)
            for name, value in settings.items()}


# settings that say where and when a run is made, never what is learnt in it
HOUSEKEEPING = frozenset({
    "resume", "overwrite", "evaluate", "eval_model", "predictions", "store_root", "store_name", "suffix", "data_dir",
    "workers", "cache", "print_freq", "device", "cuda", "gpu",
    "steps",  # --val_interval sets the steps, and that flag is compared
    "preset", "preset_says",  # what they set is compared
})
# a resumed run may be longer than it was meant to be, and has read --pretrained when it began
FREE_ON_RESUME = HOUSEKEEPING | {"epochs", "epoch", "max_vals", "patience", "pretrained", "gpu"}
# which samples train and which measure
THE_SPLIT = ("split", "split_seed")
# what a sample looks like to the model, where the weights fit all the same
THE_INPUT = ("img_size", "height", "max_seq_len", "lowercase")
# two runs of one method may differ in these
NOT_THE_METHOD = HOUSEKEEPING | {"seed", "random_seed", "dataset"}


def warn_of_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say which settings differ from those a checkpoint was trained with, where that changes what is learnt."""
    for name in sorted(before.keys() & now.keys() - FREE_ON_RESUME):
        if before[name] != now[name]:
            logger.warning("--resume: --%s was %s and is now %s", name, before[name], now[name])


def warn_of_other_input(before: dict[str, Any], now: dict[str, Any], source: str) -> None:
    """Say where a checkpoint was trained on samples read otherwise, which fit its weights and give it worse numbers."""
    for name in THE_INPUT:
        if name in before and name in now and before[name] != now[name]:
            logger.warning("%s was trained with --%s %s and is now used with %s", source, name, before[name], now[name])


def warn_of_other_split(before: dict[str, Any], now: dict[str, Any], source: str) -> bool:
    """Say where a checkpoint was trained on another split, whose training samples may be measured here; whether it was."""
    others = [name for name in THE_SPLIT if name in before and name in now and before[name] != now[name]]
    for name in others:
        was, is_now = ("none" if value is None else value for value in (before[name], now[name]))
        logger.warning(
            "%s was trained with --%s %s and is now used with %s: samples that it was trained on may be among those measured",
            source, name, was, is_now,
        )
    return bool(others)
