"""What a finished run leaves: metrics.json, predictions.csv, cost.json, report.png, and the table by shot in the log."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..bins import Bins
from ..files import write as write_whole
from ..methods.lds import effective_density
from ..metrics import ALL_GROUPS, SCORES, ZERO_SHOTS
from ..uncertainty import spread_metrics
from . import tables
from .drawing import BAR, LINE, SHADES, new_figure, png, shade_shots

logger = logging.getLogger(__name__)

_COLUMNS = {
    "mse": "MSE", "rmse": "RMSE", "l1": "L1 (MAE)", "gmean": "G-Mean", "absrel": "AbsRel", "log10": "log10",
    "delta1": "delta1", "delta2": "delta2", "delta3": "delta3", "bias": "bias", "pearson": "Pearson",
    "spearman": "Spearman", "nll": "NLL", "coverage": "in 90 %", "ause": "AUSE", "uce": "UCE", "count": "count",
}

Example = tuple[np.ndarray, np.ndarray, np.ndarray]


def write(
    folder: Path | None,
    result: dict,
    *,
    train_labels=None,
    bins: Bins,
    shots,
    label: str,
    window: dict,
    title: str,
    train_counts=None,
    table_csv: str | None = None,
    examples: Sequence[Example] = (),
    predictions: str = "",
) -> None:
    """Log the test table, and write the files of a run into `folder` (None: only the table).

    Args:
        result: what `engine.run` returned. Where it holds predicted spreads, their metrics (`spread_metrics`) are added to its
            groups.
        train_labels: (M,) labels trained on. bins, shots: K bins and their shots (K,).
        label: what the label is and its unit, for the axes.
        window: kernel, ks and sigma of the smoothed density drawn over the histogram.
        title: of the figure; the run's name.
        train_counts: (K,) training labels per bin, where they are too many to pass: pixels.
        table_csv: the text of predictions.csv instead of a line per prediction, e.g. from `images_csv`.
        predictions: a file that the text of predictions.csv is written to as well, whether there is a `folder` or not.
        examples: for dense labels, image (H, W, 3) in 0..1, true and predicted labels (H, W) of some test images.
    """
    if train_labels is not None:
        add_spread_metrics(result, train_labels, bins, shots)
    for line in table(result["test"]).splitlines():
        logger.info("test  %s", line)
    if table_csv is None and (folder is not None or predictions):
        preds, labels, _, *spread = (np.ravel(array).astype(np.float64) for array in result["predictions"]["test"])
        table_csv = predictions_csv(preds, labels, bins, np.asarray(shots), *spread)
    if predictions:
        write_whole(Path(predictions), table_csv or "")
        logger.info("written: %s", predictions)
    if folder is None:
        return
    counts = bins.counts(train_labels) if train_counts is None else np.asarray(train_counts)
    metrics = {
        name: {**result[name], "per_bin": {"train_count": counts, **result[name]["per_bin"]}} for name in ("val", "test")
    }
    write_whole(folder / "predictions.csv", table_csv or "")
    density = effective_density(counts, **window)
    write_whole(folder / "report.png", figure(result["test"], counts, density, bins, label, title, examples))
    if "cost" in result:
        write_whole(folder / "cost.json", to_json(result["cost"]))
    # the last, for a run with metrics is finished
    write_whole(folder / "metrics.json", to_json({"best_epoch": result["best_epoch"], **metrics}))
    logger.info("written: %s", ", ".join(str(folder / name) for name in ("metrics.json", "predictions.csv", "report.png")))


def add_spread_metrics(result: dict, train_labels, bins: Bins, shots) -> None:
    """Add to a result's groups how well predicted spreads tell the errors, where the head predicts any.

    NLL, coverage of the 90 % interval, AUSE and UCE, by the distribution that the head says it predicts. Spreads that have
    none (not above 0, not finite) cost the run nothing but these numbers.
    """
    for split in ("val", "test"):
        arrays = result["predictions"][split]
        if not isinstance(arrays, tuple) or len(arrays) < 4:
            continue
        preds, labels, _, spreads = (np.ravel(array) for array in arrays)
        told = result.get("distribution") or "gaussian"
        try:
            found = spread_metrics(preds, labels, spreads, train_labels, bins, shots=shots, distribution=told)
        except ValueError as error:
            logger.warning("no metrics of the %s spreads: %s", split, error)
            continue
        for group, metrics in found.items():
            count = result[split][group].pop("count")
            result[split][group].update(metrics, count=count)


def table(metrics: dict) -> str:
    """Metrics by shot as aligned text, one line per group; the zero groups where they have test labels."""
    columns = [name for name in _COLUMNS if name in metrics["overall"]]
    rows = [["", *(_COLUMNS[name] for name in columns)]]
    for group in ALL_GROUPS:
        if group not in ZERO_SHOTS or metrics.get(group, {}).get("count"):
            rows.append([group, *(_number(metrics[group].get(name, math.nan)) for name in columns)])
    lines = [tables.text(rows)]
    lines.append(f"balanced over bins: MAE {_number(metrics['balanced']['l1'])}, MSE {_number(metrics['balanced']['mse'])}")
    scores = metrics.get("scores", {})
    found = [f"{SCORES[name]} {_number(scores[name])}" for name in SCORES if not math.isnan(scores.get(name, math.nan))]
    if found:
        lines.append(", ".join(found))
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


def predictions_csv(
    preds: np.ndarray, labels: np.ndarray, bins: Bins, shots: np.ndarray, spread: np.ndarray | None = None
) -> str:
    """One line per test sample, in the data's order: label, prediction, bin, shot, and the prediction's standard deviation."""
    index = bins.index(labels)
    exact = np.float32  # what both were computed in: its shortest text reads back to the same value, 0.4 and not 0.400000006
    lines = [f"{exact(y)!s},{exact(p)!s},{b},{shots[b]}" for y, p, b in zip(labels, preds, index)]
    head = "label,prediction,bin,shot"
    if spread is not None:
        head, lines = f"{head},spread", [f"{line},{exact(s)!s}" for line, s in zip(lines, spread)]
    return "\n".join([head, *lines]) + "\n"


def images_csv(paths: Sequence[str], result: dict) -> str:
    """One line per test image of a dense run (`evaluation.Pixels`), in the data's order: image and its errors, and
    how many of its pixels count (with none, the errors are empty)."""
    rows = result["predictions"]["test"]
    lines = [",".join(["image", *rows])]
    for i, path in enumerate(paths):
        name = "/".join(Path(path).parts[-2:])
        cells = ("" if math.isnan(v[i]) else f"{v[i]:.0f}" if key == "count" else f"{v[i]:.6g}" for key, v in rows.items())
        lines.append(",".join([f'"{name}"' if "," in name else name, *cells]))
    return "\n".join(lines) + "\n"


def figure(
    metrics: dict, train_counts: np.ndarray, density: np.ndarray, bins: Bins, label: str, title: str,
    examples: Sequence[Example] = (),
) -> bytes:
    """The picture of a run as PNG: training counts with the smoothed density over them; below, test MAE per bin by shot;
    below that, `examples` of dense labels: each image with its true and predicted label in one colour scale."""
    per_bin = metrics["per_bin"]
    left, width = bins.edges[:-1], np.diff(bins.edges)
    fig = new_figure(9, 12.4 if examples else 6.4)
    from matplotlib.patches import Patch  # new_figure has checked that matplotlib is installed
    parts: Any = fig.subfigures(2, 1, height_ratios=(6.4, 6)) if examples else (fig, None)
    upper, lower = parts
    top, bottom = upper.subplots(2, 1, sharex=True)
    fig.suptitle(title, fontsize=10)

    top.stairs(train_counts, bins.edges, fill=True, color=BAR, label="training labels")
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
    if lower is not None:
        _draw_examples(lower, examples, label)
    return png(fig)


def _draw_examples(fig, examples: Sequence[Example], label: str) -> None:
    """A column per example: the image, its true label, its predicted label; one colour scale for all, that of the truth."""
    known = [true[true > 0] for _, true, _ in examples]
    low, high = (float(f(values)) for f, values in ((np.min, np.concatenate(known)), (np.max, np.concatenate(known))))
    axes = fig.subplots(3, len(examples), squeeze=False)
    for column, (image, true, pred) in zip(axes.T, examples):
        column[0].imshow(image)
        for ax, values in ((column[1], np.where(true > 0, true, np.nan)), (column[2], pred)):
            drawn = ax.imshow(values, vmin=low, vmax=high, cmap="viridis")
    for row, name in zip(axes, ("image", "true", "predicted")):
        row[0].set_ylabel(name)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    fig.colorbar(drawn, ax=axes, label=label, shrink=0.7, extend="both")
    fig.suptitle("test images, with true and predicted label in one colour scale", fontsize=10)
