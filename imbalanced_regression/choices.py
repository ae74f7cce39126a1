"""The only place where a name becomes a method: a dictionary for each slot, and the knobs of the methods in it.

The one idea: a knob belongs to the method whose name it begins with. The groups of `--help`, the names of runs, `compare`, the
README's table and the contract test read that one rule, so a new method is a line here, with its knobs.
The first line of a builder's docstring is what `--help` and the README say. Nothing heavy is imported before one is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from .bins import Bins

Knobs = Mapping[str, Any]

KERNELS = ("gaussian", "triang", "laplace")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class Labels:
    """What a method may be fitted to: the bins, the training labels in each (K,), and the labels (N,) where there is a list."""

    bins: Bins
    counts: np.ndarray
    values: np.ndarray | None = None
    dense: bool = False  # a label for every pixel

    @property
    def center(self) -> float:
        """The mean training label, from the counts."""
        return float(self.counts @ self.bins.centers / self.counts.sum())

    @property
    def scale(self) -> float:
        """The standard deviation of the training labels, from the counts; 1 where they are all alike."""
        spread = float(self.counts @ (self.bins.centers - self.center) ** 2 / self.counts.sum()) ** 0.5
        return spread or 1.0


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


# -- losses: (knobs, labels) -> (outputs, targets, weights) -> scalar ---------------------------------------------------


def _mse(knobs: Knobs, labels: Labels):
    """mean squared error"""
    from .methods.losses import weighted_mse_loss

    return weighted_mse_loss


def _l1(knobs: Knobs, labels: Labels):
    """mean absolute error"""
    from .methods.losses import weighted_l1_loss

    return weighted_l1_loss


def _focal_l1(knobs: Knobs, labels: Labels):
    """focal-R with absolute errors (Yang et al., ICML 2021)"""
    from .methods.losses import weighted_focal_l1_loss

    return partial(weighted_focal_l1_loss, beta=knobs["focal_beta"])


def _focal_mse(knobs: Knobs, labels: Labels):
    """focal-R with squared errors (Yang et al., ICML 2021)"""
    from .methods.losses import weighted_focal_mse_loss

    return partial(weighted_focal_mse_loss, beta=knobs["focal_beta"])


def _huber(knobs: Knobs, labels: Labels):
    """squared near 0, linear beyond"""
    from .methods.losses import weighted_huber_loss

    return partial(weighted_huber_loss, beta=knobs["huber_beta"])


def _bmc(knobs: Knobs, labels: Labels):
    """Balanced MSE by the labels of the batch (Ren et al., CVPR 2022)"""
    from .methods.balanced_mse import BMC

    return BMC(knobs["bmc_sigma"], learn=knobs["bmc_learn"], lr=knobs["bmc_lr"])


def _gai(knobs: Knobs, labels: Labels):
    """Balanced MSE by a mixture fitted to the training labels (Ren et al., CVPR 2022)"""
    from .methods.balanced_mse import GAI

    return GAI.fit(
        bins=labels.bins, counts=labels.counts, components=knobs["gai_components"], seed=knobs["seed"],
        sigma=knobs["gai_sigma"], learn=knobs["gai_learn"], lr=knobs["gai_lr"],
    )


def _bni(knobs: Knobs, labels: Labels):
    """Balanced MSE by the histogram of the training labels (Ren et al., CVPR 2022)"""
    from .methods.balanced_mse import BNI

    return BNI.fit(
        labels.bins, labels.counts, sigma=knobs["bni_sigma"], learn=knobs["bni_learn"], lr=knobs["bni_lr"],
        lds=knobs["lds"], kernel=knobs["lds_kernel"], ks=knobs["lds_ks"], lds_sigma=knobs["lds_sigma"],
    )


def _dist(knobs: Knobs, labels: Labels):
    """Dist Loss: predictions distributed as the labels are (Nie et al., ICLR 2025)"""
    from .methods.dist_loss import DistLoss

    return DistLoss(bins=labels.bins, counts=labels.counts, strength=knobs["dist_strength"])


def _ccc(knobs: Knobs, labels: Labels):
    """one less the concordance correlation of the batch (Lin, Biometrics 1989)"""
    from .methods.losses import ccc_loss

    return ccc_loss


PUBLISHED_LOSSES = ("mse", "l1", "focal_l1", "focal_mse", "huber")  # in the unit of the benchmark's published loss

LOSSES: dict[str, Callable[[Knobs, Labels], Callable]] = {
    "mse": _mse,
    "l1": _l1,
    "focal_l1": _focal_l1,
    "focal_mse": _focal_mse,
    "huber": _huber,
    "bmc": _bmc,
    "gai": _gai,
    "bni": _bni,
    "dist": _dist,
    "ccc": _ccc,
}


# losses that assume the labels as they come, so that weights or resampling would balance twice
BALANCES_ITSELF = ("bmc", "gai", "bni")


# -- terms: (knobs, labels, width of the features) -> (features, targets, preds, weights) -> scalar ---------------------


def _ranksim(knobs: Knobs, labels: Labels, feature_dim: int):
    """RankSim: features ranked as the labels are (Gong et al., ICML 2022)"""
    from .methods.ranksim import RankSim

    return RankSim(knobs["ranksim_interpolation"])


def _conr(knobs: Knobs, labels: Labels, feature_dim: int):
    """ConR: samples confused with one another are pushed apart (Keramati et al., ICLR 2024)"""
    from .methods.conr import ConR

    return ConR(knobs["conr_within"], knobs["conr_temperature"], knobs["conr_push"])


def _ordinal_entropy(knobs: Knobs, labels: Labels, feature_dim: int):
    """Ordinal Entropy: labels' features spread out, and tight each (Zhang et al., ICLR 2023)"""
    from .methods.ordinal_entropy import OrdinalEntropy

    return OrdinalEntropy(labels.bins)


