"""SHHS-DIR from EDF files to a trained model: what preprocessing reads and refuses, the model's invariances, the weights."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, execute

from imbalanced_regression import get_lds_kernel_window

SHHS = ROOT / "shhs-dir"
SMALL = ["--width", "4", "--d_hid", "8", "--batch_size", "16", "--epochs", "1", "--workers", "0", "--device", "cpu"]


def python(code: str, *words) -> str:
    """Run code in the folder, warnings being errors."""
    return execute(["-W", "error", "-c", code, *words], SHHS)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """A sample with every score in every split, preprocessed."""
    out = tmp_path_factory.mktemp("shhs")
    small = ["--train", "21", "--per_score", "1", "--minutes", "1", "2.5", "--workers", "1"]
    execute(["make_sample.py", *small, "--out", out], SHHS)
    said = execute(["preprocess_shhs.py", "--data_dir", out, "--cap", "1", "--workers", "1"], SHHS)
    assert "0 nights skipped" in said
    return out


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_split_takes_as_many_of_every_score_and_recovers_the_zero(sample):
    table = rows(sample / "shhs.csv")
    assert set(table[0]) == {"nsrrid", "gh", "split"}
    for split in ("val", "test"):
        assert sorted(float(r["gh"]) for r in table if r["split"] == split) == list(range(0, 101, 5))
    delivered = (sample / "datasets/shhs2-dataset-0.21.0.csv").read_text(encoding="latin-1")
    assert "Orléans" in delivered  # not UTF-8, as the provider's
    zeros = {r["nsrrid"] for r in csv.DictReader(delivered.splitlines()) if r["gh_s2"] == ""}
    assert zeros == {r["nsrrid"] for r in table if float(r["gh"]) == 0}


def test_preprocessing_takes_odd_files_and_skips_bad_ones_with_the_reason(tmp_path):
    edfs = tmp_path / "polysomnography/edfs/shhs2"
    edfs.mkdir(parents=True)
    (tmp_path / "datasets").mkdir()
    python("""
import sys, warnings
from pathlib import Path
import numpy as np
from edfio import Edf, EdfSignal
folder = Path(sys.argv[1])
random = np.random.default_rng(0)

def night(number, seconds=95, labels=("eeg", "ekg", "New  Air", "thor res", "ABDO RES"), rates=(125, 250, 10, 10, 10), **more):
    signals = [EdfSignal(random.normal(size=seconds * rate), rate, label=label, physical_range=(-9, 9), **more)
               for label, rate in zip(labels, rates)]
    Edf([EdfSignal(np.full(seconds, 95.0), 1, label="SaO2", physical_range=(0, 100)), *signals],
        data_record_duration=1).write(folder / f"shhs2-{number}.edf")

night(1)
night(2, labels=("EEG", "ECG", "NEW A/F", "THOR RES", "Abdo Res"), rates=(128, 256, 8, 8, 8))
night(3, labels=("EEG", "ECG", "Airflow", "THOR RES"))                                   # no abdomen
night(4)
data = bytearray((folder / "shhs2-4.edf").read_bytes()); data[168:176] = b"00.00.00"     # no start date
(folder / "shhs2-4.edf").write_bytes(data)
night(5)
data = (folder / "shhs2-5.edf").read_bytes(); (folder / "shhs2-5.edf").write_bytes(data[:-301])  # a record cut short
(folder / "shhs2-6.edf").write_bytes(b"")
(folder / "shhs2-7.edf").write_bytes(b"no EDF at all" * 100)
night(8, seconds=20)
flat = [EdfSignal(np.zeros(95 * r), r, label=n, physical_range=(-9, 9)) for n, r in
        zip(("EEG", "ECG", "Airflow", "Thor Res", "Abdo Res"), (125, 125, 10, 10, 10))]
