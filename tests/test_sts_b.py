"""sts-b-dir/train.py as its users run it: trained, resumed, measured, re-trained, and stopped by bad input."""

from __future__ import annotations

import csv
import json
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ROOT, completed, from_folder

FOLDER = ROOT / "sts-b-dir"
SMALL = ["--glove", "0", "--d_word", "12", "--d_hid", "6", "--val_interval", "5", "--max_vals", "2", "--lr", "3e-3",
         "--batch_size", "32", "--device", "cpu"]


def python(*words, code: int = 0, ranks: int = 1, **env: str) -> subprocess.CompletedProcess:
    return completed(words, FOLDER, code, ranks, **env)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sts") / "STS-B"
    python("make_sample.py", "--train", "400", "--test", "100", "--out", folder)
    return folder


@pytest.fixture(scope="module")
def train(sample, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")

    def run(*words, data=sample, store=root, code=0, **options):
        done = python("train.py", "--data_dir", data, "--store_root", store, *SMALL, *words, code=code, **options)
        folders = sorted(Path(store).iterdir(), key=lambda p: p.stat().st_mtime) if Path(store).is_dir() else []
        return done, folders[-1] if folders else None

    return run


@pytest.fixture(scope="module")
def both(train, tmp_path_factory) -> Path:
    """The folder of a run with LDS and FDS."""
    return train("--reweight", "inverse", "--lds", "--fds", store=tmp_path_factory.mktemp("both"))[1]


# -- what a run does and leaves ----------------------------------------------------------------------------------------


def test_a_run_has_the_published_name(both):
    assert both.name == "sts-b_bilstm_lds_gau_5_2_fds_gau_5_2_0_1_0.9_adam_mse_0.003_32"


def test_a_run_leaves_its_files(both):
    names = {path.name for path in both.iterdir()}
    assert {"ckpt.pth.tar", "ckpt.best.pth.tar", "training.log", "args.json", "metrics.json", "predictions.csv",
            "report.png"} <= names
    assert "many" in (both / "training.log").read_text()
    assert (both / "report.png").read_bytes().startswith(b"\x89PNG")


def test_scores_in_predictions_read_as_in_the_data(both, sample):
    written = [line.split(",")[0] for line in (both / "predictions.csv").read_text().splitlines()[1:]]
    assert all(len(score) <= 5 for score in written)
    assert [float(score) for score in written] == [
        float(line.split("\t")[-1]) for line in (sample / "test_new.tsv").read_text().splitlines()[1:]
    ]


def test_the_metrics_are_those_of_the_predictions(both):
    """MSE and correlations by shot, computed anew from predictions.csv."""
    rows = list(csv.DictReader((both / "predictions.csv").read_text().splitlines()))
    metrics = json.loads((both / "metrics.json").read_text())["test"]
    assert len(rows) == 100
    for group in ("overall", "many", "medium", "few"):
        chosen = [row for row in rows if group in ("overall", row["shot"])]
        error = np.array([float(row["prediction"]) - float(row["label"]) for row in chosen])
        assert metrics[group]["count"] == len(chosen)
        assert metrics[group]["mse"] == pytest.approx(np.mean(error**2), rel=1e-5)
        assert metrics[group]["l1"] == pytest.approx(np.mean(np.abs(error)), rel=1e-5)
        if group in ("overall", "many"):  # in the small groups of this sample all may be equal
            pearson = np.corrcoef([[float(row[name]) for row in chosen] for name in ("prediction", "label")])[0, 1]
            assert metrics[group]["pearson"] == pytest.approx(pearson, rel=1e-4)


def test_the_checkpoint_has_the_published_names(both):
    state = torch.load(both / "ckpt.best.pth.tar", weights_only=True)["state_dict"]
    assert state["pair_encoder._phrase_layer._module.weight_ih_l1_reverse"].shape == (24, 12)
    assert state["pair_encoder._text_field_embedder.token_embedder_words.weight"].shape[1] == 12
    assert state["sts-b_pred_layer.weight"].shape == (1, 48)
    assert state["FDS.running_mean"].shape == (50, 48)
    assert all(name.startswith(("pair_encoder.", "sts-b_pred_layer.", "FDS.")) for name in state)


def test_a_checkpoint_under_published_keys_is_measured(both, train, tmp_path):
    """With and without `module.` it gives the run's own test numbers."""
    expected = json.loads((both / "metrics.json").read_text())["test"]["overall"]
    content = torch.load(both / "ckpt.best.pth.tar", weights_only=True)
    state = {f"module.{name}": value for name, value in content["state_dict"].items()}
    torch.save({"state_dict": state, "words": content["words"]}, tmp_path / "published.pt")
    for words in (["--evaluate", "--resume", tmp_path / "published.pt"], ["--eval_model", both / "ckpt.best.pth.tar"]):
        done, _ = train(*words, store=tmp_path / "none")
        assert f"{expected['mse']:.4f}" in done.stdout
        assert f"{expected['pearson']:.4f}" in done.stdout
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def redrawn(sample, tmp_path_factory) -> Path:
    """The sample's pairs drawn anew into the same files: the same words in another order, and 100 pairs left out of train."""
    folder = tmp_path_factory.mktemp("redrawn")
    heads, rows = {}, []
    for name in ("train_new.tsv", "dev_new.tsv", "test_new.tsv"):
        head, *lines = (sample / name).read_text().rstrip("\n").split("\n")
        heads[name] = head, len(lines)
        rows += lines
    random.Random(1).shuffle(rows)
    kept = (sample / "test_new.tsv").read_text()  # the test set stays, so that its sentences can be compared
    for name, (head, count) in heads.items():
        (folder / name).write_text(kept if name.startswith("test") else "\n".join([head, *rows[:count]]) + "\n")
        del rows[:count]
    return folder


def test_a_checkpoint_on_another_draw_of_the_data_keeps_its_words(both, train, redrawn, tmp_path):
    """The test sentences get the scores that the checkpoint gives them, whatever order the data's words stand in."""
    done, _ = train("--evaluate", "--resume", both / "ckpt.best.pth.tar", data=redrawn, store=tmp_path / "none")
    assert "vectors are brought over by word" in done.stdout + done.stderr
    expected = json.loads((both / "metrics.json").read_text())["test"]["overall"]
    assert f"{expected['mse']:.4f}" in done.stdout
    assert f"{expected['pearson']:.4f}" in done.stdout
    _, folder = train("--retrain_fc", "--pretrained", both / "ckpt.best.pth.tar", "--reweight", "inverse", data=redrawn,
                      store=tmp_path / "rrt")
    rows = "pair_encoder._text_field_embedder.token_embedder_words.weight"
    old, new = (torch.load(f / "ckpt.best.pth.tar", weights_only=True) for f in (both, folder))
    place = {word: i for i, word in enumerate(old["words"])}
    assert old["words"] != new["words"]
    for i, word in enumerate(new["words"]):
        if word in place:
            assert torch.equal(new["state_dict"][rows][i], old["state_dict"][rows][place[word]])
    train("--reweight", "inverse", "--lds", "--fds", "--max_vals", "3", "--resume", both / "ckpt.pth.tar", data=redrawn,
          store=tmp_path / "on")


def test_a_file_without_words_is_refused_except_on_the_published_split(both, train, tmp_path):
    content = torch.load(both / "ckpt.best.pth.tar", weights_only=True)
    torch.save(content["state_dict"], tmp_path / "bare.pt")
    for words in (["--evaluate", "--resume"], ["--retrain_fc", "--reweight", "inverse", "--pretrained"]):
        done, _ = train(*words, tmp_path / "bare.pt", store=tmp_path / "runs", code=2)
        assert f"{words[-1]}: {tmp_path / 'bare.pt'} holds no words, so it fits the published split alone" in done.stderr
        assert done.stderr.count("\n") == 1


def test_rows_and_the_optimizers_averages_move_by_word():
    models = from_folder("sts-b-dir", "models")

    def encoder(words, seed, **options):
        torch.manual_seed(seed)
        return models.PairEncoder(torch.randn(len(words), 3), train_words=True, d_hid=2, words=words, **options)

    old, new = encoder(["<padding>", "<unknown>", "a", "b", "c"], 0), encoder(["<padding>", "<unknown>", "c", "new", "a"], 1)
    averages = torch.arange(15.0).reshape(5, 3)
    content = {**old.kept_with(), "optimizer": {"state": {0: {"step": torch.tensor(7.0), "exp_avg": averages.clone()}}}}
    state = {models.ROWS: old.embedding.weight.detach()}
    own = new.embedding.weight.detach().clone()
    found = new.fit(content, state, "x")[models.ROWS]
    assert torch.equal(found[[0, 1, 2, 4]], old.embedding.weight.detach()[[0, 1, 4, 2]])
    assert torch.equal(found[3], own[3])
    moved = content["optimizer"]["state"][0]
    assert torch.equal(moved["exp_avg"], torch.stack([averages[0], averages[1], averages[4], torch.zeros(3), averages[2]]))
    assert moved["step"] == 7
    bare = {"state_dict": state}
    with pytest.raises(ValueError, match="x holds no words"):
        new.fit(bare, state, "x")
    assert encoder(old.words, 2, published_order=True).fit(bare, state, "x") is state
    with pytest.raises(ValueError, match="x is damaged: it holds 2 words and 5 word vectors"):
        new.fit({"words": ["a", "b"]}, state, "x")


def test_only_the_published_files_are_the_published_split(shared, tmp_path):
    tasks = from_folder("sts-b-dir", "tasks")
    assert tasks.is_published(shared / "data" / "sts-b")
    for name in tasks.FILES.values():
        (tmp_path / name).write_bytes((shared / "data" / "sts-b" / name).read_bytes())
    (tmp_path / "dev_new.tsv").write_bytes((tmp_path / "dev_new.tsv").read_bytes() + b"\n")
    assert not tasks.is_published(tmp_path)


def test_evaluate_alone_measures_the_runs_best(both, train):
    done, _ = train("--reweight", "inverse", "--lds", "--fds", "--evaluate", "--resume", store=both.parent)
    expected = json.loads((both / "metrics.json").read_text())["test"]["overall"]
    assert f"{expected['mse']:.4f}" in done.stdout


def test_a_checkpoint_measured_on_sentences_read_otherwise_says_so(both, train, tmp_path):
    words = ["--evaluate", "--resume", both / "ckpt.best.pth.tar"]
    done, _ = train(*words, "--lowercase", "1", "--max_seq_len", "3", store=tmp_path / "none")
    assert "was trained with --lowercase 0 and is now used with 1" in done.stdout + done.stderr
    assert "was trained with --max_seq_len 40 and is now used with 3" in done.stdout + done.stderr
    done, _ = train(*words, store=tmp_path / "none")
    assert "was trained with" not in done.stdout + done.stderr


@pytest.mark.parametrize("method", [[], ["--reweight", "inverse", "--lds", "--fds"]], ids=["vanilla", "lds_fds"])
def test_resume_equals_uninterrupted(train, tmp_path, method):
    _, whole = train(*method, "--max_vals", "3", store=tmp_path / "a")
    train(*method, "--max_vals", "1", store=tmp_path / "b")
    _, parts = train(*method, "--max_vals", "3", "--resume", store=tmp_path / "b")
    assert (whole / "metrics.json").read_text() == (parts / "metrics.json").read_text()
    assert (whole / "predictions.csv").read_text() == (parts / "predictions.csv").read_text()


def test_two_processes_equal_one(train, tmp_path):
    method = ["--reweight", "inverse", "--lds", "--fds", "--dropout", "0", "--dropout_embs", "0"]
    _, one = train(*method, store=tmp_path / "one")
    _, two = train(*method, store=tmp_path / "two", ranks=2)
    a, b = (json.loads((folder / "metrics.json").read_text())["test"]["overall"] for folder in (one, two))
    for name in ("mse", "l1", "pearson"):
        assert a[name] == pytest.approx(b[name], rel=1e-3)


def test_rrt_trains_the_head_alone(both, train, tmp_path):
    best = both / "ckpt.best.pth.tar"
    _, folder = train("--retrain_fc", "--pretrained", best, "--reweight", "inverse", store=tmp_path)
    assert folder.name == "sts-b_bilstm_inverse_retrain_fc_adam_mse_0.003_32"
    before, after = (torch.load(path, weights_only=True)["state_dict"] for path in (best, folder / "ckpt.best.pth.tar"))
    for name, value in after.items():
        assert torch.equal(value, before[name]) != name.startswith("sts-b_pred_layer.")


@pytest.mark.parametrize(
    "words",
    [
        ["--loss", "focal_l1", "--n_layers_highway", "1", "--n_layers_enc", "1"],
        ["--loss", "huber", "--huber_beta", "0.1", "--random_seed", "5", "--suffix", "x"],
        ["--loss", "focal_mse", "--fds", "--fds_kind", "own", "--fds_stats", "streaming", "--amp", "bf16"],
        ["--loss", "l1", "--reweight", "sqrt_inv", "--lds", "--lds_kernel", "laplace", "--bucket_num", "25", "--fds"],
    ],
    ids=lambda words: words[1],
)
def test_other_settings_train(train, tmp_path, words):
    _, folder = train(*words, "--max_vals", "1", store=tmp_path)
    assert np.isfinite(json.loads((folder / "metrics.json").read_text())["test"]["overall"]["mse"])


def test_glove_vectors_are_used_and_frozen(train, sample, tmp_path):
    words = "".join(f"{word} {' '.join(['0.25'] * 12)}\n" for word in ("man", "woman", "a", "is"))
    (tmp_path / "glove.txt").write_text(words)
    done, folder = train("--glove", "1", "--word_embs_file", tmp_path / "glove.txt", "--max_vals", "1", store=tmp_path / "runs")
    state = torch.load(folder / "ckpt.pth.tar", weights_only=True)["state_dict"]
    vectors = state["pair_encoder._text_field_embedder.token_embedder_words.weight"]
    assert (vectors == 0.25).all(dim=1).sum() >= 2
    assert (vectors[0] == 0).all()


def test_the_help_shows_examples():
    done = python("train.py", "--help", COLUMNS="80")
    assert "--reweight inverse --lds --fds" in done.stdout
    assert "whose features give statistics (default: 0)" in " ".join(done.stdout.split())


# -- what bad input gets: one line, exit code 2, nothing half-written --------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lds"], "--lds: smooths the weights of --reweight, found 'none'; add --reweight sqrt_inv or inverse"),
        (["--lds", "--reweight", "inverse", "--lds_ks", "4"], "--lds_ks: expected an odd positive whole number, for example 5"),
        (["--fds", "--fds_sigma", "0"], "--fds_sigma: expected a number above 0, for example 2, found 0.0"),
        (["--retrain_fc", "--reweight", "inverse"], "--retrain_fc: re-trains the head of a trained model; pass it by"),
        (["--retrain_fc", "--pretrained", "x"], "--pretrained: there is no checkpoint x"),
        (["--evaluate"], "--evaluate: measures a checkpoint; pass it by --resume CKPT"),
        (["--evaluate", "--resume"], "--resume: there is no checkpoint"),
        (["--resume", "absent.pt"], "--resume: there is no checkpoint absent.pt"),
        (["--pretrained", "absent.pt"], "--pretrained: there is no checkpoint absent.pt"),
        (["--unknown", "1"], "unrecognized arguments: --unknown 1"),
        (["--reweigh", "inverse"], "unrecognized arguments: --reweigh inverse"),
        (["--loss", "mae"], "argument --loss: invalid choice: 'mae'"),
        (["--batch_size", "0"], "--batch_size: expected at least 1, found 0"),
        (["--dropout", "1.5"], "--dropout: expected at least 0 and below 1, found 1.5"),
        (["--loss", "huber", "--huber_beta", "-1"], "--huber_beta: expected a number above 0, found -1.0"),
        (["--val_interval", "0"], "--val_interval: expected at least 1, found 0"),
        (["--max_vals", "0"], "--max_vals: expected at least 1, found 0"),
        (["--reweight", "inverse", "--lds", "--lds_sigma", "1e300"], "--lds_sigma: expected 0.001 to 10000 bins"),
        (["--lr", "-1"], "--lr: expected a number above 0, found -1.0"),
        (["--bucket_start", "50"], "--bucket_start: expected 0 to --bucket_num - 1 = 49, found 50"),
        (["--fds", "--bucket_num", "3", "--fds_ks", "7"], "--fds_ks: a window of 7 bins does not fit 3 bins"),
        (["--glove", "1"], "glove"),
        (["--device", "cuda:7"], "--device: cuda:7 was asked for, but"),
        (["--device", "tpu9"], "--device: expected cpu, cuda"),
        (["--device", "meta"], "--device: expected cpu, cuda"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_flags_get_one_line_and_leave_nothing(train, tmp_path, words, message):
    done, _ = train(*words, store=tmp_path / "runs", code=2)
    assert message in done.stderr
    assert done.stderr.startswith("train.py: error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_fewer_gpus_than_asked_is_an_error(train, tmp_path):
    if torch.cuda.device_count() > 3:
        pytest.skip("there are that many GPUs here")
    done = python("train.py", "--data_dir", tmp_path, "--cuda", "3", code=2)
    assert "--device: cuda:3 was asked for, but" in done.stderr


HEADER = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
ROW = "0\tg\tf\ty\t0\tn\tn\tA man walks.\tA man runs.\t2.5\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column 'sentence1' in the header"),
        (HEADER, "holds no sentence pairs"),
        (HEADER.replace("score", "rating") + ROW, "line 1: no column 'score' in the header"),
        (HEADER + ROW + "0\tg\tA man.\t2\n", "line 3: expected 10 tab-separated fields, found 4"),
        (HEADER + ROW.replace("2.5", "high"), "line 2: the score 'high' is no number"),
        (HEADER + ROW.replace("2.5", "nan"), "line 2: the score nan lies outside 0..5"),
        (HEADER + ROW + ROW.replace("2.5", "5.01"), "line 3: the score 5.01 lies outside 0..5"),
        (HEADER + ROW.replace("A man walks.", " "), "line 2: a sentence is empty"),
        ((HEADER + ROW).encode() + b"0\tg\tf\ty\t0\tn\tn\tA \0\tB\t1\n", "is no text (it holds bytes of 0); save it as text"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(train, sample, tmp_path, text, message):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train_new.tsv", "dev_new.tsv", "test_new.tsv"):
        (data / name).write_bytes((sample / name).read_bytes())
    (data / "train_new.tsv").write_bytes(text if isinstance(text, bytes) else text.encode())
    done, _ = train(data=data, store=tmp_path / "runs", code=2)
    assert f"train_new.tsv: {message}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_missing_file_is_named_with_the_script_that_gets_it(train, sample, tmp_path):
    done, _ = train(data=tmp_path, store=tmp_path / "runs", code=2)
    assert "run python glue_data/create_sts.py, or python make_sample.py for a sample" in done.stderr
    (tmp_path / "train_new.tsv").write_bytes((sample / "train_new.tsv").read_bytes())
    done, _ = train(data=tmp_path, store=tmp_path / "runs", code=2)
    assert "has no dev_new.tsv; run python glue_data/create_sts.py" in done.stderr


def test_quotation_marks_are_text(sample, tmp_path, train):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train_new.tsv", "dev_new.tsv", "test_new.tsv"):
        (data / name).write_text((sample / name).read_text() + ROW.replace("A man walks.", '"A man walks.'))
    train("--max_vals", "1", data=data, store=tmp_path / "runs")
    lines = next((tmp_path / "runs").iterdir()).joinpath("predictions.csv").read_text().splitlines()
    assert len(lines) == 1 + 101


def test_an_existing_run_is_not_touched(both, train):
    before = {path: path.stat().st_mtime_ns for path in both.iterdir()}
    done, _ = train("--reweight", "inverse", "--lds", "--fds", store=both.parent, code=2)
    assert "exists; --resume goes on with it, --overwrite replaces it, --store_name names another" in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in both.iterdir()}


def test_a_checkpoint_of_another_model_is_an_error(both, train, tmp_path):
    done, _ = train("--d_hid", "7", "--evaluate", "--resume", both / "ckpt.pth.tar", store=tmp_path / "runs", code=2)
    assert "is of another model, or of other data or flags" in done.stderr
    assert "weight_ih_l0 is (24, 12), not (28, 12)" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_glove_of_another_width_is_an_error(train, tmp_path):
    (tmp_path / "glove.txt").write_text("man 0.1 0.2 0.3\nwoman 0.1 0.2 0.3\n")
    done, _ = train("--glove", "1", "--word_embs_file", tmp_path / "glove.txt", store=tmp_path / "runs", code=2)
    assert "--d_word" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_an_exploding_loss_stops_and_says_where(train, tmp_path):
    done, folder = train("--lr", "1e9", "--max_grad_norm", "1e9", store=tmp_path / "runs", code=2)
    assert "train.py: error: the loss is" in done.stderr
    assert "in epoch 1, step" in done.stderr
    assert "at learning rate 1e+09" in done.stderr


def test_lowercase_reads_the_same_words_in_lower_case(sample, train):
    raw, _ = train("--max_vals", "1", "--store_name", "as_written")
    low, _ = train("--max_vals", "1", "--store_name", "lower", "--lowercase", "1")
    assert raw.stdout.count("best checkpoint") == low.stdout.count("best checkpoint") == 1
    read_pairs = from_folder("sts-b-dir", "tasks").read_pairs
    given, lower = (str(read_pairs(sample / "train_new.tsv", 40, lowercase=low).sentences[0]) for low in (False, True))
    assert given != lower == given.lower()
