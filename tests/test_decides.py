"""compare --decides and its section of the page: settings from runs, gains and rank correlations, against literal twins."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from made_runs import make_sweep, tool
from scipy import stats

from imbalanced_regression.tools import commons, decides


@pytest.fixture
def runs(tmp_path):
    """Six settings of one table: the larger the model, the more the method gains."""
    root = tmp_path / "sweep"
    for size in range(6):
        errors = {"vanilla": [2.0, 2.2, 1.8], "sqinv": [2.0 - 0.1 * size, 2.1 - 0.1 * size, 1.9 - 0.1 * size]}
        make_sweep(root, errors, dataset="toy", shared=f"--units {size}" if size else "", parameters=10 ** (size + 1))
    return root


def test_a_setting_is_what_vanilla_runs_share_and_gains_are_of_its_own_runs(runs):
    settings = {setting.flags: setting for setting in decides.from_runs([runs])}
    assert sorted(settings) == ["--table toy", *(f"--table toy --units {size}" for size in range(1, 6))]
    for size in range(6):
        own = settings["--table toy" + (f" --units {size}" if size else "")]
        gain = own.gains["sqinv"]
        ours, theirs = np.array([2.0, 2.1, 1.9]) - 0.1 * size, np.array([2.0, 2.2, 1.8])
        each = 100 * (theirs - ours) / theirs.mean()
        half = stats.t.ppf(0.975, 2) * each.std(ddof=1) / math.sqrt(3)
        assert gain.seeds == 3
        for where in ("few", "overall"):
            assert gain.of[where] == pytest.approx((each.mean(), each.mean() - half, each.mean() + half))
        assert own.factors["parameters"] == 10 ** (size + 1)


def test_factors_are_of_the_training_labels_and_of_the_least_error(runs):
    for file in runs.rglob("metrics.json"):
        metrics = json.loads(file.read_text())
        metrics["test"]["per_bin"].update(train_count=[0, 5, 50, 200], shot=["few", "few", "medium", "many"])
        file.write_text(json.dumps(metrics))
    for file in runs.rglob("args.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "epochs": 80}))
    factors = next(setting for setting in decides.from_runs([runs]) if setting.flags.endswith("--units 5")).factors
    assert factors == pytest.approx({
        "labels": 255, "imbalance": 40, "few_share": 5 / 255, "noise": 1.4**2 / np.arange(12.0).var(), "parameters": 1e6,
        "passes": 80,
    })


def test_correlations_are_spearmans_and_corrected(runs):
    settings = decides.from_runs([runs])
    found = decides.rank_correlations(settings)
    rho, p, count = found["sqinv", "parameters"]
    assert (rho, count) == (1.0, 6)
    assert p < 0.05
    assert math.isnan(found["sqinv", "labels"][0])  # the same in all of them
    others = make_sweep(runs.parent / "other", {"vanilla": [2.0], "sqinv": [3.0]}, dataset="toy", parameters=10**9)
    rho = decides.rank_correlations([*settings, *decides.from_runs([others])])["sqinv", "parameters"][0]
    gains = [100 * (2 - 2 + 0.1 * size) / 2 for size in range(6)] + [-50.0]
    assert rho == pytest.approx(stats.spearmanr([*range(6), 9], gains)[0])


def test_the_csv_reads_back_and_a_setting_made_again_takes_its_place(runs, tmp_path, monkeypatch):
    path = tmp_path / "what_decides.csv"
    assert tool(monkeypatch, "compare", runs, "--decides", path) == 0
    before = path.read_text()
    assert len(before.splitlines()) == 7
    assert "/somewhere" not in before
    assert decides.to_csv(decides.read(path)) == before
    again = make_sweep(tmp_path / "again", {"vanilla": [2.0], "sqinv": [1.0]}, dataset="toy")
    assert decides.add(path, [again]) == (1, 6)
    assert decides.read(path)[0].gains["sqinv"].of["few"][0] == pytest.approx(50)


def test_a_csv_of_the_commons_renews_the_gains_of_its_setting_and_keeps_what_sets_it_apart(tmp_path, monkeypatch, capsys):
    """As where seeds are added to lines whose runs are gone."""
    errors = {"vanilla": [2.0, 2.2, 1.8], "sqinv": [1.5, 1.8, 1.2]}
    few = make_sweep(tmp_path / "few", {name: values[:2] for name, values in errors.items()}, dataset="toy", parameters=1000)
    all_seeds = make_sweep(tmp_path / "all", errors, dataset="toy", parameters=1000)
    path, lines = tmp_path / "what_decides.csv", tmp_path / "toy-dir.csv"
    for runs_of, out in ((few, "--decides"), (few, "--commons"), (all_seeds, "--commons")):
        assert tool(monkeypatch, "compare", runs_of, out, path if out == "--decides" else lines) == 0
    before = decides.read(path)[0]
    assert before.gains["sqinv"].seeds == 2
    assert tool(monkeypatch, "compare", lines, "--decides", path) == 0
    (renewed,), (whole,) = decides.read(path), decides.from_runs([all_seeds])
    assert renewed.gains["sqinv"].seeds == 3
    for where, gain in whole.gains["sqinv"].of.items():
        assert renewed.gains["sqinv"].of[where] == pytest.approx(gain, rel=1e-6)
    assert repr(renewed.factors) == repr(before.factors)
    capsys.readouterr()
    other = make_sweep(tmp_path / "other", errors, dataset="toy", shared="--units 7")
    assert tool(monkeypatch, "compare", other, "--commons", tmp_path / "other.csv") == 0
    assert tool(monkeypatch, "compare", tmp_path / "other.csv", "--decides", path) == 2
    assert "other.csv has no setting that is known; add it first, from a folder of its runs" in capsys.readouterr().err


def test_the_page_has_the_section_its_picture_and_the_conclusions(runs, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    folder.mkdir()
    commons.add(folder / "toy-dir.csv", [make_sweep(tmp_path / "one", {"vanilla": [2.0], "inv": [1.0]})])
    decides.add(folder / "what_decides.csv", [runs])
    (folder / "what_decides.md").write_text("Six settings.\n<!-- tables -->\nSize decides.\n")
    assert tool(monkeypatch, "results", folder) == 0
    page = (folder / "README.md").read_text()
    section = page[page.index("## What decides") :]
    assert section.index("Six settings.") < section.index("| setting |") < section.index("Size decides.")
    assert "| toy --table toy --units 5 | 3 | 360 | 1 | 33.3% |" in section
    assert "| **+25**, **+25** |" in section
    assert "| sqinv | - | - | - |" in section
    assert "**+1.00 p" in section
    assert "1 benchmark." in page
    assert (folder / "what_decides.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("text", "named"), [
    ("benchmark,dataset\nx,y\n", "line 2: expected what `compare RUN ... --decides CSV` writes"),
    ("", None),
])
def test_another_csv_is_named(text, named, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(text)
    if named is None:
        assert decides.read(path) == []
    else:
        with pytest.raises(ValueError, match=named):
            decides.read(path)


def test_runs_without_a_pair_are_refused(tmp_path, monkeypatch, capsys):
    alone = make_sweep(tmp_path / "alone", {"inv": [1.0]})
    assert tool(monkeypatch, "compare", alone, "--decides", tmp_path / "x.csv") == 2
    assert "--decides: found no data set with a row 'vanilla' and others" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()
    pair = make_sweep(tmp_path / "pair", {"vanilla": [2.0], "inv": [1.0]})
    assert tool(monkeypatch, "compare", pair, "--decides", tmp_path / "nowhere" / "x.csv") == 2
    assert "--decides: there is no folder" in capsys.readouterr().err


def test_one_setting_and_no_few_shot_labels_are_drawn_all_the_same(tmp_path):
    root = make_sweep(tmp_path / "sweep", {"vanilla": [2.0, 2.1], "inv": [1.0, 1.2]})
    for file in root.rglob("metrics.json"):
        metrics = json.loads(file.read_text())
        metrics["test"]["few"] = {"mse": None, "l1": None, "gmean": None, "count": 0}
        metrics["test"].pop("per_bin")
        file.write_text(json.dumps(metrics))
    settings = decides.from_runs([root])
    assert decides.figure(settings)[:4] == b"\x89PNG"
    assert "| toy-dir | 2 | - | - | - |" in "\n".join(decides.section(settings))


def test_flags_that_name_files_keep_their_names_alone():
    words = ["--split", "/somewhere/gap.csv", "--lr", "0.1", "--data_dir", "/somewhere", "--gap=/somewhere/other.csv"]
    assert commons.without_paths(words) == ["--split", "gap.csv", "--lr", "0.1", "--gap=other.csv"]
