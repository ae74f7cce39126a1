"""Finished runs side by side: the paper's table over seeds, and the gain of each method per bin.

The one idea: what a run is shows in its flags (args.json), so runs that differ in nothing but the seed and the names of
files are one method, and a method's name is what sets it apart. Source: the paper, tables 1 to 5 and figure 6.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import choices
from ..metrics import GROUPS, SCORES, ZERO_SHOTS
from ..training.plan import NOT_THE_METHOD
from . import tables
from .states import read_record

logger = logging.getLogger(__name__)

# shown as names
_METHOD_NAMES = {"reweight", "lds", "fds", "retrain_fc", "terms", "head", "pretrain", "resample", "keep", "sampler", "target",
                 "constant"}
# flags that say nothing at these values; runs from before there were such flags are the same method
_NEUTRAL = {"terms": [], "head": "linear", "pretrain": "none", "resample": "none", "ascent": 0.0, "views": 1, "keep": "best",
            "then": "none", "then_epochs": None, "then_lr": None, "then_batch_size": None, "cosine": None, "sampler": "none",
            "target": "none", "constant": "none"}
_BASES = {"none": "", "sqrt_inv": "SQINV", "inverse": "INV", "dense": "DenseWeight"}

# metric -> (heading, decimals), in the order of the table
METRICS = {
    "mse": ("MSE", 3), "rmse": ("RMSE", 3), "l1": ("MAE", 2), "gmean": ("GM", 2), "bias": ("bias", 2),
    "pearson": ("Pearson", 3), "spearman": ("Spearman", 3), "absrel": ("AbsRel", 3), "log10": ("log10", 3),
    "delta1": ("delta1", 3), "delta2": ("delta2", 3), "delta3": ("delta3", 3),
    "nll": ("NLL", 3), "coverage": ("in 90 %", 3), "ause": ("AUSE", 3), "uce": ("UCE", 3),  # of heads with a spread
    **{name: (heading, 1 if name == "sera" else 3) for name, heading in SCORES.items()},  # one number over all, no groups
}
# the metrics of the paper's tables, by one that only that kind of benchmark has
_METRICS_OF_PAPER = {"delta1": ("rmse", "absrel", "delta1"), "pearson": ("mse", "l1", "pearson")}
_DEFAULT_METRICS = ("l1", "gmean")


@dataclass
class Run:
    """A finished run: its folder, its flags, and the metrics of its splits as `report` wrote them (NaN is None)."""

    folder: Path
    flags: dict
    metrics: dict


@dataclass
class Method:
    """Runs that differ in the seed only. `metrics`: one entry per run, of the split that is compared.

    published: {metric: {group: number}} of the paper `source`; {} where nothing is known.
    """

    flags: dict
    name: str = ""
    runs: list[Run] = field(default_factory=list)
    metrics: list[dict] = field(default_factory=list)
    published: dict = field(default_factory=dict)
    source: str = ""

    def values(self, metric: str, group: str) -> np.ndarray:
        """(runs,) float64, NaN for an empty group."""
        where = "scores" if metric in SCORES else group
        return np.array([run.get(where, {}).get(metric) for run in self.metrics], dtype=np.float64)


def find_runs(paths: list[Path]) -> list[Run]:
    """The runs in folders: those that hold a metrics.json, or all such folders below them; each once, in that order.

    Unfinished runs below a folder (args.json but no metrics.json) are left out with a warning.

    Raises:
        ValueError: a path without a finished run, or a file that is none of ours.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"RUN: there is no folder {path}")
        found = [path] if (path / "metrics.json").is_file() else sorted(file.parent for file in path.rglob("metrics.json"))
        if not found:
            begun = "; --resume finishes the one that is begun there" if any(path.rglob("args.json")) else ""
            raise ValueError(f"RUN: no finished run in {path}: expected a folder with metrics.json{begun}, or leave it out")
        for file in sorted(path.rglob("args.json")):
            first_of_two = (file.parent.parent / "args.json").is_file()  # stages of a run, whose result is the second's
            if not (file.parent / "metrics.json").is_file() and not first_of_two:
                logger.warning("left out: %s has no metrics.json yet; --resume finishes it", file.parent)
        for folder in found:
            folders.setdefault(folder.resolve(), folder)
    return [read_run(folder) for folder in folders.values()]