Edf(flat, data_record_duration=1).write(folder / "shhs2-9.edf")
""", edfs)
    (tmp_path / "datasets/shhs2-dataset-0.21.0.csv").write_text(
        "nsrrid,gh_s2,rawgh_s2\n" + "".join(f"{i},50,15\n" for i in range(1, 10)) + "10,,\n11,50,15\n"
    )
    said = execute(["preprocess_shhs.py", "--data_dir", tmp_path, "--workers", "2"], SHHS)
    assert {int(r["nsrrid"]) for r in rows(tmp_path / "shhs.csv")} == {1, 2, 4, 5}
    reasons = {int(r["nsrrid"]): r["reason"] for r in rows(tmp_path / "skipped.csv")}
    assert reasons.keys() == {3, 6, 7, 8, 9}
    for number, words in {3: "no channel abdomen", 6: "empty", 7: "no EDF", 8: "shorter than 30", 9: "is flat"}.items():
        assert words in reasons[number]
        assert f"night {number} is skipped: " in said
    assert "1 persons with a score have no recording" in said
    for number in (1, 2, 4, 5):
        with np.load(tmp_path / f"nights/{number}.npz") as night:
            assert {name: night[name].shape for name in night} == {
                "eeg": (3, 1, 30 * 64), "ecg": (3, 1, 30 * 128), "breathing": (3, 3, 30 * 8),
            }
            for signal in night.values():
                assert signal.dtype == np.float16
                assert abs(np.median(signal)) < 0.1
                assert 0.8 < np.std(signal) < 1.2  # robust, for what is normal to begin with


def test_a_killed_preprocessing_goes_on_without_redoing_nights(sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data, ignore=shutil.ignore_patterns("nights", "*.csv.part", "shhs.csv"))
    command = [sys.executable, "preprocess_shhs.py", "--data_dir", str(data), "--cap", "1", "--workers", "2"]
    process = subprocess.Popen(command, cwd=SHHS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(list(data.glob("nights/*.npz"))) < 5:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in data.glob("nights/*.npz")}
    said = execute(command[1:], SHHS)
    assert f"{len(done)} nights are there already" in said
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    assert (data / "shhs.csv").read_text() == (sample / "shhs.csv").read_text()
    assert not list(data.glob("nights/*.part"))


def test_the_model_sees_no_padding_and_no_segments():
    """Predictions and gradients are the same alone or padded in a batch, and with activations kept or recomputed."""
    python("""
import torch
from datasets import collate
from models import NightEncoder, SIGNALS
torch.manual_seed(0)
rates = {"eeg": 64, "ecg": 128, "breathing": 8}
def night(epochs):
    return {name: torch.randn(epochs, channels, 30 * rates[name]).half() for name, channels in SIGNALS.items()}
nights = [night(epochs) for epochs in (7, 1, 4)]
model = NightEncoder(width=4, d_hid=8).train()
together = model(collate([(n, 50.0, 1.0) for n in nights])[0])
for i, one in enumerate(nights):
    torch.testing.assert_close(model(collate([(one, 50.0, 1.0)])[0])[0], together[i], rtol=1e-4, atol=1e-5)
assert together.std(dim=0).max() > 1e-3  # the nights differ, so the test could fail
inputs = collate([(n, 50.0, 1.0) for n in nights])[0]
for name in SIGNALS:  # whatever stands in the padding
    inputs[name][1, 1:] = 99
torch.testing.assert_close(model(inputs), together, rtol=1e-4, atol=1e-5)

def gradients(segment):
    for encoder in model.signals.values():
        encoder.segment = segment
    model.zero_grad()
    model(inputs).square().sum().backward()
    return [p.grad.clone() for p in model.parameters()]
for whole, cut in zip(gradients(0), gradients(3)):
    torch.testing.assert_close(whole, cut, rtol=1e-3, atol=1e-5)
""")


def test_weights_equal_the_formula_written_out():
    scores = np.repeat(np.arange(0, 101, 5), np.arange(1, 22) ** 2)
    found = json.loads(python("""
