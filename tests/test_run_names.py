"""A run's folder: its published name, seeds beside one another, names that no folder can have; predictions of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_runs
from commands import ROOT, execute, together

from imbalanced_regression import cli, flags
from imbalanced_regression.tools import compare
from imbalanced_regression.training.runtime import Runtime

STS = ROOT / "sts-b-dir"
PUBLISHED = "sts-b_bilstm_adam_mse_0.003_16"


def args(*words: str):
    parser = cli.ArgumentParser()
    parser.set_defaults(epochs=1)
    flags.add(parser, {"loss": "l1", "lr": 1e-3, "batch_size": 64})
    parsed = parser.parse_args(words)
    flags.plan(parsed)
    return parsed


def test_only_a_seed_other_than_the_default_is_in_the_name():
    def name(*words, **more):
        return flags.run_name(args(*words), "agedb", "resnet50", **more)

    assert name() == name("--seed", "0") == name("--seed", "7", default_seed=7) == "agedb_resnet50_adam_l1_0.001_64"
    assert name("--seed", "1", "--store_name", "x") == "agedb_resnet50_x_adam_l1_0.001_64_seed1"
    assert name("--seed", "0", default_seed=111) == "agedb_resnet50_adam_l1_0.001_64_seed0"


@pytest.mark.parametrize("letter", ["x", "ö"])
def test_a_name_that_no_folder_can_have_names_store_name(tmp_path, letter):
    here = args("--store_root", str(tmp_path))
    longest = "x" * 254 + "y"
    assert flags.run_folder(here, longest, Runtime()) == tmp_path / longest
    with pytest.raises(ValueError, match=r"--store_name: the run's folder would have a name of \d+ bytes, above the 255"):
        flags.run_folder(here, longest[1:] + 2 * letter, Runtime())


def test_a_name_of_letters_that_the_locale_lacks_names_the_way_out(tmp_path):
    """As the system's ASCII encoding hands them over: bytes in disguise, which no other program can write."""
    with pytest.raises(ValueError, match="--store_name, --store_root: .* set PYTHONUTF8=1"):
        flags.run_folder(args("--store_root", str(tmp_path)), "gr\udcc3\udcb6sse", Runtime())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--predictions", "a.csv"], "--predictions: goes with --evaluate"),
        (["--evaluate", "--resume", "x", "--predictions", "none/a.csv"], "--predictions: there is no folder none"),
    ],
)
def test_predictions_are_of_a_checkpoint_and_need_a_folder(words, message):
    with pytest.raises(ValueError, match=message):
        args(*words)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """A sample of STS-B, and the store of two runs that differ in --seed only."""
    data, store = small_runs.make_sample("sts-b-dir", tmp_path_factory.mktemp("data")), tmp_path_factory.mktemp("runs")
    words = ["train.py", *small_runs.words("sts-b-dir", data, 1, "--store_root", str(store))]
    together([words, [*words, "--seed", "1"]], STS)
    return data, store


def test_seeds_train_beside_one_another_and_are_compared_as_one_method(runs):
    _, store = runs
    assert sorted(path.name for path in store.iterdir()) == [PUBLISHED, f"{PUBLISHED}_seed1"]
    (method,) = compare.group(compare.find_runs([store]))
    assert [run.flags["seed"] for run in method.runs] == [111, 1]


def test_evaluate_writes_the_predictions_of_the_run(runs, tmp_path):
    data, store = runs
    words = ["train.py", *small_runs.words("sts-b-dir", data, 1, "--store_root", str(store)), "--evaluate", "--resume"]
    execute([*words, "--predictions", tmp_path / "own.csv"], STS)
    assert (tmp_path / "own.csv").read_text() == (store / PUBLISHED / "predictions.csv").read_text()
