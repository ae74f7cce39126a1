"""Every command and every Python block of the READMEs runs: commands as written, with flags that make them small."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import small_runs
import torch
from commands import ROOT, SHUT, blocks, commands, execute, execute_ranks, together
from torch import nn
from torch.utils.data import Subset, TensorDataset

STS = ROOT / "sts-b-dir"
FACES = {"agedb-dir": "AgeDB", "imdb-wiki-dir": "imdb_crop"}  # folder -> where the images of its data lie

SMALL = ["--glove", "0", "--d_word", "8", "--d_hid", "4", "--val_interval", "3", "--max_vals", "1", "--batch_size", "16",
         "--device", "cpu"]
SMALL_FACES = ["--model", "resnet18", "--img_size", "32", "--batch_size", "32", "--epoch", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A small sample, and the checkpoint of a run on it."""
    root = tmp_path_factory.mktemp("readme")
    together([
        ["make_sample.py", "--train", "200", "--test", "60", "--out", root / "STS-B"],
        ["train.py", "--data_dir", root, "--store_root", root / "first", *SMALL],
    ], STS)
    return root, next((root / "first").iterdir()) / "ckpt.best.pth.tar"


def sts_b(command: str, trained, tmp_path) -> list | None:
    """A command of sts-b-dir, made small, to be run with others; what must run by itself is run here, downloads up to the
    network, which is shut."""
    root, checkpoint = trained
    program, *words = shlex.split(command.replace("<ckpt>", str(checkpoint)))
    if program == "torchrun":
        words = words[words.index("train.py"):]
    else:
        assert program == "python", command
    script, *flags = words
    if script == "train.py":
        # the sample in place of the data, and a run folder of the test's own; the last value of a flag counts
        words = [script, *flags, *SMALL, "--data_dir", root, "--store_root", tmp_path]
        if program == "python":
            return words
        execute_ranks(words, STS)
    elif script == "make_sample.py":
        return [script, *flags, "--train", "200", "--test", "60", "--out", tmp_path / "sample"]
    elif script in ("glue_data/create_sts.py", "glove/download_glove.py"):
        if "--check" in flags:
            said = execute([script, *flags], STS, code=0 if (STS / "glue_data/STS-B/train_new.tsv").exists() else 2)
        else:
            said = execute([script, *flags, "--out", tmp_path / "out"], STS, code=2, **SHUT)
        assert f"{Path(script).name}: error: " in said or "split" in said
    elif script.startswith("benchmarks/"):
        assert f'"{Path(script).name}"' in (ROOT / "tests" / "test_benchmarks.py").read_text()  # it runs there
    else:
        pytest.fail(f"no test runs {command!r}")
    return None


def test_every_command_of_the_sts_b_readme_runs(trained, tmp_path):
    found = commands(STS / "README.md")
    assert len(found) > 10
    lines = [sts_b(command, trained, tmp_path / str(number)) for number, command in enumerate(found)]
    together([words for words in lines if words], STS)


def test_every_command_of_the_readme_runs(trained, tmp_path):
    """Commands `(cd FOLDER && ...)` on a sample of the folder, tools on the runs that these leave."""
    folders = {}
    runs = [trained[1].parent]
    for number, command in enumerate(commands(ROOT / "README.md")):
        own = tmp_path / str(number)
        if command.startswith("(cd "):
            folder, command = command.removeprefix("(cd ").removesuffix(")").split(" && ")
            program, *words = shlex.split(command)
            if "--max-restarts" in words:
                continue  # tests/test_ranks.py
            data = folders.setdefault(folder, tmp_path / folder)
            if not data.exists():
                small_runs.make_sample(folder, data)
            # a validation after more than a pass, so that FDS has seen one
            small = small_runs.words(folder, data, 1, "--store_root", str(own), "--val_interval", "40")
            assert program == "torchrun"
            assert folder == "sts-b-dir"
            execute_ranks([*words[words.index("train.py"):], *small], ROOT / folder)
            runs.append(next(own.iterdir()))
    csv = tmp_path / "labels.csv"
    csv.write_text("age,price\n" + "".join(f"{i % 40},{1.1 ** (i % 50):.3f}\n" for i in range(400)))
    for number, command in enumerate(commands(ROOT / "README.md")):
        words = shlex.split(command)
        if words[:3] == ["python", "-m", "imbalanced_regression"]:
            own = tmp_path / f"tool{number}"
            own.mkdir()
            given = {"FILE.csv": csv, "COLUMN": "price"}
            words = [given.get(word, word) for word in words[1:] if word != "RUN"]
            if "RUN" in command:
                words += runs if "compare" in words else [run for run in runs if "_fds_" in run.name]
            assert execute(words, own, PYTHONPATH=str(ROOT))
        else:
            assert command.startswith("(cd "), f"no test runs {command!r}"


