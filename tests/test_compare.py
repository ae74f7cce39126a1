"""`compare` and `features` on runs of the real loop: tables and figures against literal sums over the runs' files."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from statistics import mean, stdev

import numpy as np
import pytest
import torch
from commands import ROOT
from made_runs import make_run, make_sweep
from toy import BINS, Toy, make_model, run

from imbalanced_regression import Bins, DepthMetrics
from imbalanced_regression import __main__ as tools
from imbalanced_regression.metrics import ALL_GROUPS, SCORES, correlations, shot_metrics, shot_of_counts
from imbalanced_regression.tools import compare, features, report

LDS = {"lds_kernel": "gaussian", "lds_ks": 5, "lds_sigma": 2}
LABELS = Toy(90, 0).targets
SHOTS = shot_of_counts(BINS.counts(LABELS))
METHODS = {
    "vanilla": {"reweight": "none", "lds": False, "fds": False},
    "INV": {"reweight": "inverse", "lds": False, "fds": False},
    "INV + LDS + FDS": {"reweight": "inverse", "lds": True, "fds": True, "bucket_start": 0},
}


def tool(monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["tools", *map(str, words)])
    tools.main()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Runs of three methods and two seeds each, as train.py leaves them; the flags differ, and so do the numbers."""
    root = tmp_path_factory.mktemp("runs")
    for number, (name, flags) in enumerate(METHODS.items()):
        for seed in (0, 1):
            folder = root / f"seed{seed}" / name.replace(" + ", "_")
            result, _ = run(
                folder, model=make_model(fds=flags["fds"]), seed=seed, lr=0.003 + 0.004 * number, epochs=2,
                store_root=str(root), device="cpu", **LDS, **flags,
            )
            settings = json.loads((folder / "args.json").read_text())
            settings["lr"] = 0.003  # so that the methods are told apart by what they are called for
            (folder / "args.json").write_text(json.dumps(settings))
            report.write(folder, result, train_labels=LABELS, bins=BINS, shots=SHOTS, label="label", window={}, title=name)
    return root


def values(store, method: str, metric: str, group: str) -> list[float]:
    files = [store / f"seed{seed}" / method.replace(" + ", "_") / "metrics.json" for seed in (0, 1)]
    return [json.loads(file.read_text())["test"][group][metric] for file in files]


# compare


def test_runs_that_differ_in_the_seed_are_one_method(store):
    methods = compare.group(compare.find_runs([store]))
    assert [(m.name, [r.flags["seed"] for r in m.runs]) for m in methods] == [
        ("INV", [0, 1]), ("INV + LDS + FDS", [0, 1]), ("vanilla", [0, 1])
    ]
    by_seed = compare.find_runs([store / "seed0" / "vanilla", store / "seed0", store / "seed1"])
    assert len(by_seed) == 6  # each once, in the order given
    assert by_seed[0].folder.name == "vanilla"


def test_scores_over_all_are_compared_by_name_in_one_column(store, tmp_path, monkeypatch, capsys):
    tool(monkeypatch, "compare", store, "--format", "markdown", "--metrics", "l1", "bmase", "--out", tmp_path / "gain.png")
    head = capsys.readouterr().out.splitlines()[0]
    assert head == "| method | runs | MAE all | MAE many | MAE medium | MAE few | bMASE |"
    tool(monkeypatch, "compare", store, "--format", "csv", "--metrics", "sera", "--out", tmp_path / "gain.png")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(row["metric"], row["group"]) for row in rows} == {("sera", "overall")}
    assert all(float(row["mean"]) > 0 for row in rows)


def test_labels_without_training_labels_have_columns_of_their_own():
    methods = []
    for name, error in (("a", 1.0), ("b", 2.0)):
        metrics = shot_metrics([1 + error, 5 - error, 9.0], [1, 5, 9], [1] * 30 + [9] * 30)
        methods.append(compare.Method({}, name, [None], [metrics]))
    head, _, first, second = compare.markdown_table(methods, ["l1"]).splitlines()
    assert head.endswith("| MAE few | MAE zero-shot inside |")
    assert first.endswith("| 1.00 |")
    assert second.endswith("| 2.00 |")
    assert "MAE zero-shot inside" in compare.text_table(methods, ["l1"])


