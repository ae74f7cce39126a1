"""The scikit-learn side: every estimator passes scikit-learn's own checks, learns from the training fold alone, and fits in."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from sklearn.base import BaseEstimator, RegressorMixin, clone  # noqa: E402
from sklearn.compose import TransformedTargetRegressor, make_column_transformer  # noqa: E402
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor  # noqa: E402
from sklearn.linear_model import LinearRegression, Ridge  # noqa: E402
from sklearn.model_selection import GridSearchCV, KFold, cross_validate  # noqa: E402
from sklearn.neighbors import KNeighborsRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from imbalanced_regression import metrics  # noqa: E402
from imbalanced_regression import sklearn as ours  # noqa: E402
from imbalanced_regression.bins import Bins  # noqa: E402
from imbalanced_regression.methods.lds import lds_weights  # noqa: E402
from imbalanced_regression.methods.relevance import Relevance  # noqa: E402
from imbalanced_regression.sklearn import (  # noqa: E402
    SMOGN,
    SMOTER,
    DeepRegressor,
    LabelScorer,
    RandomOverSampler,
    RandomUnderSampler,
    ReweightedRegressor,
    balanced_mae,
    few_shot_mae,
    sera,
)

RESAMPLERS = (SMOTER, SMOGN, RandomOverSampler, RandomUnderSampler)

QUICK = {"hidden": (16,), "epochs": 30, "lr": 2e-2, "batch_size": 32, "random_state": 0}
# the weights depend on how often a label comes, and mini-batches on how often a row does
COUNTS_ROWS = {
    f"check_sample_weight_equivalence_on_{kind}_data": "a repeated row changes the label density and the mini-batches"
    for kind in ("dense", "sparse")
}


def data(n=240, seed=0):
    """Skewed labels that two of the three columns tell."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, np.exp(0.6 * X[:, 0] + 0.4 * X[:, 1]) * 10 + rng.normal(size=n) * 0.3


# scikit-learn's checks


@pytest.mark.parametrize(
    ("estimator", "failures"),
    [
        *((sampler(random_state=0), {}) for sampler in RESAMPLERS),
        (ReweightedRegressor(Ridge(), reweight="none"), {}),
        (ReweightedRegressor(Ridge()), COUNTS_ROWS),
        (DeepRegressor(**{**QUICK, "epochs": 12}), COUNTS_ROWS),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "get_params") else "",
)
def test_scikit_learns_own_checks_pass(estimator, failures):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks provoke scikit-learn's own
        found = check_estimator(estimator, expected_failed_checks=failures, on_skip=None, on_fail=None)
    failed = {result["check_name"]: str(result["exception"])[:300] for result in found if result["status"] == "failed"}
    assert not failed
    assert len(found) > 35


# resamplers


@pytest.mark.parametrize("sampler", RESAMPLERS)
def test_resamplers_do_what_the_functions_do_and_leave_prediction_alone(sampler):
    pipeline = pytest.importorskip("imblearn.pipeline")
    X, y = data()
    more, labels = sampler(random_state=3).fit_resample(X, y)
    again = clone(sampler(random_state=3)).fit_resample(X, y)
    assert np.array_equal(more, again[0])
    assert len(labels) == len(more)
    model = pipeline.make_pipeline(StandardScaler(), sampler(random_state=0), Ridge())
    model.fit(X, y)
    assert model.predict(X[:7]).shape == (7,)
    scaled, scaled_labels = sampler(random_state=0).fit_resample(StandardScaler().fit_transform(X), y)
    np.testing.assert_allclose(model[-1].coef_, Ridge().fit(scaled, scaled_labels).coef_)
    scores = cross_validate(model, X, y, scoring={"few": few_shot_mae, "all": "neg_mean_absolute_error"}, cv=3)
    assert np.isfinite(scores["test_few"]).all()


def test_the_package_leads_to_its_resamplers():
    import imbalanced_regression as library

    assert library.SMOTER is SMOTER
    assert library.SMOGN is SMOGN
    assert not {"SMOTER", "SMOGN"} & set(library.__all__)  # as scikit-learn may be missing


def test_resamplers_are_searched_over_in_a_pipeline():
    pipeline = pytest.importorskip("imblearn.pipeline")
    X, y = data()
    model = pipeline.Pipeline([("resample", SMOGN(random_state=0)), ("ridge", Ridge())])
    search = GridSearchCV(model, {"resample__k": [2, 5], "resample": [SMOGN(random_state=0), SMOTER(random_state=0)]}, cv=2)
    search.fit(X, y)
    assert search.best_params_["resample__k"] in (2, 5)


