"""The results commons: results/<benchmark>.csv, a line for each run, which anybody's finished runs can be added to.

The one idea: a line says all that is needed to make it again (data set, flags, seed, commit) and to judge it (metrics by
shot, cost, hardware, date), so a table is never more than its lines, and failed runs have lines too.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import files
from ..metrics import GROUPS, SCORES, ZERO_SHOTS
from ..training.plan import HOUSEKEEPING
from .compare import METRICS, Method, Run, read_cost, read_run
from .states import FAILED, RECORD, read_record

logger = logging.getLogger(__name__)

DONE, BROKEN = "done", "failed"
_NOWHERE = Path("-")  # the folder of a run of which only the line is known
_LEADING = ("dataset", "method", "flags", "seed", "state")
_TRAILING = ("seconds_per_epoch", "memory_mib", "parameters", "seconds", "version", "commit", "hardware", "date")
_GROUPS = (*GROUPS, *ZERO_SHOTS, "balanced")
_PATHS = HOUSEKEEPING | {"word_embs_file", "seed", "random_seed"}  # flags that say where a run was made, not what


@dataclass
class Line:
    """A run as a line: `metrics` is {group: {metric: number}}, with a group "scores" for numbers over all; `about` the rest."""

    dataset: str
    method: str
    flags: str
    seed: int
    state: str = DONE
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.dataset, self.method, self.flags, self.seed


# -- runs -> lines -----------------------------------------------------------------------------------------------------


def from_runs(paths: Iterable[Path]) -> list[Line]:
    """The runs that `sweep` made below `paths`, finished and failed ones, by rising seed within each method.

    Raises ValueError for a path without such a run, or a finished run without a record: its flags and commit are unknown.
    """
    lines: dict[tuple, Line] = {}
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"RUN: there is no folder {path}")
        for folder in sorted(file.parent for file in path.rglob("metrics.json")):
            if not (folder.parent / RECORD).is_file() and not (folder / RECORD).is_file():
                raise ValueError(f"--commons: {folder} has no {RECORD} beside it, which `sweep` writes; without it flags, "
                                 "commit and hardware are unknown")
        for file in sorted(path.rglob(RECORD)):
            line = _line(file.parent)
            if line is not None:
                lines[line.key] = line
    if not lines:
        raise ValueError("--commons: found no run that `sweep` has made")
    order = list(dict.fromkeys((line.dataset, line.method) for line in lines.values()))
    return sorted(lines.values(), key=lambda line: (order.index((line.dataset, line.method)), line.seed))


def _line(place: Path) -> Line | None:
    """The line of one run's place; None for a run that has neither finished nor failed."""
    record = read_record(place)
    try:
        flags = shlex.join(without_paths(shlex.split(record["flags"])))
        line = Line(record["dataset"], record["row"], flags, int(record["seed"]))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"--commons: {place / RECORD} lacks dataset, row, flags or seed; is it of an older version?") from None
    software, hardware = record.get("software", {}), record.get("hardware", {})
    commit = str(software.get("commit", ""))[:10] + ("+" if software.get("changed") and software.get("commit") else "")
    line.about = {
        "seconds": f"{float(record.get('seconds', 0)):g}", "version": str(software.get("version", "")), "commit": commit,
        "hardware": _hardware(hardware), "date": str(record.get("date", "")),
    }
    folders = [file.parent for file in place.rglob("metrics.json")]
    if folders:
        run = read_run(folders[0])
        test = run.metrics["test"]
        for group in (*_GROUPS, "scores"):
            found = {name: value for name, value in test.get(group, {}).items()
                     if isinstance(value, (int, float)) and (name in METRICS or name == "count") and math.isfinite(value)}
            if found and not (group in ZERO_SHOTS and not found.get("count")):
                line.metrics[group] = found
        cost = read_cost(folders[0])
        for name in ("seconds_per_epoch", "memory_mib", "parameters"):
            if isinstance(cost.get(name), (int, float)):
                line.about[name] = f"{cost[name]:g}" if name != "parameters" else str(cost[name])
        return line
    if (place / FAILED).is_file():
        line.state = f"{BROKEN}: {(place / FAILED).read_text(errors='replace').strip()}"
        return line
    return None


def without_paths(words: Sequence[str]) -> list[str]:
    """Flags without those that only say where a run was made: --data_dir and its like, with their values.

    Of other files that flags name by a whole path, as of a split, the name is kept.
    """
    kept: list[str] = []
    dropping = False
    for word in words:
        if word.startswith("--"):
            dropping = word[2:].partition("=")[0] in _PATHS
        if not dropping:
            flag, equals, value = word.rpartition("=")
            kept.append(flag + equals + (Path(value).name if Path(value).is_absolute() else value))
    return kept


def _hardware(found: dict) -> str:
    gpus = [str(gpu) for gpu in found.get("gpus") or []]
    if gpus:
        return f"{len(gpus)} x {gpus[0]}"
    return f"{found.get('cpu', '')}, {found.get('cores', '?')} cores" if found.get("cpu") else ""


# -- lines <-> csv -----------------------------------------------------------------------------------------------------


