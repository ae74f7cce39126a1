"""What decides whether a method helps: its gain over vanilla in many settings, beside what sets the settings apart.

The one idea: a setting is a data set with a model and a schedule, told by the flags of its vanilla runs; what the sweep
made with the same flags and more is a method in that setting, and its gain is that on equal seeds.
"""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import stats

from .. import files
from . import commons, evidence, tables
from .commons import without_paths
from .compare import Method, Run, choose_metrics, find_runs, read_cost
from .significance import holm, mean_interval
from .states import read_record

FILE = "what_decides.csv"  # in the folder of results
BASE = "vanilla"

# what sets one setting apart from another: name -> (heading, form)
FACTORS = {
    "labels": ("training labels", "{:,.0f}"),
    "imbalance": ("imbalance ratio", "{:,.0f}"),
    "few_share": ("few-shot labels", "{:.1%}"),
    "noise": ("unexplained", "{:.0%}"),
    "parameters": ("parameters", "{:,.0f}"),
    "passes": ("passes", "{:.0f}"),
}
_IDENTITY = ("benchmark", "dataset", "flags", "method")
_GAINS = ("gain", "low", "high")
_WHERE = ("few", "overall")


@dataclass
class Gain:
    """How much lower a method's error is than vanilla's, in per cent of vanilla's, mean and 95 % interval over seeds.

    `of`: {"few" | "overall": (gain, low, high)}, NaN where there is none.
    """

    seeds: int
    of: dict[str, tuple[float, float, float]]


@dataclass
class Setting:
    """A data set with the flags that all its runs share; `factors` by the names of `FACTORS`, NaN where unknown."""

    benchmark: str
    dataset: str
    flags: str
    metric: str
    factors: dict[str, float] = field(default_factory=dict)
    gains: dict[str, Gain] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.benchmark, self.dataset, self.flags

    @property
    def title(self) -> str:
        own = shlex.split(self.flags)
        if self.dataset and own[:1] == ["--dataset"]:
            own = own[2:]
        return " ".join([self.dataset or self.benchmark, *own])


# -- runs -> settings --------------------------------------------------------------------------------------------------


def from_runs(paths: Sequence[Path]) -> list[Setting]:
    """The settings of the runs that `sweep` made below `paths`, with the gain of each method.

    Raises ValueError for a path without a finished run, and where no setting has vanilla runs and others.
    """
    found: dict[tuple[str, str], list[tuple[tuple[str, ...], str, Run]]] = {}
    for run in find_runs(list(paths)):
        record = read_record(run.folder.parent)
        if {"benchmark", "dataset", "row", "flags"} <= record.keys():
            words = tuple(without_paths(shlex.split(record["flags"])))
            found.setdefault((record["benchmark"], record["dataset"]), []).append((words, record["row"], run))
    settings = []
    for (benchmark, dataset), runs in found.items():
        shared = sorted({words for words, row, _ in runs if row == BASE}, key=lambda words: (len(words), words))
        for words in shared:
            own: dict[str, Method] = {}
            for all_words, row, run in runs:
                # of two settings whose flags both begin a run's, the one with more of them is meant
                if next((flags for flags in reversed(shared) if all_words[: len(flags)] == flags), None) == words:
                    method = own.setdefault(row, Method({}, row))
                    method.runs.append(run)
                    method.metrics.append(run.metrics["test"])
            if len(own) > 1:
                settings.append(_setting(benchmark, dataset, shlex.join(words), own))
    if not settings:
        raise ValueError(f"--decides: found no data set with a row {BASE!r} and others, as `sweep` makes them")
    return settings


def _setting(benchmark: str, dataset: str, flags: str, own: dict[str, Method]) -> Setting:
    metric, factors = choose_metrics(list(own.values()), None)[0], _factors(own[BASE].runs[0], list(own.values()))
    return Setting(benchmark, dataset, flags, metric, factors, _gains(own, metric))


