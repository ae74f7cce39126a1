"""Does a table hold? Its numbers beside those of fresh runs, or of another table, within a stated tolerance.

The one idea: seeds that both have are compared seed by seed, as means over them, so a table of ten seeds can be checked by
the first two of them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import files
from . import commons, tables
from .compare import METRICS, Method, find_runs, group
from .states import RECORD

Key = tuple[str, str, str, str]  # data set, method, metric, group
Numbers = dict[Key, dict[int | None, float]]  # by seed; None for a mean whose seeds are not said

_MEANS = {"method", "metric", "group", "mean"}  # the columns of `compare --format csv`
_ROUNDING = 1e-6  # numbers in a csv have seven digits
_SHOWN = 12  # lines of numbers that do not hold


@dataclass(frozen=True)
class Checked:
    """One number of the table beside the fresh one; `seeds` that both are the mean of, () where the seeds differ."""

    key: Key
    stated: float
    found: float
    seeds: tuple[int, ...]
    holds: bool


def read(paths: Sequence[Path]) -> Numbers:
    """The numbers of a csv (of the commons, or as `compare --format csv` prints it), or of runs in folders.

    Raises ValueError for anything else.
    """
    if len(paths) == 1 and paths[0].is_file():
        if commons.is_commons(paths[0]):
            return _of_methods(commons.methods(commons.read(paths[0])))
        return _of_means(paths[0])
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"FRESH: expected one csv or folders of runs, found {path}")
    if any(True for path in paths for _ in path.rglob(RECORD)):
        return _of_methods(commons.methods(commons.from_runs(paths)))
    return _of_methods({"": group(find_runs(list(paths)))})


def _of_methods(datasets: dict[str, list[Method]]) -> Numbers:
    found: Numbers = {}
    for dataset, rows in datasets.items():
        for row in rows:
            for run, metrics in zip(row.runs, row.metrics):
                for shot, values in metrics.items():
                    for metric, value in values.items() if isinstance(values, dict) else ():
                        if metric in METRICS and isinstance(value, (int, float)) and math.isfinite(value):
                            place = "overall" if shot == "scores" else shot
                            found.setdefault((dataset, row.name, metric, place), {})[int(run.flags.get("seed", 0))] = value
    return found


def _of_means(path: Path) -> Numbers:
    rows = list(csv.DictReader(io.StringIO(files.read_text(path))))
    if not rows or not rows[0].keys() >= _MEANS:
        raise ValueError(f"{path}: is no table: expected a csv of the commons, or columns {', '.join(sorted(_MEANS))}")
    found: Numbers = {}
    for number, row in enumerate(rows, start=2):
        try:
            if row["mean"]:
                found[row.get("dataset") or "", row["method"], row["metric"], row["group"]] = {None: float(row["mean"])}
        except (ValueError, TypeError):
            raise ValueError(f"{path}: line {number}: expected a number under mean, found {row['mean']!r}") from None
    return found


def check(
    table: Numbers, fresh: Numbers, *, share: float, absolute: float, metrics: Sequence[str] | None = None
) -> tuple[list[Checked], list[Key]]:
    """Every number of the table beside the fresh one, and those that the fresh ones lack.

    A number holds where it differs from the fresh one by at most absolute + share * |number|, its rounding in the csv apart.

    Raises ValueError for a metric that the table has not, or where the two have no number in common.
    """
    known = sorted({key[2] for key in table})
    for name in metrics or ():
        if name not in known:
            raise ValueError(f"--metrics: expected some of {', '.join(known)}, found {name}")
    chosen = {key: values for key, values in table.items() if not metrics or key[2] in metrics}
    checked, missing = [], []
    for key, stated in chosen.items():
        found = fresh.get(key)
        if found is None:
            missing.append(key)
            continue
        both = sorted(seed for seed in stated.keys() & found.keys() if seed is not None)
        first, second = (float(np.mean([of[seed] for seed in both] if both else list(of.values()))) for of in (stated, found))
        holds = abs(first - second) <= absolute + max(share, _ROUNDING) * abs(first)
        checked.append(Checked(key, first, second, tuple(both), holds))
    if not checked:
        raise ValueError("FRESH: has no number of the table: expected its data sets, methods and metrics "
                         f"({_name(next(iter(chosen)))}, ...), found {_name(next(iter(fresh))) if fresh else 'none'}")
    return checked, missing


def _name(key: Key) -> str:
    return " ".join(part for part in key if part)


def report(checked: Sequence[Checked], missing: Sequence[Key], *, share: float, absolute: float) -> str:
    """The verdict in words, and the numbers that do not hold, the worst first."""
    broken = sorted((one for one in checked if not one.holds), key=lambda one: -_off(one))
    seeds = sorted({seed for one in checked for seed in one.seeds})
    within = " and ".join([*([f"{100 * share:g} %"] if share else []), *([f"{absolute:g}"] if absolute or not share else [])])
    lines = [f"{len(checked) - len(broken)} of {len(checked)} numbers hold within {within}"
             + (f", by the seeds {', '.join(map(str, seeds))}" if seeds else ", by means over other seeds")]
    if broken:
        rows = [["", "table", "fresh", "off by"]]
        for one in broken[:_SHOWN]:
            rows.append([_name(one.key), f"{one.stated:.6g}", f"{one.found:.6g}", f"{100 * _off(one):.3g} %"])
        lines.append(tables.text(rows))
        if len(broken) > _SHOWN:
            lines.append(f"and {len(broken) - _SHOWN} more")
    if missing:
        names = sorted({_name((key[0], key[1], "", "")) for key in missing})
        more = ", ..." if len(names) > _SHOWN else ""
        lines.append(f"{len(missing)} numbers have no fresh one: {', '.join(names[:_SHOWN])}{more}")
    return "\n".join(lines)


def _off(one: Checked) -> float:
    return abs(one.stated - one.found) / abs(one.stated) if one.stated else math.inf
