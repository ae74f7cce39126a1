"""The scripts of sts-b-dir as a user runs them: the split, GloVe and the sample. Real data is used where it lies."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "sts-b-dir"
FILES = ["train_new.tsv", "dev_new.tsv", "test_new.tsv"]
HEADER = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"


def run(script: str, *flags) -> subprocess.CompletedProcess:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-W", "error", script, *map(str, flags)]
    return subprocess.run(
        command, cwd=FOLDER, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=1800
    )


def succeeds(script: str, *flags) -> str:
    done = run(script, *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(script: str, *flags) -> str:
    """The one line of an error; exit code 2."""
    done = run(script, *flags)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    return lines[0]


def read(path: Path) -> list[list[str]]:
    lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    assert lines[0] == HEADER
    return [line.split("\t") for line in lines[1:]]


@pytest.fixture
def mirror(tmp_path):
    """(folder, address): what is put into the folder is served at the address."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


# -- create_sts.py --

CREATE = "glue_data/create_sts.py"


@pytest.fixture
def glue(tmp_path) -> Path:
    """A folder like GLUE's STS-B: 6 pairs in each score bin, quotation marks and other alphabets in the sentences."""
    folder = tmp_path / "glue"
    folder.mkdir()
    lines = []
    for i in range(120):
        score = f"{min(i % 20 * 0.25 + 0.125 * (i // 60), 5):.3f}" if i != 119 else "5"
        lines.append(f'g\tf\ty\t{i:04d}\tnone\tnone\tHe said: "{i}\tÜber {i}" \u2028\x85 said\t{score}')
    for name, part in {"train.tsv": lines[:90], "dev.tsv": lines[90:]}.items():
        rows = "".join(f"{i}\t{line}\n" for i, line in enumerate(part))
        (folder / name).write_bytes(f"{HEADER}\n{rows}".encode())
    return folder


def test_a_new_split_is_balanced_complete_and_the_seed_decides_it(glue, tmp_path):
    outs = [tmp_path / f"out{i}" for i in range(3)]
    for out, seed in zip(outs, (1, 1, 2)):
        said = succeeds(CREATE, "--from_glue", glue, "--seed", seed, "--per_bin", 4, "--out", out)
        assert "40/40/40" in said
    splits = [{name: read(out / name) for name in FILES} for out in outs]
    assert splits[0] == splits[1] != splits[2]
    rows = splits[0]
    for name in FILES:
        assert [row[0] for row in rows[name]] == [str(i) for i in range(40)]
        counts = np.bincount([min(int(float(row[-1]) * 4), 19) for row in rows[name]], minlength=20)
        assert (counts == 2).all()
    old = [row[1:] for name in ("train.tsv", "dev.tsv") for row in read(glue / name)]
    new = [row[1:] for name in FILES for row in rows[name]]
    assert sorted(old) == sorted(new)  # sentences and scores to the letter


def test_a_bin_with_too_few_pairs_is_named_with_the_way_out(glue, tmp_path):
    (glue / "dev.tsv").write_bytes(b"\n".join((glue / "dev.tsv").read_bytes().split(b"\n")[:-2]) + b"\n")
    said = fails(CREATE, "--from_glue", glue, "--per_bin", 6, "--out", tmp_path / "out")
    assert "[4.75, 5] has 5" in said
    assert "--per_bin 4" in said
    assert not (tmp_path / "out").exists()
    assert "even number" in fails(CREATE, "--from_glue", glue, "--per_bin", 5)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0\ta\tb", "3 columns, expected 10"),
        ("0\tg\tf\ty\to\tn\tn\ta\tb\thigh", "score 'high'"),
        ("0\tg\tf\ty\to\tn\tn\ta\tb\t5.2", "score '5.2'"),
        ("0\tg\tf\ty\to\tn\tn\ta\tb\tnan", "score 'nan'"),
        ("0\tg\tf\ty\to\tn\tn\ta\tb\t1,5", "score '1,5', expected a number from 0 to 5"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number(glue, tmp_path, line, problem):
    with open(glue / "dev.tsv", "ab") as file:
        file.write(line.encode("utf-8", "surrogateescape") + b"\n")
    said = fails(CREATE, "--from_glue", glue, "--per_bin", 2, "--out", tmp_path / "out")
    assert "dev.tsv, line 32" in said
    assert problem in said
    assert not (tmp_path / "out").exists()


def test_other_files_are_replaced_only_by_overwrite(glue, tmp_path):
    out = tmp_path / "out"
    succeeds(CREATE, "--from_glue", glue, "--per_bin", 2, "--out", out)
    before = (out / FILES[0]).read_bytes()
    succeeds(CREATE, "--from_glue", glue, "--per_bin", 2, "--out", out)  # the same again is no loss
    assert "--overwrite" in fails(CREATE, "--from_glue", glue, "--per_bin", 2, "--seed", 5, "--out", out)
    assert (out / FILES[0]).read_bytes() == before
    succeeds(CREATE, "--from_glue", glue, "--per_bin", 2, "--seed", 5, "--out", out, "--overwrite")
    assert (out / FILES[0]).read_bytes() != before
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "split.json"])