@pytest.fixture(scope="module", params=FACES)
def faces(request, tmp_path_factory) -> tuple[Path, Path, Path]:
    """A face folder, a small sample for it, and the checkpoint of a run on that."""
    folder, root = ROOT / request.param, tmp_path_factory.mktemp(request.param)
    data = small_runs.make_sample(folder.name, root / "data")
    execute(["train.py", "--data_dir", data, "--store_root", root / "first", *SMALL_FACES], folder)
    return folder, data, next((root / "first").iterdir()) / "ckpt.best.pth.tar"


def test_every_command_of_the_face_readmes_runs(faces, tmp_path):
    folder, data, checkpoint = faces
    found = commands(folder / "README.md")
    assert len(found) > 10
    if folder.name == "imdb-wiki-dir":  # train.py says there what AgeDB's says, which runs each of its commands
        other = set(commands(ROOT / "agedb-dir" / "README.md"))
        found = [one for one in found if one == "python train.py" or "train.py" not in one or one not in other]
    lines = []
    for number, command in enumerate(found):
        own = tmp_path / str(number)
        command = command.replace("CUDA_VISIBLE_DEVICES=0,1,2,3 ", "").replace("<ckpt>", str(checkpoint))
        program, *words = shlex.split(command)
        if program == "torchrun":
            words = words[words.index("train.py"):]
        script, *flags = words
        if script == "train.py":
            words = [script, *flags, *SMALL_FACES, "--data_dir", data, "--store_root", own]
            if program == "torchrun":
                execute_ranks(words, folder)
            else:
                lines.append([*words, "--workers", "0"])
        elif script == "make_sample.py" and "--sheet" in flags:
            lines.append([script, "--sheet", own.with_suffix(".png")])
        elif script == "make_sample.py":
            lines.append([script, *flags, "--train", "20", "--per_age", "1", "--size", "16", "--workers", "1", "--out", own])
        elif script == "demo.py":
            execute([script, *flags, "--seeds", "0", "--out", own, "--quick"], folder)
        elif script.startswith("data/create"):
            lines.append([script, *flags, "--data_dir", data])
        elif script.startswith("data/preprocess"):
            lines.append([script, *flags, "--data_dir", data, "--overwrite"])
        elif script.startswith("download"):
            said = execute([script, *flags, "--data_dir", own], folder, code=2, **SHUT)
            assert f"{script}: error: " in said
        else:
            pytest.fail(f"no test runs {command!r}")
    together(lines, folder)


def test_setup_commands_exist():
    """`make` knows the targets, and the extras are declared."""
    for target in ("demo", "test"):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
    assert "\ntrain = [" in (ROOT / "pyproject.toml").read_text()


def ten_lines(labels, inputs, test_labels, test_inputs, *, epochs: int, edit=lambda block: block) -> dict:
    """What the README's first two blocks leave, run as written on a table."""
    from sklearn.linear_model import LinearRegression

    torch.manual_seed(0)
    width = inputs.shape[1]
    scope = {
        "labels": labels, "features": inputs, "estimator": LinearRegression(), "epochs": epochs,
        "encoder": nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()),
        "test_inputs": torch.from_numpy(test_inputs), "test_labels": test_labels,
    }
    first, second = (edit(block) for block in blocks(ROOT / "README.md", "python")[:2])
    exec(first, scope)  # noqa: S102  # the README's own code is what is tested
    assert scope["weights"].mean() == pytest.approx(1, rel=1e-5)
    targets, weights = (torch.tensor(v, dtype=torch.float32)[:, None] for v in (labels, scope["weights"]))
    scope["batches"] = list(zip(torch.from_numpy(inputs).split(50), targets.split(50), weights.split(50)))
    exec(second, scope)  # noqa: S102
    return scope