def test_the_table_is_mean_and_deviation_over_seeds(store, tmp_path, monkeypatch, capsys):
    tool(monkeypatch, "compare", store, "--format", "csv", "--out", tmp_path / "gain.png")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["method"] for row in rows} == set(METHODS)
    assert {row["metric"] for row in rows} == {"mse", "rmse", "l1", "gmean", "bias"}
    for row in rows:
        seeds = values(store, row["method"], row["metric"], row["group"])
        assert row["runs"] == "2"
        if seeds[0] is None:
            assert (row["mean"], row["std"]) == ("", "")
        else:
            assert float(row["mean"]) == pytest.approx(mean(seeds))
            assert float(row["std"]) == pytest.approx(stdev(seeds))
    assert (tmp_path / "gain.png").read_bytes().startswith(b"\x89PNG")

    seeds = values(store, "INV", "l1", "overall")
    tool(monkeypatch, "compare", store, "--out", tmp_path / "gain.png")
    said = capsys.readouterr()
    assert re.search(rf"^INV +2 +{mean(seeds):.2f} \+- {stdev(seeds):.2f}  ", said.out, re.MULTILINE)
    assert "6 runs of 3 methods" in said.err
    tool(monkeypatch, "compare", store, "--format", "markdown", "--metrics", "l1", "--out", tmp_path / "gain.png")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| method | runs | MAE all | MAE many | MAE medium | MAE few |"
    assert lines[2].startswith(f"| INV | 2 | {mean(seeds):.2f} ± {stdev(seeds):.2f} | - |")
    assert lines[-1].startswith("Seeds 0, 1 for each method; +- is the standard deviation")
    assert len({line.count("|") for line in lines[:-2]}) == 1


def test_several_data_sets_have_a_table_each_and_ranks_over_them(tmp_path, monkeypatch, capsys):
    errors = {"vanilla": [1.0, 1.2], "inv": [0.8, 1.0]}
    for dataset in ("a", "b"):
        make_sweep(tmp_path / "sweep", errors, dataset=dataset)
    given = ("compare", tmp_path / "sweep", "--out", tmp_path / "x.png")
    tool(monkeypatch, *given, "--metrics", "l1", "--baseline", "vanilla", "--cost")
    said = capsys.readouterr()
    assert said.out.startswith("toy-dir a\n\nmethod")
    assert "\ntoy-dir b\n\nmethod" in said.out
    assert said.out.count("MAE - vanilla") == said.out.count("Seeds 0, 1 for each method") == 2
    assert re.search(r"^inv +1 +100 +1,234 +12.5$", said.out, re.MULTILINE)
    assert "Average rank by MAE over 2 data sets, 1 is best" in said.out
    assert said.out.strip().endswith("inv 1.00, vanilla 2.00")
    assert "8 runs of 2 methods on 2 data sets" in said.err
    assert (tmp_path / "x-ranks.png").read_bytes().startswith(b"\x89PNG")
    tool(monkeypatch, *given, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["dataset"] for row in rows} == {"toy-dir a", "toy-dir b"}


def test_published_numbers_and_the_difference_stand_beside_ours(tmp_path, monkeypatch, capsys):
    make_sweep(tmp_path / "sweep", {"vanilla": [1.0, 1.2]})
    for record in (tmp_path / "sweep").rglob("run.json"):
        found = {**json.loads(record.read_text()), "published": {"l1": {"overall": 1.5, "few": 2.0}}, "source": "a paper"}
        record.write_text(json.dumps(found))
    for form, row in (("markdown", "| vanilla | 1.50 (-0.40) | - | - | 2.00 (-0.90) |"),
                      ("latex", r"vanilla & 1.50 (-0.40) & - & - & 2.00 (-0.90) \\")):
        given = ("compare", tmp_path / "sweep", "--out", tmp_path / "x.png")
        tool(monkeypatch, *given, "--published", "--format", form, "--metrics", "l1")
        said = capsys.readouterr().out
        assert row in said
        assert "Published: a paper; on the data and by the schedule of that paper" in said
        assert "Seeds 0, 1 for each method" in said


