"""The only place where a name becomes a method: a dictionary for each slot, and the knobs of the methods in it.

The one idea: a knob belongs to the method whose name it begins with. The groups of `--help`, the names of runs, `compare`, the
README's table and the contract test read that one rule, so a new method is a line here, with its knobs, and its builder.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from . import builders
from .builders import Knobs, Labels

KERNELS = ("gaussian", "triang", "laplace")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")

# -- knobs: name -> (default, help), or (default, help, choices) -------------------------------------------------------

KNOBS: dict[str, tuple] = {
    "lds_kernel": ("gaussian", "the kernel", KERNELS),
    "lds_ks": (5, "window length in bins, odd"),
    "lds_sigma": (2.0, "kernel width in bins"),
    "fds_kernel": ("gaussian", "the kernel", KERNELS),
    "fds_ks": (5, "window length in bins, odd"),
    "fds_sigma": (2.0, "kernel width in bins"),
    "fds_start_update": (0, "first epoch whose features give statistics"),
    "fds_start_smooth": (1, "first epoch that is smoothed"),
    "fds_bucket_num": (100, "number of bins"),
    "fds_bucket_start": (0, "first bin with statistics of its own"),
    "fds_mmt": (0.9, "share of the old statistics kept at each update"),
    "fds_stats": (
        "second_pass",
        "statistics from a pass over the training set after each epoch, as published, or without that, with --fds_kind own, "
        "from the epoch's own forward passes",
        ("second_pass", "streaming"),
    ),
    "fds_kind": (
        "auto",
        "the first release's, with the feedback of its statistics, or ours without; auto: released, or own with --fds_stats "
        "streaming",
        ("auto", "own", "released"),
    ),
    "focal_beta": (0.2, "how fast the factor grows with the error"),
    "huber_beta": (1.0, "the error at which the loss turns linear"),
    "bmc_sigma": (8.0, "noise of the predictions, in the label's unit"),
    "bmc_learn": (False, "learn that noise"),
    "bmc_lr": (1e-2, "learning rate of that noise"),
    "gai_components": (8, "Gaussians of the mixture fitted to the training labels"),
    "gai_sigma": (8.0, "noise of the predictions, in the label's unit"),
    "gai_learn": (False, "learn that noise"),
    "gai_lr": (1e-2, "learning rate of that noise"),
    "bni_sigma": (8.0, "noise of the predictions, in the label's unit"),
    "bni_learn": (False, "learn that noise"),
    "bni_lr": (1e-2, "learning rate of that noise"),
    "dist_strength": (1.0, "factor of the distance between the sorted predictions and the expected labels"),
    "dense_alpha": (1.0, "how far to go, from 0 (no weighting); from 1 on the densest labels hardly count"),
    "uvote_heads": (2, "how many heads, from no re-weighting to the inverse"),
    "nig_predictive": (False, "the spread is that of a label, not of its mean"),
    "rnc_temperature": (2.0, "by which distances of features are divided"),
    "ranksim_strength": (1.0, "factor of the term"),
    "ranksim_interpolation": (2.0, "how far the gradient of the ranking looks"),
    "conr_strength": (4.0, "factor of the term"),
    "conr_within": (1.0, "labels and predictions this near count as equal, in the label's unit"),
    "conr_temperature": (0.2, "by which similarities are divided"),
    "conr_push": (0.01, "how a confusion's share grows with the distance of the labels"),
    "ordinal_entropy_strength": (1.0, "factor of the term"),
    "srl_strength": (1.0, "factor of the term"),
    "srl_envelope": (0.1, "factor of how well the bins' features cover the sphere"),
    "srl_homogeneity": (0.1, "factor of how evenly they are spaced along the label"),
    "srl_contrast": (1.0, "factor of how near samples are to their bin's feature"),
    "srl_temperature": (0.1, "by which that contrast's similarities are divided"),
}

# published flags whose names do not begin with their method's
PUBLISHED = {"fds_start_update": "start_update", "fds_start_smooth": "start_smooth", "fds_bucket_num": "bucket_num",
             "fds_bucket_start": "bucket_start"}

# -- slots: name -> builder ----------------------------------------------------------------------------------------------

# (knobs, labels) -> (outputs, targets, weights) -> scalar
LOSSES: dict[str, Callable[[Knobs, Labels], Callable]] = {
    "mse": builders.mse,
    "l1": builders.l1,
    "focal_l1": builders.focal_l1,
    "focal_mse": builders.focal_mse,
    "huber": builders.huber,
    "bmc": builders.bmc,
    "gai": builders.gai,
    "bni": builders.bni,
    "dist": builders.dist,
    "ccc": builders.ccc,
}
PUBLISHED_LOSSES = ("mse", "l1", "focal_l1", "focal_mse", "huber")  # in the unit of the benchmark's published loss
# losses that assume the labels as they come, so that weights or resampling would balance twice
BALANCES_ITSELF = ("bmc", "gai", "bni")

# (knobs, labels, width of the features) -> (features, targets, preds, weights) -> scalar
TERMS: dict[str, Callable[[Knobs, Labels, int], Callable]] = {
    "ranksim": builders.ranksim,
    "conr": builders.conr,
    "ordinal_entropy": builders.ordinal_entropy,
    "srl": builders.srl,
}

# (knobs, labels, width of the features) -> a module
HEADS: dict[str, Callable[[Knobs, Labels, int], Any]] = {
    "linear": builders.linear,
    "gaussian": builders.gaussian,
    "laplace": builders.laplace,
    "uvote": builders.uvote,
    "nig": builders.nig,
}

# (knobs) -> a term that is all of the objective
PRETRAINS: dict[str, Callable] = {"none": builders.no_pretraining, "rnc": builders.rnc}
TWO_VIEWS = ("rnc", "conr")  # the methods that compare two views of a sample

# (knobs, labels) -> (N,), one a sample
REWEIGHTS: dict[str, Callable] = {
    "none": builders.none, "sqrt_inv": builders.sqrt_inv, "inverse": builders.inverse, "dense": builders.dense,
}

# (knobs) -> (X, y, positions of categories) -> (X, y)
RESAMPLES: dict[str, Callable] = {
    "none": builders.as_they_are, "smoter": builders.smoter, "smogn": builders.smogn, "over": builders.over,
    "under": builders.under,
}

# (knobs, labels) -> (N,), in proportion to which samples are drawn
SAMPLERS: dict[str, Callable] = {"none": builders.in_turn, "balanced": builders.balanced}

# (labels) -> the unit in which the model learns
TARGETS: dict[str, Callable] = {"none": builders.as_it_is, "log": builders.log, "boxcox": builders.boxcox}
FITTED = ("gai", "bni", "dist")  # losses fitted to the labels in their own unit, and as they come

# (labels) -> the prediction for every sample
CONSTANTS: dict[str, Callable] = {"none": builders.trained, "mean": builders.mean, "median": builders.median}

SWITCHES: dict[str, Callable] = {"lds": builders.lds, "fds": builders.fds, "ascent": builders.ascent}  # flags by themselves

SLOTS: dict[str, dict[str, Callable]] = {
    "reweight": REWEIGHTS, "switch": SWITCHES, "loss": LOSSES, "terms": TERMS, "head": HEADS, "pretrain": PRETRAINS,
    "resample": RESAMPLES, "sampler": SAMPLERS, "target": TARGETS, "constant": CONSTANTS,
}


# -- the rule -----------------------------------------------------------------------------------------------------------


def says(builder: Callable) -> str:
    """What a method is, in half a line."""
    return (builder.__doc__ or "").splitlines()[0]


def title(name: str) -> str:
    """A method's name as its paper writes it, where `says` begins with one."""
    builder = next(names[name] for names in SLOTS.values() if name in names)
    head, colon, _ = says(builder).partition(":")
    return head if colon else name.replace("_", " ")