def from_commons(path: Path, known: Iterable[Setting]) -> list[Setting]:
    """Settings that are known, with the gains of all lines of a csv of the commons, which outlives the runs it was made of.

    Raises ValueError for a csv that is none of the commons, or of no setting that is known: what sets a setting apart stands
    in the files of its runs alone.
    """
    lines, settings = commons.read(path), list(known)
    made = []
    for dataset, methods in commons.methods(lines).items():
        own = {method.name: method for method in methods}
        flags = next((line.flags for line in lines if (line.dataset, line.method) == (dataset, BASE)), None)
        for setting in settings:
            if (setting.dataset, setting.flags) == (dataset, flags):
                made.append(replace(setting, gains={**setting.gains, **_gains(own, setting.metric)}))
    if not made:
        raise ValueError(f"--decides: {path} has no setting that is known; add it first, from a folder of its runs")
    return made


def _gains(own: dict[str, Method], metric: str) -> dict[str, Gain]:
    base, gains = own[BASE], {}
    for name, method in own.items():
        if name != BASE:
            of = {where: _gain(method, base, metric, where) for where in _WHERE}
            gains[name] = Gain(len(evidence.paired(method, base, metric, "overall")[0]), of)
    return gains


def _gain(method: Method, base: Method, metric: str, group: str) -> tuple[float, float, float]:
    found = evidence.gains(method, base, metric, group)
    return (float(found.mean()), *mean_interval(found)) if len(found) else (math.nan, math.nan, math.nan)


def _factors(run: Run, methods: Sequence[Method]) -> dict[str, float]:
    """What sets a setting apart, from the files of a vanilla run; `noise` is the least over all methods' runs."""
    found = dict.fromkeys(FACTORS, math.nan)
    per_bin = run.metrics["test"].get("per_bin", {})
    counts = np.array(per_bin.get("train_count", ()), np.float64)
    if counts.sum() > 0:
        few = np.array(per_bin["shot"]) == "few"
        found.update(labels=counts.sum(), imbalance=counts.max() / counts[counts > 0].min(),
                     few_share=counts[few].sum() / counts.sum())
    left = [_unexplained(other) for method in methods for other in method.runs]
    found["noise"] = min((value for value in left if math.isfinite(value)), default=math.nan)
    parameters = read_cost(run.folder).get("parameters")
    passes = next((run.flags[name] for name in ("epochs", "epoch", "max_vals") if name in run.flags), None)
    for name, value in (("parameters", parameters), ("passes", passes)):
        if isinstance(value, (int, float)):
            found[name] = float(value)
    return found


def _unexplained(run: Run) -> float:
    """MSE over the variance of the test labels; NaN where a run keeps no predictions per sample."""
    kept = evidence.read_predictions(run.folder)
    if kept is None or np.ptp(kept[0]) == 0:
        return math.nan
    return float(((kept[1] - kept[0]) ** 2).mean() / kept[0].var())


# -- settings <-> csv --------------------------------------------------------------------------------------------------