def test_check_tells_a_recorded_split_from_a_changed_one(glue, tmp_path):
    out = tmp_path / "out"
    succeeds(CREATE, "--from_glue", glue, "--per_bin", 2, "--seed", 7, "--out", out)
    assert "--seed 7 --per_bin 2" in succeeds(CREATE, "--check", out)
    with open(out / "test_new.tsv", "ab") as file:
        file.write(b"40\tg\tf\ty\to\tn\tn\ta\tb\t1\n")
    assert "NOT the published split but other pairs" in fails(CREATE, "--check", out)
    (out / "test_new.tsv").unlink()
    assert "test_new.tsv does not exist" in fails(CREATE, "--check", out)


def test_glue_is_taken_from_a_zip_or_downloaded(glue, tmp_path, mirror):
    folder, address = mirror
    with zipfile.ZipFile(folder / "STS-B.zip", "w") as archive:
        for name in ("train.tsv", "dev.tsv"):
            archive.write(glue / name, f"STS-B/{name}")
            archive.writestr(f"STS-B/original/old-{name}", "no")
    outs = [tmp_path / "out1", tmp_path / "out2"]
    flags = ("--per_bin", 2, "--out")
    succeeds(CREATE, "--from_glue", folder / "STS-B.zip", *flags, outs[0])
    succeeds(CREATE, "--from_glue", "--url", f"{address}/STS-B.zip", *flags, outs[1])
    for name in FILES:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
    assert (outs[1] / "STS-B.zip").exists()  # the download lies in the folder asked for, nowhere else
    (folder / "STS-B.zip").write_bytes((folder / "STS-B.zip").read_bytes()[:-30])
    assert "not a whole zip" in fails(CREATE, "--from_glue", folder / "STS-B.zip", *flags, tmp_path / "out3")
    assert "no such zip" in fails(CREATE, "--from_glue", "absent.zip")


def test_flags_that_do_not_belong_together_are_errors():
    assert "--from_glue" in fails(CREATE, "--seed", 1)
    assert "not allowed with" in fails(CREATE, "--check", "--from_glue")


def test_a_wrong_file_from_a_mirror_is_refused(tmp_path, mirror):
    folder, address = mirror
    for name in FILES:
        (folder / name).write_bytes(b"another draw\n")
    said = fails(CREATE, "--url", address, "--out", tmp_path / "out")
    assert hashlib.sha256(b"another draw\n").hexdigest() in said
    assert "4da3322a" in said
    assert list((tmp_path / "out").iterdir()) == []


def test_the_published_split_is_fetched_verified_and_kept(shared, tmp_path, mirror):
    folder, address = mirror
    for name in FILES:
        shutil.copy(shared / "data" / "sts-b" / name, folder / name)
    out = tmp_path / "STS-B"
    said = succeeds(CREATE, "--url", address, "--out", out)
    assert "the published split, 5,249/1,000/1,000" in said
    assert "the published split" in succeeds(CREATE, "--out", out)  # no connection needed now
    for name in FILES:
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    (out / "dev_new.tsv").write_bytes(b"mine")
    assert "dev_new.tsv is not the expected file" in fails(CREATE, "--url", address, "--out", out)
    assert "the published split" in succeeds(CREATE, "--url", address, "--out", out, "--overwrite")
    # the same pairs, drawn otherwise: what some later papers ship
    first, *lines = (out / "test_new.tsv").read_bytes().splitlines(keepends=True)
    (out / "test_new.tsv").write_bytes(first + b"".join(lines[::-1]))
    assert "another draw of the same 7,249 pairs" in fails(CREATE, "--check", out)


