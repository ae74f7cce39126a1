"""The pictures of the README: the script draws them, and the committed ones are those it names, of modest size."""

from __future__ import annotations

import re

from commands import ROOT, execute
from PIL import Image


def test_the_script_draws_every_picture_of_the_readme(tmp_path):
    execute(["make_teaser.py", "--quick", "--out", tmp_path], ROOT / "teaser", PYTHONPATH=str(ROOT))
    named = re.findall(r"!\[.+?\]\(teaser/(\S+)\)", (ROOT / "README.md").read_text())
    assert sorted(named) == sorted(path.name for path in tmp_path.iterdir())
    for name in named:
        with Image.open(tmp_path / name) as drawn, Image.open(ROOT / "teaser" / name) as committed:
            assert drawn.size == committed.size
            assert committed.width <= 830
        assert (ROOT / "teaser" / name).stat().st_size < 600_000


def test_the_counts_are_those_of_the_real_files(shared):
    import json

    histograms = json.loads((ROOT / "teaser" / "label_histograms.json").read_text())
    assert sum(histograms["AgeDB-DIR"]["counts"]) == 12208
    assert sum(histograms["STS-B-DIR"]["counts"]) == 5249
    pixels = [int(line) for line in (shared / "data/nyud2/train_bucket_num.txt").read_text().split()]
    assert histograms["NYUD2-DIR"]["counts"] == pixels
