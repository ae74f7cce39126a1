"""`inspect`: the advice suits labels that have nothing in common, its code runs, and every bad input is one line."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest
from commands import PROGRAMS, ROOT, execute, fresh
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris

from imbalanced_regression import Bins, lds_weights
from imbalanced_regression import __main__ as tools
from imbalanced_regression.tools import inspect as advice
from imbalanced_regression.tools.labels import read_labels

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
    assert "--reweight" not in said.out  # no train.py here reads the table
    assert "sample_weight=weights" in said.out
    code = said.out.split("in Python\n")[1].replace("in a PyTorch model besides\n", "")
    scope: dict = {}
    exec("\n".join(line.strip() for line in code.splitlines()), scope)  # noqa: S102  # the printed code is what is tested
    np.testing.assert_array_equal(
        scope["weights"], lds_weights(scope["labels"], Bins.width(24.5, 360.5, 28), reweight="inverse", ks=3, sigma=1)
    )
    assert (scope["head"].in_features, scope["fds"].bins) == (64, scope["bins"])
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
        (["empty.csv"], "--target.*header and no rows"),
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
    words = [[".", "-m", "imbalanced_regression", *name] for name in ([], ["inspect"], ["compare"], ["features"])]
    shown = fresh([PROGRAMS / "light_help.py", json.dumps(words)]).split("$ ")[1:]
    assert len(shown) == len(words)
    assert all("\n    python -m imbalanced_regression " in text for text in shown)


# tables as people have them


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


LABELS = [1834.5, 12.25, 106.0, 8508.75, 18.0] * 8
ROWS = [f"{value}" for value in LABELS]
COMMAS = [f"{value:,.2f}" for value in LABELS]  # 1,834.50
EUROPE = [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in LABELS]  # 1.834,50


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("a, price\n" + "".join(f"1, {v}\n" for v in ROWS), "utf-8", ""),
        (" a , price \n" + "".join(f"1 , {v} \n" for v in ROWS), "utf-8", ""),
        ("a;price\n" + "".join(f"1;{v}\n" for v in ROWS), "utf-8", ""),
        ("a\tprice\n" + "".join(f"1\t{v}\n" for v in ROWS), "utf-8", ""),
        ("a|price\n" + "".join(f"1|{v}\n" for v in ROWS), "utf-8", ""),
        ("a;price\n" + "".join(f"1;{v}\n" for v in EUROPE), "utf-8", ""),
        ("a,price\n" + "".join(f'1,"{v}"\n' for v in COMMAS), "utf-8", ""),
        ("a,price\n" + "".join(f'1,"$ {v}"\n' for v in COMMAS), "utf-8", ""),
        ("a;price\n" + "".join(f"1;{v} €\n" for v in EUROPE), "utf-8", ""),
        ("a,price\n" + "".join(f"1,{v} %\n" for v in ROWS), "utf-8", ""),
        ("größe,price\n" + "".join(f"1,{v}\n" for v in ROWS), "latin-1", "not UTF-8"),
        ("größe,price\n" + "".join(f"1,{v}\n" for v in ROWS), "utf-16", "not UTF-8"),
        ("größe,price\n" + "".join(f"1,{v}\n" for v in ROWS), "utf-8-sig", ""),
        ("price\n" + "".join(f"{v:.2f}\n".replace(".", ",") for v in LABELS), "utf-8", ""),
    ],
    ids=["space", "spaces", "semicolon", "tab", "bar", "european", "thousands", "dollars", "euros", "percent", "latin-1",
         "utf-16", "mark", "one column of decimal commas"],
)
def test_tables_as_people_have_them_are_read_and_the_printed_line_reads_the_same(tmp_path, text, encoding, said):
    import pandas  # noqa: F401  # what the printed line uses

    labels, code, odd = read_labels(write(tmp_path / "t.csv", text, encoding), "price")
    np.testing.assert_array_equal(labels, LABELS)
    assert said in " ".join(odd)
    assert bool(odd) == bool(said)
    np.testing.assert_array_equal(eval(code, {"pandas": pandas}), LABELS)  # noqa: S307


def test_a_file_without_a_header_loses_no_label_and_says_so(tmp_path):
    import pandas

    labels, code, odd = read_labels(write(tmp_path / "one.csv", "".join(f"{v}\n" for v in ROWS)))
    np.testing.assert_array_equal(labels, LABELS)
    assert "first line" in odd[0]
    np.testing.assert_array_equal(eval(code, {"pandas": pandas}), LABELS)  # noqa: S307
    labels, code, odd = read_labels(write(tmp_path / "two.csv", "".join(f"{i},{v}\n" for i, v in enumerate(ROWS))), "1")
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(eval(code, {"pandas": pandas}), LABELS)  # noqa: S307


@pytest.mark.parametrize(
    ("text", "encoding", "target", "named"),
    [
        ("price\n", "utf-8", None, "--target: .*a header and no rows"),
        ("a,price\n1,n.a.\n2,5\n", "utf-8", "price", "--target: .*1 entries.*'n.a.'.*1,834.31"),
        ("a;price\n1;1,834\n2;12,345\n", "utf-8", "price", "--target: .*'1,834' may be thousands or decimals"),
        ("price\n1\n2\n", "utf-16-le", "price", "FILE: .*zero bytes.*save it as UTF-8"),
        ("a,price\n1,1,5\n2,2,5\n", "utf-8", "price", "FILE: .*more fields than its header"),
        ("a,price,price \n1,2,3\n", "utf-8", "price", "--target: .*2 columns 'price'"),
        ("price,a,price\n1,2,3\n", "utf-8", "price", "--target: .*2 columns 'price'"),
        ("a;b\nx;y\n", "utf-8", "price", "--target: .*no column 'price'; its columns are a, b"),
    ],
)
def test_what_could_mean_two_things_is_refused_with_the_way_out(tmp_path, text, encoding, target, named):
    with pytest.raises(ValueError, match=named):
        read_labels(write(tmp_path / "t.csv", text, encoding), target)


def test_marks_of_missing_values_are_noted():
    labels = np.round(rng.gamma(2, 1500, 300) + 106)
    for mark, others in ((-999, labels), (-1, labels), (-9999, -labels / 100), (99999, labels), (-99, labels)):
        noted = advice.advise(np.where(np.arange(300) % 8 == 0, mark, others)).notes
        said = f"{mark} stands 38 times", f"labels[labels != {mark}]"
        assert any(note.startswith(said[0]) and said[1] in note for note in noted), mark
    for plain in (labels, rng.normal(size=300), rng.choice([-1, 0, 1], 300), np.where(labels > 3000, 0, labels),
                  rng.integers(0, 100, 3000), rng.integers(-9, 3, 300)):
        assert not any("marks of missing" in note for note in advice.advise(plain).notes)


# one rule, and what a table's owner can run


SETS = {
    "wine": np.repeat([3, 4, 5, 6, 7, 8], [10, 53, 681, 638, 199, 18]),
    "houses": np.round(rng.lognormal(12.2, 0.5, 1500), -2),
    "rain": np.where(rng.random(1500) < 0.7, 0, rng.exponential(8, 1500)),
    "returns": -np.abs(rng.standard_t(3, 1500)) * 0.01,
    "ages": rng.binomial(100, 0.35, 1500),
}


@pytest.mark.parametrize("labels", SETS.values(), ids=SETS)
def test_weights_with_nothing_given_are_those_inspect_advises(labels):
    found = advice.advise(labels)
    assert Bins.auto(labels) == found.bins
    assert found.bins.window(labels) == (found.ks, found.sigma)
    for how in ("sqrt_inv", "inverse"):
        given = lds_weights(labels, found.bins, reweight=how, ks=found.ks, sigma=found.sigma)
        np.testing.assert_array_equal(lds_weights(labels, reweight=how), given)
    assert lds_weights(labels).max() > 2.5 * lds_weights(labels).min()  # they do something


@pytest.mark.parametrize("labels", SETS.values(), ids=SETS)
def test_the_printed_python_of_a_network_runs_and_fits_the_labels(labels):
    import torch

    found = advice.advise(labels)
    scope = {"labels": labels, "bins": found.bins, "Bins": Bins}
    exec(advice.network_code(found, labels), scope)  # noqa: S102  # the printed code is what is tested
    assert scope["head"].scale.item() == pytest.approx(labels.std(), rel=1e-5)
    scope["fds"].observe(torch.randn(len(labels), 64), labels)
    scope["fds"].finish_epoch(0)
    assert (scope["fds"].num_samples_tracked > 0).sum() >= min(6, len(np.unique(labels)))
    widths = np.diff(scope["fds"].bins.edges)
    np.testing.assert_allclose(widths, widths[0], rtol=1e-3)


def test_lonely_labels_between_empty_bins_are_noted_and_what_to_expect_is_said():
    labels = np.r_[rng.uniform(0, 10, 500), 15.0, 19.0]
    found = advice.advise(labels)
    assert any("2 labels lie alone between empty bins" in note for note in found.notes)
    text = advice.describe(labels, found)
    said_too = "training part only", "overall one rises a little", "none to begin with", "fewer than the 10 samples"
    for said in said_too:
        assert said in text


@pytest.mark.parametrize("name", ["margin ($%) of ($%)", "$x_$", "$$", "价格 _^{"])
def test_names_are_drawn_as_they_stand(tmp_path, monkeypatch, name):
    table = write(tmp_path / "sales_$US_$EU.csv", f"{name}\n" + "".join(f"{i % 37}\n" for i in range(200)))
    tool(monkeypatch, "inspect", table, "--target", name, "--out", tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
