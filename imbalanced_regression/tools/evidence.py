"""What is certain in a table of runs: differences to a baseline on equal seeds, intervals, and ranks over data sets.

The one idea: a table of means invites conclusions, so under it stands which of them more than luck supports, and how the
runs were chosen. All numbers come from the files that the runs keep; the tests are those of `significance`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from ..metrics import GROUPS, SCORES
from . import tables
from .compare import METRICS, Method, group_title, read_cost, zero_shots
from .significance import average_ranks, bootstrap_interval, critical_difference, holm, paired_bootstrap_p, paired_p
from .states import read_record

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
    "spearman": lambda labels, preds: _pearson(rankdata(labels), rankdata(preds)),
}


def read_columns(folder: Path, names: Sequence[str]) -> dict[str, list[str]] | None:
    """Columns of a run's predictions.csv as text; None where it keeps none per sample.

    Raises ValueError for a column of numbers that holds something else.
    """
    file = folder / "predictions.csv"
    if not file.is_file():
        return None
    with open(file, encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not set(names) <= rows[0].keys():
        return None
    found = {name: [row[name] for row in rows] for name in names}
    try:
        for name in {"label", "prediction", "bin"} & found.keys():
            np.array(found[name], dtype=np.float64)
    except (ValueError, TypeError):
        raise ValueError(f"RUN: {file} holds something else than numbers under label and prediction") from None
    return found


def read_predictions(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Labels, predictions (N,) float64 and shots (N,) of a run's test set; None where it keeps none per sample."""
    found = read_columns(folder, ("label", "prediction", "shot"))
    if found is None:
        return None
    return *(np.array(found[name], dtype=np.float64) for name in ("label", "prediction")), np.array(found["shot"])  # type: ignore[return-value]


def cost_rows(methods: list[Method]) -> list[list[str]]:
    """A table's rows: seconds per epoch, peak memory, parameters and seconds of each method, the medians over its runs."""
    rows = [["cost", "s / epoch", "MiB", "parameters", "s / run"]]
    for method in methods:
        found = [{**read_cost(run.folder), "seconds": read_record(run.folder.parent).get("seconds")} for run in method.runs]
        cells = []
        for name, form in (("seconds_per_epoch", "{:.3g}"), ("memory_mib", "{:.0f}"), ("parameters", "{:,.0f}"),
                           ("seconds", "{:.3g}")):
            values = [float(one[name]) for one in found if isinstance(one.get(name), (int, float))]
            cells.append(form.format(float(np.median(values))) if values else "-")
        rows.append([method.name, *cells])
    return rows


def published_rows(methods: list[Method], metric: str) -> list[list[str]]:
    """A table's rows: the published number of each method and group, and in parentheses how far ours is from it; or []."""
    decimals = METRICS[metric][1]
    groups = ["all" if group == "overall" else group for group in GROUPS]
    rows = [[f"{METRICS[metric][0]}, published (ours less that)", *groups]]
    for method in methods:
        numbers = method.published.get(metric, {})
        if numbers:
            cells = []
            for group in GROUPS:
                values = method.values(metric, group)
                cell = f"{numbers[group]:.{decimals}f}" if group in numbers else "-"
                if group in numbers and not np.isnan(values).all():
                    cell += f" ({np.nanmean(values) - numbers[group]:+.{decimals}f})"
                cells.append(cell)
            rows.append([method.name, *cells])
    return rows if len(rows) > 1 else []


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


def gains(method: Method, baseline: Method, metric: str, group: str) -> np.ndarray:
    """(S,) how much better the method is on the seeds that both have and know, in per cent of the baseline's mean."""
    ours, theirs = paired(method, baseline, metric, group)
    known = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[known], theirs[known]
    if not len(ours):
        return ours
    return 100 * (ours - theirs if metric in BETTER_ABOVE else theirs - ours) / abs(theirs.mean())