def test_mixed_frames_resample_and_keep_their_types():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    X, y = data()
    frame = pd.DataFrame(X, columns=list("abc")).assign(town=np.where(X[:, 2] > 0, "x", "y"), rooms=np.arange(len(X)) % 7)
    more, labels = SMOGN(random_state=0).fit_resample(frame, pd.Series(y, name="price"))
    assert (more.dtypes == frame.dtypes).all()
    assert labels.name == "price"
    more, _ = SMOTER(random_state=0).fit_resample(pl.from_dict(frame.to_dict("list")), y)
    assert set(more["town"]) == {"x", "y"}


# weights


class Remembers(RegressorMixin, BaseEstimator):
    """Keeps the weights it was given."""

    def fit(self, X, y, sample_weight=None):
        self.given_ = sample_weight
        return self

    def predict(self, X):
        return np.zeros(len(X))


@pytest.mark.parametrize("estimator", [DeepRegressor(**QUICK), ReweightedRegressor(Ridge())])
def test_weights_below_0_are_refused(estimator):
    X, y = data(40)
    with pytest.raises(ValueError, match="^sample_weight: expected at least 0, found -2 at index 7; leave it out"):
        estimator.fit(X, y, sample_weight=np.where(np.arange(40) == 7, -2.0, 1.0))


def test_weights_come_from_the_training_fold():
    X, y = data()
    bins = Bins.uniform(0, 60, 30)
    for reweight, how in (
        ("lds", {"reweight": "sqrt_inv"}), ("lds_inverse", {"reweight": "inverse"}),
        ("sqrt_inv", {"reweight": "sqrt_inv", "lds": False}), ("inverse", {"reweight": "inverse", "lds": False}),
    ):
        model = ReweightedRegressor(Remembers(), reweight, bins=bins).fit(X[:100], y[:100])
        np.testing.assert_allclose(model.estimator_.given_, lds_weights(y[:100], bins, **how), rtol=1e-6)
        assert model.weights_.mean() == pytest.approx(1, abs=1e-5)
    assert ReweightedRegressor(Remembers(), "none").fit(X, y).estimator_.given_ is None
    dense = ReweightedRegressor(Remembers(), "dense", alpha=0.5).fit(X, y).estimator_.given_
    assert dense[y.argmax()] > dense[np.abs(y - np.median(y)).argmin()]
    given = np.arange(len(y)) + 1.0
    model = ReweightedRegressor(Remembers()).fit(X, y, sample_weight=given)
    np.testing.assert_allclose(model.estimator_.given_, model.weights_ * given)


@pytest.mark.parametrize(
    "estimator",
    [
        HistGradientBoostingRegressor(max_iter=10), RandomForestRegressor(5, random_state=0), Ridge(),
        make_pipeline(StandardScaler(), Ridge()), TransformedTargetRegressor(Ridge()),
    ],
    ids=lambda e: type(e).__name__,
)
def test_any_regressor_with_sample_weights_is_reweighted(estimator):
    X, y = data()
    plain, weighed = (ReweightedRegressor(estimator, how).fit(X, y) for how in ("none", "inverse"))
    assert not np.array_equal(plain.predict(X), weighed.predict(X))
    np.testing.assert_allclose(plain.predict(X), clone(estimator).fit(X, y).predict(X))


@pytest.mark.parametrize(("package", "name"), [("xgboost", "XGBRegressor"), ("lightgbm", "LGBMRegressor")])
def test_boosting_libraries_are_reweighted(package, name):
    module = pytest.importorskip(package)
    X, y = data()
    assert np.isfinite(ReweightedRegressor(getattr(module, name)(n_estimators=5)).fit(X, y).predict(X)).all()


def test_frames_and_missing_values_reach_the_estimator_as_they_are():
    pd = pytest.importorskip("pandas")
    X, y = data()
    frame = pd.DataFrame(X, columns=list("abc"))
    frame.loc[3, "a"] = np.nan
    model = ReweightedRegressor(HistGradientBoostingRegressor(max_iter=3)).fit(frame, pd.Series(y))
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert np.isfinite(model.predict(frame)).all()


# the network


