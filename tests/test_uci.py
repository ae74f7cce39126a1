"""UCI-DIR from the files to trained models: the concrete table lies in the folder, so nothing is downloaded."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, commands, execute, from_folder, together

from imbalanced_regression import choices

UCI = ROOT / "uci-dir"
SMALL = ["--data_dir", "sample", "--epochs", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def datasets():
    return from_folder("uci-dir", "datasets")


@pytest.fixture(scope="module")
def tables():
    return from_folder("uci-dir", "utils").TABLES


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("uci")
    execute(["train.py", *SMALL, "--store_root", root], UCI)
    return next(root.iterdir())


def test_a_run_leaves_the_files_of_every_benchmark_under_its_published_name(trained):
    assert trained.name == "uci_concrete_mlp_adam_l1_0.005_128"
    left = {file.name for file in trained.iterdir()}
    checkpoints, told = {"ckpt.pth.tar", "ckpt.best.pth.tar"}, {"args.json", "metrics.json", "predictions.csv", "report.png"}
    assert checkpoints | told | {"training.log"} <= left
    metrics = json.loads((trained / "metrics.json").read_text())["test"]
    assert metrics["overall"]["count"] == 232
    assert metrics["scores"]["bmase"] > 0
    assert len(list(csv.DictReader((trained / "predictions.csv").read_text().splitlines()))) == 232


def test_validation_and_test_are_balanced_and_inputs_standardised_by_the_training_rows(datasets, tables):
    data = datasets.read_splits("concrete", UCI / "sample")
    bins, cap = tables["concrete"].bins, tables["concrete"].cap
    counts = {name: bins.counts(part.labels) for name, part in data.items()}
    k = np.minimum(sum(counts.values()) // 3, cap)
    assert np.array_equal(counts["val"], k)
    assert np.array_equal(counts["test"], k)
    assert sum(len(part) for part in data.values()) == 1030
    np.testing.assert_allclose(data["train"].inputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(data["train"].inputs.std(0, correction=0), 1, atol=1e-5)
    other = datasets.read_splits("concrete", UCI / "sample", seed=1)["test"].labels
    assert not np.array_equal(other, data["test"].labels)


def test_a_batch_is_its_samples(datasets):
    train = datasets.read_splits("concrete", UCI / "sample")["train"]
    batch = datasets.collate(train.__getitems__([4, 0, 9]))
    for row, i in enumerate((4, 0, 9)):
        for part, value in zip(batch, train[i]):
            assert np.array_equal(np.ravel(part[row]), np.ravel(value))


@pytest.mark.parametrize("how", [name for name in choices.RESAMPLES if name != "none"])
def test_resampling_changes_the_training_rows_alone(how, datasets):
    plain = datasets.read_splits("concrete", UCI / "sample")
    data = datasets.read_splits("concrete", UCI / "sample", resample=choices.RESAMPLES[how]({"seed": 0}))
    assert len(data["train"]) != len(plain["train"]) or not np.array_equal(data["train"].labels, plain["train"].labels)
    for part in ("val", "test"):
        assert np.array_equal(data[part].inputs, plain[part].inputs)
    assert np.isfinite(data["train"].inputs.numpy()).all()


def test_the_four_real_tables_read_as_they_are(shared, datasets, tables):
    folder = shared / "data" / "uci"
    if not folder.is_dir():
        pytest.skip("no UCI tables")
    for name, table in tables.items():
        numbers, categories, labels = datasets.read_table(name, folder)
        assert numbers.shape == (table.rows, table.inputs - len(table.categories))
        assert [len(np.unique(column)) for column in categories] == [3] * len(table.categories)
        assert table.bins.edges[0] <= labels.min()
        assert labels.max() <= table.bins.edges[-1]
    data = datasets.read_splits("abalone", folder, resample=choices.RESAMPLES["smogn"]({"seed": 0}))
    sexes = data["train"].inputs[:, -3:]
    assert ((sexes == 0) | (sexes == 1)).all()
    assert (sexes.sum(1) == 1).all()


def test_files_of_ones_own_are_taken_once_they_are_known_to_be_right(tmp_path, shared):
    folder, out = shared / "data" / "uci", tmp_path / "data"
    assert "complete" in execute(["download_uci.py", "--from", folder, "--data_dir", out], UCI)
    names = {path.name for path in out.iterdir()}
    assert names == {"airfoil_self_noise.dat", "abalone.data", "real_estate.csv", "concrete.csv"}
    (out / "abalone.data").write_bytes((folder / "abalone.data").read_bytes().replace(b"\n", b"\r\n"))
    execute(["download_uci.py", "--dataset", "abalone", "--data_dir", out], UCI)
    changed = (folder / "abalone.data").read_text().replace("0.455", "0.456", 1)
    (tmp_path / "abalone.data").write_text(changed)
    flags = ["--dataset", "abalone", "--from", tmp_path / "abalone.data", "--data_dir", tmp_path / "b"]
    said = execute(["download_uci.py", *flags], UCI, code=2)
    assert "other numbers than UCI's" in said
    assert not list((tmp_path / "b").iterdir())


@pytest.mark.parametrize("name", ["concrete", "real_estate"])
def test_spreadsheets_are_read_as_uci_gives_them(name, tmp_path, datasets, tables, request):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    own = name == "real_estate"  # UCI's other workbook is an .xls
    folder = request.getfixturevalue("shared") / "data" / "uci" if own else UCI / "sample"
    source = folder / f"{name}.csv"
    sheet = tmp_path / "sheet.xlsx"
    pd.read_csv(source).to_excel(sheet, index=False)
    by_csv, by_sheet = datasets.parse(source, tables[name]), datasets.parse(sheet, tables[name])
    assert np.array_equal(by_csv[0], by_sheet[0])
    assert np.array_equal(by_csv[2], by_sheet[2])
    words = ["download_uci.py", "--dataset", name, "--from", sheet, "--data_dir", tmp_path / "data"]
    said = execute(words, UCI, 0 if own else 2)
    if own:
        assert np.array_equal(datasets.read_table(name, tmp_path / "data")[2], by_csv[2])
    else:
        assert "expected Concrete_Data.xls or concrete.csv" in said


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda lines: lines[:-1], "expected 1030 rows, found 1029"),
        (lambda lines: [*lines[:5], "1,2,3", *lines[6:]], "row 5: expected 9 columns, found 3"),
        (lambda lines: [*lines[:5], "1,2,3,4,5,6,7,?,9", *lines[6:]], "row 5: expected numbers"),
        (lambda lines: [*lines[:5], "1,2,3,4,5,6,7,nan,9", *lines[6:]], "row 5: expected numbers"),
        (lambda lines: [line.rsplit(",", 1)[0] + ",7" for line in lines], "mean 35.818, found 7"),
    ],
)
def test_a_table_that_is_another_is_refused_with_its_line(change, named, tmp_path, datasets):
    lines = (UCI / "sample" / "concrete.csv").read_text().splitlines()
    (tmp_path / "concrete.csv").write_text("\n".join(change(lines)))
    with pytest.raises(ValueError, match=named):
        datasets.read_table("concrete", tmp_path)


def test_an_explicit_split_decides_the_rows_and_zero_shot_labels_are_measured_apart(tmp_path):
    split = tmp_path / "gap.csv"
    shutil.copy(UCI / "sample" / "concrete.csv", tmp_path)
    said = execute(
        ["-m", "imbalanced_regression", "protocols", tmp_path / "concrete.csv", "--target", "strength", "--shape", "gap",
         "--width", "2", "--cap", "8", "--out", split], ROOT,
    )
    assert "zero_interp" in said
    execute(["train.py", *SMALL, "--split", split, "--store_root", tmp_path / "runs"], UCI)
    metrics = json.loads(next((tmp_path / "runs").glob("*/metrics.json")).read_text())["test"]
    assert metrics["zero_interp"]["count"] > 10
    assert metrics["zero_interp"]["l1"] > 0


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--dataset", "abalone"], "holds none of abalone.data.*download_uci.py --dataset abalone"),
        (["--split", "none.csv"], "--split: there is no file none.csv"),
        (["--resample", "rose"], "--resample"),
        (["--split_seed", "-1"], "--split_seed.*-1"),
        (["--lds"], "--lds.*--reweight"),
        (["--terms", "ranksim", "ranksim"], "--terms: ranksim is named twice"),
        (["--model", "gbdt", "--terms", "ranksim"], "--terms: --model gbdt has no network"),
        (["--model", "gbdt", "--loss", "bmc"], "--loss: --model gbdt has no network, .*--loss l1 or mse, found bmc"),
    ],
)
def test_flags_that_cannot_be_end_with_one_line_and_exit_code_2(flags, named, tmp_path):
    said = execute(["train.py", *SMALL, *flags, "--store_root", tmp_path], UCI, code=2)
    assert re.search(named, said)
    assert len(said.strip().splitlines()) == 1


def test_a_checkpoint_measured_on_another_split_says_that_it_may_have_seen_the_samples(trained, tmp_path):
    said = "was trained with --split_seed 0 and is now used with 3: samples that it was trained on may be among those measured"
    own, common = trained / "ckpt.pth.tar", ["--data_dir", "sample", "--store_root", tmp_path]
    assert said not in execute(["train.py", *common, "--evaluate", "--resume", own], UCI)
    for words in (["--evaluate", "--resume", own], ["--retrain_fc", "--pretrained", own, "--epochs", "1"]):
        assert said in execute(["train.py", *common, *words, "--split_seed", "3"], UCI)
    # as many validation samples, but others: their losses cannot be compared with the best so far
    on = ["--resume", own, "--epochs", "4", "--split_seed", "3", "--store_name", "on"]
    printed = execute(["train.py", *common, *on], UCI)
    assert said in printed
    assert "others: the search for the best starts anew" in printed


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--loss", "bmc", "--bmc_sigma", "-1"], "--bmc_sigma: expected .*found -1.0"),
        (["--loss", "gai", "--gai_components", "0"], "--gai_components: .*found 0"),
        (["--terms", "conr", "--conr_temperature", "0"], "--conr_temperature: .*found 0.0"),
        (["--terms", "ranksim", "--ranksim_strength", "-1"], "--ranksim_strength: expected .*, 0 or above, found -1.0"),
        (["--terms", "srl", "--srl_strength", "nan"], "--srl_strength: expected a finite number, 0 or above, found nan"),
        (["--pretrain", "rnc", "--rnc_temperature", "0"], "--rnc_temperature: .*found 0.0"),
        (["--reweight", "dense", "--dense_alpha", "-1"], "--dense_alpha: .*found -1.0"),
        (["--head", "uvote", "--uvote_heads", "0"], "--uvote_heads: .*found 0"),
        (["--fds", "--bucket_num", "0"], "--bucket_num: expected at least 1, found 0"),
        (["--store_root", "train.py"], "--store_root: train.py is a file"),
    ],
)
def test_a_methods_number_out_of_range_is_named_by_its_flag(flags, named, tmp_path):
    root = [] if "--store_root" in flags else ["--store_root", tmp_path]
    said = execute(["train.py", "--data_dir", "sample", *root, *flags], UCI, code=2)
    assert re.search(rf"^train.py: error: {named}", said, re.MULTILINE)
    assert not list(tmp_path.iterdir())


def test_balanced_mse_by_the_histogram_takes_a_smoothed_one(tmp_path):
    execute(["train.py", *SMALL, "--store_root", tmp_path, "--loss", "bni", "--lds"], UCI)
    assert [folder.name for folder in tmp_path.iterdir()] == ["uci_concrete_mlp_lds_gau_5_2_adam_bni_3_0.01_0.005_128"]


@pytest.mark.parametrize(("asked", "named"), [(["--reweight", "inverse", "--lds"], "_lds_gau_5_2"), ([], "")])
def test_gradient_boosting_leaves_a_runs_files_and_chooses_its_trees_by_the_validation_rows(tmp_path, asked, named):
    """Without weights scikit-learn is given none, as its own users would leave them out."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    flags = ["--data_dir", "sample", "--epochs", "12", "--model", "gbdt", *asked, "--lr", "0.7"]
    execute(["train.py", *flags, "--store_root", tmp_path, "--device", "cpu"], UCI)
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"uci_concrete_gbdt{named}_boosting_l1_0.7_all"
    assert {"args.json", "metrics.json", "predictions.csv", "report.png", "training.log"} <= {f.name for f in folder.iterdir()}

    data = from_folder("uci-dir", "datasets").read_splits("concrete", UCI / "sample")
    utils = from_folder("uci-dir", "utils")
    weights = utils.sample_weights(utils.TABLES["concrete"].bins, data["train"].labels, "inverse", True) if asked else None
    slow = {}
    for count in range(1, 13):
        model = HistGradientBoostingRegressor(loss="absolute_error", learning_rate=0.7, max_iter=count, max_features=0.8,
                                              early_stopping=False, random_state=0)
        model.fit(data["train"].inputs.numpy(), data["train"].labels, sample_weight=weights)
        error = np.abs(model.predict(data["val"].inputs.numpy()) - data["val"].labels).mean()
        slow[count] = error, model.predict(data["test"].inputs.numpy())
    best = min(slow, key=lambda count: slow[count][0])
    assert json.loads((folder / "metrics.json").read_text())["best_epoch"] == best - 1
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], slow[best][1], rtol=1e-6)