def differences(
    methods: list[Method], baseline: Method, metric: str, groups: Sequence[str] = GROUPS
) -> dict[tuple[str, str], tuple[float, float, int]]:
    """(method, group) -> (mean difference to the baseline, p after Holm's correction over methods and groups, seeds).

    With one seed in common p is that of the test samples drawn anew, where the runs keep their predictions.
    """
    keys, means, p_values, seeds = [], [], [], []
    for method in methods:
        if method is baseline:
            continue
        for group in groups:
            ours, theirs = paired(method, baseline, metric, group)
            keys.append((method.name, group))
            means.append(float(np.mean(ours - theirs)) if len(ours) else float("nan"))
            p_values.append(paired_p(ours, theirs) if len(ours) != 1 else _p_of_samples(method, baseline, metric, group))
            seeds.append(len(ours))
    return dict(zip(keys, zip(means, holm(p_values).tolist(), seeds)))


def _p_of_samples(method: Method, baseline: Method, metric: str, group: str) -> float:
    """p of a difference between one run of each, by their test samples; NaN without predictions, or of other samples."""
    statistic = FROM_PREDICTIONS.get(metric)
    seeds = [{int(run.flags.get("seed", 0)): run for run in of.runs} for of in (method, baseline)]
    both = seeds[0].keys() & seeds[1].keys()
    if statistic is None or len(both) != 1:
        return float("nan")
    ours, theirs = (read_predictions(runs[next(iter(both))].folder) for runs in seeds)
    if ours is None or theirs is None or not np.array_equal(ours[0], theirs[0]):
        return float("nan")
    chosen = np.ones(len(ours[0]), bool) if group == "overall" else ours[2] == group
    return paired_bootstrap_p(statistic, ours[0][chosen], ours[1][chosen], theirs[1][chosen]) if chosen.any() else float("nan")


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


def _starred(method: Method, group: str, shown: str, p: float) -> str:
    return shown if np.isnan(p) else f"{shown} (p {p:.2g}){'*' if p < 0.05 else ''}"


def difference_rows(
    methods: list[Method], baseline: Method, metric: str, *, groups: Sequence[str] = GROUPS, heading: str | None = None,
    cell: Callable[[Method, str, str, float], str] = _starred,
) -> list[list[str]]:
    """A table's rows: for each method and group the difference to the baseline, and p; a star marks p below 0.05.

    `cell` writes it otherwise, of (method, group, the difference or "-", p or NaN).
    """
    found, decimals = differences(methods, baseline, metric, groups), METRICS[metric][1]
    rows = [[heading or f"{METRICS[metric][0]} - {baseline.name}", "seeds", *map(group_title, groups)]]
    for method in methods:
        if method is baseline:
            continue
        cells = []
        for group in groups:
            mean, p, _ = found[method.name, group]
            cells.append(cell(method, group, "-" if np.isnan(mean) else f"{mean:+.{decimals}f}", p))
        rows.append([method.name, str(found[method.name, groups[0]][2]), *cells])
    return rows


def interval_rows(methods: list[Method], metric: str) -> list[list[str]]:
    """A table's rows: for each method and group the 95 % interval of its mean."""
    decimals = METRICS[metric][1]
    rows = [[f"{METRICS[metric][0]}, 95 % interval", "runs", *map(group_title, GROUPS)]]
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
    most = max(len(found) for found in seeds.values())
    said = f"{most} seed{'s' if most > 1 else ''} at most" + f"; {said}" if len(kinds) > 1 else said
    return f"{said}; +- is the standard deviation over seeds; each run's checkpoint was chosen on {chosen}"


def sources(methods: list[Method]) -> list[str]:
    """Where the published numbers of a table are from."""
    found = sorted({method.source for method in methods if method.published and method.source})
    said = f"published: {'; '.join(found)}; on the data and by the schedule of that paper, which these runs need not share"
    return [said] if found else []


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


def rank_figure(names: Sequence[str], ranks: Sequence[float] | np.ndarray, difference: float, title: str) -> bytes:
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
            base, beyond = find_baseline(methods, baseline), zero_shots(methods)
            parts.append(drawn(difference_rows(methods, base, metric)))
            parts += [drawn(difference_rows(methods, base, metric, groups=beyond))] if beyond else []
    if baseline is not None:
        parts.append(
            "p: paired t-test on equal seeds, with Holm's correction over the methods and groups of a table; * below 0.05. "
            "Few seeds find only large differences. With one seed p is by the test samples alone, drawn anew: another seed may "
            "differ by more."
        )
    return "\n\n".join(parts)
