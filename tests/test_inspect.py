"""`inspect`: the advice suits labels that have nothing in common, its code runs, and every bad input is one line."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, execute
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris

from imbalanced_regression import Bins, lds_weights
from imbalanced_regression import __main__ as tools
from imbalanced_regression.tools import inspect as advice

rng = np.random.default_rng(0)


def tool(monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["tools", *map(str, words)])
    tools.main()


# the advice


def test_balanced_labels_need_no_weights():
    for labels in (load_digits().target, rng.uniform(-1, 1, 3000)):
        found = advice.advise(labels)
        assert found.reweight == "none"
        assert (found.weights == 1).all()
        assert "balanced" in found.reasons["weights"]
    assert found.bins.count >= 10


def test_few_values_get_a_bin_each():
    assert advice.advise(load_digits().target).bins == Bins.width(-0.5, 9.5, 1)
    odd = advice.advise(rng.choice([-10.0, 1, 10, 1000], size=200)).bins
    assert odd.index([-10, 1, 10, 1000]).tolist() == [0, 1, 2, 3]


def test_published_labels_get_the_published_settings(shared):
    """AgeDB-DIR: a bin per year, sqrt_inv, ks 5, sigma 2; STS-B-DIR: inverse."""
    paths = shared / "data" / "agedb" / "agedb.csv", shared / "data" / "sts-b" / "train_new.tsv"
    if not all(path.exists() for path in paths):
        pytest.skip("no AgeDB-DIR or STS-B-DIR labels")
    with paths[0].open(newline="") as file:
        ages = advice.advise([int(row["age"]) for row in csv.DictReader(file) if row["split"] == "train"])
    assert (ages.reweight, ages.ks, ages.sigma) == ("sqrt_inv", 5, 2)
    assert ages.bins == Bins.width(0.5, 101.5, 1)
    assert "published" in ages.reasons["kernel"]
    lines = paths[1].read_text(encoding="utf-8").split("\n")[1:]
    assert advice.advise([float(line.split("\t")[-1]) for line in lines if line]).reweight == "inverse"


def test_heavy_tails_get_bins_that_grow():
    """Where equal widths put most labels into one bin: by the logarithm, or for either sign from the median outwards."""
    positive = load_breast_cancer(as_frame=True).frame["area error"].to_numpy()
    for labels, word in ((positive, "logarithm"), (rng.standard_t(1.5, 3000), "median"), (np.r_[np.zeros(500), positive], "")):
        found = advice.advise(labels)
        widths = np.diff(found.bins.edges)
        assert widths.max() > 10 * widths.min()
        assert word in found.reasons["bins"]
        assert "heavy tail" in found.reasons["bins"]
        equal = Bins.uniform(labels.min(), labels.max(), found.bins.count)
        assert found.counts.max() < 0.75 * equal.counts(labels).max()
    assert any("47 % of the labels are exactly 0" in note for note in found.notes)


def test_harsh_weights_are_softened_and_mild_ones_are_not():
    mild, harsh = advice.advise(load_iris().data[:, 2]), advice.advise(rng.gamma(2, 10, 2000))
    assert (mild.reweight, harsh.reweight) == ("inverse", "sqrt_inv")
    assert mild.share["inverse"] > 0.5 > harsh.share["inverse"]


def test_shares_and_weights_are_those_of_lds_weights():
    labels = load_diabetes().target
    found = advice.advise(labels)
    for how, share in found.share.items():
        weights = lds_weights(labels, found.bins, reweight=how, ks=found.ks, sigma=found.sigma)
        assert share == pytest.approx(sum(weights) ** 2 / (len(weights) * sum(w**2 for w in weights)), rel=1e-5)
        if how == found.reweight:
            np.testing.assert_allclose(found.weights[found.bins.index(labels)], weights, rtol=1e-6)


@pytest.mark.parametrize(
    "labels",
    [[5], [5, 5, 5], [1, 2], rng.normal(size=12), [0] * 99 + [1e9], rng.normal(size=300) * 1e-9, 1e12 + rng.random(500),
     -rng.lognormal(0, 3, 1000), [0.1, 0.2, 0.3] * 50, np.float32(rng.integers(0, 500, 400)) / 10],
    ids=["one", "constant", "two", "tiny", "outlier", "small", "large", "negative", "steps", "grid"],
)
def test_any_labels_get_advice_that_runs(labels):
    labels = np.asarray(labels, dtype=np.float64)
    found = advice.advise(labels)
    assert eval(found.bins_code, {"Bins": Bins, "np": np}) == found.bins  # noqa: S307
    assert found.counts.sum() == len(labels)
    assert np.isfinite(found.weights[found.counts > 0]).all()
    assert found.ks % 2 == 1
    assert 1 <= found.sigma <= max(1, found.bins.count / 8)
    assert str(len(labels)) in advice.describe(labels, found)
    low, high = found.bins.edges[[0, -1]]
    widest = np.diff(found.bins.edges).max()
    assert labels.min() - low <= 2 * widest
    assert high - labels.max() <= 2 * widest


# the command


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    table = load_diabetes(as_frame=True).frame
    table.loc[5, "target"] = np.nan
    table["name"] = "x"
    table["word"] = ["n/k" if i == 3 else str(i) for i in range(len(table))]
    table.to_csv(folder / "t.csv", index=False)
    table.to_csv(folder / "t.csv.gz", index=False)
    table.to_csv(folder / "t.tsv", index=False, sep="\t")
    table.to_parquet(folder / "t.parquet")
    np.save(folder / "one.npy", table["target"])
    np.save(folder / "two.npy", table[["age", "target"]].to_numpy())
    np.save(folder / "text.npy", np.array(["a", "b"]))
    (folder / "bad.npy").write_bytes(b"no array")
    (folder / "bad.csv").write_bytes(b"\xff\xfe\x00\x00,\n\x81")
    (folder / "empty.csv").write_text("target\n")
    (folder / "t.xlsx").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("name", "target"),
    [("t.csv", "target"), ("t.csv.gz", "target"), ("t.tsv", "target"), ("t.parquet", "target"), ("one.npy", None),
     ("two.npy", "1")],
)
def test_every_format_gives_the_same_advice_and_code_that_runs(files, tmp_path, monkeypatch, capsys, name, target):
    picture = tmp_path / "labels.png"
    tool(monkeypatch, "inspect", files / name, *(["--target", target] if target else []), "--out", picture)
    said = capsys.readouterr()
    assert "441, 214 distinct, 25 to 346" in said.out
    assert "imbalance ratio" in said.out
    assert "1 of 442 labels are missing" in said.err
    assert "--reweight sqrt_inv --lds --lds_ks 3" in said.out
    code = said.out.split("in Python\n")[1].split("\nas flags")[0]
    scope: dict = {}
    exec("\n".join(line.strip() for line in code.splitlines()), scope)  # noqa: S102  # the printed code is what is tested
    np.testing.assert_array_equal(
        scope["weights"], lds_weights(scope["labels"], Bins.width(24.5, 376.5, 32), reweight="sqrt_inv", ks=3, sigma=1)
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["none.csv"], "FILE.*no file"),
        (["t.xlsx"], "FILE.*csv.*npy.*t.xlsx"),
        (["bad.csv"], "FILE.*bad.csv cannot be read"),
        (["bad.npy"], "FILE.*bad.npy cannot be read"),
        (["text.npy"], "FILE.*no numbers"),
        (["t.csv"], "--target.*age, sex"),
        (["t.csv", "--target", "nope"], "--target.*nope.*age, sex"),
        (["t.csv", "--target", "word"], "--target.*1 entries.*n/k"),
        (["t.csv", "--target", "name"], "--target.*442 entries.*'x'"),
        (["empty.csv"], "--target.*no"),
        (["two.npy"], "--target.*0 to 1"),
        (["two.npy", "--target", "2"], "--target.*0 to 1.*2"),
        (["one.npy", "--target", "0"], "FILE.*leave out --target"),
        (["one.npy", "--out", "one.npy"], r"--out.*\.png.*one.npy"),
        (["one.npy", "--out", "nowhere/a.png"], "--out.*nowhere"),
        (["one.npy", "--many", "5", "--few", "9"], "--few.*5.*9"),
        (["one.npy", "--few", "-1"], "--few.*-1"),
    ],
)
def test_bad_input_is_named(files, monkeypatch, words, named):
    monkeypatch.chdir(files)
    with pytest.raises(ValueError, match=named):
        tool(monkeypatch, "inspect", *words)


def test_an_error_is_one_line_and_exit_code_2(tmp_path):
    said = execute(["-m", "imbalanced_regression", "inspect", "none.csv"], tmp_path, code=2, PYTHONPATH=str(ROOT))
    assert said == "python -m imbalanced_regression: error: FILE: there is no file none.csv\n"


def test_help_has_examples_and_imports_nothing_heavy():
    for words in ([], ["inspect"], ["compare"], ["features"]):
        code = (
            "import sys, runpy; sys.argv = ['x', *sys.argv[1:], '--help']\n"
            "try: runpy.run_module('imbalanced_regression', run_name='__main__', alter_sys=True)\n"
            "except SystemExit as end: assert end.code == 0\n"
            "assert not {'numpy', 'torch', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT, check=True)
        assert "\n    python -m imbalanced_regression " in done.stdout
