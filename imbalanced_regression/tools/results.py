"""The page of results: README.md and its pictures from a folder of csv files of the commons, and the conclusions beside them.

The one idea: numbers come from the csv alone and judgements from people, <benchmark>.md, so neither can drift from the other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import files
from ..metrics import GROUPS, SCORES, SHOTS
from . import commons, decides, evidence, tables
from .commons import Line
from .compare import METRICS, Method, choose_metrics, group_title, zero_shots
from .rows import FILE, read_benchmark
from .significance import mean_interval

logger = logging.getLogger(__name__)

PAGE = "README.md"
MARK = "<!-- tables -->"  # in <benchmark>.md: what stands before it goes above the tables
_ENOUGH = 20  # test labels of a zero-shot group from which on the page has it
_BEYOND = 100  # per cent of vanilla's error; what lies beyond would hide all the rest

_INTRO = """# Results

Made by `make results` from the csv files in this folder, a line for each run: flags, seed, commit, hardware, date, cost and
metrics by shot. {totals}. [CONTRIBUTING](../CONTRIBUTING.md) says how to add runs of yours.

How to read it: mean ± standard deviation over seeds. A difference is to vanilla on equal seeds, negative where errors fall,
with its 95 % interval over seeds; p is that of the paired t-test after Holm's correction over all methods and shots of the
table, and **bold** says p below 0.05. Everything else may be luck, so no best mean is marked. The checkpoint of every run was
chosen on the validation set; the test set was measured once."""


def write(folder: Path, benchmarks: Path) -> list[Path]:
    """Write the page and its pictures for all csv files of a folder; the paths written.

    Args:
        benchmarks: where the benchmarks' folders lie. A csv named as one of them has its published numbers beside ours.

    Raises:
        ValueError: no such folder, no csv in it, or one that is none of the commons.
    """
    if not folder.is_dir():
        raise ValueError(f"DIR: there is no folder {folder}")
    found = sorted(path for path in folder.glob("*.csv") if path.name != decides.FILE)
    if not found:
        raise ValueError(f"DIR: {folder} holds no csv; `compare RUN ... --commons {folder}/NAME.csv` makes one from runs")
    read = {path.stem: commons.read(path) for path in found}
    written = []
    for name, lines in read.items():
        datasets = ordered(commons.methods(lines), benchmarks / name)
        metric = main_metric(datasets)
        if any(len(rows) > 1 for rows in datasets.values()):
            written.append(folder / f"{name}.png")
            files.write(written[-1], gain_figure(datasets, metric))
        ranked = ranks(datasets)
        if ranked is not None:
            written.append(folder / f"{name}-ranks.png")
            files.write(written[-1], evidence.rank_figure(*ranked, f"{METRICS[metric][0]}, {len(datasets)} data sets"))
    if (folder / decides.FILE).is_file():
        written.append((folder / decides.FILE).with_suffix(".png"))
        files.write(written[-1], decides.figure(decides.read(folder / decides.FILE)))
    files.write(folder / PAGE, page(read, folder, benchmarks))
    return [*written, folder / PAGE]


def page(read: dict[str, list[Line]], folder: Path, benchmarks: Path) -> str:
    """The page's text: {benchmark: lines}, with the conclusions that `folder` holds."""
    runs = sum(len(lines) for lines in read.values())
    benchmark_word = "benchmark" if len(read) == 1 else "benchmarks"
    parts = [_INTRO.format(totals=f"{runs} runs on {len(read)} {benchmark_word}")]
    several = decides.read(folder / decides.FILE) if (folder / decides.FILE).is_file() else []
    entries = [f"- [{name}](#{name.lower()}): {_summary(lines)}" for name, lines in read.items()]
    if several:
        entries.append(f"- [What decides](#what-decides): gains in {len(several)} settings, beside what sets them apart")
    parts.append("\n".join(entries))
    for name, lines in read.items():
        above, below = conclusions(folder / f"{name}.md")
        parts += [f"## {name}", above, *_tables(name, lines, benchmarks / name), below]
    if several:
        above, below = conclusions((folder / decides.FILE).with_suffix(".md"))
        parts += ["## What decides", above, *decides.section(several), below]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(lines: Sequence[Line]) -> str:
    counts = [(len({getattr(line, what) for line in lines}), what.replace("dataset", "data set")) for what in
              ("dataset", "method", "seed")]
    return ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts)