def test_other_benchmarks_say_that_their_first_stage_has_no_rows_to_resample():
    said = execute(["train.py", "--resample", "smogn"], ROOT / "shhs-dir", code=2)
    assert re.search("--resample smogn: makes rows of a table.*add --retrain_fc --pretrained CKPT", said)


def test_every_row_of_the_sweep_trains(trained, tmp_path):
    tomllib = pytest.importorskip("tomllib")
    rows = tomllib.loads((UCI / "methods.toml").read_text())
    assert set(rows.pop("datasets")) == {"airfoil", "abalone", "real_estate", "concrete"}
    lines = [
        ["train.py", *SMALL, *shlex.split(row["flags"].replace("{vanilla}", str(trained / "ckpt.best.pth.tar"))),
         "--store_root", tmp_path / str(number)]
        for number, row in enumerate(rows.values())
    ]
    together(lines, UCI)
    names = {next((tmp_path / str(number)).iterdir()).name for number in range(len(lines))}
    assert len(names) == len(lines)


def test_every_command_of_the_readme_runs(trained, tmp_path, shared):
    found = commands(UCI / "README.md")
    assert len(found) > 10
    lines = []
    for number, command in enumerate(found):
        program, *words = shlex.split(command.replace("<ckpt>", str(trained / "ckpt.best.pth.tar")))
        assert program == "python", command
        if words[0] == "train.py":
            own = ["--data_dir", shared / "data" / "uci", "--epochs", "1", "--store_root", tmp_path / str(number)]
            if "--split" in words:
                words[words.index("--split") + 1] = str(tmp_path / "gap.csv")
            lines.append([*words, *own])
        elif words[0] == "download_uci.py":
            source = ["--from", shared / "data" / "uci"] if "--from" not in words else []
            words = [str(shared / "data" / "uci") if word == "FOLDER" else word for word in words]
            lines.append([*words, *source, "--data_dir", tmp_path / "data"])
        elif words[2] == "protocols":
            execute([*words[:-1], tmp_path / "gap.csv"], UCI)
        elif words[2] == "sweep":
            assert "--print" in words or execute([*words[:3], "--print", "--out", tmp_path / "sweep", *words[3:]], ROOT)
        else:
            pytest.fail(f"no test runs {command!r}")
    together(lines, UCI)
