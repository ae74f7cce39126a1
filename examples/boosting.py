"""XGBoost and LightGBM: weights by label density, in two ways.

    pip install xgboost lightgbm scikit-learn; python examples/boosting.py
`lds_weights` goes into any `sample_weight`; `ReweightedRegressor` makes them from each training fold anew.
"""

from __future__ import annotations

from lightgbm import LGBMRegressor
from skewed import measured, table
from sklearn.model_selection import cross_val_score
from xgboost import XGBRegressor

from imbalanced_regression import Bins, lds_weights
from imbalanced_regression.sklearn import ReweightedRegressor, balanced_mae

SMALL = {"n_estimators": 60, "learning_rate": 0.1, "random_state": 0, "n_jobs": 1}


def main() -> dict[str, dict]:
    X, y = table()
    weights = lds_weights(y, Bins.auto(y), reweight="inverse")
    models = {"xgboost": XGBRegressor(**SMALL), "lightgbm": LGBMRegressor(**SMALL, verbose=-1)}
    found = {}
    for name, model in models.items():
        for how, given in {"none": None, "lds": weights}.items():
            model.fit(X, y, sample_weight=given)
            print(name, how, end=": ")
            found[f"{name} {how}"] = measured(lambda inputs, model=model: model.predict(inputs.numpy()))
        score = cross_val_score(ReweightedRegressor(model, "lds_inverse"), X, y, scoring=balanced_mae, cv=3)
        print(f"{name}: balanced MAE {-score.mean():.2f} in three folds")
    return found


if __name__ == "__main__":
    main()