def conclusions(path: Path) -> tuple[str, str]:
    """What people have written of a benchmark, for above and below its tables; headings belong a level lower."""
    if not path.is_file():
        return "", ""
    above, mark, below = files.read_text(path).partition(MARK)
    return (above.strip(), below.strip()) if mark else ("", above.strip())


# -- tables ------------------------------------------------------------------------------------------------------------


def ordered(datasets: dict[str, list[Method]], benchmark: Path) -> dict[str, list[Method]]:
    """The methods in the order of the benchmark's methods.toml, vanilla first where there is none; others as they come."""
    names = list(read_benchmark(benchmark).rows) if (benchmark / FILE).is_file() else ["vanilla"]
    place = {name: i for i, name in enumerate(names)}
    return {dataset: sorted(rows, key=lambda row: place.get(row.name, len(place))) for dataset, rows in datasets.items()}


def main_metric(datasets: dict[str, list[Method]]) -> str:
    """The metric that a benchmark is judged by: the first of the paper's for its kind."""
    return choose_metrics(next(iter(datasets.values())), None)[0] if datasets else "l1"


def ranks(datasets: dict[str, list[Method]]) -> tuple[list[str], np.ndarray, float] | None:
    """Names, average ranks and critical difference over several data sets; None with one, or without two shared methods."""
    if len(datasets) < 2:
        return None
    try:
        return evidence.rank_table(datasets, main_metric(datasets), "overall")
    except ValueError:
        return None


def _tables(name: str, lines: list[Line], benchmark: Path) -> list[str]:
    datasets = ordered(commons.methods(lines), benchmark)
    published = _published(benchmark)
    parts: list[str] = []
    if any(len(rows) > 1 for rows in datasets.values()):
        parts.append(f"![gain over vanilla by shot, {name}]({name}.png)")
    ranked = ranks(datasets)
    if ranked is not None:
        parts.append(f"![average ranks, {name}]({name}-ranks.png)")
    for dataset, rows in datasets.items():
        if dataset:
            parts.append(f"### {dataset}")
        parts += _dataset(rows, published.get(dataset, {}))
    if not datasets:
        parts.append("No run has finished yet.")
    broken = commons.failed(lines)
    if broken:
        said = [f"- {' '.join(filter(None, (line.dataset, line.method)))}, seed {line.seed}: {line.state}" for line in broken]
        parts.append("Runs that did not finish:\n\n" + "\n".join(said))
    parts.append(_made_by(lines))
    return parts


def _published(benchmark: Path) -> dict[str, dict[str, tuple[dict, str]]]:
    """{data set: {row: (published numbers, source)}} of a benchmark's folder; {} for a csv that is named as none."""
    if not (benchmark / FILE).is_file():
        return {}
    known = read_benchmark(benchmark)
    return {dataset: {row.name: (row.published_on(dataset), row.source) for row in known.rows.values()
                      if row.published_on(dataset)} for dataset in known.datasets}


def _dataset(rows: list[Method], published: dict[str, tuple[dict, str]]) -> list[str]:
    metric = main_metric({"": rows})
    parts = [_errors(rows, metric, published)]
    counts = rows[0].metrics[0]
    if counts["overall"].get("count"):
        shots = ", ".join(f"{counts[shot].get('count', 0)} {shot}" for shot in SHOTS)
        parts.append(f"Test labels: {counts['overall']['count']} ({shots}-shot).")
    sources = sorted({source for row, (_, source) in published.items() if source and row in {method.name for method in rows}})
    if sources:
        parts[-1] += f" Published: {'; '.join(sources)}."
    base = next((method for method in rows if method.name == "vanilla"), None)
    if base is not None and len(rows) > 1:
        parts.append(_differences(rows, base, metric, GROUPS))
        if beyond := zero_shots(rows, _ENOUGH):
            found = ", ".join(f"{counts.get(group, {}).get('count', 0)} {group_title(group)}" for group in beyond)
            parts.append(f"Test labels without training rows ({found}), with a correction of their own:")
            parts.append(_differences(rows, base, metric, beyond))
    return parts