def _srl(knobs: Knobs, labels: Labels, feature_dim: int):
    """SRL: the bins' features as an even trace over the sphere (Dong et al., CVPR 2025)"""
    from .methods.srl import SRL

    return SRL(
        labels.bins, feature_dim, envelope=knobs["srl_envelope"], homogeneity=knobs["srl_homogeneity"],
        contrast=knobs["srl_contrast"], temperature=knobs["srl_temperature"], seed=knobs["seed"],
    )


TERMS: dict[str, Callable[[Knobs, Labels, int], Callable]] = {
    "ranksim": _ranksim, "conr": _conr, "ordinal_entropy": _ordinal_entropy, "srl": _srl,
}


# -- heads: (knobs, labels, width of the features, unit) -> a module ----------------------------------------------------


def _linear(knobs: Knobs, labels: Labels, feature_dim: int):
    """one number a label, by the loss of --loss"""  # and the benchmark's own layer, so there is nothing to build


def _gaussian(knobs: Knobs, labels: Labels, feature_dim: int):
    """mean and standard deviation, by the Gaussian likelihood"""
    from .methods.likelihood import GaussianHead

    return GaussianHead(feature_dim, labels.center, labels.scale)


def _laplace(knobs: Knobs, labels: Labels, feature_dim: int):
    """location and scale, by the Laplace likelihood"""
    from .methods.likelihood import LaplaceHead

    return LaplaceHead(feature_dim, labels.center, labels.scale)


def _uvote(knobs: Knobs, labels: Labels, feature_dim: int):
    """UVOTE: heads under growing re-weighting, and the surest one speaks (Jiang et al., GCPR 2024)"""
    from .methods.uvote import UVOTE

    return UVOTE(knobs["uvote_heads"], feature_dim, labels.center, labels.scale)


def _nig(knobs: Knobs, labels: Labels, feature_dim: int):
    """VIR's head: a normal-inverse-gamma with re-weighted evidence (Wang and Wang, NeurIPS 2023)"""
    from .methods.vir import NIG

    return NIG(feature_dim, labels.center, labels.scale, predictive=knobs["nig_predictive"])


HEADS: dict[str, Callable[[Knobs, Labels, int], Any]] = {
    "linear": _linear, "gaussian": _gaussian, "laplace": _laplace, "uvote": _uvote, "nig": _nig,
}


# -- pre-training: (knobs) -> a term that is all of the objective --------------------------------------------------------


def _no_pretraining(*_):
    """train encoder and head at once"""


def _rnc(knobs: Knobs, *_):
    """Rank-N-Contrast: features ordered as the labels, before there is a head (Zha et al., NeurIPS 2023)"""
    from .methods.rank_n_contrast import RankNContrast

    return RankNContrast(knobs["rnc_temperature"])


PRETRAINS: dict[str, Callable] = {"none": _no_pretraining, "rnc": _rnc}

TWO_VIEWS = ("rnc", "conr")  # the methods that compare two views of a sample


# -- weights: (knobs, labels) -> (N,), one a sample ---------------------------------------------------------------------


def _none(*_):
    """every sample counts alike"""


