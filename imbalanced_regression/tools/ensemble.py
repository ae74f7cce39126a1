"""The average of two methods' predictions as a method of its own: a plain and a re-weighted model together, say.

The one idea: runs keep their test predictions, so their average needs no model; runs of equal seeds are paired, and a pair is
a run like any other, with metrics by shot and predictions per sample, in a folder of its own.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write
from ..metrics import ALL_GROUPS, aorc, aore, balanced_mae, ccc, correlations, errors, freedman_diaconis_bins
from .compare import Method, Run, find_runs


def find(methods: list[Method], word: str) -> Method:
    """A method of the table by its name, or by a folder those of its runs that lie there.

    Raises ValueError for a word that is neither, or a folder with runs of several methods.
    """
    for method in methods:
        if method.name == word:
            return method
    if not Path(word).is_dir():
        names = ", ".join(repr(method.name) for method in methods)
        raise ValueError(f"--ensemble: expected a folder of runs, or a name of {names or 'a table'}, found {word!r}")
    there = {run.folder.resolve() for run in find_runs([Path(word)])}
    found = [method for method in methods if any(run.folder.resolve() in there for run in method.runs)]
    if len(found) != 1:
        names = ", ".join(method.name for method in found)
        raise ValueError(f"--ensemble: expected runs of one method in {word}, found {names}")
    kept = [pair for pair in zip(found[0].runs, found[0].metrics) if pair[0].folder.resolve() in there]
    return Method(found[0].flags, found[0].name, [run for run, _ in kept], [metrics for _, metrics in kept])


def average(first: Method, second: Method, folder: Path) -> Method:
    """The method whose runs predict the mean of two others' predictions; their predictions.csv go into `folder`.

    Runs of equal seeds are paired; where each method has one run, these are, whatever their seeds.

    Raises:
        ValueError: no equal seeds, other test samples, or runs that keep no predictions per sample (depth maps).
    """
    made = Method({}, f"mean of {first.name} and {second.name}")
    for seed, one, other in _pairs(first, second):
        labels, preds, index, table = _mean(one, other)
        place = folder / str(len(made.runs))
        place.mkdir(parents=True)
        write(place / "predictions.csv", table)
        on_test = "test" in (run.flags.get("select_on") for run in (one, other))
        flags = {"seed": seed, **({"select_on": "test"} if on_test else {})}
        metrics = _metrics(labels, preds, index, one)
        made.runs.append(Run(place, flags, {"test": metrics}))
        made.metrics.append(metrics)
    return made


def _pairs(first: Method, second: Method) -> list[tuple[Any, Run, Run]]:
    ours, theirs = ({run.flags.get("seed"): run for run in method.runs} for method in (first, second))
    if len(ours) == len(theirs) == 1:
        (one,), (other,) = ours.values(), theirs.values()
        return [(one.flags.get("seed"), one, other)]
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        raise ValueError(f"--ensemble: {first.name} has seeds {', '.join(map(str, ours))} and {second.name} "
                         f"{', '.join(map(str, theirs))}; expected runs of equal seeds")
    return [(seed, ours[seed], theirs[seed]) for seed in seeds]


def _mean(one: Run, other: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Labels (N,), the mean of both predictions (N,), bins (N,), and these as the text of a predictions.csv."""
    rows = [_rows(run) for run in (one, other)]
    if [(row["label"], row["bin"]) for row in rows[0]] != [(row["label"], row["bin"]) for row in rows[1]]:
        raise ValueError(f"--ensemble: {one.folder} and {other.folder} were tested on other samples")
    preds = np.mean([[float(row["prediction"]) for row in side] for side in rows], axis=0)
    lines = [f"{row['label']},{pred!r},{row['bin']},{row['shot']}" for row, pred in zip(rows[0], preds.tolist())]
    labels, index = (np.array([kind(row[name]) for row in rows[0]]) for name, kind in (("label", float), ("bin", int)))
    return labels, preds, index, "\n".join(["label,prediction,bin,shot", *lines]) + "\n"


def _rows(run: Run) -> list[dict[str, str]]:
    file = run.folder / "predictions.csv"
    with open(file, encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not {"label", "prediction", "bin", "shot"} <= rows[0].keys():
        raise ValueError(f"--ensemble: {file} holds no prediction per sample, as of depth maps none is kept")
    return rows


def _metrics(labels: np.ndarray, preds: np.ndarray, index: np.ndarray, member: Run) -> dict[str, Any]:
    """As `shot_metrics`, in the groups and bins of a member; NaN for what only the training labels or spreads tell."""
    like = member.metrics["test"]
    shots = np.array(like["per_bin"]["shot"])[index]
    result: dict[str, Any] = {}
    for name in ALL_GROUPS:
        mine = np.ones(len(labels), bool) if name == "overall" else shots == name
        found = errors(preds[mine] - labels[mine])
        if "pearson" in like[name]:
            found.update(correlations(preds[mine], labels[mine]) if mine.any() else {})
        result[name] = {**dict.fromkeys(like[name], float("nan")), **found}

    error, count = preds - labels, np.bincount(index, minlength=len(like["per_bin"]["shot"]))
    sums = (np.bincount(index, weights=values, minlength=len(count)) for values in (np.abs(error), error**2, error))
    l1, mse, bias = (np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0) for total in sums)
    result["balanced"] = {"l1": float(np.nanmean(l1)), "mse": float(np.nanmean(mse))}
    result["per_bin"] = {**like["per_bin"], "count": count, "l1": l1, "bias": bias}
    rare, scores = ~np.isin(shots, ("many", "medium")), like.get("scores", {})
    own = freedman_diaconis_bins(labels)
    known = {"bmae_fd": balanced_mae(labels, preds, own), "fd_bins": own.count, "ccc": ccc(labels, preds),
             "aore": aore(labels, preds, rare), "aorc": aorc(labels, preds, rare)}
    if scores.get("bmase"):  # what a constant errs follows from the member's share of it
        known["bmase"] = result["balanced"]["l1"] * scores["bmase"] / like["balanced"]["l1"]
    result["scores"] = {**dict.fromkeys(scores, float("nan")), **{name: known[name] for name in known if name in scores}}
    return result
