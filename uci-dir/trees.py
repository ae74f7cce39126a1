"""Gradient boosting on UCI-DIR (`--model gbdt`): scikit-learn's histogram trees, in the place of the network.

The one idea: it gets what the network gets (rows, weights, split, seed) and is judged as the network is. The number of trees
is chosen by the validation rows as the network's epoch is, and a run leaves the same files, but for checkpoints.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

DEFAULTS = {"lr": 0.1, "epochs": 500}  # shrinkage, and trees at most
LOSSES = {"l1": "absolute_error", "mse": "squared_error"}
COLUMNS = 0.8  # the share of columns that a split looks at, drawn by the seed: without draws all seeds would be one run


def check(args: Namespace) -> None:
    """Raise ValueError for flags that only a network has; what a run of trees has no number for is said in its name."""
    asked = {
        "fds": args.fds, "terms": args.terms, "head": args.head != "linear", "pretrain": args.pretrain != "none",
        "retrain_fc": args.retrain_fc, "pretrained": args.pretrained, "ascent": args.ascent, "evaluate": args.evaluate,
        "resume": args.resume, "loss": args.loss not in LOSSES, "sampler": args.sampler != "none",
        "target": args.target != "none", "constant": args.constant != "none", "cosine": args.cosine is not None,
    }
    for name in (name for name, found in asked.items() if found):
        value = getattr(args, name)
        raise ValueError(f"--{name}: --model gbdt has no network, so expected --reweight, --lds, --resample or "
                         f"--loss {' or '.join(LOSSES)}, found {value}; leave it out, or pass --model mlp")
    args.optimizer, args.batch_size = "boosting", "all"


def run(args: Namespace, data: Mapping, metrics: Callable[..., dict], folder: Path, runtime) -> dict:
    """Fit, choose the number of trees and test; what `training.run` returns, with trees for epochs.

    Args:
        data: the RowDatasets train (with its weights), val and test.
        metrics: (predictions, labels, weights), (N, 1) each -> a dictionary with an "overall" group.

    Raises:
        ValueError: scikit-learn is missing.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
    except ImportError:
        raise ValueError('--model gbdt: needs scikit-learn; pip install "imbalanced_regression[sklearn]"') from None
    from imbalanced_regression.flags import settings
    from imbalanced_regression.training.session import locked_folder

    train = data["train"]
    model = HistGradientBoostingRegressor(
        loss=LOSSES[args.loss], learning_rate=args.lr, max_iter=args.epochs, max_features=COLUMNS, early_stopping=False,
        random_state=args.seed,
    )
    with locked_folder(folder, settings(args), runtime, overwrite=args.overwrite):
        # equal weights are none: with medians of leaves instead of weighted ones scikit-learn fits in a third of the time
        weights = None if (train.weights == train.weights[0]).all() else train.weights
        model.fit(train.inputs.numpy(), train.labels, sample_weight=weights)
        stages = {part: np.stack(list(model.staged_predict(data[part].inputs.numpy()))) for part in ("val", "test")}
        power = 2 if args.loss == "mse" else 1
        best = int((np.abs(stages["val"] - data["val"].labels) ** power).mean(axis=1).argmin())
        kept = {part: tuple(np.asarray(values, np.float32)[:, None] for values in (
            stages[part][best], data[part].labels, data[part].weights)) for part in stages}
    return {"best_epoch": best, "predictions": kept, **{part: metrics(*arrays) for part, arrays in kept.items()}}