def to_csv(settings: Iterable[Setting]) -> str:
    """A line for each method in each setting."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*_IDENTITY, "metric", *FACTORS, "seeds", *(f"{name}_{where}" for where in _WHERE for name in _GAINS)])
    for setting in settings:
        for method, gain in setting.gains.items():
            numbers = [*setting.factors.values(), gain.seeds, *(value for where in _WHERE for value in gain.of[where])]
            texts = ["" if math.isnan(value) else f"{value:.8g}" for value in numbers]
            writer.writerow([*setting.key, method, setting.metric, *texts])
    return buffer.getvalue()


def read(path: Path) -> list[Setting]:
    """The settings of such a csv. Raises ValueError naming file and line of what is none."""
    found: dict[tuple[str, str, str], Setting] = {}
    for number, row in enumerate(csv.DictReader(io.StringIO(files.read_text(path))), start=2):
        try:
            values = {name: float(row[name] or "nan") for name in FACTORS}
            gains = {where: tuple(float(row[f"{name}_{where}"] or "nan") for name in _GAINS) for where in _WHERE}
            made = Setting(row["benchmark"], row["dataset"], row["flags"], row["metric"], values)
            found.setdefault(made.key, made).gains[row["method"]] = Gain(int(row["seeds"]), gains)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path}: line {number}: expected what `compare RUN ... --decides CSV` writes") from None
    return list(found.values())


def add(path: Path, runs: Sequence[Path]) -> tuple[int, int]:
    """Add the settings of runs to such a csv, old ones of the same flags replaced; how many were added, and all.

    A csv of the commons among `runs` renews the gains of the settings it is of. Raises ValueError as `from_runs`,
    `from_commons` and `read`, and where the csv's folder is not there.
    """
    if not path.parent.is_dir():
        raise ValueError(f"--decides: there is no folder {path.parent}")
    settings = {setting.key: setting for setting in read(path)} if path.is_file() else {}
    tables, folders = ([run for run in runs if run.is_file() == whole] for whole in (True, False))
    new = from_runs(folders) if folders or not tables else []
    for table in tables:
        new += from_commons(table, settings.values())
    settings.update((setting.key, setting) for setting in new)
    files.write(path, to_csv(settings.values()))
    return len(new), len(settings)


# -- what is shown -----------------------------------------------------------------------------------------------------


def shared_methods(settings: Sequence[Setting]) -> list[str]:
    """The methods that half of the settings have at least, those of most settings first."""
    counts: dict[str, int] = {}
    for setting in settings:
        for name in setting.gains:
            counts[name] = counts.get(name, 0) + 1
    names = [name for name, count in counts.items() if 2 * count >= len(settings)]
    return sorted(names, key=lambda name: -counts[name])


def gain_rows(settings: Sequence[Setting]) -> list[list[str]]:
    """A table's rows: each setting with its factors, and each method's few-shot and overall gain in per cent."""
    names = shared_methods(settings)
    rows = [["setting", "seeds", *(heading for heading, _ in FACTORS.values()), *(f"{name}: few, all" for name in names)]]
    for setting in settings:
        factors = ["-" if math.isnan(setting.factors[name]) else form.format(setting.factors[name])
                   for name, (_, form) in FACTORS.items()]
        seeds = max(gain.seeds for gain in setting.gains.values())
        rows.append([setting.title, str(seeds), *factors, *(_cell(setting.gains.get(name)) for name in names)])
    return rows


def _cell(gain: Gain | None) -> str:
    if gain is None:
        return "-"
    shown = []
    for where in _WHERE:
        value, low, high = gain.of[where]
        text = "-" if math.isnan(value) else f"{value:+.0f}"
        shown.append(f"**{text}**" if low > 0 or high < 0 else text)
    return ", ".join(shown)


def rank_correlations(settings: Sequence[Setting]) -> dict[tuple[str, str], tuple[float, float, int]]:
    """(method, factor) -> (Spearman's rho of the few-shot gain with the factor, p after Holm's correction, settings).

    NaN where fewer than five settings have both, or the factor is the same in all of them.
    """
    keys, rhos, p_values, counts = [], [], [], []
    for method in shared_methods(settings):
        for factor in FACTORS:
            pairs = np.array([(setting.factors[factor], setting.gains[method].of["few"][0]) for setting in settings
                              if method in setting.gains], np.float64)
            pairs = pairs[np.isfinite(pairs).all(axis=1)]
            keys.append((method, factor))
            counts.append(len(pairs))
            varies = len(pairs) >= 5 and (np.ptp(pairs, axis=0) > 0).all()
            found = stats.spearmanr(*pairs.T) if varies else (math.nan, math.nan)
            rhos.append(float(found[0]))
            p_values.append(float(found[1]))
    return dict(zip(keys, zip(rhos, holm(p_values).tolist(), counts)))


def correlation_rows(settings: Sequence[Setting]) -> list[list[str]]:
    """A table's rows: rho and p of each method's few-shot gain with each factor; bold where p is below 0.05."""
    found = rank_correlations(settings)
    rows = [["few-shot gain with", *(heading for heading, _ in FACTORS.values())]]
    for method in shared_methods(settings):
        cells = []
        for factor in FACTORS:
            rho, p, _ = found[method, factor]
            text = f"{rho:+.2f} p {p:.2g}"
            cells.append("-" if math.isnan(rho) else f"**{text}**" if p < 0.05 else text)
        rows.append([method, *cells])
    return rows


def section(settings: Sequence[Setting]) -> list[str]:
    """Both tables as Markdown, and how to read them."""
    return [
        "![few-shot gain beside what sets settings apart](what_decides.png)",
        "Gain over vanilla on equal seeds, in per cent of vanilla's error (MSE for sentences, MAE otherwise): few-shot, then "
        "all; above 0 the error falls, and **bold** says that the 95 % interval over seeds leaves out 0. Imbalance ratio: most "
        "over fewest training labels of a used bin. Unexplained: the least MSE of any method there over the variance of the "
        "test labels, so label noise and what the inputs do not tell.",
        tables.markdown(gain_rows(settings)),
        "Spearman's rank correlation of the few-shot gain with each, over the settings; p after Holm's correction over the "
        "table. Settings of one data set are no independent witnesses, so p is smaller than it should be.",
        tables.markdown(correlation_rows(settings)),
    ]


def figure(settings: Sequence[Setting], most: int = 3) -> bytes:
    """Methods x factors as a PNG: few-shot gain of each setting against the factor, a colour for each data set."""
    from .drawing import BAR, LINE, MUTED, OTHER, new_figure, png

    fig = new_figure(13, 1.2 + 2.2 * max(1, min(most, len(shared_methods(settings)))))
    from matplotlib.ticker import FuncFormatter, NullFormatter  # there, as the figure is

    colors = (OTHER, LINE, "#c49a3a", "#6a9a58", BAR, MUTED, "#8a6bbf", "#333333")
    names = shared_methods(settings)[:most]
    kinds = list(dict.fromkeys(setting.dataset or setting.benchmark for setting in settings))
    panels = fig.subplots(len(names), len(FACTORS), sharey="row", squeeze=False)
    rhos = rank_correlations(settings)
    for line, method in zip(panels, names):
        for axes, (factor, (heading, _)) in zip(line, FACTORS.items()):
            axes.axhline(0, color=MUTED, lw=0.8)
            for setting in settings:
                if method not in setting.gains:
                    continue
                gain, low, high = setting.gains[method].of["few"]
                at, kind = setting.factors[factor], setting.dataset or setting.benchmark
                if math.isnan(gain) or math.isnan(at):
                    continue
                color = colors[kinds.index(kind) % len(colors)]
                if not math.isnan(low):
                    axes.plot([at, at], [low, high], color=color, lw=0.9, alpha=0.5)
                axes.plot([at], [gain], "o", ms=4, color=color, label=kind)
            if factor not in ("few_share", "noise"):
                axes.set_xscale("log")
                # not the powers that matplotlib would set as formulas
                axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:,.0f}" if at < 1e4 else f"{at:.0e}"))
                axes.xaxis.set_minor_formatter(NullFormatter())
            rho = rhos[method, factor][0]
            axes.set_title("" if math.isnan(rho) else f"rho {rho:+.2f}", fontsize=9)
            axes.grid(color="#eeeeee", lw=0.6)
            axes.set_axisbelow(True)
            axes.tick_params(labelsize=8)
            if method == names[-1]:
                axes.set_xlabel(heading, fontsize=9)
        line[0].set_ylabel(f"{method}\nfew-shot gain, %", fontsize=9)
        gains = np.array([setting.gains[method].of["few"][0] for setting in settings if method in setting.gains])
        gains = gains[np.isfinite(gains)]
        if len(gains):  # an interval of two or three seeds can be wider than all the rest together
            room = 0.3 * max(np.ptp(gains), 10)
            line[0].set_ylim(gains.min() - room, gains.max() + room)
    shown: dict = {}
    for axes in panels.ravel():
        handles, labels = axes.get_legend_handles_labels()
        shown.update(zip(labels, handles))
    if shown:
        fig.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=len(shown), frameon=False, fontsize=9)
    return png(fig)
