"""How similar the features of target bins are, before and after FDS smoothed their statistics.

The one idea: near targets should have near features, so the similarity of a bin's statistics to an anchor's should fall
with the distance between them. Bins with few samples break that, being like whatever has most samples; smoothing mends
it. Source: the paper, section 3.2 and the figure of feature statistics similarity.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bins import Bins
from . import tables

_MARK = "running_mean_last_epoch"  # the buffer only FDS has; BatchNorm has a running_mean too


@dataclass
class Statistics:
    """FDS statistics of K bins in a checkpoint: `before` and `after` smoothing, each {"mean", "variance"} of (K, D).

    `samples` (K,) counts what was seen over all epochs. `first_bin` is the number of bin 0, and `centers` (K,) the labels
    in the middle of the bins, `edges` (K + 1,) and `shots` (K,), all None where the run's metrics.json does not tell them.
    """

    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    samples: np.ndarray
    first_bin: int
    edges: np.ndarray | None
    shots: np.ndarray | None
    name: str


@dataclass
class Similarity:
    """Cosine similarities to the anchor's statistics, {"mean", "variance"} of (K,), NaN for bins without statistics."""

    statistics: Statistics
    anchor: int
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]

    @property
    def places(self) -> np.ndarray:
        """(K,) the middle of each bin in the unit of the label, or its number."""
        edges = place_edges(self.statistics)
        return (edges[1:] + edges[:-1]) / 2


def place_edges(statistics: Statistics) -> np.ndarray:
    """(K + 1,) the edges of the bins in the unit of the label; where they are unknown, half way between bin numbers."""
    if statistics.edges is not None:
        return statistics.edges
    return statistics.first_bin + np.arange(len(statistics.samples) + 1) - 0.5


def read(run: Path) -> Statistics:
    """The FDS statistics in a run's folder (its best checkpoint) or in a checkpoint file.

    Raises:
        ValueError: no checkpoint, one without FDS, or one whose FDS has seen no samples yet.
    """
    from ..training import checkpoint

    folder, path = (run, run / checkpoint.BEST) if run.is_dir() else (run.parent, run)
    if run.is_dir() and not path.is_file():
        raise ValueError(f"RUN: {run} has no {checkpoint.BEST}")
    content = checkpoint.load(path, "RUN")
    state = checkpoint.state_dict_of(content)
    found = [name for name in state if name.rpartition(".")[2] == _MARK]
    if not found:
        raise ValueError(f"RUN: {path} has no FDS statistics; train with --fds to have them")
    prefix = found[0].removesuffix(_MARK)
    names = ("running_mean", "running_var", "smoothed_mean_last_epoch", "smoothed_var_last_epoch", "num_samples_tracked")
    missing = [name for name in names if prefix + name not in state]
    if missing:
        raise ValueError(f"RUN: {path} has FDS statistics without {', '.join(missing)}")
    mean, var, smoothed_mean, smoothed_var, samples = (state[prefix + name].double().numpy() for name in names)
    if not (samples > 0).any():
        raise ValueError(f"RUN: the FDS of {path} has seen no samples yet; it needs an epoch of training")
    flags = content.get("settings") or {}
    first_bin = int(flags.get("bucket_start") or 0)
    edges, shots = _labels_of_bins(folder / "metrics.json", first_bin, len(samples))
    return Statistics(
        before={"mean": mean, "variance": var}, after={"mean": smoothed_mean, "variance": smoothed_var}, samples=samples,
        first_bin=first_bin, edges=edges, shots=shots, name=folder.resolve().name,
    )


