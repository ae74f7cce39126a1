"""How each method is built from its knobs and from what is known of the labels: a function of three lines a method.

The one idea: a builder is all that a method's name stands for. Names and knobs are in choices.py, which alone refers to these.
The first line of a builder's docstring is what `--help` and the README say. Nothing heavy is imported before one is called.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from .bins import Bins

logger = logging.getLogger(__name__)

Knobs = Mapping[str, Any]


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

    @property
    def listed(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The labels (N,) and None, or where there is no list the bins' centers (K,) and their counts (K,)."""
        return (self.bins.centers, self.counts) if self.values is None else (self.values, None)


# -- losses: (knobs, labels) -> (outputs, targets, weights) -> scalar ---------------------------------------------------


def mse(knobs: Knobs, labels: Labels):
    """mean squared error"""
    from .methods.losses import weighted_mse_loss

    return weighted_mse_loss


def l1(knobs: Knobs, labels: Labels):
    """mean absolute error"""
    from .methods.losses import weighted_l1_loss

    return weighted_l1_loss


def focal_l1(knobs: Knobs, labels: Labels):
    """focal-R with absolute errors (Yang et al., ICML 2021)"""
    from .methods.losses import weighted_focal_l1_loss

    return partial(weighted_focal_l1_loss, beta=knobs["focal_beta"])


def focal_mse(knobs: Knobs, labels: Labels):
    """focal-R with squared errors (Yang et al., ICML 2021)"""
    from .methods.losses import weighted_focal_mse_loss

    return partial(weighted_focal_mse_loss, beta=knobs["focal_beta"])


def huber(knobs: Knobs, labels: Labels):
    """squared near 0, linear beyond"""
    from .methods.losses import weighted_huber_loss

    return partial(weighted_huber_loss, beta=knobs["huber_beta"])


def bmc(knobs: Knobs, labels: Labels):
    """Balanced MSE by the labels of the batch (Ren et al., CVPR 2022)"""
    from .methods.balanced_mse import BMC

    return BMC(knobs["bmc_sigma"], learn=knobs["bmc_learn"], lr=knobs["bmc_lr"])


def gai(knobs: Knobs, labels: Labels):
    """Balanced MSE by a mixture fitted to the training labels (Ren et al., CVPR 2022)"""
    from .methods.balanced_mse import GAI

    return GAI.fit(
        bins=labels.bins, counts=labels.counts, components=knobs["gai_components"], seed=knobs["seed"],
        sigma=knobs["gai_sigma"], learn=knobs["gai_learn"], lr=knobs["gai_lr"],
    )


def bni(knobs: Knobs, labels: Labels):
    """Balanced MSE by the histogram of the training labels (Ren et al., CVPR 2022)"""
    from .methods.balanced_mse import BNI

    return BNI.fit(
        labels.bins, labels.counts, sigma=knobs["bni_sigma"], learn=knobs["bni_learn"], lr=knobs["bni_lr"],
        lds=knobs["lds"], kernel=knobs["lds_kernel"], ks=knobs["lds_ks"], lds_sigma=knobs["lds_sigma"],
    )


def dist(knobs: Knobs, labels: Labels):
    """Dist Loss: predictions distributed as the labels are (Nie et al., ICLR 2025)"""
    from .methods.dist_loss import DistLoss

    return DistLoss(bins=labels.bins, counts=labels.counts, strength=knobs["dist_strength"])


def ccc(knobs: Knobs, labels: Labels):
    """one less the concordance correlation of the batch (Lin, Biometrics 1989)"""
    from .methods.losses import ccc_loss

    return ccc_loss


# -- terms: (knobs, labels, width of the features) -> (features, targets, preds, weights) -> scalar ---------------------


def ranksim(knobs: Knobs, labels: Labels, feature_dim: int):
    """RankSim: features ranked as the labels are (Gong et al., ICML 2022)"""
    from .methods.ranksim import RankSim

    return RankSim(knobs["ranksim_interpolation"])


