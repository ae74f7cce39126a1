"""What was measured of each method over all settings, in few numbers, for advice that can say what to expect.

The one idea: advice quotes runs and nothing else, so its numbers lie in a file beside this one, which a script makes from
results/what_decides.csv (`python docs-src/measured.py`), and a test holds the two together.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .decides import Setting

FILE = "measured.csv"  # beside this file
FEWEST = 4  # data sets a method has to be measured on before advice speaks of it


@dataclass(frozen=True)
class Measured:
    """A method beside vanilla over the settings (data set, model, schedule) of `datasets` data sets.

    `better`: settings whose mean few-shot error is below vanilla's; `few` and `overall`: medians over the settings of the
    error's change, in per cent of vanilla's, negative where errors fall.
    """

    method: str
    settings: int
    datasets: int
    better: int
    few: float
    overall: float

    def words(self) -> str:
        """What to expect of it: few-shot and overall change, and how often."""
        often = f"few-shot lower in {self.better} of {self.settings} settings of {self.datasets} data sets"
        return f"{self.few:+4.0f} % {self.overall:+4.0f} %   {often}"


def summarise(settings: Sequence[Setting]) -> list[Measured]:
    """Each method that at least `FEWEST` data sets have; those measured in most settings first, then by few-shot error."""
    import numpy as np

    found: dict[str, list[tuple[str, float, float]]] = {}
    for setting in settings:
        for name, gain in setting.gains.items():
            few, overall = (gain.of[where][0] for where in ("few", "overall"))
            if np.isfinite((few, overall)).all():
                found.setdefault(name, []).append((f"{setting.benchmark} {setting.dataset}", few, overall))
    rows = []
    for name, values in found.items():
        datasets = {dataset for dataset, _, _ in values}
        gains = np.array([both for _, *both in values])
        if len(datasets) >= FEWEST:
            few, overall = (-np.median(gains, axis=0)).round(1).tolist()
            rows.append(Measured(name, len(values), len(datasets), int((gains[:, 0] > 0).sum()), few, overall))
    return sorted(rows, key=lambda row: (-row.settings, row.few))


def to_csv(rows: Sequence[Measured]) -> str:
    """The file's text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(Measured.__dataclass_fields__)
    writer.writerows([list(vars(row).values()) for row in rows])
    return buffer.getvalue()


@functools.cache
def read() -> dict[str, Measured]:
    """What lies beside this file, by method."""
    text = resources.files(__package__).joinpath(FILE).read_text()
    return {
        row["method"]: Measured(row["method"], int(row["settings"]), int(row["datasets"]), int(row["better"]),
                                float(row["few"]), float(row["overall"]))
        for row in csv.DictReader(io.StringIO(text))
    }