def _labels_of_bins(metrics: Path, first_bin: int, rows: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Edges (rows + 1,) in the unit of the label and shots (rows,), from a run's metrics where they have these bins."""
    try:
        per_bin = json.loads(metrics.read_text())["test"]["per_bin"]
        centers, shots = np.array(per_bin["center"], dtype=np.float64), np.array(per_bin["shot"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
    if len(centers) < max(2, first_bin + rows):
        return None, None
    width = centers[1] - centers[0]
    if not np.allclose(np.diff(centers), width, rtol=1e-3):  # every benchmark's bins are equally wide
        return None, None
    # ages beyond the last of these bins count in it, as they do in FDS
    edges = centers[0] + width * (np.arange(first_bin, first_bin + rows + 1) - 0.5)
    return edges, shots[first_bin : first_bin + rows]


def similarities(statistics: Statistics, anchor: float | None = None) -> Similarity:
    """Cosine similarity of every bin's mean and variance to those of the anchor, before and after smoothing.

    Args:
        anchor: a label whose bin is the anchor (a bin's number where `edges` is None); None takes the bin with most samples.

    Raises:
        ValueError: an anchor outside the bins, or in a bin without samples.
    """
    known = statistics.samples > 0
    if anchor is None:
        at = int(statistics.samples.argmax())
    else:
        edges = place_edges(statistics)
        if not (math.isfinite(anchor) and edges[0] <= anchor <= edges[-1]):
            raise ValueError(f"--anchor: expected a label from {edges[0]:g} to {edges[-1]:g}, found {anchor:g}")
        at = int(Bins(edges).index([anchor])[0])
        if not known[at]:
            nearest = np.flatnonzero(known)[np.abs(np.flatnonzero(known) - at).argmin()]
            place = (edges[nearest] + edges[nearest + 1]) / 2
            raise ValueError(f"--anchor: no training sample lies in the bin of {anchor:g}; the nearest with some is {place:g}")
    parts = {}
    for when, values in (("before", statistics.before), ("after", statistics.after)):
        parts[when] = {name: np.where(known, _cosine(rows, rows[at]), np.nan) for name, rows in values.items()}
    return Similarity(statistics, at, parts["before"], parts["after"])


def _cosine(rows: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Cosine similarity of rows (K, D) to one row (D,) -> (K,); NaN where either is 0 throughout."""
    size = np.linalg.norm(rows, axis=1) * np.linalg.norm(row)
    return np.divide(rows @ row, size, out=np.full(len(rows), np.nan), where=size > 0)


def fall_with_distance(similarity: Similarity) -> dict[str, dict[str, float]]:
    """Spearman's correlation of similarity and distance from the anchor, {"before" | "after": {"mean" | "variance"}}.

    -1: the nearer a bin, the more alike, without exception. NaN where there are fewer than three bins.
    """
    from ..metrics import correlations

    distance = np.abs(np.arange(len(similarity.statistics.samples)) - similarity.anchor)
    found: dict[str, dict[str, float]] = {"before": {}, "after": {}}
    for when, values in (("before", similarity.before), ("after", similarity.after)):
        for name, alike in values.items():
            chosen = np.isfinite(alike)
            enough = chosen.sum() >= 3
            found[when][name] = correlations(alike[chosen], distance[chosen])["spearman"] if enough else math.nan
    return found


def _columns(similarity: Similarity) -> tuple[list[str], list[list]]:
    statistics = similarity.statistics
    head = ["bin", "label", "samples", "mean_before", "mean_after", "variance_before", "variance_after"]
    rows = []
    for k, place in enumerate(similarity.places):
        values = [part[k] for name in ("mean", "variance") for part in (similarity.before[name], similarity.after[name])]
        rows.append([statistics.first_bin + k, f"{place:g}", int(statistics.samples[k]), *values])
    return head, rows


def text_table(similarity: Similarity) -> str:
    """One line per bin with statistics, and how similarity falls with distance."""
    head, rows = _columns(similarity)
    lines = [[name.replace("_", " ") for name in head]]
    lines += [[*map(str, row[:3]), *("-" if math.isnan(v) else f"{v:.4f}" for v in row[3:])] for row in rows if row[2]]
    empty = sum(not row[2] for row in rows)
    fall = fall_with_distance(similarity)
    return "\n".join([
        f"cosine similarity to the feature statistics of bin {similarity.statistics.first_bin + similarity.anchor} "
        f"(label {similarity.places[similarity.anchor]:g}), before and after smoothing over bins",
        tables.text(lines, left=0),
        *([f"{empty} bins without samples are left out"] if empty else []),
        "Spearman correlation of similarity and distance (-1: falls without exception): " + "; ".join(
            f"{name} {fall['before'][name]:.2f} before, {fall['after'][name]:.2f} after" for name in ("mean", "variance")
        ),
    ])


def csv_table(similarity: Similarity) -> str:
    """bin,label,samples and the four similarities of every bin, empty for bins without samples."""
    head, rows = _columns(similarity)
    lines = [[*map(str, row[:3]), *("" if math.isnan(v) else repr(float(v)) for v in row[3:])] for row in rows]
    return "\n".join(",".join(line) for line in [head, *lines])


TABLES = {"text": text_table, "csv": csv_table}


def figure(similarity: Similarity) -> bytes:
    """Similarity to the anchor by bin: means above, variances below; before (thin) and after smoothing. A PNG."""
    from .drawing import BAR, LINE, MUTED, OTHER, new_figure, png, shade_shots

    statistics, places, edges = similarity.statistics, similarity.places, place_edges(similarity.statistics)
    fig = new_figure(9, 7.2)
    top, *panels = fig.subplots(3, 1, sharex=True, height_ratios=(1, 2, 2))
    fig.suptitle(statistics.name, fontsize=10)
    top.bar(places, statistics.samples, np.diff(edges), color=BAR)
    top.set_title("samples seen per bin, over all epochs", fontsize=9, loc="left")
    fall = fall_with_distance(similarity)
    for axes, name in zip(panels, ("mean", "variance")):
        if statistics.shots is not None:
            shade_shots(axes, edges, statistics.shots)
        axes.axvline(places[similarity.anchor], color=MUTED, lw=1, ls="--", zorder=1)
        for when, values, look in (
            ("before smoothing", similarity.before, {"color": OTHER, "lw": 1.1, "marker": "o", "ms": 2.5}),
            ("after smoothing (FDS)", similarity.after, {"color": LINE, "lw": 1.8}),
        ):
            rho = fall[when.split()[0]][name]
            known = np.isfinite(values[name])
            axes.plot(places[known], values[name][known], zorder=3, label=f"{when}: Spearman with distance {rho:.2f}", **look)
        axes.set_ylabel("cosine similarity")
        anchor = f"{places[similarity.anchor]:g}"
        axes.set_title(f"{name} of the features: similarity to that of the bin at {anchor}", fontsize=9, loc="left")
        axes.legend(loc="lower center", ncols=2, fontsize=9, framealpha=1, edgecolor="none")
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.2 * (high - low), high)  # room for the legend
    panels[-1].set_xlim(edges[0], edges[-1])
    shaded = "" if statistics.shots is None else " (shaded: many-shot green, medium-shot yellow, few-shot red)"
    panels[-1].set_xlabel(("bin" if statistics.edges is None else "label") + shaded)
    return png(fig)