def test_metrics_that_a_run_lacks_come_from_its_predictions(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    train = np.rint(np.clip(rng.gamma(3, 6, 500), 0, 59))
    labels = np.arange(60.0)
    preds = labels + rng.normal(0, 3, 60).astype(np.float32)
    bins = Bins.width(-0.5, 59.5, 1)
    expected = shot_metrics(preds, labels, train, bins)
    expected["overall"]["spearman"] = correlations(preds, labels)["spearman"]
    run_ = tmp_path / "run"
    run_.mkdir()
    (run_ / "args.json").write_text(json.dumps({"seed": 0}))
    few = {name: expected[name] for name in (*ALL_GROUPS, "per_bin")}
    few["overall"] = {"mse": 1.0, "l1": 1.0, "count": 60}
    (run_ / "metrics.json").write_text(report.to_json({"best_epoch": 0, "test": few, "val": few}))
    (run_ / "predictions.csv").write_text(report.predictions_csv(preds, labels, bins, expected["per_bin"]["shot"]))
    names = ["gmean", "spearman", *(name for name in SCORES)]
    tool(monkeypatch, "compare", run_, "--format", "csv", "--metrics", *names, "--out", tmp_path / "x.png")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for row in rows:
        where = "scores" if row["metric"] in SCORES else row["group"]
        wanted = expected[where].get(row["metric"], math.nan)
        if where in ("overall", "scores"):
            assert float(row["mean"]) == pytest.approx(wanted, rel=1e-5), row
    assert {row["metric"] for row in rows} == set(names)
    tool(monkeypatch, "compare", run_, "--metrics", "sera", "--out", tmp_path / "x.png")
    said = "Computed from the runs' predictions.csv: SERA; training labels counted at the centres of their bins"
    assert said in capsys.readouterr().out
    (run_ / "predictions.csv").unlink()
    with pytest.raises(ValueError, match="--metrics: .*run has neither sera nor a predictions.csv"):
        tool(monkeypatch, "compare", run_, "--metrics", "sera", "--out", tmp_path / "x.png")


def test_gains_per_bin_are_the_baselines_error_less_the_methods(store):
    methods = compare.group(compare.find_runs([store]))
    gains = compare.gains(methods)
    assert compare.baseline(methods) == 2
    for i, method in enumerate(methods):
        for b in range(BINS.count):
            here, base = ([r["per_bin"]["l1"][b] for r in m.metrics] for m in (method, methods[2]))
            if None in base:
                assert math.isnan(gains[i, b])
            else:
                assert gains[i, b] == pytest.approx(mean(base) - mean(here), abs=1e-12)


def test_names_show_whatever_else_sets_methods_apart(store, tmp_path):
    changes = {
        "a": {"lr": 0.1}, "b": {"retrain_fc": True, "pretrained": "x"}, "c": {"retrain_fc": True, "pretrained": "y", "seed": 1},
        "d": {"lds_sigma": 3}, "e": {"new_flag": 1}, "f": {"new_flag": 2},
    }
    for name, change in changes.items():
        shutil.copytree(store / "seed0" / "INV", tmp_path / name)
        flags = {**json.loads((tmp_path / name / "args.json").read_text()), **change}
        (tmp_path / name / "args.json").write_text(json.dumps(flags))
    methods = compare.group(compare.find_runs([store / "seed0" / "INV", tmp_path]))
    names = {m.name: len(m.runs) for m in methods}
    assert names == {  # without LDS its sigma plays no part; RRT of two seeds starts from two checkpoints
        "INV (lr 0.003)": 2, "INV (lr 0.1)": 1, "INV + RRT (lr 0.003)": 2, "INV (lr 0.003, new_flag 1)": 1,
        "INV (lr 0.003, new_flag 2)": 1,
    }


def test_depth_runs_get_the_papers_metrics(store, tmp_path):
    depth = DepthMetrics(Bins.uniform(0, 10, 100), np.repeat(["few", "many", "few"], [10, 40, 50]))
    depth.update(np.linspace(0.8, 9, 500), np.linspace(1, 9, 500))
    shutil.copytree(store / "seed0" / "vanilla", tmp_path / "run")
    metrics = {"best_epoch": 0, "val": depth.compute(), "test": depth.compute()}
    (tmp_path / "run" / "metrics.json").write_text(report.to_json(metrics))
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    flags = {**json.loads((tmp_path / "run" / "args.json").read_text()), "reweight": "inverse"}
    (tmp_path / "other" / "args.json").write_text(json.dumps(flags))
    methods = compare.group(compare.find_runs([tmp_path]))
    heads = compare.markdown_table(methods).splitlines()[0]
    assert [f" {name} all" in heads for name in ("RMSE", "AbsRel", "delta1", "MSE")] == [True] * 3 + [False]
    assert compare.figure(methods).startswith(b"\x89PNG")  # these runs count no training labels


@pytest.mark.parametrize(
    ("change", "words", "named"),
    [
        (lambda f: shutil.rmtree(f), [], "RUN.*no folder"),
        (lambda f: (f / "metrics.json").unlink(), [], "RUN.*no finished run in .*--resume finishes the one.*leave it out"),
        (lambda f: (f / "args.json").unlink(), [], "RUN.*no args.json"),
        (lambda f: (f / "metrics.json").write_text("{"), [], "RUN.*metrics.json is no JSON"),
        (lambda f: (f / "metrics.json").write_text("[]"), [], "RUN.*no test metrics by shot"),
        (lambda f: (f / "args.json").write_text("[]"), [], "RUN.*run/args.json holds no flags by name"),
        (lambda f: None, ["--metrics", "delta1"], "--metrics.*l1.*delta1"),
        (lambda f: (f / "metrics.json").write_text((f / "metrics.json").read_text().replace('"val"', '"dev"')),
         ["--split", "val"], "--split.*no val"),
        (lambda f: (f / "metrics.json").write_text((f / "metrics.json").read_text().replace('"count": 37', '"count": 38')),
         [], "RUN.*other data.*37.*38"),
    ],
    ids=["no folder", "unfinished", "no flags", "cut", "list", "list of flags", "metric", "split", "other data"],
)
def test_what_cannot_be_compared_is_named(store, tmp_path, monkeypatch, change, words, named):
    shutil.copytree(store / "seed0" / "INV", tmp_path / "run")
    change(tmp_path / "run")
    with pytest.raises(ValueError, match=named):
        tool(monkeypatch, "compare", store / "seed0" / "vanilla", tmp_path / "run", *words, "--out", tmp_path / "a.png")


def test_unfinished_runs_and_equal_seeds_are_told(store, tmp_path, caplog):
    shutil.copytree(store / "seed0" / "INV", tmp_path / "one")
    shutil.copytree(store / "seed0" / "INV", tmp_path / "two")
    shutil.copytree(store / "seed0" / "INV", tmp_path / "three")
    (tmp_path / "three" / "metrics.json").unlink()
    compare.group(compare.find_runs([tmp_path]))
    assert "three has no metrics.json yet" in caplog.text
    assert "seeds 0, 0: not independent" in caplog.text


# features


def cosine(a, b) -> float:
    size = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b)) / size if size else math.nan


