"""What `compare` and `sweep` print: a table for each data set, what is certain in it, and ranks over all of them.

The one idea: under every table stands how its runs were chosen, so that it cannot be read without.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from .. import files
from . import evidence, tables
from .compare import METRICS, TABLES, Method, choose_metrics, figure

_DRAWN = {"text": tables.text, "markdown": tables.markdown, "latex": tables.latex}


def overview(
    datasets: dict[str, list[Method]], form: str, names: list[str] | None, *, baseline: str | None = None,
    intervals: bool = False, cost: bool = False, published: bool = False, notes: Sequence[str] = (),
) -> str:
    """The text for {data set: methods}: `form` is "text", "markdown", "latex" or "csv", which is the numbers alone.

    Args:
        names: of the metrics; None takes the paper's for each kind of benchmark.
        baseline: the method that others are compared with, in every data set.
        intervals, cost, published: tables that are wanted besides.
        notes: lines for the foot of the tables.

    Raises ValueError for a metric or baseline that a data set has not.
    """
    if form == "csv":
        return _csv(datasets, names)
    parts = []
    for name, methods in datasets.items():
        if name and (len(datasets) > 1 or form == "text"):
            parts.append({"text": name, "markdown": f"## {name}", "latex": f"% {name}"}[form])
        parts.append(TABLES[form](methods, names))
        chosen = choose_metrics(methods, names)
        if published:
            parts += [_DRAWN[form](rows) for metric in chosen if (rows := evidence.published_rows(methods, metric))]
        if baseline is not None or intervals:
            parts.append(evidence.report(methods, chosen, baseline=baseline, intervals=intervals, form=form))
        if cost:
            parts.append(_DRAWN[form](evidence.cost_rows(methods)))
        parts.append(_foot([evidence.footer(methods), *(evidence.sources(methods) if published else []), *notes], form))
    ranked = ranking(datasets, names)
    if ranked is not None:
        metric, order, ranks, difference = ranked
        listed = ", ".join(f"{name} {rank:.2f}" for rank, name in sorted(zip(ranks, order)))
        said = f"average rank by {METRICS[metric][0]} over {len(datasets)} data sets, 1 is best; ranks {difference:.2f} apart"
        parts.append(_foot([f"{said} differ by more than luck (Nemenyi, 0.05): {listed}"], form))
    return "\n\n".join(part for part in parts if part)


def ranking(datasets: dict[str, list[Method]], names: list[str] | None) -> tuple[str, list[str], list[float], float] | None:
    """Metric, methods, their average ranks and the critical difference over several data sets; None where there is no such."""
    if len(datasets) < 2:
        return None
    with contextlib.suppress(ValueError):  # fewer than two methods that all have, or other metrics
        metric = choose_metrics(next(iter(datasets.values())), names)[0]
        found, ranks, difference = evidence.rank_table(datasets, metric, "overall")
        return metric, found, ranks.tolist(), difference
    return None


def pictures(datasets: dict[str, list[Method]], names: list[str] | None, path: Path) -> list[Path]:
    """Draw the gain per bin of each data set, and the ranks over several; `path` names the first, the others add to it."""
    written = []
    for name, methods in datasets.items():
        if len(methods) > 1:
            own = path if len(datasets) == 1 else path.with_name(f"{path.stem}-{name.replace(' ', '-') or 'data'}{path.suffix}")
            files.write(own, figure(methods))
            written.append(own)
    ranked = ranking(datasets, names)
    if ranked is not None:
        metric, order, ranks, difference = ranked
        own = path.with_name(f"{path.stem}-ranks{path.suffix}")
        files.write(own, evidence.rank_figure(order, ranks, difference, f"{METRICS[metric][0]} over {len(datasets)} data sets"))
        written.append(own)
    return written


def _csv(datasets: dict[str, list[Method]], names: list[str] | None) -> str:
    """As `compare.csv_table`, with the data set as the first column where there are several."""
    if len(datasets) == 1:
        return TABLES["csv"](next(iter(datasets.values())), names)
    lines: list[str] = []
    for name, methods in datasets.items():
        head, *rows = TABLES["csv"](methods, names).splitlines()
        lines += [] if lines else [f"dataset,{head}"]
        lines += [f'"{name}",{row}' if "," in name else f"{name},{row}" for row in rows]
    return "\n".join(lines)


def _foot(lines: Sequence[str], form: str) -> str:
    said = ". ".join(line[0].upper() + line[1:].rstrip(".") for line in lines if line)
    if form == "latex":
        return rf"\par\footnotesize {tables.escaped(said)}"
    return said
