"""results/<benchmark>.csv, the page made from it, and `verify`: lines from runs, against the runs' own files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from made_runs import make_sweep, tool
from scipy import stats

from imbalanced_regression.metrics import GROUPS
from imbalanced_regression.tools import commons, compare, decides, evidence, results, significance, verify

ERRORS = {"vanilla": [1.0, 1.2, 0.9, 1.1], "inv": [0.8, 1.0, 0.68, 0.9], "lds": [1.05, 1.15, 0.95, 1.12]}


@pytest.fixture
def sweep(tmp_path):
    return make_sweep(tmp_path / "sweep", ERRORS)


def test_a_line_says_all_of_a_run_and_no_path_and_reads_back(sweep, tmp_path):
    path = tmp_path / "toy-dir.csv"
    assert commons.add(path, [sweep]) == (12, 12)
    lines = commons.read(path)
    names = ("inv", "lds", "vanilla")
    assert [(line.method, line.seed) for line in lines] == [(name, seed) for name in names for seed in range(4)]
    assert lines[0].flags == "--inv"
    assert "/somewhere" not in path.read_text()
    for line in lines:
        place = sweep / "toy-dir" / f"{line.method}-abc123" / f"seed{line.seed}"
        own = json.loads((place / "run" / "metrics.json").read_text())
        for group in GROUPS:
            for metric in ("mse", "l1", "gmean", "count"):
                assert line.metrics[group][metric] == pytest.approx(own["test"][group][metric], rel=1e-6)
    assert lines[1].about == {"seconds_per_epoch": "1.5", "memory_mib": "100", "parameters": "1234", "seconds": "12.5",
                              "version": "0.1.0", "commit": "c0ffee", "hardware": "a CPU, 2 cores", "date": "2026-11-28"}
    assert commons.to_csv(lines) == path.read_text()


def test_a_run_made_again_takes_its_lines_place_and_failed_ones_stay(sweep, tmp_path):
    path = tmp_path / "toy-dir.csv"
    commons.add(path, [sweep])
    place = sweep / "toy-dir" / "inv-abc123" / "seed3"
    (place / "run" / "metrics.json").unlink()
    (place / "failed.txt").write_text("exit code 2: train.py: error: the loss is nan\n")
    again = make_sweep(tmp_path / "again", {"vanilla": [7.0]}, commit="beefed")
    assert commons.add(path, [sweep, again]) == (12, 12)
    lines = {(line.method, line.seed): line for line in commons.read(path)}
    assert lines["vanilla", 0].metrics["overall"]["l1"] == 7
    assert lines["vanilla", 0].about["commit"] == "beefed"
    assert lines["inv", 3].state == "failed: exit code 2: train.py: error: the loss is nan"
    assert lines["inv", 3].metrics == {}
    assert "- inv, seed 3: failed: exit code 2" in results.page({"toy-dir": list(lines.values())}, tmp_path, tmp_path)


def test_a_method_has_one_set_of_flags(sweep, tmp_path):
    path = tmp_path / "toy-dir.csv"
    commons.add(path, [sweep])
    record = sweep / "toy-dir" / "inv-abc123" / "seed0" / "run.json"
    record.write_text(record.read_text().replace("--inv", "--inv --lr 3"))
    with pytest.raises(ValueError, match="--commons: inv would have lines with two sets of flags"):
        commons.add(path, [sweep])


@pytest.mark.parametrize(("change", "named"), [
    (lambda text: text.replace("method", "row", 1), "is no csv of the commons"),
    (lambda text: text.replace("mse_few", "mse_fewest", 1), "column expected a metric and a group .* found 'mse_fewest'"),
    (lambda text: text.replace("inv,--inv,0,", "inv,--inv,x,", 1), "line 2: .*'x'"),
    (lambda text: text + "a,b\n", "line 14 has 2 fields"),
])
def test_a_csv_that_is_none_of_the_commons_is_named(change, named, sweep, tmp_path):
    path = tmp_path / "toy-dir.csv"
    commons.add(path, [sweep])
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=named):
        commons.read(path)


def test_runs_that_no_sweep_has_made_have_no_line(tmp_path, sweep):
    (sweep / "toy-dir" / "inv-abc123" / "seed0" / "run.json").unlink()
    with pytest.raises(ValueError, match=r"--commons: .*seed0/run has no run.json beside it"):
        commons.add(tmp_path / "x.csv", [sweep])


# the page


def test_the_page_has_means_differences_intervals_and_corrected_p(sweep, tmp_path, monkeypatch):
    folder, benchmark = tmp_path / "results", tmp_path / "toy-dir"
    folder.mkdir()
    benchmark.mkdir()
    (benchmark / "train.py").touch()
    (benchmark / "methods.toml").write_text('[vanilla]\nflags = ""\n[lds]\nflags = "--lds"\n'
                                            'published = { l1 = { overall = 7.77, few = 9.5 } }\nsource = "a paper"\n')
    assert tool(monkeypatch, "compare", sweep, "--commons", folder / "toy-dir.csv") == 0
    (folder / "toy-dir.md").write_text("Above.\n\n<!-- tables -->\n\nWhat to conclude.\n")
    assert tool(monkeypatch, "results", folder, "--benchmarks", tmp_path) == 0
    text = (folder / "README.md").read_text()
    assert (folder / "toy-dir.png").read_bytes().startswith(b"\x89PNG")
    assert text.index("Above.") < text.index("| method | seeds | MAE all") < text.index("What to conclude.")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:5]] == ["| ---", "| vanilla", "| lds", "| inv"]
    ours, theirs = np.array(ERRORS["inv"]), np.array(ERRORS["vanilla"])
    assert f"| inv | 4 | {ours.mean():.2f} ± {ours.std(ddof=1):.2f} |" in text
    assert "| 2 | 100 | 1,234 |" in text
    assert "| 7.77, 9.50 |" in next(row for row in rows if row.startswith("| lds"))
    assert "Published: a paper." in text
    raw = [stats.ttest_rel(np.array(ERRORS[name]), theirs).pvalue for name in ("lds", "inv") for _ in GROUPS]
    p = significance.holm(raw)[4]
    half = stats.t.ppf(0.975, 3) * (ours - theirs).std(ddof=1) / 2
    mean = (ours - theirs).mean()
    assert f"**{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}] p {p:.2g}**" in text
    assert "| inv | 0-3 | `--inv` | c0ffee | a CPU, 2 cores | 2026-11-28 |" in text


def test_shots_without_test_labels_have_no_column_and_no_panel(sweep, tmp_path):
    for path in sweep.rglob("metrics.json"):
        content = json.loads(path.read_text())
        content["test"]["many"] = {"count": 0}
        path.write_text(json.dumps(content))
    commons.add(tmp_path / "toy.csv", [sweep])
    assert "| method | seeds | MAE all | MAE medium | MAE few |" in results.write(tmp_path, tmp_path)[-1].read_text()
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imbalanced_regression.tools.drawing.png", lambda figure: drawn.append(figure) or b"")
        results.write(tmp_path, tmp_path)
    assert [axes.get_title() for axes in drawn[0].axes] == ["all", "medium-shot", "few-shot"]


def test_labels_without_training_rows_are_columns_and_differences_of_their_own(sweep, tmp_path, monkeypatch, capsys):
    def change(path: Path) -> None:
        content, seed = json.loads(path.read_text()), json.loads((path.parent / "args.json").read_text())["seed"]
        error = content["test"]["few"]["l1"] * (3 + seed)
        content["test"] |= {"zero_interp": {"count": 20, "l1": error, "mse": 1.0, "gmean": 1.0},
                            "zero_extrap": {"count": 19, "l1": 9.0, "mse": 1.0, "gmean": 1.0}}
        path.write_text(json.dumps(content))

    before = evidence.differences(*_with_vanilla(sweep), "l1")
    for path in sweep.rglob("metrics.json"):
        change(path)
    methods, base = _with_vanilla(sweep)
    assert evidence.differences(methods, base, "l1") == before  # shots are corrected as without them
    theirs = base.values("l1", "zero_interp")
    raw = [stats.ttest_rel(method.values("l1", "zero_interp"), theirs).pvalue for method in methods[1:]]
    wanted = {method.name: p for method, p in zip(methods[1:], significance.holm(raw))}
    commons.add(tmp_path / "toy.csv", [sweep])
    drawn = []
    monkeypatch.setattr("imbalanced_regression.tools.drawing.png", lambda figure: drawn.append(figure) or b"")
    text = results.write(tmp_path, tmp_path)[-1].read_text()
    assert "| MAE few | MAE zero-shot inside | GM all |" in text  # 19 outside are too few
    below = text[text.index("Test labels without training rows (20 zero-shot inside)"):]
    assert "| MAE less vanilla's | seeds | zero-shot inside |" in below
    for line in below.splitlines():
        if line.startswith(("| lds | 4 |", "| inv | 4 |")):
            assert float(line.rstrip("* |").split(" p ")[1]) == pytest.approx(wanted.pop(line.split(" | ")[0][2:]), rel=0.05)
    assert not wanted
    assert drawn[0].axes[-1].get_title() == "zero-shot inside"
    capsys.readouterr()
    assert tool(monkeypatch, "compare", sweep, "--baseline", base.name, "--out", tmp_path / "gain.png") == 0
    assert "MAE - vanilla seeds zero-shot inside zero-shot outside" in " ".join(capsys.readouterr().out.split())


def _with_vanilla(sweep: Path) -> tuple[list[compare.Method], compare.Method]:
    methods = commons.methods(commons.from_runs([sweep]))[""]
    base = next(method for method in methods if method.name == "vanilla")
    return [base, *(method for method in methods if method is not base)], base


def test_a_gain_beyond_the_axis_is_an_arrow_at_its_edge(tmp_path):
    errors = {"vanilla": [1.0, 1.1, 1.2], "harm": [4.0, 4.1, 4.2], "none": [1.0, 1.1, 1.2]}
    make_sweep(tmp_path / "sweep", errors)
    commons.add(tmp_path / "toy.csv", [tmp_path / "sweep"])
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imbalanced_regression.tools.drawing.png", lambda figure: drawn.append(figure) or b"")
        results.write(tmp_path, tmp_path)
    marks = {line.get_marker(): line.get_xdata()[0] for line in drawn[0].axes[0].lines if line.get_marker() in ("<", "o")}
    assert marks["<"] == -100
    assert marks["o"] == 0


def test_several_data_sets_are_ranked(tmp_path):
    for dataset, factor in (("a", 1.0), ("b", 2.0)):
        make_sweep(tmp_path / "sweep", {name: [factor * e for e in row] for name, row in ERRORS.items()}, dataset=dataset)
    commons.add(tmp_path / "toy.csv", [tmp_path / "sweep"])
    written = results.write(tmp_path, tmp_path)
    assert [path.name for path in written] == ["toy.png", "toy-ranks.png", "README.md"]
    assert "[toy](#toy): 2 data sets, 3 methods, 4 seeds" in written[-1].read_text()


@pytest.mark.parametrize(("words", "said"), [
    (["results", "{tmp}/nowhere"], "DIR: there is no folder"),
    (["results", "{tmp}/empty"], "DIR: .* holds no csv; `compare RUN ... --commons"),
    (["compare", "{tmp}/sweep", "--commons", "{tmp}/nowhere/x.csv"], "--commons: there is no folder"),
    (["compare", "{tmp}/empty", "--commons", "{tmp}/x.csv"], "--commons: found no run that `sweep` has made"),
    (["verify", "{tmp}/no.csv", "{tmp}/sweep"], "TABLE: there is no file"),
    (["verify", "{tmp}/toy.csv", "{tmp}/nowhere"], "FRESH: expected one csv or folders of runs"),
    (["verify", "{tmp}/toy.csv", "{tmp}/toy.csv", "--metrics", "x"], "--metrics: expected some of .*l1.* found x"),
    (["verify", "{tmp}/toy.csv", "{tmp}/toy.csv", "--tolerance", "-1"], "--tolerance: expected at least 0"),
    (["verify", "{tmp}/toy.csv", "{tmp}/toy.csv", "--tolerance", "nan"], "--tolerance: expected at least 0, found nan"),
    (["verify", "{tmp}/other.csv", "{tmp}/toy.csv"], "other.csv: is no table"),
])
def test_bad_input_is_one_line_and_exit_code_2(words, said, sweep, tmp_path, monkeypatch, capsys):
    import re

    (tmp_path / "empty").mkdir()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    commons.add(tmp_path / "toy.csv", [sweep])
    assert tool(monkeypatch, *(word.format(tmp=tmp_path) for word in words)) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert re.search(said, error)


def test_the_committed_page_is_that_of_the_committed_csv_files():
    files = sorted(path for path in (ROOT / "results").glob("*.csv") if path.name != decides.FILE)
    if not files:
        pytest.skip("no results are committed")
    read = {path.stem: commons.read(path) for path in files}
    assert (ROOT / "results" / "README.md").read_text() == results.page(read, ROOT / "results", ROOT)


# verify


def test_verify_holds_for_the_same_runs_and_not_for_others(sweep, tmp_path, monkeypatch, capsys):
    table = tmp_path / "toy.csv"
    commons.add(table, [sweep])
    assert tool(monkeypatch, "verify", table, sweep, "--tolerance", "0") == 0
    assert "36 of 36 numbers hold within 0, by the seeds 0, 1, 2, 3" in capsys.readouterr().out
    fresh = make_sweep(tmp_path / "fresh", {"vanilla": [1.0, 1.2], "inv": [0.8, 1.1], "lds": [1.05, 1.15]})
    assert tool(monkeypatch, "verify", table, fresh, "--metrics", "l1") == 1
    said = capsys.readouterr().out
    assert "8 of 12 numbers hold within 1 %, by the seeds 0, 1" in said
    off = (1.1 - 1.0) / (0.8 + 1.0)
    assert f"{100 * off:.3g} %" in said
    assert tool(monkeypatch, "verify", table, fresh, "--metrics", "l1", "--tolerance", "0.06") == 0
    assert tool(monkeypatch, "verify", table, fresh, "--metrics", "l1", "--tolerance", "0", "--absolute", "0.051") == 0


def test_numbers_without_fresh_ones_count_unless_told(sweep, tmp_path, monkeypatch, capsys):
    commons.add(tmp_path / "toy.csv", [sweep])
    fresh = make_sweep(tmp_path / "fresh", {"vanilla": [1.0]})
    assert tool(monkeypatch, "verify", tmp_path / "toy.csv", fresh) == 1
    assert "24 numbers have no fresh one: inv, lds" in capsys.readouterr().out
    assert tool(monkeypatch, "verify", tmp_path / "toy.csv", fresh, "--partial") == 0
    other = make_sweep(tmp_path / "other", {"another": [1.0]})
    assert tool(monkeypatch, "verify", tmp_path / "toy.csv", other) == 2


def test_a_table_of_compare_is_verified_by_its_means(sweep, tmp_path):
    methods = compare.group(compare.find_runs([sweep]))
    (tmp_path / "table.csv").write_text(compare.csv_table(methods))
    plain = tmp_path / "plain"
    for i, run in enumerate(run for method in methods for run in method.runs):
        run.folder.rename(plain / str(i)) if plain.mkdir(exist_ok=True) is None else None
    checked, missing = verify.check(verify.read([tmp_path / "table.csv"]), verify.read([plain]), share=0.0, absolute=0.0)
    assert all(one.holds for one in checked)
    assert not missing
    assert "by means over other seeds" in verify.report(checked, missing, share=0.0, absolute=0.0)


def test_the_interval_of_a_mean_is_scipys():
    values = np.array([0.3, 0.1, 0.7, 0.2])
    expected = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert significance.mean_interval([*values, np.nan]) == pytest.approx(expected)
    assert np.isnan(significance.mean_interval([1.0])).all()
    assert set(compare.METRICS) > evidence.BETTER_ABOVE
