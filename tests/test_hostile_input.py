"""Hostile input: whatever a csv, a tsv, an image or a checkpoint holds, a script ends with one line and exit code 2."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import small_runs
from commands import ROOT, completed, run_program
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imbalanced_regression import __main__ as tools
from imbalanced_regression import lds_weights
from imbalanced_regression.faces.pixels import load_face
from imbalanced_regression.faces.table import preprocess, read_age_csv
from imbalanced_regression.images import BadImage

# the same examples each time, or, to look for new faults, EXAMPLES=2000 others
QUIET = settings(
    max_examples=int(os.environ.get("EXAMPLES", "150")), derandomize="EXAMPLES" not in os.environ, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# mostly what such files hold, sometimes anything at all
FIELDS = st.one_of(
    st.sampled_from(
        ["train", "val", "test", "a.jpg", "b.jpg", "30", "0", "200", "-1", "nan", "inf", "1e400", "", '"', "\x00", "../a.jpg",
         "/etc/passwd", "C:\\x", "..\\..\\x", "AgeDB/./a.jpg", "a.jpg/..", "1_0", "٣", "\ufeff", "\r", "x" * 5000]
    ),
    st.text(max_size=8),
)
HEADERS = st.sampled_from(["age,path,split", "split,path,age", "age,path", "", "age,age,path,split", "\ufeffage,path,split"])


def document(separator: str, headers) -> st.SearchStrategy[bytes]:
    rows = st.lists(st.lists(FIELDS, max_size=6).map(separator.join), max_size=6)
    text = st.tuples(headers, rows, st.sampled_from(["\n", "\r\n", "\r"]))
    plain = text.map(lambda parts: parts[2].join([parts[0], *parts[1]]).encode("utf-8", "surrogatepass"))
    return st.one_of(plain, plain, st.tuples(plain, st.binary(max_size=5)).map(b"".join), st.binary(max_size=60))


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("faces")
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 8)).save(folder / name)
    (folder.parent / "outside.jpg").write_bytes((folder / "a.jpg").read_bytes())
    return folder


@QUIET
@given(content=document(",", HEADERS))
def test_any_csv_is_read_or_refused(faces, content):
    """Read, no path leads out of the folder; refused, by an error that `cli.guard` makes one line of."""
    path = faces / "any.csv"
    path.write_bytes(content)
    splits: dict = {}
    with contextlib.suppress(ValueError, OSError):
        splits = read_age_csv(path, faces)
    if splits:
        inside = [Path(os.path.abspath(image)) for split in splits.values() for image in split.paths]
        assert all(image.is_relative_to(faces) for image in inside)


@QUIET
@given(content=document(",", HEADERS))
def test_any_meta_csv_is_split_or_refused(faces, content):
    path = faces / "meta.csv"
    path.write_bytes(content)
    with contextlib.suppress(ValueError, OSError):
        assert sum(preprocess([path], faces / "out.csv", cap=3).values()) >= 0


def test_any_tsv_is_read_or_refused():
    assert "checked" in run_program("any_tsv", ROOT / "sts-b-dir")


def test_any_list_of_pairs_and_any_mask_is_read_or_refused():
    assert "checked" in run_program("any_depth_lists", ROOT / "nyud2-dir")


def test_any_table_of_nights_is_refused_where_there_are_none():
    assert "checked" in run_program("any_nights", ROOT / "shhs-dir")


@QUIET
@given(st.lists(st.one_of(st.floats(), st.integers(-10**30, 10**30), st.sampled_from(["3", "x", None])), max_size=8))
def test_any_labels_get_finite_weights_or_are_refused(labels):
    for how in ({}, {"reweight": "inverse", "lds": False}):
        with contextlib.suppress(ValueError):
            weights = lds_weights(labels, **how)
            assert len(weights) == len(labels)
            assert np.isfinite(weights).all()
            assert (weights > 0).all()


@QUIET
@given(content=document(",", HEADERS))
def test_any_table_is_inspected_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.csv").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(ValueError, OSError):
        words = ["inspect", str(folder / "any.csv"), "--target", "age", "--out", str(folder / "any.png")]
        patch.setattr(sys, "argv", ["imbalanced_regression", *words])
        tools.main()


@QUIET
@given(content=st.one_of(st.binary(max_size=200), st.integers(0, 400)))
def test_any_image_is_read_or_refused(faces, content):
    """Bytes of any kind, and a real JPEG cut off or with one byte changed."""
    if isinstance(content, int):
        data = bytearray((faces / "a.jpg").read_bytes())
        data[content % len(data)] ^= 0x55
        content = bytes(data if content % 2 else data[:content])
    (faces / "any.jpg").write_bytes(content)
    with contextlib.suppress(BadImage), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_face(faces / "any.jpg", 8).shape == (3, 8, 8)


def png_bomb(side: int) -> bytes:
    """A PNG of side x side pixels, a gigabyte and more, in a few kilobytes: what it holds is never unpacked."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 20_000])  # above Pillow's limit, where it warns, and above twice that
def test_decompression_bombs_end_with_one_line(tmp_path, side):
    folder = "agedb-dir"
    data = small_runs.make_sample(folder, tmp_path / "data")
    rows = (data / "agedb.csv").read_text().splitlines()
    image = data / next(row for row in rows if row.endswith("train")).split(",")[1]
    image.write_bytes(png_bomb(side))
    words = small_runs.words(folder, data, 1, "--store_root", str(tmp_path / "runs"))
    error = refused(folder, ["train.py", *words])
    assert str(image) in error
    assert "pixels" in error


def refused(folder: str, words: list) -> str:
    """What a script says that must end with exit code 2 and one line on stderr."""
    done = completed(words, ROOT / folder, 2)
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("folder", ["agedb-dir", "sts-b-dir"])
def test_hostile_files_end_a_run_with_one_line(tmp_path, folder):
    """A pickle that would run code, given to each flag that reads a checkpoint; a csv or tsv of random bytes."""
    data = small_runs.make_sample(folder, tmp_path / "data")
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    words = ["train.py", *small_runs.words(folder, data, 1, "--store_root", str(tmp_path / "runs"))]
    for flags in (["--resume", tmp_path / "bomb.pth"], ["--pretrained", tmp_path / "bomb.pth"]):
        assert "bomb.pth" in refused(folder, [*words, *flags])
    assert not (tmp_path / "ran").exists()
    for file in [*data.glob("*.csv"), *data.glob("STS-B/train_new.tsv")]:
        file.write_bytes(bytes(range(256)) * 3)
        assert file.name in refused(folder, words)
    assert not (tmp_path / "runs").exists()
