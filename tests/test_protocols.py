"""Protocols: training subsets of any shape, with a balanced test set over all labels, as explicit split files."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalanced_regression import __main__ as tools
from imbalanced_regression.bins import Bins
from imbalanced_regression.metrics import shot_metrics
from imbalanced_regression.tools import protocols
from imbalanced_regression.tools.protocols import SHAPES, Shape, make_split, read_split_file, split_csv

AGES = np.random.default_rng(0).normal(50, 18, 6000).clip(0, 100).round()


def tool(monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["tools", *map(str, words)])
    tools.main()


@given(st.sampled_from(list(SHAPES)), st.integers(0, 2**32 - 1), st.booleans(), st.integers(1, 40))
def test_every_split_is_disjoint_balanced_and_as_its_shape_says(name, seed, replace, cap):
    shape, bins = SHAPES[name](AGES), Bins.auto(AGES)
    rows = make_split(AGES, shape, bins, cap=cap, replace=replace, seed=seed)
    train, val, test = (rows[part] for part in protocols.SPLITS)
    assert not set(test) & set(train)
    assert not set(val) & (set(train) | set(test))
    k = np.minimum(bins.counts(AGES) // 3, cap)
    assert np.array_equal(bins.counts(AGES[test]), k)
    assert shape.allowed(AGES[np.concatenate([train, val])]).all()
    expected = [count if shape.allowed(center[None])[0] else 0 for center, count in zip(bins.centers, k)]
    assert np.array_equal(bins.counts(AGES[val]), expected)
    if not (replace and shape.peaks):
        assert len(set(train)) == len(train)
    if not shape.peaks:
        assert len(train) == shape.allowed(AGES).sum() - (shape.allowed(AGES[test])).sum() - len(val)


def test_peaks_are_where_they_are_said_to_be_and_replacement_gives_exactly_what_is_wanted():
    labels = np.repeat(np.arange(100.0), 200)
    shape, bins = Shape(peaks=((20.0, 5.0, 0.0), (80.0, 5.0, 0.0))), Bins.auto(labels)
    counts = {
        replace: bins.counts(labels[make_split(labels, shape, bins, cap=30, replace=replace)["train"]])
        for replace in (False, True)
    }
    weight = [np.exp(-0.5 * ((y - 20) / 5) ** 2) + np.exp(-0.5 * ((y - 80) / 5) ** 2) for y in range(100)]
    wanted = [int(4 * 100 * 140 * w / sum(weight) + 1e-9) for w in weight]
    assert counts[True].tolist() == wanted
    assert counts[False].tolist() == [min(n, 140) for n in wanted]


def test_a_skewed_peak_has_more_on_one_side():
    labels = np.random.default_rng(0).uniform(0, 100, 20_000)
    at = {skew: labels[make_split(labels, Shape(peaks=((50.0, 10.0, skew),)))["train"]].mean() for skew in (-4.0, 0.0, 4.0)}
    assert at[-4.0] < at[0.0] - 3
    assert at[4.0] > at[0.0] + 3


def test_gaps_are_measured_as_interpolation_and_beyond_the_range_as_extrapolation():
    rows = make_split(AGES, Shape(gaps=((40, 45),), keep=(20, 80)), cap=10)
    test, train = AGES[rows["test"]], AGES[rows["train"]]
    found = shot_metrics(test, test, train)
    assert found["zero_interp"]["count"] == ((test >= 40) & (test <= 45)).sum() == 60
    assert found["zero_extrap"]["count"] == ((test < 20) | (test > 80)).sum() > 0


def test_the_seed_decides_the_split():
    first, again, other = (make_split(AGES, SHAPES["bimodal"](AGES), seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[part], again[part]) for part in protocols.SPLITS)
    assert not np.array_equal(first["train"], other["train"])


def test_a_split_file_reads_back_repeated_rows_too(tmp_path):
    labels = np.random.default_rng(0).normal(size=300)
    rows = make_split(labels, SHAPES["peaked"](labels), replace=True)
    (tmp_path / "split.csv").write_text(split_csv(rows, [repr(y) for y in labels.tolist()]))
    found = read_split_file(tmp_path / "split.csv", labels)
    assert len(set(found["train"])) < len(found["train"])
    assert all(np.array_equal(found[part], rows[part]) for part in protocols.SPLITS)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("index,label\n0,1\n", "line 2: expected index,label,split"),
        ("index,label,split\n0,1,train\n0,1,rest\n", "line 3: expected index,label,split"),
        ("index,label,split\n9,1,train\n", "line 2: index 9 is no row of the table's 3"),
        ("index,label,split\n-1,1,train\n", "line 2: index -1"),
        ("index,label,split\n0,5,train\n", "line 2: row 0 has label 1, not 5"),
        ("index,label,split\n0,1,train\n1,2,val\n", "no row in test"),
        ("", "no row in train"),
    ],
)
def test_a_split_of_other_data_is_refused_with_its_line(text, named, tmp_path):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(ValueError, match=f"--split: .*split.csv: {named}"):
        read_split_file(tmp_path / "split.csv", [1, 2, 3])
    with pytest.raises(ValueError, match="--split: there is no file.*protocols"):
        read_split_file(tmp_path / "none.csv", [1, 2, 3])


def test_the_command_writes_the_face_folders_form_where_there_are_paths(tmp_path, monkeypatch, capsys):
    table = tmp_path / "ages.csv"
    table.write_text("age,path\n" + "".join(f"{int(y)},faces/{i}.jpg\n" for i, y in enumerate(AGES)))
    tool(monkeypatch, "protocols", table, "--target", "age", "--gap", 40, 45, "--out", tmp_path / "split.csv")
    said = capsys.readouterr().out
    with (tmp_path / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"age", "path", "split"}
    assert {row["split"] for row in rows} == set(protocols.SPLITS)
    assert all(float(row["age"]) == AGES[int(row["path"][6:-4])] for row in rows)
    trained = [int(row["age"]) for row in rows if row["split"] != "test"]
    assert not any(40 <= age <= 45 for age in trained)
    assert "zero_interp 180" in said


@pytest.mark.parametrize(("separator", "encoding"), [(",", "latin-1"), (",", "utf-16"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_table_of_any_encoding_and_separator_keeps_its_paths_as_they_are_written(
    separator, encoding, tmp_path, monkeypatch, capsys
):
    table = tmp_path / "ages.csv"
    lines = [("age", "path"), *((f"{int(y)}", f"grö/{i:04d}") for i, y in enumerate(AGES))]
    table.write_text("".join(f"{separator.join(line)}\n" for line in lines), encoding=encoding)
    tool(monkeypatch, "protocols", table, "--target", "age", "--out", tmp_path / "split.csv")
    rows = list(csv.DictReader((tmp_path / "split.csv").read_text(encoding="utf-8").splitlines()))
    assert all(float(row["age"]) == AGES[int(row["path"].removeprefix("grö/"))] and len(row["path"]) == 8 for row in rows)


@pytest.mark.filterwarnings("error")
def test_labels_that_are_all_alike_lie_on_every_peak():
    labels = np.full(90, 5.0)
    rows = make_split(labels, SHAPES["peaked"](labels))
    assert [len(rows[name]) for name in protocols.SPLITS] == [30, 30, 30]


def test_the_command_writes_rows_of_any_table_and_leaves_missing_labels_out(tmp_path, monkeypatch):
    labels = np.random.default_rng(0).normal(size=500)
    labels[[3, 77]] = np.nan
    np.save(tmp_path / "labels.npy", labels)
    split = tmp_path / "split.csv"
    tool(monkeypatch, "protocols", tmp_path / "labels.npy", "--shape", "one_sided", "--width", 0.25, "--out", split)
    rows = list(csv.DictReader(split.read_text().splitlines()))
    assert all(float(row["label"]) == labels[int(row["index"])] for row in rows)
    assert max(labels[int(row["index"])] for row in rows if row["split"] == "train") < 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--shape", "round"], "--shape: expected one of full.*'round'"),
        (["--peak", "3"], "--peak: expected center, width.*found 3.0"),
        (["--peak", "3", "0"], "--peak.*above 0"),
        (["--gap", "5", "3"], "--gap: expected LOW up to HIGH, found 5 3"),
        (["--range", "900", "901"], "^--shape: leaves no row for train"),
        (["--peak", "9000", "1"], "^--shape: no label lies near a peak"),
        (["--cap", "0"], "--cap.*0"),
        (["--width", "0"], "--width.*0"),
        (["--width", "1e-9"], "--width: 1e-09 cuts labels from .* into more than 1,000,000 bins"),
        (["--size", "0"], "^--size.*0"),
        (["--replace"], "^--replace: draws the rows of peaks; add --shape peaked"),
    ],
)
def test_impossible_protocols_are_refused(words, named, tmp_path, monkeypatch):
    np.save(tmp_path / "labels.npy", AGES[:600])
    with pytest.raises(ValueError, match=named):
        tool(monkeypatch, "protocols", tmp_path / "labels.npy", *words, "--out", tmp_path / "split.csv")
    assert not (tmp_path / "split.csv").exists()
