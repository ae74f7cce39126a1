"""What is certain in a table of runs: differences to a baseline on equal seeds, intervals, and ranks over data sets.

The one idea: a table of means invites conclusions, so under it stands which of them more than luck supports, and how the
runs were chosen. All numbers come from the files that the runs keep; the tests are those of `significance`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..metrics import GROUPS, SCORES
from . import tables
from .compare import METRICS, Method
from .significance import average_ranks, bootstrap_interval, critical_difference, holm, paired_p

BETTER_ABOVE = {"pearson", "spearman", "ccc", "delta1", "delta2", "delta3"}  # all other metrics are errors


def _gmean(labels: np.ndarray, preds: np.ndarray) -> float:
    return float(np.exp(np.log(np.maximum(np.abs(preds - labels), 1e-10)).mean()))


def _pearson(labels: np.ndarray, preds: np.ndarray) -> float:
    return float(np.corrcoef(labels, preds)[0, 1]) if np.ptp(labels) > 0 and np.ptp(preds) > 0 else float("nan")


# metrics that follow from a run's predictions.csv: (labels, predictions) -> number
FROM_PREDICTIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "mse": lambda labels, preds: float(((preds - labels) ** 2).mean()),
    "rmse": lambda labels, preds: float(np.sqrt(((preds - labels) ** 2).mean())),
    "l1": lambda labels, preds: float(np.abs(preds - labels).mean()),
    "gmean": _gmean,
    "bias": lambda labels, preds: float((preds - labels).mean()),
    "pearson": _pearson,
}


def read_predictions(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Labels, predictions (N,) float64 and shots (N,) of a run's test set; None where it keeps none per sample."""
    file = folder / "predictions.csv"
    if not file.is_file():
        return None
    with open(file, encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not {"label", "prediction", "shot"} <= rows[0].keys():
        return None
    try:
        numbers = np.array([[row["label"], row["prediction"]] for row in rows], dtype=np.float64)
    except ValueError:
        raise ValueError(f"RUN: {file} holds something else than numbers under label and prediction") from None
    return numbers[:, 0], numbers[:, 1], np.array([row["shot"] for row in rows])


def find_baseline(methods: list[Method], name: str) -> Method:
    """The method of that name. Raises ValueError with the names there are."""
    for method in methods:
        if method.name == name:
            return method
    raise ValueError(f"--baseline: expected one of {', '.join(repr(m.name) for m in methods)}, found {name!r}")


def paired(method: Method, baseline: Method, metric: str, group: str) -> tuple[np.ndarray, np.ndarray]:
    """The metric of both on the seeds that both have, (S,) each, by rising seed; a seed run twice counts by its mean."""
    def by_seed(of: Method) -> dict[int, float]:
        values: dict[int, list[float]] = {}
        for run, value in zip(of.runs, of.values(metric, group)):
            values.setdefault(int(run.flags.get("seed", 0)), []).append(value)
        return {seed: float(np.mean(found)) for seed, found in values.items()}

    first, second = by_seed(method), by_seed(baseline)
    seeds = sorted(first.keys() & second.keys())
    return np.array([first[seed] for seed in seeds]), np.array([second[seed] for seed in seeds])


def differences(methods: list[Method], baseline: Method, metric: str) -> dict[tuple[str, str], tuple[float, float, int]]:
    """(method, group) -> (mean difference to the baseline, p after Holm's correction over the whole table, seeds)."""
    keys, means, p_values, seeds = [], [], [], []
    for method in methods:
        if method is baseline:
            continue
        for group in GROUPS:
            ours, theirs = paired(method, baseline, metric, group)
            keys.append((method.name, group))
            means.append(float(np.mean(ours - theirs)) if len(ours) else float("nan"))
            p_values.append(paired_p(ours, theirs))
            seeds.append(len(ours))
    return dict(zip(keys, zip(means, holm(p_values).tolist(), seeds)))


def interval(method: Method, metric: str, group: str, *, repeats: int = 1000) -> tuple[float, float] | None:
    """95 % bootstrap interval over seeds and test samples of the method's mean; None where no predictions are kept."""
    statistic = FROM_PREDICTIONS.get(metric)
    found = [read_predictions(run.folder) for run in method.runs]
    if statistic is None or any(one is None for one in found):
        return None
    labels, _, shots = found[0]  # type: ignore[misc]
    if any(not np.array_equal(one[0], labels) for one in found):  # type: ignore[index]
        return None
    chosen = np.ones(len(labels), bool) if group == "overall" else shots == group
    if not chosen.any():
        return None
    return bootstrap_interval(statistic, labels[chosen], [one[1][chosen] for one in found], repeats=repeats)  # type: ignore[index]


def difference_rows(methods: list[Method], baseline: Method, metric: str) -> list[list[str]]:
    """A table's rows: for each method and group the difference to the baseline, and p; a star marks p below 0.05."""
    found, decimals = differences(methods, baseline, metric), METRICS[metric][1]
    titles = {group: "all" if group == "overall" else group for group in GROUPS}
    rows = [[f"{METRICS[metric][0]} - {baseline.name}", "seeds", *(titles[group] for group in GROUPS)]]
    for method in methods:
        if method is baseline:
            continue
        cells = []
        for group in GROUPS:
            mean, p, _ = found[method.name, group]
            shown = "-" if np.isnan(mean) else f"{mean:+.{decimals}f}"
            cells.append(shown if np.isnan(p) else f"{shown} (p {p:.2g}){'*' if p < 0.05 else ''}")
        rows.append([method.name, str(found[method.name, "overall"][2]), *cells])
    return rows


def interval_rows(methods: list[Method], metric: str) -> list[list[str]]:
    """A table's rows: for each method and group the 95 % interval of its mean."""
    decimals = METRICS[metric][1]
    rows = [[f"{METRICS[metric][0]}, 95 % interval", "runs", *("all" if group == "overall" else group for group in GROUPS)]]
    for method in methods:
        found = [interval(method, metric, group) for group in GROUPS]
        cells = ["-" if one is None else f"{one[0]:.{decimals}f} to {one[1]:.{decimals}f}" for one in found]
        rows.append([method.name, str(len(method.runs)), *cells])
    return rows


def footer(methods: list[Method]) -> str:
    """How the runs of a table were chosen: the seeds, and the data that chose each run's checkpoint."""
    seeds = {method.name: sorted({int(run.flags.get("seed", 0)) for run in method.runs}) for method in methods}
    kinds = {tuple(found) for found in seeds.values()}
    if len(kinds) == 1:
        said = "seeds " + ", ".join(map(str, next(iter(kinds)))) + " for each method"
    else:
        said = "seeds differ: " + "; ".join(f"{name} {', '.join(map(str, found))}" for name, found in seeds.items())
    on_test = any(run.flags.get("select_on") == "test" for method in methods for run in method.runs)
    chosen = "the test set, as the first release did" if on_test else "the validation set"
    return f"{said}; +- is the standard deviation over seeds; each run's checkpoint was chosen on {chosen}"


def rank_table(datasets: dict[str, list[Method]], metric: str, group: str) -> tuple[list[str], np.ndarray, float]:
    """Average rank of each method over data sets, and the difference below which two are not told apart.

    Only methods that every data set has are ranked.

    Raises ValueError with fewer than two such methods.
    """
    every = [{method.name for method in methods} for methods in datasets.values()]
    names = [method.name for method in next(iter(datasets.values())) if all(method.name in known for known in every)]
    if len(names) < 2:
        raise ValueError(f"ranks: expected two methods at least that every data set has, found {', '.join(names) or 'none'}")
    sign = -1 if metric in BETTER_ABOVE else 1
    scores = [[sign * float(np.nanmean(next(m for m in methods if m.name == name).values(metric, group))) for name in names]
              for methods in datasets.values()]
    return names, average_ranks(scores), critical_difference(len(names), len(datasets))


def rank_figure(names: Sequence[str], ranks: np.ndarray, difference: float, title: str) -> bytes:
    """The critical difference diagram as a PNG: methods by average rank, bars over those not told apart."""
    from .drawing import LINE, MUTED, new_figure, png

    order = np.argsort(ranks, kind="stable")
    fig = new_figure(8, 0.9 + 0.3 * len(names))
    axes = fig.subplots()
    for row, i in enumerate(order):
        axes.plot([ranks[i]], [row], "o", color=LINE, zorder=3)
        axes.plot([ranks[i], ranks[i] + difference], [row, row], color=MUTED, lw=1, zorder=2)
    axes.set_yticks(range(len(names)), [names[i] for i in order])
    axes.invert_yaxis()
    axes.set_xlim(0.9, len(names) + 0.1)
    axes.set_xlabel(f"average rank, 1 is best; a method beyond another's line is worse (critical difference {difference:.2f})")
    axes.set_title(title, fontsize=9, loc="left")
    return png(fig)


def report(methods: list[Method], metrics: Sequence[str], *, baseline: str | None, intervals: bool, form: str = "text") -> str:
    """What stands under a table: intervals, and differences to the baseline.

    `form` is "text", "markdown" or "latex". Raises ValueError for a baseline that is not there.
    """
    drawn = {"text": tables.text, "markdown": tables.markdown, "latex": tables.latex}[form]
    parts = []
    for metric in metrics:
        if metric in SCORES:
            continue
        if intervals:
            parts.append(drawn(interval_rows(methods, metric)))
        if baseline is not None:
            parts.append(drawn(difference_rows(methods, find_baseline(methods, baseline), metric)))
    if baseline is not None:
        parts.append(
            "p: paired t-test on equal seeds, with Holm's correction over the methods and groups of a table; * below 0.05. "
            "One seed has no p, and few seeds find only large differences."
        )
    return "\n\n".join(parts)
