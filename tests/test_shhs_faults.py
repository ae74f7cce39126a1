"""SHHS-DIR's faults: a killed preprocessing goes on, bad tables, nights and EDF headers end with a reason and one line."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from pathlib import Path

import pytest
from commands import ROOT, execute, run_program, running

SHHS = ROOT / "shhs-dir"
SMALL = ["--width", "4", "--d_hid", "8", "--batch_size", "16", "--epochs", "1", "--workers", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("shhs")
    small = ["--train", "21", "--per_score", "1", "--minutes", "2.1", "2.5", "--workers", "1"]
    execute(["make_sample.py", *small, "--out", out], SHHS)
    execute(["preprocess_shhs.py", "--data_dir", out, "--cap", "1", "--workers", "1"], SHHS)
    return out


def test_a_killed_preprocessing_goes_on_without_redoing_nights(sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data, ignore=shutil.ignore_patterns("nights", "*.csv.part", "shhs.csv"))
    command = [sys.executable, "preprocess_shhs.py", "--data_dir", str(data), "--cap", "1", "--workers", "2"]
    first = sorted(data.glob("polysomnography/edfs/shhs2/*.edf"))[0]
    edf = first.read_bytes()
    first.unlink()
    os.mkfifo(first)  # who reads it waits for ever, so that the run cannot end before it is killed
    with running(command, SHHS) as killed:
        killed.until(lambda: len(list(data.glob("nights/*.npz"))) >= 5)
    first.unlink()
    first.write_bytes(edf)
    done = {path: path.stat().st_mtime_ns for path in data.glob("nights/*.npz")}
    said = execute(command[1:], SHHS)
    assert f"{len(list(data.glob('polysomnography/edfs/shhs2/*.edf'))) - len(done)} to do" in said
    assert all(path.stat().st_mtime_ns == made for path, made in done.items())
    assert (data / "shhs.csv").read_text() == (sample / "shhs.csv").read_text()
    assert not list(data.glob("nights/*.part"))


def test_nights_of_another_length_are_not_mixed_in(sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    words = ["preprocess_shhs.py", "--data_dir", data, "--cap", "1", "--workers", "1", "--hours", "0.034"]
    said = execute(words, SHHS, code=2)
    assert "error: --hours: " in said
    assert "--overwrite makes it anew" in said
    execute([*words, "--overwrite"], SHHS)
    run_program("shhs_length", SHHS, data / "nights")


def test_nights_whose_edf_files_changed_are_done_again(sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    first, second = sorted(data.glob("polysomnography/edfs/shhs2/*.edf"))[:2]
    night = data / "nights" / f"{first.stem.removeprefix('shhs2-')}.npz"
    first.write_bytes(second.read_bytes())
    said = execute(["preprocess_shhs.py", "--data_dir", data, "--cap", "1", "--workers", "1"], SHHS)
    assert ", 1 to do" in said
    assert night.read_bytes() == (sample / "nights" / f"{second.stem.removeprefix('shhs2-')}.npz").read_bytes()
    first.write_bytes(b"no EDF any more")
    execute(["preprocess_shhs.py", "--data_dir", data, "--cap", "1", "--workers", "1"], SHHS)
    assert night.stem in (data / "skipped.csv").read_text()
    assert f"{night.stem}," not in (data / "shhs.csv").read_text()


def test_nights_filled_with_zeros_are_not_mixed_in(sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    words = ["preprocess_shhs.py", "--data_dir", data, "--cap", "1", "--workers", "1"]
    execute([*words, "--fill_missing"], SHHS)  # completes what is there
    said = execute(words, SHHS, code=2)
    assert "error: --fill_missing: " in said
    assert "--overwrite makes it anew" in said
    execute([*words, "--fill_missing"], SHHS)


def test_a_spare_channel_serves_where_the_first_is_flat(tmp_path):
    run_program("shhs_spare_channel", SHHS, tmp_path)


def spoilt(data: bytes, field: str) -> bytes:
    """The EDF file with a field of its header that no recorder writes."""
    signals = int(data[252:256])
    thorax = next((i for i in range(signals) if data[256 + 16 * i :][:4].upper() == b"THOR"), 0)
    at = {"record duration": (244, 8), "number of signals": (252, 4), "number of records": (236, 8),
          "samples per record": (256 + 216 * signals + 8 * thorax, 8), "digital range": (256 + 120 * signals, 8),
          "physical range": (256 + 104 * signals, 8), "header size": (184, 8)}
    start, size = at[field]
    new = {"digital range": data[256 + 128 * signals :][:8], "physical range": b"1e999"}.get(field, b"0")
    return data[:start] + new.strip().ljust(size) + data[start + size :]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_odd_files_among_many_are_skipped_and_listed(sample, tmp_path, workers):
    """Headers that make edfio or the arithmetic raise anything, and files that a browser or a person has named."""
    data = tmp_path / "data"
    shutil.copytree(sample, data, ignore=shutil.ignore_patterns("nights", "shhs.csv"))
    folder = data / "polysomnography/edfs/shhs2"
    edfs = sorted(folder.glob("*.edf"))
    fields = ("record duration", "number of signals", "number of records", "samples per record", "digital range",
              "physical range", "header size")
    for path, field in zip(edfs, fields):
        path.write_bytes(spoilt(path.read_bytes(), field))
    for name in ("shhs2-200002 (1).edf", "shhs2-200002_copy.edf", "shhs2-.edf", "shhs1-200002.edf"):
        (folder / name).write_bytes(b"")
    said = execute(["-W", "error", "preprocess_shhs.py", "--data_dir", data, "--cap", "1", "--workers", workers], SHHS)
    assert "4 files of other names than shhs2-<nsrrid>.edf are left out, such as shhs1-200002.edf" in said
    assert "Warning" not in said
    assert "Physical minimum" not in said
    skipped = {row["nsrrid"]: row["reason"] for row in csv.DictReader((data / "skipped.csv").read_text().splitlines())}
    kept = [row["nsrrid"] for row in csv.DictReader((data / "shhs.csv").read_text().splitlines())]
    odd = [path.stem.removeprefix("shhs2-") for path in edfs[: len(fields)]]
    assert set(skipped) <= set(odd)
    assert {odd[0], odd[1], odd[3]} <= set(skipped)
    assert all(skipped.values())
    assert sorted([*kept, *skipped]) == sorted(path.stem.removeprefix("shhs2-") for path in edfs)


@pytest.mark.parametrize(("text", "words"), [
    ("nsrrid,gh\n1,50\n", "shhs.csv: no column split; found: nsrrid, gh; run python preprocess_shhs.py"),
    ("nsrrid,gh,split\n1,50\n", "shhs.csv: line 2 has 2 fields, not 3"),
    ("nsrrid,gh,split\n../1,50,train\n", "row 2: expected nsrrid,gh,split"),
    ("nsrrid,gh,split\n1,150,train\n", "row 2: the score 150 lies outside 0..100"),
    ("nsrrid,gh,split\n1,nan,train\n", "row 2: the score nan lies outside 0..100"),
    ("nsrrid,gh,split\n1,50,trian\n", "row 2: expected nsrrid,gh,split"),
    ("nsrrid,gh,split\n12345,50,train\n", "row 2: there is no"),
    ("nsrrid,gh,split\n", "no night in train"),
    ("", "no column nsrrid, gh, split; found: nothing"),
])
def test_a_bad_table_is_named_with_its_line(tmp_path, text, words):
    (tmp_path / "shhs.csv").write_text(text)
    assert words in run_program("shhs_table", SHHS, tmp_path)


def test_a_damaged_night_ends_the_run_with_one_line(sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data, ignore=shutil.ignore_patterns("polysomnography"))
    victim = next(r["nsrrid"] for r in csv.DictReader((data / "shhs.csv").read_text().splitlines()) if r["split"] == "train")
    path = data / f"nights/{victim}.npz"
    whole = path.read_bytes()
    for spoil in (lambda: path.write_bytes(whole[:1000]), lambda: run_program("shhs_short_ecg", SHHS, path)):
        spoil()
        said = execute(["train.py", "--data_dir", data, "--store_root", tmp_path, "--overwrite", *SMALL], SHHS, code=2)
        assert f"{victim}.npz: cannot be read" in said.splitlines()[-1]
        path.write_bytes(whole)
    assert "its arrays have the shapes {'eeg': (" in said


def test_no_edf_header_ends_in_anything_but_a_reason(sample):
    """Any bytes in the header, any cut: a night is read or refused with a ValueError."""
    edf = sorted((sample / "polysomnography/edfs/shhs2").iterdir())[0]
    run_program("shhs_any_header", SHHS, edf)