def test_similarities_are_cosines_of_the_checkpoints_statistics(store, tmp_path, monkeypatch, capsys):
    folder = store / "seed0" / "INV_LDS_FDS"
    state = torch.load(folder / "ckpt.best.pth.tar", weights_only=True)["state_dict"]
    state = {name.rpartition(".")[2]: value.tolist() for name, value in state.items() if "fds." in name}
    tool(monkeypatch, "features", folder, "--anchor", "1.2", "--format", "csv", "--out", tmp_path / "f.png")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert len(rows) == 10
    columns = {"mean_before": "running_mean", "mean_after": "smoothed_mean_last_epoch",
               "variance_before": "running_var", "variance_after": "smoothed_var_last_epoch"}
    seen = 0
    for b, row in enumerate(rows):
        assert float(row["label"]) == pytest.approx(0.25 + 0.5 * b)
        assert int(row["samples"]) == state["num_samples_tracked"][b]
        for column, name in columns.items():
            expected = cosine(state[name][b], state[name][2])  # 1.2 lies in the third bin
            if state["num_samples_tracked"][b] == 0 or math.isnan(expected):
                assert row[column] == ""
            else:
                assert float(row[column]) == pytest.approx(expected, rel=1e-9)
                seen += 1
    assert seen > 20

    tool(monkeypatch, "features", folder, "--out", tmp_path / "f.png")
    said = capsys.readouterr().out
    most = int(np.argmax(state["num_samples_tracked"]))
    assert f"bin {most} (label {0.25 + 0.5 * most:g})" in said
    assert "Spearman" in said


def test_published_names_and_first_bins_are_understood(tmp_path):
    """A depth checkpoint's prefix, FDS from bin 7 on, and metrics of 100 bins over 10 m; without metrics, bin numbers."""
    names = ("running_mean", "running_var", "smoothed_mean_last_epoch", "smoothed_var_last_epoch", "running_mean_last_epoch")
    state = {f"module.R.FDS.{name}": torch.rand(93, 4) + 0.1 for name in names}
    state["module.R.FDS.num_samples_tracked"] = torch.arange(93.0)
    state["module.E.bn1.running_mean"] = torch.zeros(3)
    torch.save({"state_dict": state, "settings": {"bucket_start": 7}}, tmp_path / "ckpt.best.pth.tar")
    alike = features.similarities(features.read(tmp_path), 50)
    assert (alike.anchor, alike.statistics.first_bin, alike.places[43]) == (43, 7, 50)
    assert np.isnan(alike.before["mean"][0])
    assert "label 50" in features.text_table(alike)
    per_bin = {"center": (0.05 + 0.1 * np.arange(100)).tolist(), "shot": ["many"] * 60 + ["few"] * 40}
    (tmp_path / "metrics.json").write_text(json.dumps({"test": {"per_bin": per_bin}}))
    alike = features.similarities(features.read(tmp_path / "ckpt.best.pth.tar"), 5.0)
    assert alike.anchor == 43
    assert alike.places[43] == pytest.approx(5.05)
    assert alike.statistics.shots.tolist() == ["many"] * 53 + ["few"] * 40