def test_the_network_learns_and_predicts_in_the_unit_of_the_label():
    X, y = data(400)
    for scale, shift in ((1.0, 0.0), (1e4, -3e5)):
        model = DeepRegressor(**QUICK).fit(X[:300] * 50 + 7, y[:300] * scale + shift)
        assert model.score(X[300:] * 50 + 7, y[300:] * scale + shift) > 0.85


@pytest.mark.parametrize(
    "how",
    [
        *({"loss": name} for name in ours.LOSSES),
        *({"terms": {name: 0.1}} for name in ours.TERMS),
        *({"reweight": name} for name in ours.REWEIGHTS if name != "none"),
        {"fds": True, "terms": {"ranksim": 100}, "loss": "bni"},
        {"loss": "bmc", "loss_options": {"sigma": 0.3, "learn": True}},
        {"terms": {"conr": 1.0}, "term_options": {"conr": {"within": 0.3}}, "bins": 12},
        {"fds": True, "fds_options": {"ks": 3, "momentum": 0.5}, "bins": np.linspace(0, 80, 11)},
    ],
    ids=str,
)
def test_every_method_trains_the_network_by_keyword(how):
    X, y = data(120)
    plain = DeepRegressor(**{**QUICK, "epochs": 4}).fit(X, y).predict(X)
    model = DeepRegressor(**{**QUICK, "epochs": 4}, **how).fit(X, y)
    preds = model.predict(X)
    assert np.isfinite(preds).all()
    if how != {"loss": "mse"}:
        assert not np.array_equal(preds, plain)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(X), preds)


def test_random_state_decides_the_network_and_global_numbers_are_left_alone():
    X, y = data(80)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again = (DeepRegressor(**QUICK).fit(X, y).predict(X) for _ in range(2))
    assert torch.rand(1) == expected
    assert np.array_equal(first, again)
    assert not np.array_equal(first, DeepRegressor(**{**QUICK, "random_state": 1}).fit(X, y).predict(X))


def test_early_stopping_keeps_the_best_epoch():
    X, y = data(120)
    y = np.random.default_rng(0).permutation(y)  # nothing to learn: more epochs only make it worse
    model = DeepRegressor((64,), lr=5e-2, epochs=200, patience=5, random_state=0).fit(X, y)
    assert model.n_iter_ == model.best_epoch_ + 1 + 5
    shorter = DeepRegressor((64,), lr=5e-2, epochs=model.best_epoch_ + 1, random_state=0).fit(X, y)
    assert np.array_equal(shorter.predict(X), model.predict(X))
    assert DeepRegressor(**QUICK, early_stopping=False).fit(X, y).n_iter_ == QUICK["epochs"]


def test_unknown_categories_and_constant_columns_are_no_surprise():
    pd = pytest.importorskip("pandas")
    X, y = data(100)
    frame = pd.DataFrame(X, columns=list("abc")).assign(town=np.where(X[:, 2] > 0, "x", "y"), same=1.0)
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["town"]), remainder="passthrough")
    model = make_pipeline(encode, DeepRegressor(**QUICK)).fit(frame, y)
    assert np.isfinite(model.predict(frame.assign(town="never seen"))).all()
    with pytest.raises(ValueError, match="could not convert string to float"):
        DeepRegressor(**QUICK).fit(frame, y)


# scorers


def test_scorers_fit_bins_shots_and_relevance_on_the_training_fold():
    X, y = data()
    train, test = slice(0, 160), slice(160, None)
    model = ReweightedRegressor(Ridge(), "none").fit(X[train], y[train])
    preds, bins = model.predict(X[test]), Bins.auto(y[train])
    by_shot = metrics.shot_metrics(preds, y[test], y[train], bins)
    assert few_shot_mae(model, X[test], y[test]) == -by_shot["few"]["l1"]
    assert balanced_mae(model, X[test], y[test]) == -metrics.balanced_mae(y[test], preds, bins)
    assert sera(model, X[test], y[test]) == -metrics.sera(y[test], preds, Relevance.boxplot(y[train]))
    wide = LabelScorer("few_shot_mae", bins=4, many=60, few=30)
    by_shot = metrics.shot_metrics(preds, y[test], y[train], Bins.uniform(y[train].min(), y[train].max(), 4), 60, 30)
    assert wide(model, X[test], y[test]) == -by_shot["few"]["l1"]