def methods() -> dict[str, str]:
    """Every method by name -> its slot."""
    return {name: slot for slot, choices in SLOTS.items() for name in choices}


def owners(knob: str) -> list[str]:
    """The methods a knob belongs to: those whose name it begins with, or the family of them ("focal_beta", "focal_l1")."""
    found = [name for name in methods() if knob.startswith(f"{name}_")]
    return found or [name for name in methods() if "_" in name and knob.startswith(f"{name.split('_')[0]}_")]


def used(settings: Knobs) -> list[str]:
    """The methods that a run's settings use."""
    names = [name for name in SWITCHES if settings.get(name)]
    for slot in ("reweight", "loss", "head", "pretrain", "resample", "sampler", "target", "constant"):
        if settings.get(slot) in SLOTS[slot]:
            names.append(settings[slot])
    if "balanced" in names and "lds" not in names:
        names.append("lds")  # whose window smooths the density that it draws by
    return [*names, *(settings.get("terms") or [])]


def of_methods_not_used(settings: Knobs) -> set[str]:
    """The names of settings that only concern methods which the run does not use."""
    inside = set(used(settings))
    return {PUBLISHED.get(knob, knob) for knob in KNOBS if not inside & set(owners(knob))} & settings.keys()


@contextlib.contextmanager
def flag_named(method: str) -> Iterator[None]:
    """An error that begins with the name of a method's argument begins with that of its flag instead."""
    try:
        yield
    except ValueError as error:
        argument, _, rest = str(error).partition(":")
        if f"{method}_{argument}" not in KNOBS:
            raise
        raise ValueError(f"--{method}_{argument}:{rest}") from None


def make_objective(settings: Knobs, labels: Labels, feature_dim: int, *, unit: float = 1.0, head=None, to_unit=None):
    """The objective that the settings name: a loss (a head's own where it has one), and terms with their strengths.

    `unit` is that of the benchmark's published losses; every other method's constants are in the unit of the label. `to_unit`
    is that of a model which learns a transform of the label.
    """
    from .training.objective import Objective

    if settings["pretrain"] != "none":
        with flag_named(settings["pretrain"]):
            return Objective(None, [(1.0, PRETRAINS[settings["pretrain"]](settings))])
    own = getattr(head, "loss", None)
    with flag_named(settings["loss"]):
        criterion = LOSSES[settings["loss"]](settings, labels) if own is None else own
    terms = []
    for name in settings["terms"]:
        strength = settings[f"{name}_strength"]
        if not 0 <= strength < math.inf:  # below 0 training would seek what the term is to avoid
            raise ValueError(f"--{name}_strength: expected a finite number, 0 or above, found {strength}")
        with flag_named(name):
            terms.append((strength, TERMS[name](settings, labels, feature_dim)))
    published = own is None and settings["loss"] in PUBLISHED_LOSSES
    return Objective(criterion, terms, unit=unit if published else 1.0, to_unit=to_unit)
