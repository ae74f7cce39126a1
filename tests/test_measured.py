"""What `inspect` says to expect: the numbers of results/what_decides.csv and no others."""

from __future__ import annotations

import csv
import importlib
import statistics
from pathlib import Path

import numpy as np
import pytest

from imbalanced_regression.tools import decides, inspect, measured
from imbalanced_regression.tools.decides import Gain, Setting

ROOT = Path(__file__).resolve().parents[1]


def test_the_file_in_the_library_is_that_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs-src")
    script = importlib.import_module("measured")
    assert Path(script.FILE).read_text() == script.text(), "run python docs-src/measured.py"
    with open(ROOT / "results" / decides.FILE, newline="") as file:
        lines = list(csv.DictReader(file))
    assert {"sqinv", "inv", "lds", "fds"} <= measured.read().keys()
    for name, row in measured.read().items():
        own = [line for line in lines if line["method"] == name]
        assert row.settings == len(own)
        assert row.datasets == len({(line["benchmark"], line["dataset"]) for line in own})
        assert row.better == sum(float(line["gain_few"]) > 0 for line in own)
        assert row.few == pytest.approx(-statistics.median(float(line["gain_few"]) for line in own), abs=0.051)
        assert row.overall == pytest.approx(-statistics.median(float(line["gain_overall"]) for line in own), abs=0.051)


def setting(dataset: str, flags: str = "", **few: float) -> Setting:
    nan = (float("nan"),) * 3
    gains = {name: Gain(3, {"few": (gain, gain, gain) if np.isfinite(gain) else nan, "overall": (gain / 2, 0, 0)})
             for name, gain in few.items()}
    return Setting("uci-dir", dataset, flags, "l1", {}, gains)


def test_a_method_counts_once_it_is_measured_on_four_data_sets():
    settings = [setting(name, a=gain, b=-1.0) for name, gain in zip("wxyz", (10.0, -4.0, 20.0, 30.0))]
    settings += [setting("w", "--wide", a=12.0, c=5.0), setting("w", "--long", c=5.0), setting("x", "--wide", c=5.0),
                 setting("y", "--wide", c=5.0), setting("z", "--wide", c=float("nan"))]
    a, b = measured.summarise(settings)  # c has four settings of three data sets: the fourth's shots are empty
    assert (a.method, a.settings, a.datasets, a.better, a.few, a.overall) == ("a", 5, 4, 4, -12.0, -6.0)
    assert (b.method, b.settings, b.better, b.few) == ("b", 4, 0, 1.0)
    assert a.words() == " -12 %   -6 %   few-shot lower in 4 of 5 settings of 4 data sets"
    assert measured.to_csv([a]).splitlines() == ["method,settings,datasets,better,few,overall", "a,5,4,4,-12.0,-6.0"]


def test_inspect_quotes_what_was_measured_of_what_it_advises_and_nothing_for_balanced_labels():
    labels = np.random.default_rng(0).exponential(10, 3000)
    text = inspect.describe(labels, inspect.advise(labels))
    found = measured.read()
    for row, words in (("sqinv", "square-root weights  "), ("lds", "square-root weights, LDS"), ("fds", "FDS")):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(words)]
        assert line.endswith(found[row].words())
    labels = np.tile(np.arange(50), 60)
    assert "few-shot lower" not in inspect.describe(labels, inspect.advise(labels))
