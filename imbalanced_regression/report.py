"""What a finished run leaves behind: metrics.json, predictions.csv, report.png, and the table by shot in the log."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np

from .bins import Bins
from .drawing import BAR, LINE, SHADES, new_figure, png, shade_shots
from .files import write as write_whole
from .lds import label_density
from .metrics import GROUPS

logger = logging.getLogger(__name__)

_COLUMNS = {
    "mse": "MSE", "rmse": "RMSE", "l1": "L1 (MAE)", "gmean": "G-Mean", "bias": "bias", "pearson": "Pearson",
    "spearman": "Spearman", "count": "count",
}


def write(
    folder: Path | None,
    result: dict,
    *,
    train_labels,
    bins: Bins,
    shots,
    label: str,
    window: dict,
    title: str,
    scale: float = 1,
) -> None:
    """Log the test table, and write the files of a run into `folder` (None: only the table).

    Args:
        result: what `engine.run` returned.
        train_labels: (M,) labels trained on. bins, shots: K bins and their shots (K,).
        label: what the label is and its unit, for the axes.
        window: kernel, ks and sigma of the smoothed density drawn over the histogram.
        title: of the figure; the run's name.
        scale: what predictions are multiplied by to reach the unit of the label.
    """
    for line in table(result["test"]).splitlines():
        logger.info("test  %s", line)
    if folder is None:
        return
    write_whole(folder / "metrics.json", to_json({name: result[name] for name in ("best_epoch", "val", "test")}))
    preds, labels, _ = (np.ravel(array).astype(np.float64) for array in result["predictions"]["test"])
    write_whole(folder / "predictions.csv", predictions_csv(preds * scale, labels, bins, np.asarray(shots)))
    density = label_density(train_labels, bins, **window)
    write_whole(folder / "report.png", figure(result["test"], bins.counts(train_labels), density, bins, label, title))
    logger.info("written: %s", ", ".join(str(folder / name) for name in ("metrics.json", "predictions.csv", "report.png")))


def table(metrics: dict) -> str:
    """Metrics by shot as aligned text, one line per group."""
    columns = [name for name in _COLUMNS if name in metrics["overall"]]
    rows = [["", *(_COLUMNS[name] for name in columns)]]
    for group in GROUPS:
        rows.append([group, *(_number(metrics[group][name]) for name in columns)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"{row[0]:{widths[0]}}  " + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:])) for row in rows]
    lines.append(f"balanced over bins: MAE {_number(metrics['balanced']['l1'])}, MSE {_number(metrics['balanced']['mse'])}")
    return "\n".join(lines)


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4f}"


def to_json(metrics: dict) -> str:
    """Metrics as JSON text: arrays become lists, NaN (an empty group) becomes null."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (np.ndarray, list, tuple)):
            return [plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
        if isinstance(value, np.generic):
            value = value.item()
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(metrics), indent=1) + "\n"


def predictions_csv(preds: np.ndarray, labels: np.ndarray, bins: Bins, shots: np.ndarray) -> str:
    """One line per test sample, in the data's order: label, prediction, bin, shot."""
    index = bins.index(labels)
    exact = np.float32  # what both were computed in: its shortest text reads back to the same value, 0.4 and not 0.400000006
    lines = [f"{exact(y)!s},{exact(p)!s},{b},{shots[b]}" for y, p, b in zip(labels, preds, index)]
    return "\n".join(["label,prediction,bin,shot", *lines]) + "\n"


def figure(metrics: dict, train_counts: np.ndarray, density: np.ndarray, bins: Bins, label: str, title: str) -> bytes:
    """The picture of a run as PNG: training counts with the smoothed density over them; below, test MAE per bin by shot."""
    fig = new_figure(9, 6.4)
    from matplotlib.patches import Patch  # now that it is known to be there

    per_bin = metrics["per_bin"]
    left, width = bins.edges[:-1], np.diff(bins.edges)
    top, bottom = fig.subplots(2, 1, sharex=True)
    fig.suptitle(title, fontsize=10)

    top.bar(left, train_counts, width, align="edge", color=BAR, label="training labels")
    top.plot(bins.centers, density, color=LINE, lw=1.8, label="smoothed density (LDS)")
    top.set_ylabel("count per bin")
    top.legend(loc="upper right", frameon=False)

    shade_shots(bottom, bins.edges, per_bin["shot"])
    error = np.nan_to_num(per_bin["l1"])
    bottom.bar(left, error, width, align="edge", color=BAR, edgecolor="white", lw=0.4, zorder=2)
    bottom.axhline(metrics["overall"]["l1"], color=LINE, lw=1, ls="--", zorder=3)
    bottom.set_ylabel("test MAE per bin")
    bottom.set_xlabel(label)
    bottom.set_xlim(bins.edges[0], bins.edges[-1])
    bottom.set_ylim(0, 1.25 * max(error.max(), 1e-9))
    handles = [
        Patch(facecolor=color, edgecolor="#999999", lw=0.5, label=f"{shot}: MAE {_number(metrics[shot]['l1'])}")
        for shot, color in SHADES.items()
        if metrics[shot]["count"]
    ]
    handles.append(bottom.lines[0])
    bottom.lines[0].set_label(f"overall: MAE {_number(metrics['overall']['l1'])}")
    bottom.legend(handles=handles, loc="upper center", ncols=len(handles), frameon=False)
    return png(fig)