def table(kind: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) as newcomers bring them, and inputs (n, 4) that tell much of them."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 4))
    told = (x[:, 0] + 0.5 * x[:, 1]) / np.sqrt(1.25)
    labels = {
        "house prices": lambda: np.round(250_000 * np.exp(0.5 * told + 0.1 * x[:, 2]), -2),
        "wine grades": lambda: np.clip(np.round(5.6 + 0.8 * told), 3, 8),
        "rain": lambda: np.maximum(0, 12 * (told - 0.52)),  # 70 % zeros
        "negative returns": lambda: -0.02 * np.exp(0.6 * told),
    }[kind]()
    return labels, x.astype(np.float32)


def test_the_python_blocks_of_the_readme_run(tmp_path, monkeypatch):
    labels, inputs = table("rain", 400, 0)
    scope = ten_lines(labels, inputs, labels[:100], inputs[:100], epochs=3)
    assert scope["model"].fds.num_samples_tracked.sum() == 3 * 400
    assert np.isfinite(scope["metrics"]["overall"]["l1"])
    monkeypatch.chdir(tmp_path)
    targets, weights = (torch.tensor(v, dtype=torch.float32)[:, None] for v in (labels, scope["weights"]))
    samples = TensorDataset(torch.from_numpy(inputs), targets, weights)
    parts = (range(200), range(200, 300), range(300, 400))
    scope.update(zip(("train", "val", "test"), (Subset(samples, part) for part in parts)), train_labels=labels[:200])
    (third,) = blocks(ROOT / "README.md", "python")[2:]
    exec(third, scope)  # noqa: S102
    assert scope["result"]["test"]["overall"]["mse"] < labels[300:].var()
    assert (tmp_path / "runs" / "ranksim" / "ckpt.best.pth.tar").is_file()


@pytest.mark.parametrize("kind", ["house prices", "wine grades", "rain", "negative returns"])
def test_the_ten_lines_train_on_labels_of_any_unit_as_on_standardised_ones(kind, caplog):
    """House prices ended at an error five times as large, since a plain head never climbed to them."""
    (labels, inputs), (test_labels, test_inputs) = table(kind, 600, 0), table(kind, 300, 1)
    center, scale = labels.mean(), labels.std()

    def without_fds(block):
        assert "fds = FDS(64, bins=bins, ks=ks, sigma=sigma)" in block or "lds_weights" in block
        return block.replace("fds = FDS(64, bins=bins, ks=ks, sigma=sigma)", "fds = None")

    raw = ten_lines(labels, inputs, test_labels, test_inputs, epochs=12, edit=without_fds)
    error = raw["metrics"]["overall"]["l1"]
    assert error < 0.5 * np.abs(test_labels - np.median(labels)).mean()
    standard = ten_lines(
        (labels - center) / scale, inputs, (test_labels - center) / scale, test_inputs, epochs=12, edit=without_fds
    )
    assert error == pytest.approx(scale * standard["metrics"]["overall"]["l1"], rel=0.25)
    assert raw["weights"].max() > 2.5 * raw["weights"].min()
    with_fds = ten_lines(labels, inputs, test_labels, test_inputs, epochs=3)
    tracked = with_fds["fds"].num_samples_tracked
    assert tracked.sum() == 3 * len(labels)
    assert (tracked > 0).sum() >= min(6, len(np.unique(labels)))
    assert np.isfinite(with_fds["metrics"]["few"]["l1"])
    assert not [record for record in caplog.records if record.name.endswith("fds")]  # bins and targets are of one unit


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in ROOT.glob("*-dir/train.py")))
def test_help_tells_where_fds_statistics_come_from(folder):
    said = " ".join(execute(["train.py", "--help"], ROOT / folder).split())
    assert "own forward passes (default: second_pass)" in said
    assert "auto: released, or own with --fds_stats streaming (default: auto)" in said
