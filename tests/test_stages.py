"""What every train.py does by flags with data and model: a sampler, a target, a constant, two stages, presets."""

from __future__ import annotations

import csv
import json
import os
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import small_runs
import torch
import toy
from commands import ROOT, execute, from_folder

from imbalanced_regression import Bins, choices, cli, flags, lds_weights, presets, stages
from imbalanced_regression.interrupt import Interrupted
from imbalanced_regression.methods.targets import constant_baseline
from imbalanced_regression.tools import compare
from imbalanced_regression.training import Arrays, epochs
from imbalanced_regression.training.loaders import Batches, Feed, Splits
from imbalanced_regression.training.runtime import Runtime

UCI = ROOT / "uci-dir"
SMALL = ["--data_dir", "sample", "--epochs", "2", "--batch_size", "64", "--device", "cpu", "--schedule"]


def train(store, *words, code=0):
    said = execute(["train.py", *SMALL, *words, "--store_root", store], UCI, code=code)
    return said if code else next(path for path in store.iterdir() if path.is_dir())


def rows(run):
    return list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())["test"]


def parse(*words):
    parser = cli.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    flags.add(parser, {"loss": "l1", "lr": 1e-2, "batch_size": 16, "seed": 3, "bucket_num": 10, "workers": 0}, "agedb-dir")
    return parser.parse_args([str(word) for word in words])


def on_toys(folder, *words):
    """`stages.train` on the toy samples, in this process; returns the state of the last checkpoint, and the result."""
    args = parse(*words)
    plan, data = flags.plan(args), toy.make_splits()
    model = toy.make_model(fds=False, norm=True)
    model.encoder.feature_dim = 6
    labels = choices.Labels(toy.BINS, toy.BINS.counts(data.train.targets), data.train.targets[:, 0])
    result = stages.train(args, plan, model, data, labels, Arrays(toy.evaluate), folder=folder, runtime=Runtime())
    return torch.load(folder / "ckpt.pth.tar", weights_only=True)["state_dict"], result


def same(one, other):
    states, metrics = zip(one, other)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert metrics[0]["test"]["overall"] == metrics[1]["test"]["overall"]
    return True


@contextmanager
def stopped_at_step(number):
    """The signal of a cluster that wants its machine back arrives in the training step of that number."""
    steps, own = [], epochs.train_step

    def step(*args, **options):
        steps.append(1)
        if len(steps) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return own(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epochs, "train_step", step)
        with pytest.raises(Interrupted, match="--resume goes on from there"):
            yield


@pytest.fixture(scope="module")
def constants(tmp_path_factory):
    return {kind: train(tmp_path_factory.mktemp(kind), "--constant", kind) for kind in ("mean", "median")}


# -- constants -----------------------------------------------------------------------------------------------------------


def test_a_constant_is_a_run_without_training_and_a_row_by_name(constants):
    data = from_folder("uci-dir", "datasets").read_splits("concrete", UCI / "sample")
    for kind, run in constants.items():
        assert run.name == f"uci_concrete_mlp_constant_{kind}"
        expected = constant_baseline(data["train"].labels, kind)
        assert {float(row["prediction"]) for row in rows(run)} == {float(str(np.float32(expected)))}
        assert metrics_of(run)["overall"]["l1"] == pytest.approx(np.abs(data["test"].labels - expected).mean())
        assert not list(run.glob("*.tar"))
    assert metrics_of(constants["median"])["scores"]["bmase"] == pytest.approx(1)
    methods = compare.group(compare.find_runs([run.parent for run in constants.values()]))
    assert [method.name for method in methods] == ["constant mean", "constant median"]


def test_a_constant_of_depth_maps_is_that_of_their_pixels(tmp_path):
    folder = "nyud2-dir"
    data = small_runs.make_sample(folder, tmp_path / "data")
    words = small_runs.words(folder, data, 1, "--constant", "mean", "--store_root", str(tmp_path / "runs"))
    said = execute(["train.py", *words], ROOT / folder)
    counts = np.loadtxt(data / "train_bucket_num.txt")
    centers = from_folder(folder, "utils").BINS.centers
    assert f"nothing is trained: {counts @ centers / counts.sum():g} is predicted" in said
    (run,) = (tmp_path / "runs").iterdir()
    assert metrics_of(run)["overall"]["rmse"] > 0


# -- targets -------------------------------------------------------------------------------------------------------------


