"""The methods for scikit-learn: resamplers, re-weighting of any regressor, a small network, and scorers by shot.

The one idea: whatever is learnt from labels (bins, weights, relevance, shots) is learnt in `fit`, from the training fold
alone, so it can be cross-validated. scikit-learn is imported here and nowhere else: pip install imbalanced_regression[sklearn].
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
    from sklearn.utils import check_random_state, get_tags
    from sklearn.utils.validation import (
        _check_sample_weight,
        assert_all_finite,
        check_consistent_length,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError as error:
    raise ImportError("imbalanced_regression.sklearn needs scikit-learn 1.6 or newer: pip install scikit-learn") from error

from . import metrics
from .bins import Bins
from .methods import resampling
from .methods.lds import lds_weights
from .methods.relevance import Relevance

__all__ = [
    "SMOGN", "SMOTER", "DeepRegressor", "LabelScorer", "RandomOverSampler", "RandomUnderSampler", "ReweightedRegressor",
    "balanced_mae", "few_shot_mae", "sera",
]

logger = logging.getLogger(__name__)


# -- resamplers --------------------------------------------------------------------------------------------------------


class _Resampler(BaseEstimator):
    """What the four share: `fit_resample(X, y)`, which imbalanced-learn's Pipeline calls while fitting and at no other time."""

    def fit(self, X, y):
        """Check X and y; resampling itself is `fit_resample`. Raises ValueError as scikit-learn's own."""
        validate_data(self, X, y, dtype=None, ensure_min_samples=2, y_numeric=True)
        self.train_labels_ = np.asarray(y, dtype=np.float64).reshape(-1)
        return self

    def fit_resample(self, X, y):
        """(X, y) -> resampled (X, y), in the containers and types that came. Raises ValueError as the function of that name."""
        self.fit(X, y)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return self._function()(X, y, **self._arguments(), seed=seed)

    def _arguments(self) -> dict[str, Any]:
        return {name: value for name, value in self.get_params(deep=False).items() if name != "random_state"}

    def _function(self) -> Callable:
        raise NotImplementedError

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        return tags


class SMOTER(_Resampler):
    """`smoter` as an estimator with `fit_resample`. The arguments are those of the function, `random_state` its seed."""

    def __init__(
        self, *, relevance="boxplot", threshold=0.5, ratio="balance", k=5, distance="auto", categorical=None, per_feature=True,
        random_state=None,
    ):
        self.relevance = relevance
        self.threshold = threshold
        self.ratio = ratio
        self.k = k
        self.distance = distance
        self.categorical = categorical
        self.per_feature = per_feature
        self.random_state = random_state

    def _function(self) -> Callable:
        return resampling.smoter


class SMOGN(SMOTER):
    """`smogn` as an estimator with `fit_resample`. The arguments are those of the function, `random_state` its seed."""

    def __init__(
        self, *, relevance="boxplot", threshold=0.5, ratio="balance", k=5, pert=0.02, distance="auto", categorical=None,
        per_feature=True, random_state=None,
    ):
        super().__init__(
            relevance=relevance, threshold=threshold, ratio=ratio, k=k, distance=distance, categorical=categorical,
            per_feature=per_feature, random_state=random_state,
        )
        self.pert = pert

    def _function(self) -> Callable:
        return resampling.smogn


class RandomOverSampler(_Resampler):
    """`random_oversample` as an estimator with `fit_resample`. The arguments are those of the function."""

    def __init__(self, *, relevance="boxplot", threshold=0.5, ratio="balance", random_state=None):
        self.relevance = relevance
        self.threshold = threshold
        self.ratio = ratio
        self.random_state = random_state

    def _function(self) -> Callable:
        return resampling.random_oversample


class RandomUnderSampler(RandomOverSampler):
    """`random_undersample` as an estimator with `fit_resample`. The arguments are those of the function."""

    def _function(self) -> Callable:
        return resampling.random_undersample


# -- weights -----------------------------------------------------------------------------------------------------------