def test_real_glue_gives_the_published_sizes(shared, tmp_path):
    real, out = shared / "data" / "sts-b", tmp_path / "out"
    assert "5,249/1,000/1,000" in succeeds(CREATE, "--from_glue", real, "--seed", 3, "--out", out)
    for name in FILES[1:]:
        counts = np.bincount([min(int(float(row[-1]) * 4), 19) for row in read(out / name)], minlength=20)
        assert (counts == 50).all()
    everything = sorted(row[1:] for name in FILES for row in read(out / name))
    assert everything == sorted(row[1:] for name in FILES for row in read(real / name))
    overlap = {tuple(r[1:]) for r in read(out / "test_new.tsv")} & {tuple(r[1:]) for r in read(real / "test_new.tsv")}
    assert 100 < len(overlap) < 300  # another draw


# -- GloVe --


@pytest.fixture(scope="module")
def reader():
    spec = importlib.util.spec_from_file_location("glove_reader", FOLDER / "glove" / "reader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WORDS = ["@pad@", "@unk@", "the", "Über", "naïve", "absent", ".", "..", "last", ""]


def make_glove(path: Path, dim: int = 4) -> Path:
    lines = [", 1 2 3 4", "the 0.1 -0.2 3e-2 4", ". . . 9 9 9 9", "at name@domain.com 8 8 8 8", "Über 5 6 7 8"]
    lines += [". 1 1 1 1", "naïve 2 2 2 2", "the 7 7 7 7", *(f"w{i} 0 0 0 0" for i in range(2000)), "last 3 3 3 3"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_wanted_words_get_their_vectors_and_others_a_draw(reader, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    vectors = reader.read_glove(make_glove(tmp_path / "g.txt"), WORDS, 4, seed=1)
    assert vectors.shape == (len(WORDS), 4)
    assert vectors.dtype == np.float32
    assert (vectors[0] == 0).all()
    expected = {"the": [0.1, -0.2, 0.03, 4], "Über": [5, 6, 7, 8], "naïve": [2] * 4, ".": [1] * 4, "last": [3] * 4}
    for word, vector in expected.items():
        np.testing.assert_array_equal(vectors[WORDS.index(word)], np.float32(vector))
    assert "5 of 10 words found" in caplog.text
    other = reader.read_glove(tmp_path / "g.txt", WORDS, 4, seed=2)
    drawn = [row for row, word in enumerate(WORDS) if row and word not in expected]
    assert (other[drawn] != vectors[drawn]).all()
    fixed = [row for row, word in enumerate(WORDS) if word in expected]
    np.testing.assert_array_equal(other[fixed], vectors[fixed])


def test_words_not_found_are_standard_normal(reader, tmp_path):
    words = ["@pad@", *(f"absent{i}" for i in range(20_000))]
    vectors = reader.read_glove(make_glove(tmp_path / "g.txt"), words, 4, seed=0)[1:]
    assert abs(vectors.mean()) < 0.02
    assert abs(vectors.std() - 1) < 0.02


def test_the_cache_gives_the_same_and_follows_file_words_and_damage(reader, tmp_path, monkeypatch, caplog):
    path = make_glove(tmp_path / "g.txt")
    first = reader.read_glove(path, WORDS, 4, seed=1)
    (cache,) = tmp_path.glob("g.txt.*.npz")
    with monkeypatch.context() as patch:
        patch.setattr(reader, "_scan", None)  # not called
        np.testing.assert_array_equal(reader.read_glove(path, WORDS, 4, seed=1), first)
    for damage in (b"", b"damage", cache.read_bytes()[:-200]):
        cache.write_bytes(damage)
        np.testing.assert_array_equal(reader.read_glove(path, WORDS, 4, seed=1), first)
        assert "is damaged" in caplog.text
    shorter = reader.read_glove(path, WORDS[:4], 4, seed=1)
    np.testing.assert_array_equal(shorter[2], first[2])
    path.write_text("the 9 9 9 9\n")
    assert (reader.read_glove(path, WORDS, 4, seed=1)[2] == 9).all()
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_that_cannot_be_written_costs_only_the_cache(reader, tmp_path, monkeypatch, caplog):
    path = make_glove(tmp_path / "g.txt")

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reader.os, "replace", refuse)
    assert (reader.read_glove(path, WORDS, 4, seed=1)[WORDS.index("last")] == 3).all()
    assert "could not keep the vectors" in caplog.text
    assert [p.name for p in tmp_path.iterdir()] == ["g.txt"]


def test_a_file_of_another_width_names_file_line_widths_and_flag(reader, tmp_path):
    path = make_glove(tmp_path / "g.txt")
    for dim in (3, 300):
        with pytest.raises(ValueError, match=f"g.txt, line 1: 4 numbers after the word, expected {dim}.*--d_word"):
            reader.read_glove(path, WORDS, dim, seed=1)
    with open(path, "a") as file:
        file.write("absent 1 2")  # cut short
    with pytest.raises(ValueError, match="g.txt, line 2010: 2 numbers, expected 4"):
        reader.read_glove(path, WORDS, 4, seed=1)
    path.write_text("the a b c d\n")
    with pytest.raises(ValueError, match="g.txt, line 1: not a word and 4 numbers"):
        reader.read_glove(path, WORDS, 4, seed=1)
    with pytest.raises(ValueError, match="download_glove.py.*--glove 0"):
        reader.read_glove(tmp_path / "absent.txt", WORDS, 4, seed=1)


def in_layout(name: str) -> bytes:
    """Two words in the layouts that word vectors come in."""
    rows = [("the", ["0.1", "-0.2", "3e-2", "4"]), ("Über", ["5", "6", "7", "8"])]
    spaces = "".join(f"{word} {' '.join(numbers)}\n" for word, numbers in rows)
    tabs = spaces.replace(" ", "\t")
    return {
        "GloVe": spaces, "word2vec's text": "2 4\n" + spaces, "fastText": "2 4\n" + spaces.replace("\n", " \n"),
        "tabs": tabs, "tabs and a header": "2\t4\n" + tabs,
        "a tab after the word": "".join(f"{word}\t{' '.join(numbers)}\n" for word, numbers in rows),
        "Windows line ends": spaces.replace("\n", "\r\n"), "a byte order mark": "\ufeff" + spaces,
        "a mark, a header and tabs": "\ufeff2 4\r\n" + tabs.replace("\n", "\r\n"),
    }[name].encode()


@pytest.mark.parametrize("name", [
    "GloVe", "word2vec's text", "fastText", "tabs", "tabs and a header", "a tab after the word", "Windows line ends",
    "a byte order mark", "a mark, a header and tabs",
])
def test_common_layouts_of_word_vectors_are_recognised(reader, tmp_path, name):
    (tmp_path / "g.txt").write_bytes(in_layout(name))
    vectors = reader.read_glove(tmp_path / "g.txt", WORDS, 4, seed=1)
    np.testing.assert_array_equal(vectors[WORDS.index("the")], np.float32([0.1, -0.2, 0.03, 4]))
    np.testing.assert_array_equal(vectors[WORDS.index("Über")], np.float32([5, 6, 7, 8]))


@pytest.mark.parametrize(("content", "reason"), [
    (b"2 300\nthe 1 2 3 4\n", "g.txt, line 1: vectors of 300 numbers by its header, expected 4; pass .* by --d_word"),
    (b"2 4\nthe \x00\x91\x9f\x3f\x00\xa4\n", "g.txt, line 2: word2vec's binary format; save the vectors as text"),
    (b"the,1,2,3,4\n", "g.txt, line 1: separated by commas; expected spaces or tabs"),
    (b"PK\x03\x04", "g.txt is a zip archive; unpack it"),
    (b"\x1f\x8b\x08", "g.txt is compressed by gzip; unpack it"),
    ("the 1 2 3 4".encode("utf-16"), "g.txt is UTF-16; save it as UTF-8"),
    ("größe 1 2 3 4\n".encode("latin-1"), "g.txt, line 1: no UTF-8 text"),
    (b"once upon a time there was\n", "g.txt, line 1: not a word and 5 numbers .'upon a time there wa'.; expected a text"),
    (b"2 4\nthe 1 2 3\n", "g.txt, line 2: 3 numbers after the word, expected 4"),
])
def test_other_files_than_word_vectors_are_refused_with_the_right_reason(reader, tmp_path, content, reason):
    (tmp_path / "g.txt").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        reader.read_glove(tmp_path / "g.txt", WORDS, 4, seed=1)


GLOVE = "glove/download_glove.py"


def test_glove_is_fetched_unpacked_and_not_fetched_again(tmp_path, mirror):
    folder, address = mirror
    text = make_glove(tmp_path / "glove.4d.txt")
    with zipfile.ZipFile(folder / "glove.4d.zip", "w") as archive:
        archive.write(text, text.name)
    out = tmp_path / "out"
    flags = ("--url", f"{address}/glove.4d.zip", "--out", out)
    assert "expected 300" in fails(GLOVE, *flags)
    assert sorted(path.name for path in out.iterdir()) == ["glove.4d.zip"]
    succeeds(GLOVE, *flags, "--d_word", 4)
    assert [path.name for path in out.iterdir()] == ["glove.4d.txt"]
    assert (out / text.name).read_bytes() == text.read_bytes()
    (folder / "glove.4d.zip").unlink()
    assert "is there already" in succeeds(GLOVE, *flags, "--d_word", 4)
    assert "404" in fails(GLOVE, *flags, "--d_word", 4, "--overwrite")
    assert (out / text.name).exists()


def test_keep_zip_keeps_it_and_a_broken_zip_leaves_no_text(tmp_path, mirror):
    folder, address = mirror
    text = make_glove(tmp_path / "g.txt")
    with zipfile.ZipFile(folder / "g.zip", "w") as archive:
        archive.write(text, text.name)
    out = tmp_path / "out"
    flags = ("--url", f"{address}/g.zip", "--out", out, "--d_word", 4)
    succeeds(GLOVE, *flags, "--keep_zip")
    assert sorted(path.name for path in out.iterdir()) == ["g.txt", "g.zip"]
    (out / "g.txt").unlink()
    (out / "g.zip").write_bytes((out / "g.zip").read_bytes()[:-30])
    assert "g.zip is truncated or corrupt" in fails(GLOVE, *flags)
    assert sorted(path.name for path in out.iterdir()) == ["g.zip"]
    assert "expected the address of a .zip" in fails(GLOVE, "--url", f"{address}/g.tar")


# -- the sample --

SAMPLE = "make_sample.py"


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "STS-B"
    assert "3,000/500/500" in succeeds(SAMPLE, "--out", out)
    return out


def test_the_sample_has_the_real_layout_and_balance(sample):
    scores = {}
    for name in FILES:
        rows = read(sample / name)
        assert all(len(row) == 10 and row[7] and row[8] for row in rows)
        scores[name] = np.array([float(row[-1]) for row in rows])
        assert ((scores[name] >= 0) & (scores[name] <= 5)).all()
    for name in FILES[1:]:
        assert (np.bincount(np.minimum((scores[name] * 4).astype(int), 19), minlength=20) == 25).all()
    counts = np.bincount(np.minimum((scores[FILES[0]] * 4).astype(int), 19), minlength=20)
    assert counts.max() > 4 * counts.min()  # train is imbalanced


def test_the_sample_fills_the_published_shots_like_the_real_data(sample):
    many, medium = {0, 49, *range(10, 49, 2)}, {2, 4, 6, 8, 27, 35, 37}
    edges = np.linspace(0, 5, 51).astype(np.float32)
    # shares of many, medium and few, counted on the published files
    for name, real in {"train_new.tsv": (0.86, 0.10, 0.04), "test_new.tsv": (0.76, 0.17, 0.07)}.items():
        labels = np.array([row[-1] for row in read(sample / name)], np.float32)
        bins = np.minimum(np.searchsorted(edges, labels, side="right") - 1, 49)
        shots = np.array([0 if b in many else 1 if b in medium else 2 for b in bins])
        np.testing.assert_allclose(np.bincount(shots, minlength=3) / len(shots), real, atol=0.05)


def test_the_meaning_shared_follows_the_score_in_the_sample(sample):
    rows = [row for name in FILES for row in read(sample / name)]
    words = [[set(sentence.lower().strip(".").split()) for sentence in row[7:9]] for row in rows]
    overlap = np.array([len(a & b) / len(a | b) for a, b in words])
    scores = np.array([float(row[-1]) for row in rows])
    assert 0.4 < np.corrcoef(overlap, scores)[0, 1] < 0.8  # learnable, and not by counting equal words alone
    assert 300 < len({word for a, b in words for word in a | b}) < 600


def test_the_same_seed_gives_the_same_sample_and_another_seed_another(sample, tmp_path):
    succeeds(SAMPLE, "--out", tmp_path / "again")
    succeeds(SAMPLE, "--out", tmp_path / "other", "--seed", 1)
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (sample / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (sample / name).read_bytes()
    assert "--overwrite" in fails(SAMPLE, "--out", tmp_path / "again", "--seed", 1)
    assert "no real data" in succeeds(CREATE, "--check", tmp_path / "again")
    assert "--test 19" in fails(SAMPLE, "--test", 19)
