"""The pictures of the README: drawn by the committed script from the committed counts, of modest size, and current."""

from __future__ import annotations

import json

import numpy as np
import pytest
from commands import ROOT, execute
from PIL import Image

TEASER = ROOT / "teaser"
PICTURES = ("overview.png", "labels.png", "lds.gif", "fds.gif")
ENTRIES = json.loads((TEASER / "label_histograms.json").read_text())


def test_the_committed_pictures_are_modest_and_fit_a_readme():
    for name in PICTURES:
        assert (TEASER / name).stat().st_size < 600_000, name
        with Image.open(TEASER / name) as picture:
            assert 700 <= picture.width <= 860, name
            assert getattr(picture, "n_frames", 1) == 1 or name.endswith(".gif")


def test_the_script_draws_the_pictures_anew(tmp_path):
    execute(["make_teaser.py", "--quick", "--out", tmp_path], TEASER)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PICTURES)
    for name in ("overview.png", "labels.png"):  # other versions of matplotlib set text a little differently
        with Image.open(tmp_path / name) as new, Image.open(TEASER / name) as old:
            assert new.size == old.size
            coarse = [np.asarray(picture.convert("L").resize((80, 50)), dtype=float) for picture in (new, old)]
        assert np.abs(coarse[0] - coarse[1]).mean() < 3, f"{name} is not what make_teaser.py draws; run it and commit"


def test_the_counts_are_those_known_of_the_benchmarks():
    totals = {name: sum(entry["counts"]) for name, entry in ENTRIES.items() if entry["counts"]}
    uci = {"UCI-DIR, airfoil": 971, "UCI-DIR, abalone": 3_529, "UCI-DIR, real_estate": 310, "UCI-DIR, concrete": 566}
    assert totals == {"AgeDB-DIR": 12_208, "STS-B-DIR": 5_249, "NYUD2-DIR": 3_513_286_656, "SHHS-DIR": 2_622, **uci}
    assert ENTRIES["SHHS-DIR"]["approximate"]
    assert not any(entry["approximate"] for name, entry in ENTRIES.items() if name != "SHHS-DIR")
    assert ENTRIES["AgeDB-DIR"]["counts"][35] == max(ENTRIES["AgeDB-DIR"]["counts"]) == 353
    assert all(entry["source"] for entry in ENTRIES.values())


def test_the_counts_are_those_of_the_real_files(shared, tmp_path):
    script = (TEASER / "make_teaser.py").read_text()
    (tmp_path / "make_teaser.py").write_text(script)
    blank = {name: {**entry, "counts": None} if name[:3] in ("Age", "STS", "UCI") else entry for name, entry in ENTRIES.items()}
    (tmp_path / "label_histograms.json").write_text(json.dumps(blank))
    agedb, sts_b = shared / "data/agedb/agedb.csv", shared / "data/sts-b/train_new.tsv"
    execute(
        ["make_teaser.py", "--only", "labels.png", "--agedb", agedb, "--sts_b", sts_b, "--uci", shared / "data/uci"],
        tmp_path, PYTHONPATH=str(ROOT),
    )
    assert json.loads((tmp_path / "label_histograms.json").read_text()) == ENTRIES


@pytest.mark.parametrize("flag", ["--agedb", "--sts_b"])
def test_a_file_of_another_kind_is_an_error_in_one_line(flag, tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    said = execute(["make_teaser.py", flag, tmp_path / "x.csv", "--out", tmp_path], TEASER, code=2)
    assert "x.csv: expected a " in said
    assert said.count("\n") == 1
