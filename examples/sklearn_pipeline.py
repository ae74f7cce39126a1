"""A plain scikit-learn pipeline, searched over how it is re-weighted, and a network with FDS and RankSim by keyword.

    pip install scikit-learn; python examples/sklearn_pipeline.py
"""

from __future__ import annotations

from skewed import measured, table
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from imbalanced_regression.sklearn import DeepRegressor, ReweightedRegressor, balanced_mae


def main() -> dict[str, dict]:
    X, y = table()
    trees = make_pipeline(StandardScaler(), ReweightedRegressor(HistGradientBoostingRegressor(max_iter=30, random_state=0)))
    search = GridSearchCV(trees, {"reweightedregressor__reweight": ["none", "lds", "dense"]}, scoring=balanced_mae, cv=2)
    network = DeepRegressor((64, 32), fds=True, terms={"ranksim": 1.0}, reweight="lds", epochs=15, random_state=0)
    found = {}
    for name, model in {"trees": search, "network": network}.items():
        model.fit(X, y)
        found[name] = measured(lambda inputs, model=model: model.predict(inputs.numpy()))
    print("chosen:", search.best_params_)
    return found


if __name__ == "__main__":
    main()