def _dense(labels: np.ndarray, bins: Bins, options: Mapping) -> np.ndarray:
    from .methods.dense_weight import dense_weights

    return dense_weights(labels, alpha=options["alpha"])


def _by_density(base: str, lds: bool) -> Callable[[np.ndarray, Bins, Mapping], np.ndarray]:
    def weights(labels: np.ndarray, bins: Bins, options: Mapping) -> np.ndarray:
        window = {name: options[name] for name in ("kernel", "ks", "sigma")} if lds else {}
        return lds_weights(labels, bins, reweight=base, lds=lds, **window)

    return weights


# name -> (labels (N,), bins, options) -> weights (N,) with mean 1
REWEIGHTS: dict[str, Callable[[np.ndarray, Bins, Mapping], np.ndarray]] = {
    "none": lambda labels, bins, options: np.ones(len(labels)),
    "sqrt_inv": _by_density("sqrt_inv", False),
    "inverse": _by_density("inverse", False),
    "lds": _by_density("sqrt_inv", True),
    "lds_inverse": _by_density("inverse", True),
    "dense": _dense,
}


def _weights(estimator, labels: np.ndarray, bins: Bins) -> np.ndarray:
    """(N,) with mean 1 by the estimator's `reweight`, of its `kernel`, `ks`, `sigma` and `alpha`."""
    if estimator.reweight not in REWEIGHTS:
        raise ValueError(f"reweight: expected one of {', '.join(REWEIGHTS)}, found {estimator.reweight!r}")
    options = {name: getattr(estimator, name) for name in ("kernel", "ks", "sigma", "alpha")}
    return REWEIGHTS[estimator.reweight](labels, bins, options).astype(np.float64)


def _bins(bins, labels: np.ndarray) -> Bins:
    """Bins of labels (N,) from None (automatic), a number of them, edges (K + 1,), or Bins."""
    if bins is None:
        return Bins.auto(labels)
    if isinstance(bins, Bins):
        return bins
    if np.ndim(bins) == 0:
        if not 1 <= bins <= len(labels):
            raise ValueError(f"bins: expected 1 to {len(labels)}, one label each or more, found {bins}")
        low, high = labels.min(), labels.max()
        return Bins.uniform(low, high, bins) if low < high else Bins.auto(labels)
    return Bins(bins)


def _target(y) -> np.ndarray:
    """y as (N,) float64, with scikit-learn's own sentences for what is none."""
    y = column_or_1d(y, warn=True)
    if y.dtype.kind in "OUS":
        y = y.astype(np.float64)
    assert_all_finite(y, input_name="y")
    return y.astype(np.float64)