def test_a_log_target_is_learnt_and_measured_in_the_labels_unit(tmp_path, constants):
    run = train(tmp_path, "--target", "log", "--epochs", "12", "--loss", "mse")
    assert "_target_log_" in run.name
    assert metrics_of(run)["overall"]["l1"] < 0.95 * metrics_of(constants["median"])["overall"]["l1"]
    values = np.array([float(row["prediction"]) for row in rows(run)])
    assert values.min() > 0
    # a checkpoint brings its own numbers, and one without them does not fit
    own = tmp_path / "own.csv"
    evaluate = ["train.py", *SMALL, "--evaluate", "--resume", run / "ckpt.best.pth.tar"]
    execute([*evaluate, "--target", "log", "--predictions", own], UCI)
    assert own.read_text() == (run / "predictions.csv").read_text()
    said = execute(evaluate, UCI, code=2)
    assert "unknown target._extra_state" in said


def test_a_box_cox_target_works_on_maps_of_depth(tmp_path):
    folder = "nyud2-dir"
    data = small_runs.make_sample(folder, tmp_path / "data")
    words = small_runs.words(folder, data, 1, "--target", "boxcox", "--store_root", str(tmp_path / "runs"))
    said = execute(["train.py", *words], ROOT / folder)
    assert "--target boxcox: the model learns in TargetUnit(BoxCox(" in said
    (run,) = (tmp_path / "runs").iterdir()
    assert 0 < metrics_of(run)["overall"]["rmse"] < 20
    found = execute(["test.py", "--eval_model", run / "ckpt.best.pth.tar", "--data_dir", data, "--workers", "0"], ROOT / folder)
    assert f"{metrics_of(run)['overall']['rmse']:.4f}" in found


def test_labels_that_cannot_be_transformed_are_refused_in_a_sentence():
    args = parse("--target", "log")
    with pytest.raises(ValueError, match=r"--target log: labels: expected at least two .* found only 3; leave it out"):
        stages.set_parts(args, toy.make_model(), choices.Labels(toy.BINS, toy.BINS.counts([3, 3]), np.array([3.0, 3.0])))


# -- the sampler ---------------------------------------------------------------------------------------------------------


def test_draws_follow_the_probabilities_and_are_the_same_on_any_number_of_ranks():
    weights = np.array([1.0, 0.0, 3.0, 6.0])
    drawn = np.concatenate([_pass(weights, seed=0, epoch=epoch) for epoch in range(2000)]) % 4
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), weights / 10, atol=0.02)
    weights = np.random.default_rng(0).random(30)
    assert np.array_equal(_pass(weights, seed=1, epoch=3), _pass(weights, seed=1, epoch=3))
    assert not np.array_equal(_pass(weights, seed=1, epoch=3), _pass(weights, seed=2, epoch=3))
    assert not np.array_equal(_pass(weights, seed=1, epoch=3), _pass(weights, seed=1, epoch=4))
    whole = list(_batches(weights))
    parts = [list(_batches(weights, rank=rank, world=4)) for rank in range(4)]
    for step, batch in enumerate(whole):
        assert sorted(batch) == sorted(index for part in parts for index in part[step])


def _batches(weights, *, seed=0, epoch=0, rank=0, world=1):
    batches = Batches(len(weights), 8, seed=seed, rank=rank, world=world, probabilities=weights)
    batches.epoch = epoch
    return batches


def _pass(weights, *, seed, epoch):
    return np.concatenate([np.array(batch) for batch in _batches(weights, seed=seed, epoch=epoch)])


