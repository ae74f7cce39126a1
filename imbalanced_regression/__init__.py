"""Deep imbalanced regression: LDS and FDS for any model and label, and the training loop of five benchmarks.

The public names load their module when first used, so LDS weights need numpy and scipy but not torch.
Source: "Delving into Deep Imbalanced Regression" (Yang, Zha, Chen, Wang, Katabi; ICML 2021), called "the paper" here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "Bins": ".bins",
    "get_lds_kernel_window": ".bins",
    "effective_density": ".lds",
    "label_density": ".lds",
    "lds_weights": ".lds",
    "lds_weights_joint": ".lds",
    "lds_weights_per_output": ".lds",
    "FDS": ".fds",
    "Regressor": ".model",
    "weighted_mse_loss": ".losses",
    "weighted_l1_loss": ".losses",
    "weighted_huber_loss": ".losses",
    "weighted_focal_mse_loss": ".losses",
    "weighted_focal_l1_loss": ".losses",
    "shot_metrics": ".metrics",
    "shot_of_counts": ".metrics",
    "correlations": ".metrics",
    "DepthMetrics": ".metrics",
}

__all__ = [
    "Bins",
    "get_lds_kernel_window",
    "effective_density",
    "label_density",
    "lds_weights",
    "lds_weights_joint",
    "lds_weights_per_output",
    "FDS",
    "Regressor",
    "weighted_mse_loss",
    "weighted_l1_loss",
    "weighted_huber_loss",
    "weighted_focal_mse_loss",
    "weighted_focal_l1_loss",
    "shot_metrics",
    "shot_of_counts",
    "correlations",
    "DepthMetrics",
]

if TYPE_CHECKING:
    from .bins import Bins, get_lds_kernel_window
    from .fds import FDS
    from .lds import effective_density, label_density, lds_weights, lds_weights_joint, lds_weights_per_output
    from .losses import (
        weighted_focal_l1_loss,
        weighted_focal_mse_loss,
        weighted_huber_loss,
        weighted_l1_loss,
        weighted_mse_loss,
    )
    from .metrics import DepthMetrics, correlations, shot_metrics, shot_of_counts
    from .model import Regressor


def __getattr__(name: str):
    if name in _HOME:
        return vars(import_module(_HOME[name], __name__))[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
