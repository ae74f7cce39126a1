"""The tutorial runs top to bottom, and what it prints and concludes is what is stored in it."""

from __future__ import annotations

import json
import re

import numpy as np
from commands import ROOT, execute

NOTEBOOK = ROOT / "tutorial" / "tutorial.ipynb"
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=240, resources={"metadata": {"path": sys.argv[3]}}).execute()
nbformat.write(notebook, sys.argv[2])
"""


def printed(path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    texts = ["".join("".join(o["text"]) for o in cell.get("outputs", []) if o.get("name") == "stdout") for cell in cells]
    return [text for text in texts if text]


def rows(text: str) -> dict[str, list[float]]:
    """Name of a line -> the numbers in it."""
    found = (re.match(r"(\D+?) +(\d.*)", line) for line in text.splitlines())
    return {m[1].strip(): [float(x) for x in re.findall(r"\d+\.\d+", m[2])] for m in found if m}


def test_the_tutorial_runs_and_its_stored_results_hold(tmp_path):
    execute(["-c", RUN, NOTEBOOK, tmp_path / "fresh.ipynb", NOTEBOOK.parent], ROOT, PYTHONPATH=str(ROOT))
    stored, fresh = printed(NOTEBOOK), printed(tmp_path / "fresh.ipynb")
    assert len(stored) == len(fresh) == 4
    assert stored[0] == fresh[0]  # the counts of the bins
    for old, new in zip(stored[1:], fresh[1:]):
        old_rows, new_rows = rows(old), rows(new)
        assert old_rows.keys() == new_rows.keys()
        assert old_rows
        for name, values in old_rows.items():  # rounding differs from processor to processor and grows in training
            np.testing.assert_allclose(new_rows[name], values, rtol=0.2, atol=0.7)
    overall, _, many, _, _, _, few, _ = range(8)
    errors = rows(fresh[2])
    plain, lds = errors["none"], errors["LDS"]
    assert lds[few] < 0.85 * plain[few]
    assert lds[overall] < plain[overall]
    assert errors["inverse"][many] > 1.2 * lds[many]
    assert errors["RRT"][few] < plain[few]


def test_every_picture_and_output_is_stored():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert sum("image/png" in o.get("data", {}) for cell in cells for o in cell["outputs"]) == 4
    assert all(cell["execution_count"] for cell in cells)
    assert NOTEBOOK.stat().st_size < 500_000