def test_scorers_find_the_training_labels_through_searches_and_transformed_targets():
    X, y = data()
    scoring = {"few": few_shot_mae, "balanced": balanced_mae, "sera": sera}
    for model in (
        ReweightedRegressor(HistGradientBoostingRegressor(max_iter=5)),
        TransformedTargetRegressor(ReweightedRegressor(Ridge()), func=np.log1p, inverse_func=np.expm1, check_inverse=False),
        make_pipeline(StandardScaler(), ReweightedRegressor(Ridge())),
        GridSearchCV(ReweightedRegressor(Ridge()), {"reweight": ["none", "lds", "dense"]}, scoring=few_shot_mae, cv=2),
        DeepRegressor(**{**QUICK, "epochs": 3}),
    ):
        found = cross_validate(model, X, y, scoring=scoring, cv=KFold(2), error_score="raise")
        assert all(np.isfinite(found[f"test_{name}"]).all() and (found[f"test_{name}"] < 0).all() for name in scoring)
    log = TransformedTargetRegressor(ReweightedRegressor(Ridge()), func=np.log1p, inverse_func=np.expm1, check_inverse=False)
    np.testing.assert_allclose(ours._remembered(log.fit(X, y)), y)


def test_resampled_pipelines_are_scored_by_the_labels_before():
    pipeline = pytest.importorskip("imblearn.pipeline")
    X, y = data()
    model = pipeline.make_pipeline(RandomOverSampler(random_state=0), ReweightedRegressor(Ridge(), "none")).fit(X, y)
    assert len(model[-1].train_labels_) > len(y)
    assert np.array_equal(ours._remembered(model), y)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_are_cross_validated_as_arrays_are(library):
    module = pytest.importorskip(library)
    X, y = data()
    frame, target = module.DataFrame({name: X[:, j] for j, name in enumerate("abc")}), module.Series(y)
    for model in (DeepRegressor(**{**QUICK, "epochs": 2}), ReweightedRegressor(HistGradientBoostingRegressor(max_iter=3))):
        found, expected = (
            cross_validate(model, *table, scoring=balanced_mae, cv=2, error_score="raise")["test_score"]
            for table in ((frame, target), (X, y))
        )
        np.testing.assert_allclose(found, expected)


# what bad input gets


@pytest.mark.parametrize(
    ("model", "change", "named"),
    [
        (ReweightedRegressor(LinearRegression(), "lsd"), {}, "reweight.*lds.*'lsd'"),
        (ReweightedRegressor(KNeighborsRegressor()), {}, "KNeighborsRegressor.fit takes no sample_weight"),
        (ReweightedRegressor(Ridge(), bins=999), {}, "bins: expected 1 to 240.*999"),
        (ReweightedRegressor(Ridge()), {"y": np.full(240, np.nan)}, "Input y contains NaN"),
        (ReweightedRegressor(Ridge()), {"X": np.full((240, 3), np.nan)}, "Input X contains NaN"),
        (ReweightedRegressor(Ridge(), ks=4), {}, "ks.*4"),
        (DeepRegressor(loss="bnl"), {}, "loss.*bni.*'bnl'"),
        (DeepRegressor(terms={"rank": 1}), {}, "terms.*ranksim.*'rank'"),
        (DeepRegressor(hidden=()), {}, "hidden"),
        (DeepRegressor(lr=0), {}, "lr.*0"),
        (DeepRegressor(epochs=0), {}, "epochs.*0"),
        (DeepRegressor(validation_fraction=1), {}, "validation_fraction.*1"),
        (DeepRegressor(), {"X": np.full((240, 3), np.inf)}, "Input X contains infinity"),
        (DeepRegressor(), {"y": np.full(240, np.nan)}, "Input y contains NaN"),
        (SMOGN(), {"X": np.full((240, 3), np.nan)}, "Input X contains NaN"),
        (SMOTER(), {"y": np.arange(240.0)}, "no rare cases.*density"),
        (SMOTER(threshold=2), {}, "threshold.*2"),
    ],
)
def test_bad_input_gets_the_sentence_one_expects(model, change, named):
    X, y = data()
    given = {"X": X, "y": y, **change}
    with pytest.raises(ValueError, match=named):
        (model.fit_resample if hasattr(model, "fit_resample") else model.fit)(given["X"], given["y"])


def test_scorers_say_what_they_cannot_know():
    X, y = data()
    with pytest.raises(ValueError, match="Ridge does not remember.*ReweightedRegressor"):
        few_shot_mae(Ridge().fit(X, y), X, y)
    with pytest.raises(ValueError, match="error: expected one of few_shot_mae.*'mae'"):
        LabelScorer("mae")