def test_smoothing_makes_similarity_fall_with_distance():
    """Features that turn with the label, rare bins off the curve: FDS's window brings the order back."""
    angle = np.linspace(0, 1.5, 30)
    mean_ = np.stack([np.cos(angle), np.sin(angle), np.ones(30)], axis=1)
    rough = mean_.copy()
    rough[20:] += np.random.default_rng(0).normal(0, 0.3, (10, 3))
    smooth = np.array([rough[max(0, b - 2) : b + 3].mean(axis=0) for b in range(30)])
    ones = np.ones((30, 3))
    before, after = ({"mean": values, "variance": ones} for values in (rough, smooth))
    found = features.Statistics(before, after, np.ones(30), first_bin=0, edges=None, shots=None, name="x")
    fall = features.fall_with_distance(features.similarities(found, 0))
    assert fall["after"]["mean"] < fall["before"]["mean"] < 0


@pytest.mark.parametrize(
    ("run_", "words", "named"),
    [
        ("INV", [], "RUN.*no FDS statistics.*--fds"),
        ("none", [], "RUN.*no checkpoint"),
        ("", [], "RUN.*has no ckpt.best"),
        ("INV_LDS_FDS", ["--anchor", "7"], "--anchor.*0 to 5.*7"),
        ("INV_LDS_FDS", ["--anchor", "nan"], "--anchor.*nan"),
        ("INV_LDS_FDS/metrics.json", [], "RUN.*metrics.json.*not loaded"),
    ],
)
def test_runs_without_what_is_needed_are_named(store, tmp_path, monkeypatch, run_, words, named):
    with pytest.raises(ValueError, match=named):
        tool(monkeypatch, "features", store / "seed0" / run_, *words, "--out", tmp_path / "f.png")


def test_fds_that_saw_nothing_is_named(store, tmp_path):
    shutil.copytree(store / "seed0" / "INV_LDS_FDS", tmp_path / "run")
    path = tmp_path / "run" / "ckpt.best.pth.tar"
    content = torch.load(path, weights_only=True)
    for name, value in content["state_dict"].items():
        if name.endswith("num_samples_tracked"):
            value.zero_()
    torch.save(content, path)
    with pytest.raises(ValueError, match="seen no samples"):
        features.read(tmp_path / "run")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_enough_ends_it_silently(store, tmp_path, unbuffered):
    """`python -m imbalanced_regression compare ... | head -1`."""
    reads, writes = os.pipe()
    os.close(reads)
    words = [sys.executable, "-m", "imbalanced_regression", "compare", *map(str, sorted((store / "seed0").iterdir()))]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(words, stdout=writes, stderr=subprocess.PIPE, text=True, env=env, cwd=tmp_path)
    os.close(writes)
    assert done.returncode == 141, done.stderr
    assert "Broken pipe" not in done.stderr


@pytest.mark.parametrize("absent", [{}, {"pearson": None}])
def test_a_constant_without_a_correlation_leaves_the_papers_metrics(absent, tmp_path):
    made = [make_run(tmp_path / "a0", 0, 1.0), make_run(tmp_path / "b0", 0, 2.0, "inverse")]
    for folder, more in zip(made, ({"pearson": 0.7}, absent)):
        content = json.loads((folder / "metrics.json").read_text())
        for group in ("overall", "many", "medium", "few"):
            content["test"][group] |= more
        (folder / "metrics.json").write_text(json.dumps(content))
    methods = compare.group(compare.find_runs(made))
    assert compare.choose_metrics(methods, None) == ["mse", "l1", "pearson"]
    table = [line.split() for line in compare.text_table(methods).splitlines()]
    assert [line[-1] for line in table if line and line[0] == "INV"][-1] == "-"


def test_an_ensemble_of_names_needs_a_folder_in_which_to_look_for_them(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="^--ensemble: neither vanilla nor inv is a folder of runs; names go with RUN folders"):
        tool(monkeypatch, "compare", "--ensemble", "vanilla", "inv", "--out", tmp_path / "a.png")