def _errors(rows: list[Method], metric: str, published: dict[str, tuple[dict, str]]) -> str:
    """Method, seeds, the metric by shot, others over all, cost, and the published number."""
    known = choose_metrics(rows, None)
    others = [name for name in known if name != metric]
    others += [name for name in ("bmase", "ccc") if all(name in run.get("scores", {}) for row in rows for run in row.metrics)]
    columns = [(metric, group) for group in (*GROUPS, *zero_shots(rows, _ENOUGH))] + [(name, "overall") for name in others]
    columns = [column for column in columns if any(np.isfinite(row.values(*column)).any() for row in rows)]
    heads = [METRICS[m][0] if m in SCORES else f"{METRICS[m][0]} {group_title(g)}" for m, g in columns]
    cells = [[_mean_and_deviation(row.values(name, group), METRICS[name][1]) for row in rows] for name, group in columns]
    costs = [_cost(row) for row in rows]
    cost_heads = ["s / epoch", "MiB", "parameters"] if any(any(cost) for cost in costs) else []
    has_published = any(row.name in published for row in rows)
    table = [["method", "seeds", *heads, *cost_heads, *(["published (all, few)"] if has_published else [])]]
    for i, row in enumerate(rows):
        line = [row.name, str(len({run.flags["seed"] for run in row.runs})), *(column[i] for column in cells)]
        line += [cell or "-" for cell in costs[i]] if cost_heads else []
        if has_published:
            line.append(_published_cell(row, metric, published))
        table.append(line)
    return tables.markdown(table)


def _published_cell(row: Method, metric: str, published: dict[str, tuple[dict, str]]) -> str:
    numbers = published.get(row.name, ({}, ""))[0].get(metric, {})
    shown = [f"{numbers[group]:.{METRICS[metric][1]}f}" for group in ("overall", "few") if group in numbers]
    return ", ".join(shown) or "-"


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def _mean_and_deviation(values: np.ndarray, decimals: int) -> str:
    values = values[~np.isnan(values)]
    if not len(values):
        return "-"
    return f"{values.mean():.{decimals}f}" + (f" ± {values.std(ddof=1):.{decimals}f}" if len(values) > 1 else "")


def _cost(row: Method) -> list[str]:
    """Seconds per epoch, MiB and parameters of a method: the medians over its runs; "" where none says."""
    found = []
    for name, form in (("seconds_per_epoch", "{:.3g}"), ("memory_mib", "{:.0f}"), ("parameters", "{:,.0f}")):
        values = [float(run.flags["about"][name]) for run in row.runs if run.flags["about"].get(name)]
        found.append(form.format(float(np.median(values))) if values else "")
    return found


def _differences(rows: list[Method], base: Method, metric: str, groups: Sequence[str]) -> str:
    """Difference to the baseline, its interval over seeds and corrected p, for each method and group."""
    heading, decimals = METRICS[metric]

    def cell(row: Method, group: str, shown: str, p: float) -> str:
        ours, theirs = evidence.paired(row, base, metric, group)
        low, high = mean_interval(ours - theirs)
        if not math.isnan(low):
            shown += f" [{low:+.{decimals}f}, {high:+.{decimals}f}]"
        return shown if math.isnan(p) else f"**{shown} p {p:.2g}**" if p < 0.05 else f"{shown} p {p:.2g}"

    found = evidence.difference_rows(rows, base, metric, groups=groups, heading=f"{heading} less vanilla's", cell=cell)
    return tables.markdown(found)


