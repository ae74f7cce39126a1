"""The benchmarks that tests run small, one row each: a small sample, flags that make a run small, and sizes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from commands import ROOT, execute


@dataclass(frozen=True)
class Benchmark:
    """A folder and how to use it small: `sample` is make_sample.py's flags, `small` train.py's, `epochs` its word for epochs.

    `exact` makes a run without draws that differ between ranks, where rounding stays rounding.
    """

    sample: tuple[str, ...]
    small: tuple[str, ...]
    epochs: str
    exact: tuple[str, ...] = ()
    data: str = ""  # below --data_dir, what make_sample.py writes
    prepare: tuple[str, ...] = ()  # a script that comes after it, with its flags


_FACES = {
    "sample": ("--train", "70", "--per_age", "1", "--size", "32", "--workers", "1"),
    "small": ("--model", "resnet18", "--img_size", "32", "--batch_size", "16", "--workers", "0", "--device", "cpu",
              "--print_freq", "1", "--schedule"),
    "epochs": "--epoch",
    # at 1e-4 the steps make 1e-2 of a rounding in some processors' convolutions: a fresh ResNet on 32 pixels
    "exact": ("--optimizer", "sgd", "--lr", "1e-6"),
}
BENCHMARKS = {
    "imdb-wiki-dir": Benchmark(**_FACES),
    "agedb-dir": Benchmark(**_FACES),
    "sts-b-dir": Benchmark(
        sample=("--train", "200", "--test", "60"),
        small=("--glove", "0", "--d_word", "8", "--d_hid", "8", "--batch_size", "16", "--val_interval", "9", "--lr", "3e-3",
               "--device", "cpu", "--print_freq", "1"),
        epochs="--max_vals",
        exact=("--dropout", "0", "--dropout_embs", "0"),
        data="STS-B",
    ),
    "nyud2-dir": Benchmark(
        sample=("--scenes", "4", "--frames", "4", "--test", "5", "--height", "32", "--width", "44"),
        small=("--bucket_counts", "{data}/train_bucket_num.txt", "--height", "32", "--width", "44", "--model", "resnet18",
               "--no_imagenet", "--batch_size", "5", "--workers", "0", "--device", "cpu", "--print_freq", "1"),
        epochs="--epochs",
        exact=("--lr", "1e-6"),
    ),
    "shhs-dir": Benchmark(
        sample=("--train", "21", "--per_score", "1", "--minutes", "2.1", "3", "--workers", "1"),
        small=("--width", "4", "--d_hid", "8", "--batch_size", "8", "--workers", "0", "--device", "cpu", "--print_freq", "1"),
        epochs="--epochs",
        exact=("--lr", "1e-4"),
        prepare=("preprocess_shhs.py", "--cap", "1", "--workers", "1"),
    ),
}
METHODS = {"vanilla": (), "second_pass": ("--fds", "--fds_stats", "second_pass"),
           "streaming": ("--fds", "--fds_kind", "own", "--fds_stats", "streaming")}


def make_sample(folder: str, out: Path) -> Path:
    """The sample of a folder in `out`; returns its --data_dir."""
    benchmark = BENCHMARKS[folder]
    execute(["make_sample.py", *benchmark.sample, "--out", out / benchmark.data], ROOT / folder)
    if benchmark.prepare:
        execute([*benchmark.prepare, "--data_dir", out], ROOT / folder)
    for file in out.glob("*.csv"):  # the least that make_sample.py draws for evaluation is one face of each age: take a fifth
        header, *rows = file.read_text().splitlines()
        if not header.startswith("age,"):
            continue
        rows = [row for i, row in enumerate(rows) if row.endswith("train") or i % 5 == 0]
        file.write_text("\n".join([header, *rows, ""]))
    return out


def words(folder: str, data: Path, epochs: int, *more: str) -> list[str]:
    benchmark = BENCHMARKS[folder]
    small = [word.replace("{data}", str(data)) for word in benchmark.small]
    return ["--data_dir", str(data), *small, benchmark.epochs, str(epochs), *more]


def outcome(store: Path) -> dict:
    """What a finished run ends with: metrics, predictions, and the state of its last checkpoint."""
    (run,) = (path for path in store.iterdir() if path.is_dir())
    last = torch.load(run / "ckpt.pth.tar", weights_only=True)
    return {
        "metrics": json.loads((run / "metrics.json").read_text()),
        "predictions": (run / "predictions.csv").read_text(),
        "state": last["state_dict"],
        "epoch": last["epoch"],
        "best": (last["best_loss"], last["best_epoch"]),
    }


def same(one: dict, other: dict) -> bool:
    """Exactly: every bit of every tensor, and every digit of every number."""
    states = one["state"], other["state"]
    return (
        {**one, "state": None} == {**other, "state": None}
        and states[0].keys() == states[1].keys()
        and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    )