def conr(knobs: Knobs, labels: Labels, feature_dim: int):
    """ConR: samples confused with one another are pushed apart (Keramati et al., ICLR 2024)"""
    from .methods.conr import ConR

    return ConR(knobs["conr_within"], knobs["conr_temperature"], knobs["conr_push"])


def ordinal_entropy(knobs: Knobs, labels: Labels, feature_dim: int):
    """Ordinal Entropy: labels' features spread out, and tight each (Zhang et al., ICLR 2023)"""
    from .methods.ordinal_entropy import OrdinalEntropy

    return OrdinalEntropy(labels.bins)


def srl(knobs: Knobs, labels: Labels, feature_dim: int):
    """SRL: the bins' features as an even trace over the sphere (Dong et al., CVPR 2025)"""
    from .methods.srl import SRL

    return SRL(
        labels.bins, feature_dim, envelope=knobs["srl_envelope"], homogeneity=knobs["srl_homogeneity"],
        contrast=knobs["srl_contrast"], temperature=knobs["srl_temperature"], seed=knobs["seed"],
    )


# -- heads: (knobs, labels, width of the features, unit) -> a module ----------------------------------------------------


def linear(knobs: Knobs, labels: Labels, feature_dim: int):
    """one number a label, by the loss of --loss"""  # and the benchmark's own layer, so there is nothing to build


def gaussian(knobs: Knobs, labels: Labels, feature_dim: int):
    """mean and standard deviation, by the Gaussian likelihood"""
    from .methods.likelihood import GaussianHead

    return GaussianHead(feature_dim, labels.center, labels.scale)


def laplace(knobs: Knobs, labels: Labels, feature_dim: int):
    """location and scale, by the Laplace likelihood"""
    from .methods.likelihood import LaplaceHead

    return LaplaceHead(feature_dim, labels.center, labels.scale)


def uvote(knobs: Knobs, labels: Labels, feature_dim: int):
    """UVOTE: heads under growing re-weighting, and the surest one speaks (Jiang et al., GCPR 2024)"""
    from .methods.uvote import UVOTE

    return UVOTE(knobs["uvote_heads"], feature_dim, labels.center, labels.scale)


def nig(knobs: Knobs, labels: Labels, feature_dim: int):
    """VIR's head: a normal-inverse-gamma with re-weighted evidence (Wang and Wang, NeurIPS 2023)"""
    from .methods.vir import NIG

    return NIG(feature_dim, labels.center, labels.scale, predictive=knobs["nig_predictive"])


# -- pre-training: (knobs) -> a term that is all of the objective --------------------------------------------------------


def no_pretraining(*_):
    """train encoder and head at once"""


def rnc(knobs: Knobs, *_):
    """Rank-N-Contrast: features ordered as the labels, before there is a head (Zha et al., NeurIPS 2023)"""
    from .methods.rank_n_contrast import RankNContrast

    return RankNContrast(knobs["rnc_temperature"])


# -- weights: (knobs, labels) -> (N,), one a sample ---------------------------------------------------------------------


def none(*_):
    """every sample counts alike"""


def sqrt_inv(*_):
    """one over the root of the (smoothed) label density"""
    # the benchmark's own sample_weights: from .methods.lds import lds_weights


def inverse(*_):
    """one over the (smoothed) label density"""
    # the benchmark's own sample_weights: from .methods.lds import lds_weights


def dense(knobs: Knobs, labels: Labels):
    """DenseWeight: one less the label's scaled kernel density (Steininger et al., Machine Learning 2021)"""
    from .methods.dense_weight import dense_bin_weights, dense_weights

    if labels.values is None:
        return dense_bin_weights(labels.bins, labels.counts, alpha=knobs["dense_alpha"])
    return dense_weights(labels.values, alpha=knobs["dense_alpha"])