def _made_by(lines: Sequence[Line]) -> str:
    """The flags of every method, and where and when its runs were made, to be unfolded."""
    rows = [["data set", "method", "seeds", "flags of train.py", "commit", "hardware", "date"]]
    several = len({line.dataset for line in lines}) > 1
    found: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        found.setdefault((line.dataset, line.method), []).append(line)
    for (dataset, method), own in found.items():
        rows.append([
            dataset, method, _ranges([line.seed for line in own]), f"`{own[0].flags}`" if own[0].flags else "",
            *(", ".join(sorted({line.about.get(name, "") for line in own} - {""})) for name in ("commit", "hardware", "date")),
        ])
    if not several:
        rows = [row[1:] for row in rows]
    return f"<details><summary>flags, seeds, commits, hardware and dates</summary>\n\n{tables.markdown(rows)}\n\n</details>"


def _ranges(seeds: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "0-2, 5"."""
    parts: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


# -- the picture -------------------------------------------------------------------------------------------------------


def gain_figure(datasets: dict[str, list[Method]], metric: str) -> bytes:
    """Methods x shots as a PNG: how much better each method is than vanilla, in per cent of vanilla, with 95 % intervals.

    A panel for each shot that has test samples, a row for each method, a colour for each data set. One seed has no interval
    and a hollow mark; a gain beyond 100 % is an arrow at the edge.
    """
    from .drawing import BAR, LINE, MUTED, OTHER, new_figure, png

    colors = (OTHER, LINE, "#c49a3a", "#6a9a58", BAR, MUTED)
    names = list(dict.fromkeys(row.name for rows in datasets.values() for row in rows if row.name != "vanilla"))
    bases = [row for rows in datasets.values() for row in rows if row.name == "vanilla"]
    groups = [group for group in (*GROUPS, *zero_shots(bases, _ENOUGH))
              if any(np.isfinite(_mean(base.values(metric, group))) for base in bases)] or ["overall"]
    fig = new_figure(9, 1.5 + (0.16 + 0.09 * len(datasets)) * max(len(names), 1))
    panels = np.atleast_1d(fig.subplots(1, len(groups), sharey=True))
    for axes, group in zip(panels, groups):
        axes.axvline(0, color=MUTED, lw=0.8)
        for number, (dataset, rows) in enumerate(datasets.items()):
            base = next((row for row in rows if row.name == "vanilla"), None)
            for row in rows:
                if base is None or row is base:
                    continue
                gain = evidence.gains(row, base, metric, group)
                if not len(gain):
                    continue
                at = names.index(row.name) + 0.7 * ((number + 0.5) / len(datasets) - 0.5)
                low, high = mean_interval(gain)
                color = colors[number % len(colors)]
                if not math.isnan(low):
                    axes.plot([low, high], [at, at], color=color, lw=1.4)
                mark = "<" if gain.mean() < -_BEYOND else ">" if gain.mean() > _BEYOND else "o"
                axes.plot([np.clip(gain.mean(), -_BEYOND, _BEYOND)], [at], mark, ms=4, color=color, clip_on=mark == "o",
                          mfc="white" if math.isnan(low) else color, label=dataset if axes is panels[0] else None)
        axes.set_title(f"{group}-shot" if group in SHOTS else group_title(group), fontsize=10)
        axes.set_xlabel(f"{METRICS[metric][0]} gain, %", fontsize=9)
        axes.grid(axis="x", color="#e8e8e8", lw=0.6)
        axes.set_axisbelow(True)
        _bounded(axes)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    if any(datasets):
        handles, labels = panels[0].get_legend_handles_labels()
        unique = dict(zip(labels, handles))
        fig.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=len(unique), frameon=False, fontsize=9)
    fig.suptitle("gain over vanilla on equal seeds, to the right of the line; bars are 95 % intervals over seeds", fontsize=10)
    return png(fig)


def _bounded(axes) -> None:
    """An interval of two or three seeds can be wider than all the rest together: it is cut off where it would hide them."""
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -_BEYOND), min(high, _BEYOND))