def read_run(folder: Path) -> Run:
    """One run's args.json and metrics.json. Raises ValueError where one is missing or is not as the training wrote it."""
    content = []
    for name in ("args.json", "metrics.json"):
        file = folder / name
        if not file.is_file():
            raise ValueError(f"RUN: {folder} has no {name}")
        try:
            content.append(json.loads(file.read_text()))
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"RUN: {file} is no JSON: {error}") from None
    flags, metrics = content
    test = metrics.get("test") if isinstance(metrics, dict) else None
    if not isinstance(flags, dict):
        raise ValueError(f"RUN: {folder}/args.json holds no flags by name; is it a run's folder?")
    if not isinstance(test, dict) or not all(isinstance(test.get(g), dict) for g in GROUPS):
        raise ValueError(f"RUN: {folder}/metrics.json holds no test metrics by shot; is it a run's folder?")
    return Run(folder, flags, metrics)


def read_cost(folder: Path) -> dict:
    """A run's cost.json: seconds_per_epoch, memory_mib, parameters, device; {} where it has none."""
    try:
        found = json.loads((folder / "cost.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def by_dataset(runs: list[Run]) -> dict[str, list[Run]]:
    """The runs of each data set, in the order of their first runs.

    A data set is what the sweep's record says, or else what stands in a run folder's name before the model.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        record = read_record(run.folder.parent)
        before, model, _ = run.folder.name.partition(f"_{run.flags.get('model')}_") if run.flags.get("model") else ("", "", "")
        recorded = " ".join(filter(None, (record.get("benchmark", ""), record.get("dataset", ""))))
        name = recorded or (before if model else "")
        found.setdefault(name, []).append(run)
    return found


def group(runs: list[Run], split: str = "test") -> list[Method]:
    """Runs -> methods in the order of their first runs, with names that tell them apart.

    Raises:
        ValueError: runs tested on different data (other counts by shot), or without metrics of `split`.
    """
    methods: dict[str, Method] = {}
    first = runs[0]
    for run in runs:
        if not isinstance(run.metrics.get(split), dict):
            raise ValueError(f"--split: {run.folder}/metrics.json has no {split} metrics")
        counts = [[r.metrics[split][g].get("count") for g in GROUPS] for r in (first, run)]
        if counts[0] != counts[1]:
            raise ValueError(
                f"RUN: {first.folder} and {run.folder} were measured on other data ({', '.join(GROUPS)}: {counts[0]} and "
                f"{counts[1]} samples); compare the runs of one data set at a time"
            )
        flags = _method_flags(run.flags)
        method = methods.setdefault(json.dumps(flags, sort_keys=True), Method(flags))
        method.runs.append(run)
        method.metrics.append(run.metrics[split])
        record = read_record(run.folder.parent)
        if split == "test" and isinstance(record.get("published"), dict):
            method.published, method.source = record["published"], str(record.get("source", ""))
    _name(list(methods.values()))
    for method in methods.values():
        seeds = [run.flags.get("seed") for run in method.runs]
        if len(set(seeds)) < len(seeds):
            logger.warning("%s: %d runs with seeds %s: not independent", method.name, len(seeds), ", ".join(map(str, seeds)))
    return list(methods.values())


def _method_flags(flags: dict) -> dict:
    """The flags that make a method: without those that only say where it was made, or that are of a method not used."""
    kept = {name: value for name, value in flags.items() if name not in NOT_THE_METHOD}
    kept["pretrained"] = bool(kept.get("pretrained"))  # each seed re-trains the head of its own encoder
    unused = choices.of_methods_not_used(kept)
    kept = {name: value for name, value in kept.items() if name not in unused}
    kept = {name: value for name, value in kept.items() if name not in _NEUTRAL or value != _NEUTRAL[name]}
    if "epoch" in kept or "max_vals" in kept:
        kept.pop("epochs", None)  # the library's name for the same
    return kept


_TITLED = {*choices.TERMS, *choices.HEADS, *choices.PRETRAINS, *choices.RESAMPLES, *choices.SAMPLERS, *choices.TARGETS,
           *choices.CONSTANTS} - {"none", "linear"}


def _name(methods: list[Method]) -> None:
    """The paper's name of each method, and in parentheses what else varies: "INV + LDS + FDS (lr 0.001)"."""
    values: dict[str, set[str]] = {}
    for method in methods:
        for name, value in method.flags.items():
            values.setdefault(name, set()).add(json.dumps(value))
    vary = {name for name, found in values.items() if len(found) > 1} - _METHOD_NAMES
    for method in methods:
        flags = method.flags
        parts = [_BASES.get(str(flags.get("reweight", "none")), str(flags.get("reweight")))]
        parts += [name for name, flag in (("LDS", "lds"), ("FDS", "fds"), ("RRT", "retrain_fc")) if flags.get(flag)]
        parts += [choices.title(name) for name in choices.used(flags) if name in _TITLED]
        name = " + ".join(part for part in parts if part) or "vanilla"
        shown = vary - {"pretrained"} if flags.get("retrain_fc") else vary  # RRT says so itself
        others = [flag if flags[flag] is True else f"{flag} {flags[flag]}"
                  for flag in flags if flag in shown and flags[flag] is not False]
        method.name = f"{name} ({', '.join(others)})" if others else name
    names = [method.name for method in methods]
    for method in methods:
        if names.count(method.name) > 1:  # they differ in flags that only newer runs know
            method.name += f" [{method.runs[0].folder.name}]"


# -- the table ---------------------------------------------------------------------------------------------------------


def choose_metrics(methods: list[Method], names: list[str] | None) -> list[str]:
    """`names`, or the paper's metrics for this kind of benchmark. Raises ValueError for one that the runs do not have."""
    known = _known(methods)
    if names is None:
        # a constant has no correlation: what one run has tells the kind of benchmark
        some = [m for m in METRICS if any(np.isfinite(method.values(m, "overall")).any() for method in methods)]
        paper = next((list(found) for mark, found in _METRICS_OF_PAPER.items() if mark in some), list(_DEFAULT_METRICS))
        return [m for m in paper if m in some] or known
    for name in names:
        if name not in known:
            raise ValueError(f"--metrics: expected some of {', '.join(known)}, found {name}")
    return names


def _known(methods: list[Method]) -> list[str]:
    """The metrics that all runs have, in the order of `METRICS`."""
    every = [run for method in methods for run in method.metrics]
    return [m for m in METRICS if all(m in run.get("scores" if m in SCORES else "overall", {}) for run in every)]


def _groups(methods: list[Method], metric: str) -> list[str]:
    """The groups a metric has numbers for: the published ones, and those without training labels where a run has any."""
    return ["overall"] if metric in SCORES else [*GROUPS, *zero_shots(methods)]


def zero_shots(methods: list[Method], least: int = 1) -> list[str]:
    """The groups without training labels that have so many test labels in a run."""
    every = [run for method in methods for run in method.metrics]
    return [group for group in ZERO_SHOTS if any((run.get(group, {}).get("count") or 0) >= least for run in every)]


def group_title(group: str) -> str:
    """A group's name as the head of a column."""
    return {"overall": "all", "zero_interp": "zero-shot inside", "zero_extrap": "zero-shot outside"}.get(group, group)


def _cell(values: np.ndarray, decimals: int, plus_minus: str) -> str:
    if np.isnan(values).all():
        return "-"
    mean = f"{np.mean(values):.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} {plus_minus} {np.std(values, ddof=1):.{decimals}f}"


def _rows(methods: list[Method], names: list[str] | None, plus_minus: str) -> list[list[str]]:
    columns = [(m, g) for m in choose_metrics(methods, names) for g in _groups(methods, m)]
    rows = [["method", "runs", *(METRICS[m][0] if m in SCORES else f"{METRICS[m][0]} {group_title(g)}" for m, g in columns)]]
    for method in methods:
        cells = [_cell(method.values(m, g), METRICS[m][1], plus_minus) for m, g in columns]
        rows.append([method.name, str(len(method.runs)), *cells])
    return rows


def text_table(methods: list[Method], names: list[str] | None = None) -> str:
    """One block of aligned text per metric."""
    rows = _rows(methods, names, "+-")
    blocks = []
    start = 2
    for metric in choose_metrics(methods, names):
        stop = start + len(_groups(methods, metric))
        block = [row[:2] + row[start:stop] for row in rows]
        start = stop
        blocks.append(tables.text(block))
    return "\n\n".join(blocks)


def markdown_table(methods: list[Method], names: list[str] | None = None) -> str:
    """One Markdown table, all metrics side by side."""
    return tables.markdown(_rows(methods, names, "±"))


def latex_table(methods: list[Method], names: list[str] | None = None) -> str:
    """One LaTeX table (booktabs), all metrics side by side."""
    return tables.latex(_rows(methods, names, "±"))


def csv_table(methods: list[Method], names: list[str] | None = None) -> str:
    """One line per method, metric and group, unrounded: method,metric,group,mean,std,runs; std empty for one run.

    Without `names` all that are by group; the scores over all (`metrics.SCORES`) by name."""
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "metric", "group", "mean", "std", "runs"])
    metrics = choose_metrics(methods, names) if names else [m for m in _known(methods) if m not in SCORES]
    for method in methods:
        for metric in metrics:
            for shot in _groups(methods, metric):
                values = method.values(metric, shot)
                empty = np.isnan(values).all()
                std = "" if len(values) == 1 or empty else repr(float(np.std(values, ddof=1)))
                writer.writerow([method.name, metric, shot, "" if empty else repr(float(np.mean(values))), std, len(values)])
    return buffer.getvalue().rstrip("\n")


