"""The tutorial runs from its first cell to its last, gives again what is stored in it, and its conclusions hold."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from commands import PROGRAMS, ROOT, SHUT

NOTEBOOK = ROOT / "tutorial/tutorial.ipynb"


def text_of(notebook: dict) -> str:
    outputs = [output for cell in notebook["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def tables(text: str) -> list[dict[str, dict[str, float]]]:
    """Each printed table as method -> group -> mean MAE."""
    found: list[dict] = []
    for line in text.splitlines():
        if line.startswith("MAE "):
            groups = line.split()[1:]
            found.append({})
        elif found and " +- " in line:
            means = re.findall(r"([\d.]+) \+- ", line)
            found[-1][re.split(r"\s{2,}", line)[0]] = dict(zip(groups, map(float, means)))
    return found


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads(NOTEBOOK.read_text())


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> dict:
    """The notebook executed anew, offline, in a process of its own."""
    out = tmp_path_factory.mktemp("tutorial") / "fresh.ipynb"
    done = subprocess.run(
        [sys.executable, PROGRAMS / "notebook.py", NOTEBOOK, NOTEBOOK.parent, out],
        capture_output=True, text=True, timeout=1800,
        env={**os.environ, "OMP_NUM_THREADS": "1", **SHUT, "no_proxy": "localhost,127.0.0.1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_the_stored_outputs_are_those_of_a_fresh_run(stored, fresh):
    """Equal text where no training is involved; errors to what other processors and versions of torch may change."""
    ours, theirs = text_of(fresh), text_of(stored)
    exact = [[line for line in text.splitlines() if "weight" in line or "bin" in line.split()] for text in (ours, theirs)]
    assert exact[0] == exact[1]
    assert len(exact[0]) > 4
    for new, old in zip(tables(ours), tables(theirs), strict=True):
        assert new.keys() == old.keys()
        for method, groups in old.items():
            assert new[method] == pytest.approx(groups, rel=0.3, abs=0.5), method
    for notebook in (fresh, stored):
        assert sum("image/png" in o.get("data", {}) for c in notebook["cells"] for o in c.get("outputs", ())) == 7


def by_seed(text: str) -> dict[tuple[str, str], list[float]]:
    """(method, other) -> the printed differences of their few-shot errors, a seed each."""
    lines = re.findall(r"^(.+?) +few-shot error against (\S+) +seed by seed: (.+)$", text, re.MULTILINE)
    return {(method, other): [float(word) for word in words.split()] for method, other, words in lines}


def validation_errors(text: str) -> dict[str, dict[float, float]]:
    """Method -> value of its knob -> printed error on the validation images."""
    lines = re.findall(r"^(\S+) +validation error (.+) chosen (\S+)$", text, re.MULTILINE)
    found = {name: {float(v): float(e) for v, e in re.findall(r"at (\S+): (\S+)", words)} for name, words, _ in lines}
    for name, _, chosen in lines:
        assert found[name][float(chosen)] == min(found[name].values()), name
    return found


def test_the_conclusions_of_the_text_hold(stored, fresh):
    """Those that a difference of rounding cannot turn, so on any machine."""
    for notebook in (stored, fresh):
        text = text_of(notebook)
        digits, table, more = tables(text)
        assert digits["none"]["few"] > 1.5 * digits["none"]["many"]
        assert digits["none"]["zero_extrap"] > digits["none"]["few"]
        for method in ("inverse", "sqrt_inv", "LDS", "FDS", "LDS + FDS"):
            assert digits[method]["few"] < digits["none"]["few"], method
        assert digits["inverse"]["many"] > 1.2 * digits["sqrt_inv"]["many"]
        assert digits["sqrt_inv"]["overall"] < digits["none"]["overall"]
        assert digits["LDS"]["few"] == pytest.approx(digits["sqrt_inv"]["few"], abs=0.8)
        assert digits["RRT"]["few"] == pytest.approx(digits["none"]["few"], abs=0.8)
        for method in ("inverse", "sqrt_inv", "inverse + LDS"):
            assert table[method]["few"] < table["none"]["few"], method
            assert table[method]["balanced"] < table["none"]["balanced"], method
            assert table[method]["many"] > table["none"]["many"], method
        bias = dict(re.findall(r"^(.+?)\s+few-shot bias (\S+)", text, re.MULTILINE))
        assert float(bias["none"]) < float(bias["LDS + FDS"]) < 0

        assert more["none"] == digits["none"]
        assert more["sqrt_inv"] == digits["sqrt_inv"]
        assert more["DenseWeight"]["few"] < more["none"]["few"]
        assert more["DenseWeight"]["many"] > more["none"]["many"]
        tried = validation_errors(text)
        assert [len(errors) for errors in tried.values()] == [3, 3, 3]
        assert tried["RankSim"][100] > 1.3 * min(tried["RankSim"].values())
        one, thousand = re.findall(r"^(?:as they are|times 1,000) +balanced +(\S+) +overall +(\S+)$", text, re.MULTILINE)
        assert [float(error) for error in thousand] == pytest.approx([1000 * float(error) for error in one], rel=0.01)


def test_every_sentence_about_the_stored_run_is_borne_out_by_its_outputs(stored):
    text, prose = text_of(stored), ["".join(cell["source"]) for cell in stored["cells"] if cell["cell_type"] == "markdown"]
    about = [words for words in prose if "stored run says" in words or words.startswith("On this table")]
    assert len(about) == 3
    for number in re.findall(r"\d+\.\d+", "".join(about)):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", text) or float(number) == 0.1, number

    digits, table, more = tables(text)
    differences = by_seed(text)
    assert max(differences["sqrt_inv", "none"]) < 0
    assert digits["sqrt_inv"]["many"] > digits["none"]["many"]
    assert digits["inverse"]["few"] < digits["sqrt_inv"]["few"]
    assert max(map(abs, differences["LDS", "sqrt_inv"])) == 0.19
    assert sum(value < 0 for value in differences["FDS", "sqrt_inv"]) == 2
    assert digits["FDS"]["many"] < digits["sqrt_inv"]["many"]
    assert max(scores["overall"] for scores in table.values()) == 47.95
    assert table["inverse"]["few"] < table["inverse + LDS"]["few"]

    assert min(scores["few"] for scores in (digits | more).values()) == more["DenseWeight"]["few"]
    assert max(differences["DenseWeight", "sqrt_inv"]) < 0
    assert max(differences["BNI", "none"]) == -0.06
    assert sum(value > 0 for value in differences["BNI", "sqrt_inv"]) == 2
    assert min(differences["RankSim", "sqrt_inv"]) > 0
    assert min(scores["many"] for scores in (digits | more).values()) == more["RankSim"]["many"]
    tried = validation_errors(text)
    assert min(tried["DenseWeight"], key=tried["DenseWeight"].get) == 1
    assert tried["BNI"][10] > min(tried["BNI"].values())
    assert min(tried["RankSim"], key=tried["RankSim"].get) == 0.1


def test_the_notebook_was_run_in_order_and_is_modest(stored):
    code = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell["outputs"] if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert NOTEBOOK.stat().st_size < 600_000


def test_the_notebook_about_tables_runs_and_what_it_says_holds(tmp_path):
    """Stored with all its trees; executed here with a few."""
    path, out = ROOT / "tutorial/tables.ipynb", tmp_path / "fresh.ipynb"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NOTEBOOK_TREES": "5"}
    words = [sys.executable, PROGRAMS / "notebook.py", path, path.parent, out]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1800, env=env)
    assert done.returncode == 0, done.stderr
    stored, fresh = (text_of(json.loads(file.read_text())) for file in (path, out))
    assert len(stored.splitlines()) == len(fresh.splitlines())
    ridge = [line for line in stored.splitlines() if line.startswith("ridge")]
    assert len(ridge) == 4
    for text in (stored, fresh):
        (table,) = tables(text)
        for name in ("sqrt_inv", "lds", "dense"):
            assert table[f"ridge, {name}"]["few"] < table["ridge, none"]["few"] - 5, name
    for model in ("trees", "ridge"):
        (table,) = tables(stored)
        for name in ("sqrt_inv", "lds"):
            assert table[f"{model}, {name}"]["overall"] < table[f"{model}, none"]["overall"] + 0.6
        assert table[f"{model}, dense"]["overall"] > table[f"{model}, none"]["overall"] + 3
        assert table[f"{model}, dense"]["few"] < table[f"{model}, lds"]["few"]
    assert path.stat().st_size < 50_000


def test_the_badge_opens_the_repository_the_first_cell_installs(stored):
    first, setup = ("".join(cell["source"]) for cell in stored["cells"][:2])
    repository = re.search(r'REPOSITORY = "(.+?)"', setup)[1]
    assert f"colab.research.google.com/github/{repository}/blob/main/tutorial/tutorial.ipynb" in first
