"""Imbalanced regression: the field's methods for any model and label, and the training loop of six benchmarks.

The public names load their module when first used, so LDS weights need numpy and scipy but not torch.
Source: "Delving into Deep Imbalanced Regression" (Yang, Zha, Chen, Wang, Katabi; ICML 2021), called "the paper" here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

_HOME = {
    "Bins": ".bins",
    "get_lds_kernel_window": ".methods.windows",
    "Reweighting": ".methods.lds",
    "effective_density": ".methods.lds",
    "label_density": ".methods.lds",
    "lds_weights": ".methods.lds",
    "lds_weights_joint": ".methods.lds",
    "lds_weights_per_output": ".methods.lds",
    "FDS": ".methods.fds",
    "Regressor": ".training.model",
    "ScaledLinear": ".training.model",
    "weighted_mse_loss": ".methods.losses",
    "weighted_l1_loss": ".methods.losses",
    "weighted_huber_loss": ".methods.losses",
    "weighted_focal_mse_loss": ".methods.losses",
    "weighted_focal_l1_loss": ".methods.losses",
    "BMC": ".methods.balanced_mse",
    "GAI": ".methods.balanced_mse",
    "BNI": ".methods.balanced_mse",
    "RankSim": ".methods.ranksim",
    "DistLoss": ".methods.dist_loss",
    "dist_loss": ".methods.dist_loss",
    "dense_weights": ".methods.dense_weight",
    "ConR": ".methods.conr",
    "OrdinalEntropy": ".methods.ordinal_entropy",
    "SRL": ".methods.srl",
    "enveloping": ".methods.srl",
    "homogeneity": ".methods.srl",
    "srl_contrastive": ".methods.srl",
    "ccc_loss": ".methods.losses",
    "Relevance": ".methods.relevance",
    "smoter": ".methods.resampling",
    "smogn": ".methods.resampling",
    "random_oversample": ".methods.resampling",
    "random_undersample": ".methods.resampling",
    "sera": ".metrics",
    "balanced_mae": ".metrics",
    "bmase": ".metrics",
    "ccc": ".metrics",
    "aore": ".metrics",
    "aorc": ".metrics",
    "freedman_diaconis_bins": ".metrics",
    "UVOTE": ".methods.uvote",
    "uvote_loss": ".methods.uvote",
    "uvote_point": ".methods.uvote",
    "uvote_weights": ".methods.uvote",
    "NIG": ".methods.vir",
    "nig_nll": ".methods.vir",
    "nig_loss": ".methods.vir",
    "GaussianHead": ".methods.likelihood",
    "LaplaceHead": ".methods.likelihood",
    "laplace_nll": ".methods.likelihood",
    "RankNContrast": ".methods.rank_n_contrast",
    "rank_n_contrast": ".methods.rank_n_contrast",
    "climbed": ".methods.bsam",
    "LogTarget": ".methods.targets",
    "BoxCox": ".methods.targets",
    "TargetUnit": ".methods.targets",
    "constant_baseline": ".methods.targets",
    "shot_metrics": ".metrics",
    "ause": ".uncertainty",
    "spread_metrics": ".uncertainty",
    "shot_of_counts": ".metrics",
    "shots_of_bins": ".metrics",
    "correlations": ".metrics",
    "DepthMetrics": ".metrics",
}

__all__ = list(_HOME)

# Not in __all__: they need scikit-learn, which `from imbalanced_regression import *` must not.
_NEEDS_SKLEARN = {"SMOTER": ".sklearn", "SMOGN": ".sklearn"}

if TYPE_CHECKING:
    from .bins import Bins
    from .methods.balanced_mse import BMC, BNI, GAI
    from .methods.bsam import climbed
    from .methods.conr import ConR
    from .methods.dense_weight import dense_weights
    from .methods.dist_loss import DistLoss, dist_loss
    from .methods.fds import FDS
    from .methods.lds import (
        Reweighting,
        effective_density,
        label_density,
        lds_weights,
        lds_weights_joint,
        lds_weights_per_output,
    )
    from .methods.likelihood import GaussianHead, LaplaceHead, laplace_nll
    from .methods.losses import (
        ccc_loss,
        weighted_focal_l1_loss,
        weighted_focal_mse_loss,
        weighted_huber_loss,
        weighted_l1_loss,
        weighted_mse_loss,
    )
    from .methods.ordinal_entropy import OrdinalEntropy
    from .methods.rank_n_contrast import RankNContrast, rank_n_contrast
    from .methods.ranksim import RankSim
    from .methods.relevance import Relevance
    from .methods.resampling import random_oversample, random_undersample, smogn, smoter
    from .methods.srl import SRL, enveloping, homogeneity, srl_contrastive
    from .methods.targets import BoxCox, LogTarget, TargetUnit, constant_baseline
    from .methods.uvote import UVOTE, uvote_loss, uvote_point, uvote_weights
    from .methods.vir import NIG, nig_loss, nig_nll
    from .methods.windows import get_lds_kernel_window
    from .metrics import (
        DepthMetrics,
        aorc,
        aore,
        balanced_mae,
        bmase,
        ccc,
        correlations,
        freedman_diaconis_bins,
        sera,
        shot_metrics,
        shot_of_counts,
        shots_of_bins,
    )
    from .sklearn import SMOGN, SMOTER
    from .training.model import Regressor, ScaledLinear
    from .uncertainty import ause, spread_metrics


def __getattr__(name: str):
    if home := _HOME.get(name) or _NEEDS_SKLEARN.get(name):
        return vars(import_module(home, __name__))[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
