"""What stands under a table of runs: differences on equal seeds, intervals, ranks; against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from made_runs import make_run
from scipy import stats

from imbalanced_regression.metrics import GROUPS
from imbalanced_regression.tools import compare, evidence, tables
from imbalanced_regression.tools.significance import holm


@pytest.fixture
def methods(tmp_path) -> list[compare.Method]:
    errors = {"none": [1.0, 1.2, 0.9, 1.1], "sqrt_inv": [0.8, 1.0, 0.68, 0.9], "inverse": [1.05, 1.15, 0.95]}
    made = [(name, seed, error) for name, row in errors.items() for seed, error in enumerate(row)]
    runs = [make_run(tmp_path / f"{name}{seed}", seed, error, name) for name, seed, error in made]
    return compare.group(compare.find_runs(runs))


def test_differences_are_scipys_paired_tests_on_the_seeds_both_have_with_holms_correction(methods):
    found = evidence.differences(methods, methods[0], "l1")
    expected = {}
    for method in methods[1:]:
        for group in GROUPS:
            ours = method.values("l1", group)
            theirs = methods[0].values("l1", group)[: len(ours)]
            expected[method.name, group] = (ours - theirs).mean(), stats.ttest_rel(ours, theirs).pvalue, len(ours)
    corrected = holm([p for _, p, _ in expected.values()])
    assert list(found) == list(expected)
    for (mean, p, seeds), (wanted, _, count), own in zip(found.values(), expected.values(), corrected):
        assert (mean, p, seeds) == (pytest.approx(wanted), pytest.approx(own), count)
    assert found["SQINV", "overall"][1] < 0.05 < found["INV", "overall"][1]


def test_seeds_that_only_one_method_has_are_no_pairs(tmp_path):
    runs = [make_run(tmp_path / "a0", 0, 1.0), make_run(tmp_path / "a1", 1, 2.0), make_run(tmp_path / "b1", 1, 1.0, "inverse"),
            make_run(tmp_path / "b5", 5, 9.0, "inverse")]
    first, second = compare.group(compare.find_runs(runs))
    ours, theirs = evidence.paired(second, first, "l1", "few")
    assert (ours.tolist(), theirs.tolist()) == ([pytest.approx(1.0)], [pytest.approx(2.0)])


def test_an_interval_holds_the_mean_and_is_a_point_where_nothing_varies(methods, tmp_path):
    low, high = evidence.interval(methods[0], "l1", "few", repeats=200)
    assert 0.9 <= low < methods[0].values("l1", "few").mean() < high <= 1.2
    same = compare.group(compare.find_runs([make_run(tmp_path / "s0", 0, 0.5), make_run(tmp_path / "s1", 1, 0.5)]))[0]
    assert evidence.interval(same, "l1", "overall") == (pytest.approx(0.5), pytest.approx(0.5))


def test_without_predictions_per_sample_there_is_no_interval(methods, tmp_path):
    (methods[0].runs[0].folder / "predictions.csv").unlink()
    assert evidence.interval(methods[0], "l1", "overall") is None
    assert evidence.interval(methods[1], "delta1", "overall") is None
    (methods[1].runs[0].folder / "predictions.csv").write_text("label,prediction,bin,shot\n1,x,0,few\n")
    with pytest.raises(ValueError, match="holds something else than numbers"):
        evidence.interval(methods[1], "l1", "overall")


def test_the_report_says_differences_intervals_seeds_and_how_checkpoints_were_chosen(methods):
    said = evidence.report(methods, ["l1"], baseline="vanilla", intervals=True) + evidence.footer(methods)
    assert "MAE - vanilla" in said
    line = next(line for line in said.splitlines() if line.startswith("SQINV") and "p " in line)
    assert "*" in line
    assert "95 % interval" in said
    assert "seeds differ: vanilla 0, 1, 2, 3; SQINV 0, 1, 2, 3; INV 0, 1, 2" in said
    assert said.endswith("each run's checkpoint was chosen on the validation set")
    with pytest.raises(ValueError, match="--baseline: expected one of 'vanilla', 'SQINV', 'INV', found 'nobody'"):
        evidence.report(methods, ["l1"], baseline="nobody", intervals=False)


def test_ranks_over_data_sets_and_their_picture(methods, tmp_path):
    errors = {"none": 3.0, "sqrt_inv": 2.0, "inverse": 1.0}
    runs = [make_run(tmp_path / f"o{name}", 0, error, name) for name, error in errors.items()]
    other = compare.group(compare.find_runs(runs))
    names, ranks, difference = evidence.rank_table({"a": methods, "b": other}, "l1", "overall")
    assert dict(zip(names, ranks)) == {"vanilla": 2.75, "SQINV": 1.5, "INV": 1.75}
    assert difference == pytest.approx(2.343 * np.sqrt(3 * 4 / 12), abs=2e-3)
    assert evidence.rank_figure(names, ranks, difference, "l1").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="two methods at least"):
        evidence.rank_table({"a": methods[:1]}, "l1", "overall")


def test_latex_escapes_what_it_would_read():
    table = tables.latex([["a_b", "50 %"], ["x & y", "1 ± 2"]])
    assert r"a\_b & 50 \% \\" in table
    assert r"x \& y & 1 $\pm$ 2 \\" in table
    assert table.startswith(r"\begin{tabular}{lr}")