def _sqrt_inv(*_):
    """one over the root of the (smoothed) label density"""
    # the benchmark's own sample_weights: from .methods.lds import lds_weights


def _inverse(*_):
    """one over the (smoothed) label density"""
    # the benchmark's own sample_weights: from .methods.lds import lds_weights


def _dense(knobs: Knobs, labels: Labels):
    """DenseWeight: one less the label's scaled kernel density (Steininger et al., Machine Learning 2021)"""
    from .methods.dense_weight import dense_bin_weights, dense_weights

    if labels.values is None:
        return dense_bin_weights(labels.bins, labels.counts, alpha=knobs["dense_alpha"])
    return dense_weights(labels.values, alpha=knobs["dense_alpha"])


REWEIGHTS: dict[str, Callable] = {"none": _none, "sqrt_inv": _sqrt_inv, "inverse": _inverse, "dense": _dense}


# -- resampling: (knobs) -> (X, y, positions of categories) -> (X, y) ---------------------------------------------------


def _as_they_are(*_):
    """the training samples as they are"""


def _smoter(knobs: Knobs, *_):
    """SMOTER: rare rows are joined to neighbours, common ones thinned out (Torgo et al., EPIA 2013)"""
    from .methods.resampling import smoter

    return lambda X, y, categorical=None: smoter(X, y, categorical=categorical, seed=knobs["seed"])


def _smogn(knobs: Knobs, *_):
    """SMOGN: SMOTER with noise where neighbours are far (Branco et al., LIDTA 2017)"""
    from .methods.resampling import smogn

    return lambda X, y, categorical=None: smogn(X, y, categorical=categorical, seed=knobs["seed"])


def _over(knobs: Knobs, *_):
    """rare rows are repeated"""
    from .methods.resampling import random_oversample

    return lambda X, y, categorical=None: random_oversample(X, y, seed=knobs["seed"])


def _under(knobs: Knobs, *_):
    """common rows are thinned out"""
    from .methods.resampling import random_undersample

    return lambda X, y, categorical=None: random_undersample(X, y, seed=knobs["seed"])


RESAMPLES: dict[str, Callable] = {
    "none": _as_they_are, "smoter": _smoter, "smogn": _smogn, "over": _over, "under": _under,
}


# -- features -----------------------------------------------------------------------------------------------------------


def _lds(*_):
    """label distribution smoothing of the density of --reweight (Yang et al., ICML 2021)"""
    # the benchmark's own sample_weights: from .methods.lds import lds_weights


def _fds(*_):
    """feature distribution smoothing (Yang et al., ICML 2021)"""
    # the benchmark's own FDS: from .methods.fds import FDS


def _ascent(*_):
    """BSAM: a step up before each step down, to where the loss is flat (ICCV 2025)"""
    # the loop's own step: from .methods.bsam import climbed


SWITCHES: dict[str, Callable] = {"lds": _lds, "fds": _fds, "ascent": _ascent}  # flags by themselves

SLOTS: dict[str, dict[str, Callable]] = {
    "reweight": REWEIGHTS, "switch": SWITCHES, "loss": LOSSES, "terms": TERMS, "head": HEADS, "pretrain": PRETRAINS,
    "resample": RESAMPLES,
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
    for slot in ("reweight", "loss", "head", "pretrain", "resample"):
        if settings.get(slot) in SLOTS[slot]:
            names.append(settings[slot])
    return [*names, *(settings.get("terms") or [])]


def of_methods_not_used(settings: Knobs) -> set[str]:
    """The names of settings that only concern methods which the run does not use."""
    inside = set(used(settings))
    return {PUBLISHED.get(knob, knob) for knob in KNOBS if not inside & set(owners(knob))} & settings.keys()


def make_objective(settings: Knobs, labels: Labels, feature_dim: int, *, unit: float = 1.0, head=None):
    """The objective that the settings name: a loss (a head's own where it has one), and terms with their strengths.

    `unit` is that of the benchmark's published losses; every other method's constants are in the unit of the label.
    """
    from .training.objective import Objective

    if settings["pretrain"] != "none":
        return Objective(None, [(1.0, PRETRAINS[settings["pretrain"]](settings))])
    own = getattr(head, "loss", None)
    criterion = LOSSES[settings["loss"]](settings, labels) if own is None else own
    terms = [(settings[f"{name}_strength"], TERMS[name](settings, labels, feature_dim)) for name in settings["terms"]]
    published = own is None and settings["loss"] in PUBLISHED_LOSSES
    return Objective(criterion, terms, unit=unit if published else 1.0)