# -- resampling: (knobs) -> (X, y, positions of categories) -> (X, y) ---------------------------------------------------


def _relevance(labels):
    """Which labels are rare: those the boxplot calls outliers, or where there are none, those in thin places."""
    from .methods.relevance import Relevance

    try:
        return Relevance.boxplot(labels)
    except ValueError:
        logger.warning("--resample: no label lies beyond the boxplot's fences, so rare are those where labels are thin")
        return Relevance.density(labels)


def as_they_are(*_):
    """the training samples as they are"""


def smoter(knobs: Knobs, *_):
    """SMOTER: rare rows are joined to neighbours, common ones thinned out (Torgo et al., EPIA 2013)"""
    from .methods.resampling import smoter

    return lambda X, y, categorical=None: smoter(X, y, relevance=_relevance(y), categorical=categorical, seed=knobs["seed"])


def smogn(knobs: Knobs, *_):
    """SMOGN: SMOTER with noise where neighbours are far (Branco et al., LIDTA 2017)"""
    from .methods.resampling import smogn

    return lambda X, y, categorical=None: smogn(X, y, relevance=_relevance(y), categorical=categorical, seed=knobs["seed"])


def over(knobs: Knobs, *_):
    """rare rows are repeated"""
    from .methods.resampling import random_oversample

    return lambda X, y, categorical=None: random_oversample(X, y, relevance=_relevance(y), seed=knobs["seed"])


def under(knobs: Knobs, *_):
    """common rows are thinned out"""
    from .methods.resampling import random_undersample

    return lambda X, y, categorical=None: random_undersample(X, y, relevance=_relevance(y), seed=knobs["seed"])


# -- sampler: (knobs, labels) -> (N,), in proportion to which samples are drawn -------------------------------------------


def in_turn(*_):
    """every training sample once in a pass"""


def balanced(knobs: Knobs, labels: Labels):
    """balanced sampler: draws samples by the inverse smoothed label density, with replacement, instead of weighing them"""
    from .methods.lds import lds_weights

    return lds_weights(
        labels.values, labels.bins, reweight="inverse", lds=True, kernel=knobs["lds_kernel"], ks=knobs["lds_ks"],
        sigma=knobs["lds_sigma"],
    )


# -- target: (labels) -> the unit in which the model learns -------------------------------------------------------------


def as_it_is(*_):
    """the model learns the label itself"""


def log(labels: Labels):
    """log target: the model learns the logarithm of the label"""
    from .methods.targets import TargetUnit

    return TargetUnit.fit("log", *labels.listed)


def boxcox(labels: Labels):
    """Box-Cox target: the model learns the power of the label that is most Gaussian (Box and Cox, JRSS B 1964)"""
    from .methods.targets import TargetUnit

    return TargetUnit.fit("boxcox", *labels.listed)


# -- constant: (labels) -> the prediction for every sample --------------------------------------------------------------


def trained(*_):
    """a model is trained"""


def mean(labels: Labels):
    """constant mean: trains nothing and predicts the mean training label"""
    from .methods.targets import constant_baseline

    values, counts = labels.listed
    return constant_baseline(values, "mean", counts)


def median(labels: Labels):
    """constant median: trains nothing and predicts the median training label"""
    from .methods.targets import constant_baseline

    values, counts = labels.listed
    return constant_baseline(values, "median", counts)


# -- features -----------------------------------------------------------------------------------------------------------


def lds(*_):
    """label distribution smoothing of the density of --reweight (Yang et al., ICML 2021)"""
    # the benchmark's own sample_weights: from .methods.lds import lds_weights


def fds(*_):
    """feature distribution smoothing (Yang et al., ICML 2021)"""
    # the benchmark's own FDS: from .methods.fds import FDS


def ascent(*_):
    """BSAM: a step up before each step down, to where the loss is flat (ICCV 2025)"""
    # the loop's own step: from .methods.bsam import climbed
