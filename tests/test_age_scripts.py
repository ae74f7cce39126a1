"""The scripts of agedb-dir and imdb-wiki-dir as a user runs them. Real data is used where it lies."""

from __future__ import annotations

import csv
import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from commands import PROGRAMS, ROOT, warm
from PIL import Image


def run(script: str, *flags, other_hash: tuple[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run `folder/script` in its folder; warnings are errors. A download script may expect another hash of its table: (the
    constant's name, its value)."""
    folder, _, name = script.partition("/")
    words = [name, *flags]
    if other_hash is not None:
        words = [PROGRAMS / "other_hash.py", name.removesuffix(".py"), *other_hash, *flags]
    return subprocess.CompletedProcess(words, *warm(words, ROOT / folder, program=True))


def succeeds(script: str, *flags, **options) -> str:
    done = run(script, *flags, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fails(script: str, *flags, **options) -> str:
    """The one line of an error; exit code 2."""
    done = run(script, *flags, **options)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(lines) == 1
    return lines[0]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def mirror(tmp_path):
    """(folder, address): what is put into the folder is served at the address."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def agedb(tmp_path_factory) -> Path:
    """A small sample in AgeDB's layout."""
    folder = tmp_path_factory.mktemp("agedb")
    said = succeeds("agedb-dir/make_sample.py", "--out", folder, "--train", 300, "--per_age", 1, "--size", 24, "--workers", 1)
    assert "agedb.csv: 500 drawn faces of 24 px" in said
    return folder


@pytest.fixture(scope="module")
def imdb_wiki(tmp_path_factory) -> Path:
    """A small sample in IMDB-WIKI's layout."""
    folder = tmp_path_factory.mktemp("imdb_wiki")
    succeeds("imdb-wiki-dir/make_sample.py", "--out", folder, "--train", 300, "--per_age", 1, "--size", 24, "--workers", 1)
    return folder


def test_the_agedb_sample_has_the_real_layout(agedb):
    table = rows(agedb / "agedb.csv")
    assert list(table[0]) == ["age", "path", "split"]
    assert [sum(row["split"] == name for row in table) for name in ("train", "val", "test")] == [300, 100, 100]
    for row in table:
        _, name, age, gender = Path(row["path"]).stem.split("_")
        assert row["path"].startswith("AgeDB/")
        assert name.isalpha()
        assert age == row["age"]
        assert gender in "fm"
    with Image.open(agedb / table[0]["path"]) as image:
        assert (image.format, image.size) == ("JPEG", (24, 24))


def test_a_sample_is_not_replaced_unasked(agedb):
    assert "has a sample; --overwrite replaces it" in fails("agedb-dir/make_sample.py", "--out", agedb)


def test_agedb_create_then_preprocess(agedb, tmp_path):
    shutil.copytree(agedb / "AgeDB", tmp_path / "AgeDB")
    (tmp_path / "AgeDB" / "notes.txt").touch()
    said = succeeds("agedb-dir/data/create_agedb.py", "--data_dir", tmp_path)
    assert "500 images; 1 files of other names left out" in said
    meta = {(row["age"], row["path"]) for row in rows(tmp_path / "meta" / "agedb.csv")}
    assert meta == {(row["age"], row["path"]) for row in rows(agedb / "agedb.csv")}
    assert "'train': " in succeeds("agedb-dir/data/preprocess_agedb.py", "--data_dir", tmp_path)
    table = rows(tmp_path / "agedb.csv")
    assert {(row["age"], row["path"]) for row in table} == meta
    ages = {name: sorted(row["age"] for row in table if row["split"] == name) for name in ("val", "test")}
    assert ages["val"] == ages["test"] != []
    with Image.open(tmp_path / "agedb.png") as plot:
        assert plot.width > 600
    refused = fails("agedb-dir/data/preprocess_agedb.py", "--data_dir", tmp_path)
    assert "agedb.csv exists, perhaps the published split; --overwrite replaces it" in refused


def test_imdb_wiki_create_then_preprocess(imdb_wiki, tmp_path):
    for db in ("imdb", "wiki"):
        (tmp_path / f"{db}_crop").mkdir()
        shutil.copy(imdb_wiki / f"{db}_crop" / f"{db}.mat", tmp_path / f"{db}_crop")
    said = succeeds("imdb-wiki-dir/data/create_imdb_wiki.py", "--data_dir", tmp_path)
    assert said.count("250 images; left out: 1 no or unclear face, 1 second face, 0 impossible age") == 2
    meta = [(row["age"], row["path"]) for db in ("imdb", "wiki") for row in rows(tmp_path / "meta" / f"{db}.csv")]
    sample = rows(imdb_wiki / "imdb_wiki.csv")
    assert sorted(meta) == sorted((row["age"], row["path"]) for row in sample)
    assert all((imdb_wiki / path).is_file() for _, path in meta)
    succeeds("imdb-wiki-dir/data/preprocess_imdb_wiki.py", "--data_dir", tmp_path)
    table = rows(tmp_path / "imdb_wiki.csv")
    assert [(row["age"], row["path"]) for row in table] == meta  # IMDB's rows, then WIKI's
    assert {row["split"] for row in table} == {"train", "val", "test"}
    assert (tmp_path / "imdb_wiki.png").is_file()


def test_a_score_no_face_reaches_replaces_no_table(imdb_wiki, tmp_path):
    shutil.copytree(imdb_wiki, tmp_path, dirs_exist_ok=True)
    create = "imdb-wiki-dir/data/create_imdb_wiki.py"
    succeeds(create, "--data_dir", tmp_path)
    before = (tmp_path / "meta/imdb.csv").read_text()
    for score in ("nan", "1e9"):
        said = fails(create, "--data_dir", tmp_path, "--min_score", score)
        assert f"no image is left with --min_score {float(score):g}" in said
    assert (tmp_path / "meta/imdb.csv").read_text() == before


def test_missing_raw_data_is_one_line_that_says_what_to_run(tmp_path):
    assert "python download_agedb.py" in fails("agedb-dir/data/create_agedb.py", "--data_dir", tmp_path)
    assert "python download_imdb_wiki.py" in fails("imdb-wiki-dir/data/create_imdb_wiki.py", "--data_dir", tmp_path)
    for folder, name in (("agedb-dir", "agedb"), ("imdb-wiki-dir", "imdb_wiki")):
        assert "run the create script first" in fails(f"{folder}/data/preprocess_{name}.py", "--data_dir", tmp_path)


def test_agedb_download_verifies_the_split_and_says_how_to_get_the_images(shared, mirror, tmp_path):
    folder, address = mirror
    shutil.copy(shared / "data" / "agedb" / "agedb.csv", folder)
    said = succeeds("agedb-dir/download_agedb.py", "--data_dir", tmp_path / "data", "--url", f"{address}/agedb.csv")
    assert "agedb.csv is the published split; now ask for the images" in said
    assert len(rows(tmp_path / "data" / "agedb.csv")) == 16488
    (folder / "agedb.csv").write_text("age,path,split\n")
    refused = fails("agedb-dir/download_agedb.py", "--data_dir", tmp_path / "other", "--url", f"{address}/agedb.csv")
    assert "expected ab9f8d4c7099a9d74ec5094c42b6fe9f1927a166a48d2ab800a88b2fd6081252" in refused
    assert not (tmp_path / "other" / "agedb.csv").exists()


def test_agedb_images_are_unpacked_from_wherever_the_zip_has_them(agedb, mirror, tmp_path):
    folder, address = mirror
    shutil.copy(agedb / "agedb.csv", folder)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("release/readme.txt", "hello")
        for path in (agedb / "AgeDB").iterdir():
            archive.write(path, f"release/faces/{path.name}")
    sample = {"other_hash": ("SHA256", hashlib.sha256((agedb / "agedb.csv").read_bytes()).hexdigest())}
    flags = ("agedb-dir/download_agedb.py", "--data_dir", tmp_path / "data", "--url", f"{address}/agedb.csv", "--zip",
             tmp_path / "images.zip")
    assert "is complete: {'train': 300, 'val': 100, 'test': 100}" in succeeds(*flags, **sample)
    assert sorted(os.listdir(tmp_path / "data")) == ["AgeDB", "agedb.csv"]
    assert "AgeDB exists; delete it or pass --overwrite" in fails(*flags, **sample)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused = fails(*flags, "--overwrite", **sample)
    assert "holds 0 folders of images" in refused
    assert len(os.listdir(tmp_path / "data" / "AgeDB")) == 500  # the old ones are still there


def test_imdb_wiki_download_unpacks_both_archives(imdb_wiki, mirror, tmp_path):
    folder, address = mirror
    shutil.copy(imdb_wiki / "imdb_wiki.csv", folder)
    for name in ("imdb_crop", "wiki_crop"):
        with tarfile.open(folder / f"{name}.tar", "w") as archive:
            archive.add(imdb_wiki / name, name)
    flags = ("imdb-wiki-dir/download_imdb_wiki.py", "--data_dir", tmp_path / "data", "--url", f"{address}/imdb_wiki.csv",
             "--images_url", address)
    refused = fails(*flags)
    assert "expected c1512e3da0de9076a0793b982c9a74cd872c0d8b" in refused
    content = (imdb_wiki / "imdb_wiki.csv").read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sample = {"other_hash": ("GIT_BLOB", blob)}
    said = succeeds(*flags, "--only", "wiki", **sample)
    assert "training needs imdb_crop and wiki_crop" in said
    said = succeeds(*flags, **sample)
    assert "wiki_crop is there already" in said
    assert "is complete: {'train': 300, 'val': 100, 'test': 100}" in said
    assert sorted(os.listdir(tmp_path / "data")) == ["imdb_crop", "imdb_wiki.csv", "wiki_crop"]


def test_a_sheet_of_faces_is_drawn(tmp_path):
    succeeds("imdb-wiki-dir/make_sample.py", "--sheet", tmp_path / "faces.png", "--size", 24)
    with Image.open(tmp_path / "faces.png") as sheet:
        assert sheet.width > 24 * 24


@pytest.mark.parametrize(
    "script",
    [
        "agedb-dir/make_sample.py", "agedb-dir/download_agedb.py", "agedb-dir/data/create_agedb.py",
        "agedb-dir/data/preprocess_agedb.py", "imdb-wiki-dir/make_sample.py", "imdb-wiki-dir/download_imdb_wiki.py",
        "imdb-wiki-dir/data/create_imdb_wiki.py", "imdb-wiki-dir/data/preprocess_imdb_wiki.py",
    ],
)
def test_help_shows_the_commands_and_an_unknown_flag_is_an_error(script):
    assert f"python {script.partition('/')[2]}" in succeeds(script, "--help")
    assert "unrecognized arguments: --nonsense" in fails(script, "--nonsense")