def _columns(lines: Sequence[Line]) -> list[str]:
    """Metrics by group, then scores; those that any line has, in a fixed order, so that files differ in what is new alone."""
    names = ("count", *METRICS)
    found = {(name, group) for line in lines for group, values in line.metrics.items() for name in values}
    by_group = [f"{name}_{group}" for name in names for group in _GROUPS if (name, group) in found]
    return by_group + [name for name in SCORES if (name, "scores") in found]


def to_csv(lines: Sequence[Line]) -> str:
    """The text of the csv: a head, and a line per run; numbers with seven digits, absent ones empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = _columns(lines)
    writer.writerow([*_LEADING, *columns, *_TRAILING])
    for line in lines:
        numbers = []
        for column in columns:
            name, group = _split(column)
            value = line.metrics.get(group, {}).get(name)
            numbers.append("" if value is None else f"{value:.7g}")
        about = [line.about.get(name, "") for name in _TRAILING]
        writer.writerow([line.dataset, line.method, line.flags, line.seed, line.state, *numbers, *about])
    return buffer.getvalue()


def _split(column: str) -> tuple[str, str]:
    """ "l1_few" -> ("l1", "few"); "sera" -> ("sera", "scores")."""
    if column in SCORES:
        return column, "scores"
    for group in _GROUPS:
        if column.endswith(f"_{group}"):
            return column.removesuffix(f"_{group}"), group
    raise ValueError(f"expected a metric and a group such as l1_few, or a score such as sera, found {column!r}")


def is_commons(path: Path) -> bool:
    """Whether a csv has the columns of the commons."""
    head = files.read_text(path).partition("\n")[0].split(",")
    return set(_LEADING) <= set(head)


def read(path: Path) -> list[Line]:
    """The lines of a csv of the commons. Raises ValueError naming the file, the line and the column of what is none."""
    rows = list(csv.reader(io.StringIO(files.read_text(path))))
    if not rows or not set(_LEADING) <= set(rows[0]):
        raise ValueError(f"{path}: is no csv of the commons: expected columns {', '.join(_LEADING)}, ...")
    head = rows[0]
    try:
        measured = {i: _split(name) for i, name in enumerate(head) if name not in (*_LEADING, *_TRAILING)}
    except ValueError as error:
        raise ValueError(f"{path}: column {error}") from None
    lines = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(head):
            raise ValueError(f"{path}: line {number} has {len(row)} fields, not {len(head)}")
        given = dict(zip(head, row))
        try:
            line = Line(given["dataset"], given["method"], given["flags"], int(given["seed"]), given["state"])
            for i, (name, group) in measured.items():
                if row[i]:
                    line.metrics.setdefault(group, {})[name] = int(row[i]) if name == "count" else float(row[i])
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: {error}") from None
        line.about = {name: given.get(name, "") for name in _TRAILING}
        if line.state == DONE and not line.metrics:
            raise ValueError(f"{path}: line {number}: a run that is done has no metrics")
        lines.append(line)
    return lines


def merge(old: Sequence[Line], new: Sequence[Line]) -> list[Line]:
    """The old lines, each replaced by a new one of the same data set, method, flags and seed, and the other new ones.

    Raises ValueError where a method of a data set would have two sets of flags.
    """
    lines = {line.key: line for line in old}
    lines.update((line.key, line) for line in new)
    flags: dict[tuple[str, str], str] = {}
    for line in lines.values():
        known = flags.setdefault((line.dataset, line.method), line.flags)
        if known != line.flags:
            where = " ".join(filter(None, (line.dataset, line.method)))
            raise ValueError(f"--commons: {where} would have lines with two sets of flags ({known!r} and {line.flags!r}); "
                             "give the row another name, or take the old lines out of the csv")
    datasets = list(dict.fromkeys(line.dataset for line in lines.values()))
    methods = list(dict.fromkeys(line.method for line in lines.values()))
    return sorted(lines.values(), key=lambda line: (datasets.index(line.dataset), methods.index(line.method), line.seed))


def add(path: Path, runs: Iterable[Path]) -> tuple[int, int]:
    """Add runs to a csv of the commons, which is made where there is none; the numbers of lines added and of all lines.

    Raises ValueError as `from_runs` and `merge`, and where the csv's folder is not there.
    """
    if not path.parent.is_dir():
        raise ValueError(f"--commons: there is no folder {path.parent}")
    new = from_runs(runs)
    lines = merge(read(path) if path.is_file() else [], new)
    files.write(path, to_csv(lines))
    return len(new), len(lines)


# -- lines -> what `compare` makes tables of ---------------------------------------------------------------------------


def methods(lines: Sequence[Line]) -> dict[str, list[Method]]:
    """The finished lines as methods of each data set, in the order of the lines."""
    found: dict[str, dict[str, Method]] = {}
    for line in lines:
        if line.state == DONE:
            made = found.setdefault(line.dataset, {}).setdefault(line.method, Method({"flags": line.flags}, line.method))
            test: dict = {**{group: {} for group in GROUPS}, **line.metrics}
            made.runs.append(Run(_NOWHERE, {"seed": line.seed, "about": line.about}, {"test": test}))
            made.metrics.append(test)
    return {dataset: list(rows.values()) for dataset, rows in found.items()}


def failed(lines: Sequence[Line]) -> list[Line]:
    """The lines of runs that did not finish."""
    return [line for line in lines if line.state != DONE]
