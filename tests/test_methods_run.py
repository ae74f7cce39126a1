"""Methods end to end by their flags: a term and a loss over the whole batch on every sample, and the other slots on a table."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import small_runs
import torch
from commands import ROOT, execute

from imbalanced_regression.tools import compare
from imbalanced_regression.uncertainty import gaussian_nll, laplace_nll

STS, UCI = ROOT / "sts-b-dir", ROOT / "uci-dir"


def finished(store):
    """The only run in a folder: its path and metrics."""
    (run,) = (path for path in store.iterdir() if path.is_dir())
    return run, json.loads((run / "metrics.json").read_text())


@pytest.mark.parametrize("folder", sorted(small_runs.BENCHMARKS))
def test_ranksim_and_a_learning_bmc_train_on_every_sample_and_a_second_stage_on_resampled_features(tmp_path, folder):
    """The noise learns at its own rate, and a resumed run goes on with it; then SMOGN makes rows of the encoder's features."""
    data = small_runs.make_sample(folder, tmp_path / "data")
    method = ("--terms", "ranksim", "--loss", "bmc", "--bmc_learn", "--store_root", str(tmp_path / "runs"))
    execute(["train.py", *small_runs.words(folder, data, 1, *method)], ROOT / folder)
    run, metrics = finished(tmp_path / "runs")
    assert "_ranksim_" in run.name
    assert "_bmc_" in run.name
    assert metrics["test"]["overall"]["l1"] > 0
    start = torch.load(run / "ckpt.pth.tar", weights_only=True)["objective"]
    assert start["term0._extra_state"]["calls"] > 0
    execute(["train.py", *small_runs.words(folder, data, 2, *method, "--resume")], ROOT / folder)
    then = torch.load(run / "ckpt.pth.tar", weights_only=True)["objective"]
    assert then["criterion.log_sigma"] != start["criterion.log_sigma"]
    assert then["term0._extra_state"]["calls"] == 2 * start["term0._extra_state"]["calls"]

    first = run / "ckpt.pth.tar"
    second = ("--retrain_fc", "--pretrained", str(first), "--resample", "smogn", "--reweight", "sqrt_inv", "--batch_size", "64")
    said = execute(["train.py", *small_runs.words(folder, data, 1, *second, "--store_root", str(tmp_path / "second"))],
                   ROOT / folder)
    assert "rows of features" in said
    run, _ = finished(tmp_path / "second")
    assert "_smogn_retrain_fc_" in run.name
    states = [torch.load(path, weights_only=True)["state_dict"] for path in (first, run / "ckpt.pth.tar")]
    heads = ("module.linear", "sts-b_pred_layer", "module.R.conv2", "head")
    changed = {name for name, value in states[0].items() if not torch.equal(value, states[1][name])}
    assert changed
    assert all(name.startswith(heads) for name in changed), changed


SMALL = ("--data_dir", "sample", "--epochs", "2", "--batch_size", "64", "--device", "cpu", "--schedule")


def uci(tmp_path, name: str, *words):
    execute(["train.py", *SMALL, *words, "--store_root", tmp_path / name], UCI)
    return finished(tmp_path / name)


@pytest.mark.parametrize("head", ["gaussian", "laplace", "uvote", "nig"])
def test_heads_write_the_spread_of_their_predictions(tmp_path, head):
    run, metrics = uci(tmp_path, head, "--head", head)
    rows = list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))
    assert all(float(row["spread"]) > 0 for row in rows)
    # and how well they tell the errors, by shot, in the file, in the log and in a table
    log = (run / "training.log").read_text()
    assert re.search(r"test +MSE .*NLL +in 90 % +AUSE", log)
    labels, preds, spreads, shots = ([row[name] for row in rows] for name in ("label", "prediction", "spread", "shot"))
    by_sample = laplace_nll if head in ("laplace", "uvote") else gaussian_nll
    nll = by_sample(*(np.array(values, float) for values in (labels, preds, spreads)))
    for group in ("overall", "many", "medium", "few"):
        mine = np.array([group in ("overall", shot) for shot in shots])
        found = metrics["test"][group]
        assert found["count"] == mine.sum()
        assert {"nll", "coverage", "ause", "uce"} <= metrics["val"][group].keys()
        if mine.any():
            assert found["nll"] == pytest.approx(nll[mine].mean(), rel=1e-4)
            assert 0 <= found["coverage"] <= 1
    if head == "nig":
        methods = compare.group(compare.find_runs([run]))
        assert "NLL few" in compare.text_table(methods, ["nll", "ause", "coverage"])
    assert f"_{head}" in run.name


def test_pretraining_by_rank_n_contrast_goes_to_a_linear_stage(tmp_path):
    run, _ = uci(tmp_path, "first", "--pretrain", "rnc")
    assert "_pretrain_" in run.name
    last = run / "ckpt.pth.tar"
    second, _ = uci(tmp_path, "second", "--pretrained", last, "--retrain_fc")
    states = [torch.load(path, weights_only=True)["state_dict"] for path in (last, second / "ckpt.pth.tar")]
    encoders = [{name: value for name, value in state.items() if name.startswith("encoder.")} for state in states]
    assert encoders[0]
    assert all(torch.equal(encoders[0][name], encoders[1][name]) for name in encoders[0])


@pytest.mark.parametrize(
    "words", [["--ascent", "0.05"], ["--reweight", "dense"], ["--terms", "conr", "srl", "ordinal_entropy", "--loss", "dist"]],
    ids=lambda words: words[0],
)
def test_the_other_slots_train(tmp_path, words):
    _, metrics = uci(tmp_path, "run", *words)
    assert metrics["test"]["overall"]["l1"] > 0


def test_a_head_for_vectors_is_refused_on_depth_maps(tmp_path):
    folder = "nyud2-dir"
    data = small_runs.make_sample(folder, tmp_path / "data")
    words = small_runs.words(folder, data, 1, "--head", "laplace", "--store_root", str(tmp_path / "runs"))
    said = execute(["train.py", *words], ROOT / folder, code=2)
    assert "train.py: error: --head laplace: predicts one label from one vector, not a map of pixels" in said
