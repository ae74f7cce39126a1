"""The mean of two methods' predictions in `compare`: its numbers are those of a model that predicts that mean."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from toy import BINS, Toy, evaluate

from imbalanced_regression import __main__ as tools
from imbalanced_regression.metrics import GROUPS
from imbalanced_regression.tools import compare, ensemble, report

TRAIN, TEST = Toy(90, 0).targets[:, 0], Toy(120, 2).targets[:, 0]
SHOTS = evaluate(TEST, TEST, None)["per_bin"]["shot"]


def predictions(method: str, seed: int) -> np.ndarray:
    draw = np.random.default_rng([len(method), seed])
    return (TEST + draw.normal(0, 0.5 if method == "vanilla" else 0.8, len(TEST))).astype(np.float32)


def write(folder, preds, labels=TEST, **flags) -> None:
    """A run's files as train.py leaves them."""
    folder.mkdir(parents=True)
    result = {name: evaluate(preds, labels, None) for name in ("val", "test")}
    (folder / "args.json").write_text(json.dumps({"reweight": "none", "lds": False, "fds": False, **flags}))
    (folder / "metrics.json").write_text(report.to_json({"best_epoch": 0, **result}))
    (folder / "predictions.csv").write_text(report.predictions_csv(preds, labels, BINS, SHOTS))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for method, reweight in (("vanilla", "none"), ("inverse", "inverse")):
        for seed in (0, 1, 2) if method == "vanilla" else (2, 1):
            write(root / method / str(seed), predictions(method, seed), seed=seed, reweight=reweight)
    return root


def tool(monkeypatch, capsys, *words) -> str:
    monkeypatch.setattr(sys, "argv", ["tools", *map(str, words)])
    tools.main()
    return capsys.readouterr().out


def test_the_mean_is_measured_as_a_run_of_it_would_be_and_seeds_are_paired(store, tmp_path):
    methods = compare.group(compare.find_runs([store]))
    found = ensemble.average(*(ensemble.find(methods, name) for name in ("vanilla", "INV")), tmp_path)
    assert found.name == "mean of vanilla and INV"
    assert [run.flags["seed"] for run in found.runs] == [1, 2]
    for run, metrics in zip(found.runs, found.metrics):
        seed = run.flags["seed"]
        mean = (predictions("vanilla", seed).astype(float) + predictions("inverse", seed)) / 2
        expected = evaluate(mean, TEST, None)
        for group in (*GROUPS, "zero_interp", "zero_extrap", "balanced"):
            assert metrics[group] == pytest.approx(expected[group], rel=1e-6, nan_ok=True), group
        for name in ("bmae_fd", "bmase", "ccc", "aore", "aorc"):
            assert metrics["scores"][name] == pytest.approx(expected["scores"][name], rel=1e-6), name
        assert np.isnan(metrics["scores"]["sera"])  # phi is of the training labels, which a run does not keep
        np.testing.assert_allclose(metrics["per_bin"]["l1"], expected["per_bin"]["l1"], rtol=1e-6)


def test_compare_shows_it_as_a_row_by_shot_of_folders_or_of_names(store, tmp_path, monkeypatch, capsys):
    out = ("--metrics", "l1", "--format", "csv", "--out", tmp_path / "gain.png")
    by_folder = tool(monkeypatch, capsys, "compare", "--ensemble", store / "vanilla", store / "inverse", *out)
    by_name = tool(monkeypatch, capsys, "compare", store, "--ensemble", "vanilla", "INV", *out)
    rows = [line for line in by_folder.splitlines() if line.startswith("mean of vanilla and INV,l1,")]
    assert [row.split(",")[2] for row in rows] == list(GROUPS)
    assert set(rows) <= set(by_name.splitlines())
    assert "vanilla,l1,overall" in by_folder
    said = tool(monkeypatch, capsys, "compare", store, "--ensemble", "vanilla", "INV", "--metrics", "l1", "--intervals",
                "--baseline", "vanilla", "--out", tmp_path / "gain.png")
    assert said.count("mean of vanilla and INV") == 4  # the table, its intervals, the differences, and the seeds it has
    errors = [float(row.split(",")[3]) for row in by_folder.splitlines()[1:] if ",overall," in row]
    assert errors[2] < max(errors[:2])


def test_single_runs_are_paired_whatever_their_seeds(store, tmp_path):
    methods = compare.group(compare.find_runs([store]))
    found = ensemble.average(*(ensemble.find(methods, str(store / "vanilla" / seed)) for seed in "01"), tmp_path)
    assert len(found.runs) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ensemble", "vanilla", "nobody"), "--ensemble: expected a folder of runs, or a name of .*'INV', found 'nobody'"),
        (("--ensemble", "vanilla", "{store}"), "--ensemble: expected runs of one method in .*, found vanilla, INV"),
        (("--ensemble", "vanilla", "INV", "--split", "val"), "--split: runs keep the predictions of the test set, found val"),
        (("--ensemble", "{store}/vanilla/0", "{store}/other"), "were tested on other samples"),
        (("--ensemble", "{store}/vanilla/0", "{store}/maps"), "maps.*predictions.csv holds no prediction per sample"),
    ],
)
def test_what_cannot_be_averaged_is_refused_in_a_line(store, tmp_path_factory, monkeypatch, capsys, words, said):
    if not (store / "other").is_dir():
        write(store / "other", predictions("vanilla", 0), labels=TEST[::-1].copy(), seed=0, reweight="sqrt_inv")
        write(store / "maps", predictions("vanilla", 0), seed=0, reweight="dense")
        (store / "maps" / "predictions.csv").write_text("image,rmse\na,1\n")
    words = [word.replace("{store}", str(store)) for word in words]
    runs = [store / "vanilla", store / "inverse"]
    with pytest.raises(ValueError, match=said):
        tool(monkeypatch, capsys, "compare", *runs, *words)


def test_no_seed_in_common_is_named(store, tmp_path):
    methods = compare.group(compare.find_runs([store / "vanilla" / "0", store / "vanilla" / "1", store / "inverse"]))
    one, other = (next(m for m in methods if m.name == name) for name in ("INV", "vanilla"))
    other.runs[1].flags["seed"] = 7
    with pytest.raises(ValueError, match="--ensemble: INV has seeds 1, 2 and vanilla 0, 7; expected runs of equal seeds"):
        ensemble.average(one, other, tmp_path)
