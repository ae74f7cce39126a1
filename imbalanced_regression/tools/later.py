"""Metrics that a run did not keep, from what it did: its predictions, and the counts of its training labels per bin.

The one idea: labels, predictions, bins and shots of the test set are all that a metric needs but for those that look at the
training labels; these take each at the centre of its bin, which is exact for whole labels in bins of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import metrics as own
from ..methods.relevance import Relevance
from ..metrics import ALL_GROUPS, SCORES, ZERO_SHOTS
from .compare import METRICS, Method
from .evidence import FROM_PREDICTIONS, read_columns

FROM_CENTRES = ("sera", "sera_mean", "bmase")  # those that need training labels


@dataclass(frozen=True)
class Kept:
    """What is known of a run's test set: labels, predictions, bins, shots (N,), and training labels at their bins' centres."""

    labels: np.ndarray
    preds: np.ndarray
    bins: np.ndarray
    shots: np.ndarray
    train_labels: np.ndarray


def add(methods: Sequence[Method], names: Sequence[str]) -> list[str]:
    """Compute the named metrics where a run's metrics.json lacks them; returns the names of those that were.

    Raises ValueError for a run that keeps no prediction of each sample, or no name that is known.
    """
    added = []
    for name in names:
        for method in methods:
            for i, (run, metrics) in enumerate(zip(method.runs, method.metrics)):
                if name in metrics.get("scores" if name in SCORES else "overall", {}):
                    continue
                if name not in METRICS or (name not in SCORES and name not in FROM_PREDICTIONS):
                    break  # `choose_metrics` says what there is
                kept = read(run.folder, metrics)
                if kept is None:
                    raise ValueError(f"--metrics: {run.folder} has neither {name} nor a predictions.csv of each sample to "
                                     "compute it from")
                method.metrics[i] = _with(metrics, name, kept)
                added.append(name)
    return list(dict.fromkeys(added))


def note(added: Sequence[str]) -> list[str]:
    """What stands under a table with computed metrics."""
    if not added:
        return []
    headings = ", ".join(METRICS[name][0] for name in added)
    centres = "; training labels counted at the centres of their bins" if set(added) & set(FROM_CENTRES) else ""
    return [f"computed from the runs' predictions.csv: {headings}{centres}"]


def read(folder: Path, metrics: dict) -> Kept | None:
    """What a run keeps; None without predictions of each sample."""
    columns = read_columns(folder, ("label", "prediction", "bin", "shot"))
    if columns is None:
        return None
    labels, preds = (np.array(columns[name], dtype=np.float64) for name in ("label", "prediction"))
    per_bin = metrics.get("per_bin", {})
    counts, centers = (np.array(per_bin.get(name) or [], dtype=np.float64) for name in ("train_count", "center"))
    train = np.repeat(centers, counts.astype(np.int64)) if len(counts) == len(centers) else np.empty(0)
    return Kept(labels, preds, np.array(columns["bin"], dtype=np.int64), np.array(columns["shot"]), train)


def _with(metrics: dict, name: str, kept: Kept) -> dict:
    if name in SCORES:
        return {**metrics, "scores": {**metrics.get("scores", {}), name: _score(name, kept)}}
    changed = dict(metrics)
    for group in ALL_GROUPS:
        chosen = np.ones(len(kept.labels), bool) if group == "overall" else kept.shots == group
        if group in ZERO_SHOTS and group not in metrics:
            continue
        value = FROM_PREDICTIONS[name](kept.labels[chosen], kept.preds[chosen]) if chosen.any() else None
        changed[group] = {**metrics.get(group, {}), name: value}
    return changed


def _score(name: str, kept: Kept) -> float:
    """One number over all; NaN where these labels have none."""
    labels, preds = kept.labels, kept.preds
    rare = ~np.isin(kept.shots, ("many", "medium"))
    if name == "ccc":
        return own.ccc(labels, preds)
    if name in ("aore", "aorc"):
        return (own.aore if name == "aore" else own.aorc)(labels, preds, rare)
    if name == "bmae_fd":
        return own.balanced_mae(labels, preds)
    if not len(kept.train_labels):
        return math.nan
    if name == "bmase":
        constant = _balanced(kept.bins, np.abs(np.median(kept.train_labels) - labels))
        return _balanced(kept.bins, np.abs(preds - labels)) / constant if constant > 0 else math.nan
    phi = _relevance(kept.train_labels, labels)
    area = float(phi @ (preds - labels) ** 2) if phi is not None and phi.any() else math.nan
    return area / len(labels) if name == "sera_mean" else area


def _balanced(bins: np.ndarray, errors: np.ndarray) -> float:
    counts = np.bincount(bins)
    return float((np.bincount(bins, weights=errors)[counts > 0] / counts[counts > 0]).mean())


def _relevance(train_labels: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    for make in (Relevance.boxplot, Relevance.density):
        try:
            return make(train_labels)(labels)
        except ValueError:  # no outliers, or one label only
            continue
    return None