import json, sys, numpy as np
from utils import BINS, sample_weights
from fds import FDS
scores = np.repeat(np.arange(0, 101, 5), np.arange(1, 22) ** 2)
assert BINS.index(np.arange(0, 101, 5)).tolist() == list(range(21))
fds = FDS(4)
assert fds.bucket_num == 21 and fds.clip == (0.5, 2.0)
print(json.dumps({f"{r} {l}": sample_weights(scores, r, l).tolist() for r in ("none", "sqrt_inv", "inverse")
                  for l in ((False, True) if r != "none" else (False,))}))
"""))
    window = get_lds_kernel_window("gaussian", 5, 2)
    for key, weights in found.items():
        reweight, lds = key.split()
        base = [float((i + 1) ** 2) for i in range(21)]
        if reweight == "sqrt_inv":
            base = [n**0.5 for n in base]
        if lds == "True":
            base = [sum(window[j] * base[i + j - 2] for j in range(5) if 0 <= i + j - 2 < 21) for i in range(21)]
        wanted = np.array([1.0 if reweight == "none" else 1 / base[int(s) // 5] for s in scores])
        np.testing.assert_allclose(weights, wanted / wanted.mean(), rtol=1e-5)


@pytest.mark.parametrize(("text", "words"), [
    ("nsrrid,gh\n1,50\n", "line 1: no column 'split'"),
    ("nsrrid,gh,split\n../1,50,train\n", "line 2: nsrrid: expected a whole number"),
    ("nsrrid,gh,split\n1,150,train\n", "line 2: gh: 150 lies outside 0..100"),
    ("nsrrid,gh,split\n1,nan,train\n", "line 2: gh: nan lies outside 0..100"),
    ("nsrrid,gh,split\n1,x,train\n", "line 2: gh: expected a number"),
    ("nsrrid,gh,split\n1,50,trian\n", "line 2: split: expected one of"),
    ("nsrrid,gh,split\n1,50\n", "line 2: expected 3 fields, found 2"),
    ("nsrrid,gh,split\n12345,50,train\n", "line 2:"),
    ("nsrrid,gh,split\n", "no night belongs to train"),
    ("", "line 1: no column"),
])
def test_a_bad_table_is_named_with_its_line(tmp_path, text, words):
    (tmp_path / "shhs.csv").write_text(text)
    said = execute(["-c", "import sys; from datasets import read_splits\ntry: read_splits(sys.argv[1])\n"
                    "except ValueError as e: print(e)", tmp_path], SHHS)
    assert words in said


def test_a_damaged_night_ends_the_run_with_one_line(sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data, ignore=shutil.ignore_patterns("polysomnography"))
    victim = next(r["nsrrid"] for r in rows(data / "shhs.csv") if r["split"] == "train")
    path = data / f"nights/{victim}.npz"
    path.write_bytes(path.read_bytes()[:1000])
    said = execute(["train.py", "--data_dir", data, "--store_root", tmp_path, *SMALL], SHHS, code=2)
    assert f"{victim}.npz: is damaged" in said.splitlines()[-1]


def test_no_edf_header_ends_in_anything_but_a_reason(sample):
    """Any bytes in the header, any cut: a night is read or refused with a ValueError."""
    edf = sorted((sample / "polysomnography/edfs/shhs2").iterdir())[0]
    execute(["-c", """
import sys, tempfile
from pathlib import Path
from hypothesis import given, settings, strategies as st
from preprocess_shhs import read_night
data = Path(sys.argv[1]).read_bytes()
path = Path(tempfile.mkdtemp()) / "night.edf"
outcomes = set()

@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.integers(0, 256 * 8 - 1), st.binary(min_size=1, max_size=16), st.integers(0, len(data)))
def test(at, new, cut):
    broken = bytearray(data)
    broken[at:at + len(new)] = new
    path.write_bytes(broken[: cut if cut % 4 == 0 else None])
    try:
        read_night(path, 8)
        outcomes.add("read")
    except ValueError as error:
        assert str(error)
        outcomes.add("refused")
test()
assert outcomes == {"read", "refused"}, outcomes
""", edf], SHHS)