def test_a_sample_drawn_again_is_another_view_of_it():
    weights = np.array([1.0, 1.0, 30.0])
    drawn = _pass(weights, seed=0, epoch=0)
    assert len(set(drawn.tolist())) == len(drawn)
    assert sorted((drawn // 3)[drawn % 3 == 2]) == list(range((drawn % 3 == 2).sum()))
    # and with two views of each sample no view meets another's number
    batches = Batches(3, 3, seed=0, views=2, probabilities=weights)
    (batch,) = batches
    assert len(set(batch)) == 6
    # a data set without draws gives the same sample again
    data = toy.Toy(20, 0)
    splits = Splits(data, data, data, probabilities=np.arange(20.0))
    feed = Feed(splits, toy.make_plan(), Runtime())
    feed.begin(0)
    labels = torch.cat([targets for _, targets, _ in feed.train]).numpy()
    expected = [data.targets[index % 20] for batch in feed.batches for index in batch]
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("weights", [[1.0, np.nan], [0.0, 0.0], [1.0], [-1.0, 1.0]])
def test_probabilities_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="probabilities: expected 2 finite numbers"):
        Batches(2, 1, seed=0, probabilities=np.array(weights))


def test_a_balanced_run_draws_by_the_inverse_smoothed_density_and_goes_on_as_an_unbroken_one(tmp_path):
    words = ("--sampler", "balanced", "--lds_ks", "7")
    whole = on_toys(tmp_path / "whole", *words)
    with stopped_at_step(9):
        on_toys(tmp_path / "broken", *words)
    assert same(whole, on_toys(tmp_path / "broken", *words, "--resume"))
    assert not torch.equal(whole[0]["head.weight"], on_toys(tmp_path / "plain")[0]["head.weight"])
    bins = Bins.width(0, 10, 1)
    values = np.repeat(np.arange(10.0), np.arange(1, 11))
    args = parse("--sampler", "balanced", "--lds_ks", "3", "--lds_sigma", "1")
    splits = stages.with_sampler(args, Splits(values, values, values), choices.Labels(bins, bins.counts(values), values))
    expected = lds_weights(values, bins, reweight="inverse", lds=True, ks=3, sigma=1)
    assert np.array_equal(splits.probabilities, expected)
    dense = choices.Labels(bins, bins.counts(values), dense=True)
    with pytest.raises(ValueError, match="--sampler balanced: draws samples by their label, .* every pixel; pass --reweight"):
        stages.with_sampler(args, Splits(values, values, values), dense)


# -- two stages ----------------------------------------------------------------------------------------------------------

THEN = ("--pretrain", "rnc", "--then", "linear", "--then_epochs", "3", "--then_lr", "0.02")


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "run"
    return folder, on_toys(folder, *THEN)


def test_one_command_is_the_two_stages_one_after_the_other(two_stages, tmp_path):
    folder, found = two_stages
    on_toys(tmp_path / "first", "--pretrain", "rnc")
    second = ("--pretrained", tmp_path / "first" / "ckpt.pth.tar", "--retrain_fc", "--epochs", "3", "--lr", "0.02")
    assert same(found, on_toys(tmp_path / "second", *second))
    assert {path.name for path in folder.glob("pretrain/*.tar")} >= {"ckpt.pth.tar"}
    assert json.loads((folder / "args.json").read_text())["then"] == "linear"


# an epoch has 6 steps, so the first stage 12
@pytest.mark.parametrize("step", [1, 8, 12, 13, 20])
def test_a_run_stopped_in_either_stage_goes_on_there(two_stages, tmp_path, step, caplog):
    caplog.set_level("INFO")
    with stopped_at_step(step):
        on_toys(tmp_path, *THEN, "--overwrite")
    caplog.clear()
    assert same(two_stages[1], on_toys(tmp_path, *THEN, "--resume"))
    assert ("stage 1 of 2, the pre-training, is done" in caplog.text) == (step > 12)
    assert caplog.text.count("resumed from") == 1


def test_a_finished_run_of_two_stages_trains_no_further_and_is_evaluated(two_stages):
    folder, found = two_stages
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epochs, "train_step", None)
        assert same(found, on_toys(folder, *THEN, "--resume"))
        assert same(found, on_toys(folder, *THEN, "--resume", "--evaluate"))


def test_the_log_of_both_stages_is_the_runs_and_a_table_has_one_row_of_it(tmp_path):
    run = train(tmp_path, *THEN, "--workers", "0")
    assert run.name == "uci_concrete_mlp_pretrain_adam_rnc_2_0.005_64_then_linear_l1_3_0.02"
    log = (run / "training.log").read_text()
    assert log.count("stage 1 of 2") == log.count("stage 2 of 2") == log.count("epoch 3/3") == log.count("epoch 1/2") == 1
    assert "epoch 3/3" not in (run / "pretrain" / "training.log").read_text()
    assert [found.folder for found in compare.find_runs([tmp_path])] == [run]
    assert "left out" not in execute(["-m", "imbalanced_regression", "compare", tmp_path, "--out", tmp_path / "x.png"], ROOT)


def test_a_pretraining_falls_along_a_cosine_and_has_no_patience():
    plan = flags.plan(parse("--pretrain", "rnc", "--epochs", "4", "--lr", "1"))
    assert [plan.rate(epoch) for epoch in range(5)] == pytest.approx([1, 0.853700, 0.5005, 0.147300, 0.001], abs=1e-5)
    assert plan.rate(4, base=10) == pytest.approx(0.01)
    assert plan.patience is None
    assert flags.plan(parse("--cosine")).cosine == 1e-3
    assert flags.plan(parse()).cosine is None


# -- presets -------------------------------------------------------------------------------------------------------------