TABLES = {"text": text_table, "markdown": markdown_table, "csv": csv_table, "latex": latex_table}


# -- the gain per bin --------------------------------------------------------------------------------------------------


def baseline(methods: list[Method]) -> int:
    """Which method the others are measured against: the first vanilla one, or the first."""
    return next((i for i, method in enumerate(methods) if method.name.startswith("vanilla")), 0)


def gains(methods: list[Method]) -> np.ndarray:
    """How much lower the MAE of each bin is than the baseline's: (methods, K), NaN where a bin has no test labels.

    Raises ValueError where the runs' bins differ.
    """
    errors = [[np.array(run["per_bin"]["l1"], dtype=np.float64) for run in method.metrics] for method in methods]
    sizes = sorted({len(row) for per_run in errors for row in per_run})
    if len(sizes) > 1:
        raise ValueError(f"RUN: errors are per bin, and the runs have {' and '.join(map(str, sizes))} bins")
    mean = np.array([np.mean(per_run, axis=0) for per_run in errors])
    return mean[baseline(methods)] - mean


def figure(methods: list[Method]) -> bytes:
    """The training labels of each bin, and below for every method its MAE gain over the baseline per bin, as a PNG."""
    from .drawing import BAR, LINE, MUTED, OTHER, new_figure, png, shade_shots

    per_bin = methods[0].metrics[0]["per_bin"]
    gain, base = gains(methods), baseline(methods)
    center = np.array(per_bin["center"], dtype=np.float64)
    counts = per_bin.get("train_count")
    edges = np.interp(np.arange(len(center) + 1) - 0.5, np.arange(len(center)), center)
    if len(center) > 1:  # the outer edges lie as far out as the inner ones are apart
        edges[0], edges[-1] = center[0] - (center[1] - center[0]) / 2, center[-1] + (center[-1] - center[-2]) / 2
    tested = ~np.isnan(gain).all(axis=0)
    others = [i for i in range(len(methods)) if i != base]
    fig = new_figure(9, 1.4 + 1.7 * (len(others) + 1))
    first, *panels = fig.subplots(len(others) + 1, 1, sharex=True)
    first.bar(center, per_bin["count"] if counts is None else counts, np.diff(edges), color=BAR)
    first.set_title("test labels per bin" if counts is None else "training labels per bin", fontsize=9, loc="left")
    most = max(np.nanmax(np.abs(gain[:, tested])), 1e-9) if tested.any() else 1.0
    for axes, i in zip(panels, others):
        shade_shots(axes, edges, per_bin["shot"])
        up = np.where(gain[i] > 0, gain[i], np.nan)
        down = np.where(gain[i] <= 0, gain[i], np.nan)
        axes.bar(center, up, np.diff(edges), color=OTHER, zorder=2)
        axes.bar(center, down, np.diff(edges), color=LINE, zorder=2)
        axes.axhline(0, color=MUTED, lw=0.8, zorder=3)
        axes.set_ylim(-1.1 * most, 1.1 * most)
        better = (gain[i][tested] > 0).sum()
        runs = len(methods[i].runs)
        axes.set_title(
            f"{methods[i].name}: MAE gain over {methods[base].name} ({runs} run{'s' if runs > 1 else ''}; "
            f"mean {np.nanmean(gain[i]):.3g}, better in {better} of {tested.sum()} bins)", fontsize=9, loc="left",
        )
    if tested.any():
        panels[-1].set_xlim(edges[:-1][tested][0], edges[1:][tested][-1])
    panels[-1].set_xlabel("label (shaded: many-shot green, medium-shot yellow, few-shot red, no training label violet or grey)")
    return png(fig)