class ReweightedRegressor(RegressorMixin, MetaEstimatorMixin, BaseEstimator):
    """Any regressor whose `fit` takes `sample_weight`, with weights by the label density of the training fold.

    Args:
        estimator: HistGradientBoostingRegressor, RandomForestRegressor, Ridge, XGBoost, LightGBM, a Pipeline that ends in one.
        reweight: "lds" (one over the root of the smoothed density), "lds_inverse", "sqrt_inv" and "inverse" (not smoothed),
            "dense" (DenseWeight) or "none" (any regressor at all; the labels are only remembered, for the scorers below).
        bins: None (`Bins.auto`), how many of equal width, edges, or `Bins`.
        kernel, ks, sigma: LDS's window over the bins.
        alpha: DenseWeight's, from 0 (no weighting) on.

    `fit(X, y, sample_weight=None)` multiplies weights that are given by its own. After it: `estimator_`, `weights_` (N,) with
    mean 1, `bins_`, `train_labels_` (N,).

    Raises:
        ValueError: an option out of range, NaN in y, an estimator without `sample_weight`.
    """

    def __init__(self, estimator, reweight="lds", bins=None, kernel="gaussian", ks=5, sigma=2.0, alpha=1.0):
        self.estimator = estimator
        self.reweight = reweight
        self.bins = bins
        self.kernel = kernel
        self.ks = ks
        self.sigma = sigma
        self.alpha = alpha

    def fit(self, X, y, sample_weight=None, **fit_params):
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        labels = _target(y)
        check_consistent_length(X, labels)
        bins = _bins(self.bins, labels)
        weights = _weights(self, labels, bins)
        if sample_weight is not None:
            fit_params[_weight_name(self.estimator)] = weights * _given_weights(sample_weight, labels)
        elif self.reweight != "none":
            fit_params[_weight_name(self.estimator)] = weights
        self.estimator_ = clone(self.estimator).fit(X, y, **fit_params)
        self.bins_, self.weights_, self.train_labels_ = bins, weights, labels
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    def predict(self, X):
        check_is_fitted(self)
        return self.estimator_.predict(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        tags.regressor_tags = inner.regressor_tags or tags.regressor_tags
        return tags


def _given_weights(sample_weight, X) -> np.ndarray:
    """Weights given to `fit` as (N,). Raises ValueError for one below 0, with which a network would seek its largest error."""
    given = _check_sample_weight(sample_weight, X)
    if given.min() < 0:
        raise ValueError(f"sample_weight: expected at least 0, found {given.min():g} at index {given.argmin()}; leave it out")
    return given


def _weight_name(estimator) -> str:
    """How the estimator's `fit` calls sample weights: for a Pipeline those of its last step."""
    if hasattr(estimator, "steps"):
        name, last = estimator.steps[-1]
        return f"{name}__{_weight_name(last)}"
    parameters = inspect.signature(estimator.fit).parameters
    if "sample_weight" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return "sample_weight"
    raise ValueError(
        f"estimator: {type(estimator).__name__}.fit takes no sample_weight, so nothing can be weighed; take one that does, or "
        "resample with SMOGN in an imbalanced-learn Pipeline"
    )


# -- a network ---------------------------------------------------------------------------------------------------------


def _loss(name: str):
    def build(options: Mapping, bins: Bins, labels: np.ndarray, seed: int):
        from functools import partial

        from .methods import losses

        found = {
            "mse": losses.weighted_mse_loss, "l1": losses.weighted_l1_loss, "huber": losses.weighted_huber_loss,
            "focal_mse": losses.weighted_focal_mse_loss, "focal_l1": losses.weighted_focal_l1_loss, "ccc": losses.ccc_loss,
        }[name]
        return partial(found, **options) if options else found

    return build


def _bmc(options: Mapping, bins: Bins, labels: np.ndarray, seed: int):
    from .methods.balanced_mse import BMC

    return BMC(**{"sigma": 0.5, **options})


def _gai(options: Mapping, bins: Bins, labels: np.ndarray, seed: int):
    from .methods.balanced_mse import GAI

    return GAI.fit(labels, **{"sigma": 0.5, "components": min(8, len(np.unique(labels))), "seed": seed, **options})


def _bni(options: Mapping, bins: Bins, labels: np.ndarray, seed: int):
    from .methods.balanced_mse import BNI

    return BNI.fit(bins, bins.counts(labels), **{"sigma": 0.5, **options})


def _dist(options: Mapping, bins: Bins, labels: np.ndarray, seed: int):
    from .methods.dist_loss import DistLoss

    return DistLoss(labels, **options)


def _ranksim(options: Mapping, bins: Bins, width: int, seed: int):
    from .methods.ranksim import RankSim

    return RankSim(**{"seed": seed, **options})


def _conr(options: Mapping, bins: Bins, width: int, seed: int):
    from .methods.conr import ConR

    return ConR(**{"within": 0.1, **options})


def _ordinal_entropy(options: Mapping, bins: Bins, width: int, seed: int):
    from .methods.ordinal_entropy import OrdinalEntropy

    return OrdinalEntropy(bins, **options)


def _srl(options: Mapping, bins: Bins, width: int, seed: int):
    from .methods.srl import SRL

    return SRL(bins, width, **{"seed": seed, **options})


LOSSES: dict[str, Callable] = {
    **{name: _loss(name) for name in ("mse", "l1", "huber", "focal_mse", "focal_l1", "ccc")},
    "bmc": _bmc, "gai": _gai, "bni": _bni, "dist": _dist,
}
TERMS: dict[str, Callable] = {"ranksim": _ranksim, "conr": _conr, "ordinal_entropy": _ordinal_entropy, "srl": _srl}


class DeepRegressor(RegressorMixin, BaseEstimator):
    """A multi-layer perceptron trained with any of the methods: DeepRegressor(fds=True, terms={"ranksim": 100}, loss="bni").

    Columns and labels are standardised by the training fold inside, and predictions are in the label's unit. So all constants
    of losses and terms (a Balanced MSE's sigma, ConR's within) are in standard deviations of the training labels.

    Args:
        hidden: widths of the hidden layers; the last one is what FDS and the terms see.
        loss: "mse", "l1", "huber", "focal_mse", "focal_l1", "ccc", "bmc", "gai", "bni" or "dist"; loss_options: its
            arguments.
        terms: {"ranksim" | "conr" | "ordinal_entropy" | "srl": strength}; term_options: {name: its arguments}.
        fds: feature distribution smoothing; fds_options: arguments of `FDS` besides the bins.
        reweight, bins, kernel, ks, sigma, alpha: weights by label density, as in `ReweightedRegressor`.
        lr, weight_decay, batch_size, epochs: of Adam. early_stopping: keep the epoch with the least weighted absolute error
            on `validation_fraction` of the rows, and end after `patience` epochs without a better one.
        random_state: of the start, the order of rows and the validation rows.

    After `fit`: `model_` (a `Regressor`), `n_iter_` epochs trained, `best_epoch_`, `bins_`, `train_labels_` (N,).

    Raises:
        ValueError: as scikit-learn's regressors; an unknown loss, term or re-weighting, an option out of range.
    """

    def __init__(
        self, hidden=(64, 64), *, loss="mse", loss_options=None, terms=None, term_options=None, fds=False, fds_options=None,
        reweight="none", bins=None, kernel="gaussian", ks=5, sigma=2.0, alpha=1.0, lr=3e-3, weight_decay=0.0, batch_size=64,
        epochs=200, early_stopping=True, validation_fraction=0.15, patience=20, random_state=None,
    ):
        self.hidden = hidden
        self.loss = loss
        self.loss_options = loss_options
        self.terms = terms
        self.term_options = term_options
        self.fds = fds
        self.fds_options = fds_options
        self.reweight = reweight
        self.bins = bins
        self.kernel = kernel
        self.ks = ks
        self.sigma = sigma
        self.alpha = alpha
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        import torch

        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        self._check()
        labels = _target(y)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        bins = _bins(self.bins, labels)
        weights = _weights(self, labels, bins)
        if sample_weight is not None:
            weights = weights * _given_weights(sample_weight, X)
        rows = np.random.default_rng(seed).permutation(len(X))
        held_out = int(self.validation_fraction * len(X)) if self.early_stopping else 0
        if len(X) - held_out < 2:
            held_out = 0
        val, train = rows[:held_out], np.sort(rows[held_out:])

        self.x_mean_, self.x_scale_ = X[train].mean(axis=0), _scale(X[train])
        self.y_mean_, self.y_scale_ = labels[train].mean(), float(_scale(labels[train]))
        own_bins = Bins((bins.edges - self.y_mean_) / self.y_scale_)
        x = torch.tensor((X - self.x_mean_) / self.x_scale_, dtype=torch.float32)
        t = torch.tensor((labels - self.y_mean_) / self.y_scale_, dtype=torch.float32)[:, None]
        w = torch.tensor(weights, dtype=torch.float32)[:, None]
        with torch.random.fork_rng(devices=[]):  # a fit draws nothing from anyone else's numbers
            torch.manual_seed(seed)
            self.model_ = self._model(x.shape[1], own_bins)
            criterion = LOSSES[self.loss](self.loss_options or {}, own_bins, t[train, 0].numpy().astype(np.float64), seed)
            width, given = int(self.hidden[-1]), self.term_options or {}
            terms = [
                (float(strength), TERMS[name](given.get(name, {}), own_bins, width, seed))
                for name, strength in (self.terms or {}).items()
            ]
            parts = (x[train], t[train], w[train]), (x[val], t[val], w[val])
            self.n_iter_, self.best_epoch_ = _train(self, criterion, terms, *parts)
        self.bins_, self.train_labels_ = bins, labels
        return self

    def predict(self, X):
        import torch

        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        self.model_.eval()
        with torch.no_grad():
            x = torch.tensor((X - self.x_mean_) / self.x_scale_, dtype=torch.float32)
            preds = torch.cat([self.model_(part)[0] for part in x.split(1 << 16)])
        return preds[:, 0].double().numpy() * self.y_scale_ + self.y_mean_

    def _model(self, columns: int, bins: Bins):
        from torch import nn

        from .methods.fds import FDS
        from .training.model import Regressor

        layers: list[nn.Module] = []
        for before, width in zip((columns, *self.hidden), self.hidden):
            layers += [nn.Linear(int(before), int(width)), nn.ReLU()]
        width, fds = int(self.hidden[-1]), None
        if self.fds:
            window = min(5, 2 * bins.count - 1)
            fds = FDS(width, bins=bins, **{"ks": window, **(self.fds_options or {})})
        return Regressor(nn.Sequential(*layers), nn.Linear(width, 1), fds)

    def _check(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, found {self.loss!r}")
        for name in [*(self.terms or {}), *(self.term_options or {})]:
            if name not in TERMS:
                raise ValueError(f"terms: expected some of {', '.join(TERMS)}, found {name!r}")
        if not len(self.hidden) or min(self.hidden) < 1:
            raise ValueError(f"hidden: expected the width of one layer or more, for example (64, 64), found {self.hidden!r}")
        for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 1), ("weight_decay", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}: expected at least {least}, found {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr: expected a number above 0, found {self.lr}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction: expected above 0 and below 1, found {self.validation_fraction}")


def _scale(values: np.ndarray) -> np.ndarray:
    """Standard deviations, 1 for a constant column."""
    scale = values.std(axis=0)
    return np.where(scale > 1e-12 * np.abs(values).max(axis=0), scale, 1.0)


def _train(settings: DeepRegressor, criterion, terms, train, val) -> tuple[int, int]:
    """Train `settings.model_` on (x (N, P), t (N, 1), w (N, 1)); the epochs trained, and the one whose weights it has."""
    import copy

    import torch
    from torch import nn

    model, (x, t, w) = settings.model_, train
    groups: list[dict] = [{"params": list(model.parameters())}]
    for part in (criterion, *(term for _, term in terms)):
        if isinstance(part, nn.Module):
            find = getattr(part, "parameter_groups", None)
            own = [{"params": list(part.parameters())}] if find is None else find()
            groups += [group for group in own if any(p.requires_grad for p in group["params"])]
    optimizer = torch.optim.Adam(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    size = min(settings.batch_size, len(x))
    best, best_epoch, state = float("inf"), 0, None
    for epoch in range(settings.epochs):
        model.train()
        batches = list(torch.randperm(len(x)).split(size))
        if len(batches) > 1 and len(batches[-1]) == 1:  # losses over a batch compare its rows, and one has no other
            batches[-2:] = [torch.cat(batches[-2:])]
        for rows in batches:
            outputs, features = model(x[rows], t[rows], epoch)
            loss = criterion(outputs, t[rows], w[rows])
            for strength, term in terms:
                loss = loss + strength * term(features, t[rows], outputs, w[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        for _, term in terms:
            if hasattr(term, "finish_epoch"):
                term.finish_epoch(epoch)
        model.eval()
        with torch.no_grad():
            if model.fds is not None:
                model.fds.update_running_stats(model.encoder(x), t, epoch)
            if not len(val[0]):
                best_epoch = epoch
                continue
            error = float(((model(val[0])[0] - val[1]).abs() * val[2]).sum() / val[2].sum().clamp(min=1e-12))
        if error < best:
            best, best_epoch, state = error, epoch, copy.deepcopy(model.state_dict())
        elif epoch - best_epoch >= settings.patience:
            break
    if state is not None:
        model.load_state_dict(state)
    elif len(val[0]):
        raise ValueError(f"lr: training diverged, no validation error was a number; found {settings.lr}, try a smaller one")
    return epoch + 1, best_epoch


# -- scorers -----------------------------------------------------------------------------------------------------------


class LabelScorer:
    """A scorer (estimator, X, y) -> minus an error that depends on how the training labels lie; for `scoring=`.

    The labels of the training fold are those that the estimator remembers from `fit`: `ReweightedRegressor` (with
    reweight="none" around any other), `DeepRegressor`, or a resampler in the Pipeline, through TransformedTargetRegressor and
    searches too. So bins, shots and relevance never see the fold that is scored.

    Args:
        error: "few_shot_mae", "balanced_mae" or "sera".
        bins: of few_shot_mae and balanced_mae: None (`Bins.auto` of the training labels), how many, edges, or `Bins`.
        many, few: what makes a bin few-shot, as in `shot_metrics`.
        relevance: of sera: "boxplot", "density", or a `Relevance`.

    The score is NaN where the scored fold has no few-shot label, or none that matters.

    Raises:
        ValueError: an estimator that remembers no labels.
    """

    def __init__(self, error: str, *, bins=None, many: int = 100, few: int = 20, relevance: str | Relevance = "boxplot"):
        if error not in _ERRORS:
            raise ValueError(f"error: expected one of {', '.join(_ERRORS)}, found {error!r}")
        self.error, self.bins, self.many, self.few, self.relevance = error, bins, many, few, relevance

    def __call__(self, estimator, X, y) -> float:
        train_labels = _remembered(estimator)
        if train_labels is None:
            raise ValueError(
                f"{self.error}: {type(estimator).__name__} does not remember its training labels; score "
                "ReweightedRegressor(estimator, reweight='none') instead"
            )
        preds, labels = np.asarray(estimator.predict(X), dtype=np.float64).reshape(-1), _target(y)
        return -_ERRORS[self.error](self, labels, preds, train_labels)

    def __repr__(self) -> str:
        return f"LabelScorer({self.error!r})"


def _few_shot_mae(scorer: LabelScorer, labels: np.ndarray, preds: np.ndarray, train_labels: np.ndarray) -> float:
    bins = _bins(scorer.bins, train_labels)
    return metrics.shot_metrics(preds, labels, train_labels, bins, scorer.many, scorer.few)["few"]["l1"]


def _balanced_mae(scorer: LabelScorer, labels: np.ndarray, preds: np.ndarray, train_labels: np.ndarray) -> float:
    return metrics.balanced_mae(labels, preds, _bins(scorer.bins, train_labels))


def _sera(scorer: LabelScorer, labels: np.ndarray, preds: np.ndarray, train_labels: np.ndarray) -> float:
    relevance = resampling.make_relevance(scorer.relevance, train_labels)
    return metrics.sera(labels, preds, relevance) if relevance(labels).any() else float("nan")


_ERRORS = {"few_shot_mae": _few_shot_mae, "balanced_mae": _balanced_mae, "sera": _sera}

few_shot_mae = LabelScorer("few_shot_mae")
balanced_mae = LabelScorer("balanced_mae")
sera = LabelScorer("sera")


def _remembered(estimator) -> np.ndarray | None:
    """The training labels that a fitted estimator, or what it is made of, remembers; in the unit of its predictions."""
    if hasattr(estimator, "best_estimator_"):
        return _remembered(estimator.best_estimator_)
    if hasattr(estimator, "train_labels_"):
        return estimator.train_labels_
    if hasattr(estimator, "regressor_") and hasattr(estimator, "transformer_"):
        inner = _remembered(estimator.regressor_)
        return None if inner is None else np.asarray(estimator.transformer_.inverse_transform(inner[:, None])).reshape(-1)
    if hasattr(estimator, "steps"):
        # a resampler comes first, and knows the labels before they were resampled
        found = (_remembered(step) for _, step in estimator.steps if step is not None and step != "passthrough")
        return next((labels for labels in found if labels is not None), None)
    return None