FOLDERS = sorted(path.parent.name for path in ROOT.glob("*-dir/train.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_preset_is_of_flags_that_the_benchmark_has_and_makes_a_plan(folder, monkeypatch):
    module = from_folder(folder, "train")
    for method, preset in presets.PRESETS.get(folder, {}).items():
        assert method in choices.methods()
        monkeypatch.setattr("sys.argv", ["train.py", "--preset", method])
        args, plan = module.parse_args()
        for name, value in preset.flags.items():
            assert getattr(args, name) == value, name
            if name in ("lr", "batch_size", "cosine"):
                assert getattr(plan, name) == value
        monkeypatch.setattr("sys.argv", ["train.py", "--preset", method, "--lr", "0.125"])
        assert module.parse_args()[1].lr == 0.125
        assert preset.source
    monkeypatch.setattr("sys.argv", ["train.py", "--preset", "huber"])
    others = ", ".join(presets.PRESETS.get(folder, {})) or "it has none of any method"
    with pytest.raises(ValueError, match=rf"--preset: .* on {folder}, found 'huber'; .*{others}"):
        module.parse_args()
    assert set(presets.PRESETS) <= set(FOLDERS)


def test_the_run_says_whose_schedule_it_has(tmp_path, caplog):
    caplog.set_level("INFO")
    on_toys(tmp_path / "own")
    assert "schedule: the benchmark's own, as far as no flag says otherwise" in caplog.text
    caplog.clear()
    on_toys(tmp_path / "preset", "--preset", "ranksim", "--lr", "0.01")
    assert "schedule: --preset ranksim, as far as no flag says otherwise: batch_size 64, lr 0.00025, " in caplog.text
    assert "(RankSim, ICML 2022); ranksim itself is not switched on by any flag" in caplog.text
    caplog.clear()
    on_toys(tmp_path / "both", "--preset", "ranksim", "--terms", "ranksim")
    assert "switched on" not in caplog.text


@pytest.mark.parametrize("words", [("--terms", "conr"), ("--pretrain", "rnc")])
def test_one_view_where_a_method_is_made_for_two_trains_with_a_warning(tmp_path, caplog, words):
    on_toys(tmp_path / "two", *words, "--epochs", "1")
    assert "made for 2 views" not in caplog.text
    on_toys(tmp_path / "one", *words, "--epochs", "1", "--views", "1")
    assert "--views: the objective is made for 2 views of each sample, found 1; --views 2 gives them" in caplog.text


# -- what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--sampler balanced --reweight inverse", "--sampler balanced: balances by drawing, so that --reweight inverse would"),
        ("--sampler balanced --loss bmc", "--sampler balanced: changes the distribution of the labels, which --loss bmc takes"),
        ("--sampler balanced --loss dist", "--sampler balanced: changes the distribution of the labels, which --loss dist"),
        ("--sampler balanced --head uvote", "--sampler balanced: balances all heads alike, and --head uvote needs one without"),
        ("--sampler balanced --lds", "--lds: --sampler balanced draws by the smoothed density anyway"),
        ("--target log --head nig", "--target log: --head nig predicts a distribution of the label; leave one out"),
        ("--target log --loss gai", "--target log: --loss gai is fitted to the labels themselves"),
        ("--constant mean --fds", "--constant mean: trains nothing, and fds has nothing to act on"),
        ("--constant mean --terms ranksim", "--constant mean: trains nothing, and ranksim has nothing"),
        ("--constant median --evaluate --resume x", "--constant median: trains nothing, and --evaluate has nothing"),
        ("--head gaussian --loss mse", "--loss mse: --head gaussian is trained by a loss of its own; leave --loss out"),
        ("--pretrain rnc --loss l1", "--loss l1: --pretrain rnc is trained by a loss of its own; leave .* or add --then"),
        ("--pretrain rnc --target log", "--pretrain rnc: trains the encoder alone; leave out --target"),
        ("--then linear", "--then linear: follows a pre-training; add --pretrain rnc"),
        ("--then_lr 1", "--then_lr: is of the second stage, found --then none"),
        ("--pretrain rnc --then linear --resume x", "--resume: with --then it goes on .* leave out the path"),
        ("--pretrain rnc --then linear --then_epochs 0", "--then_epochs: expected at least 1, found 0"),
        ("--cosine 2", "--cosine: expected a share of the rate, from 0 to 1, found 2"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(words, said):
    with pytest.raises(ValueError, match=said) as error:
        flags.plan(parse(*words.split()))
    assert "\n" not in str(error.value)
