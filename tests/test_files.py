"""Text files as spreadsheets and editors save them: every reader of every folder takes them alike."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from commands import from_folder
from PIL import Image

from imbalanced_regression.faces.table import read_age_csv, write_csv
from imbalanced_regression.files import decode, read_columns, read_rows

# how Excel, LibreOffice, Numbers and Windows' editors save a table of text: "CSV UTF-8", "Unicode text", "CSV", old Macs
SAVED = {
    "as Unix does": lambda text: text.encode(),
    "CSV UTF-8 of Excel": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "UTF-16, little end first": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "UTF-16, big end first, CRLF": lambda text: b"\xfe\xff" + text.replace("\n", "\r\n").encode("utf-16-be"),
    "Windows-1252": lambda text: text.replace("\n", "\r\n").encode("cp1252"),
    "old Mac line ends": lambda text: text.replace("\n", "\r").encode(),
    "no line end at the end": lambda text: text.rstrip("\n").encode(),
}
# the same for columns: European spreadsheets write semicolons, "Unicode text" tabs; some name it, or leave empty rows
TABLES = {
    "commas": lambda text: text,
    "semicolons": lambda text: text.replace(",", ";"),
    "tabs": lambda text: text.replace(",", "\t"),
    "sep=;": lambda text: "sep=;\n" + text.replace(",", ";"),
    "spaces after the separator": lambda text: text.replace(",", ", "),
    "empty rows": lambda text: text + "\n,,\n",
    "quotes": lambda text: "\n".join(",".join(f'"{field}"' for field in line.split(",")) for line in text.splitlines()) + "\n",
}


@pytest.mark.parametrize("saved", SAVED)
def test_text_is_the_same_however_it_was_saved(saved):
    text = "größe é\nzwei\n"
    assert decode(SAVED[saved](text), "a.txt").rstrip("\n") == text.rstrip("\n")


def test_another_encoding_is_said_with_its_line(caplog):
    with caplog.at_level(logging.WARNING):
        assert decode("a\ngröße\n".encode("cp1252"), "a.csv") == "a\ngröße\n"
    assert "a.csv: line 2 is not UTF-8; the file is read as Windows-1252" in caplog.text


@pytest.mark.parametrize(("data", "message"), [
    (b"PK\x03\x04\0\0", "x.csv: is a spreadsheet or zip file .*; save it as text, in a spreadsheet as CSV UTF-8"),
    (b"age\0path", "x.csv: is no text"),
    ("age,path".encode("utf-16-le"), "x.csv: is no text"),
    (b"\xff\xfea\0b", "x.csv: is damaged UTF-16"),
])
def test_what_is_no_text_is_refused_with_the_way_out(data, message):
    with pytest.raises(ValueError, match=message):
        decode(data, "x.csv")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("saved", SAVED)
def test_columns_are_the_same_however_the_table_was_saved(tmp_path, table, saved):
    (tmp_path / "t.csv").write_bytes(SAVED[saved](TABLES[table]("Age,path,split\n3,a/é.jpg,train\n4,b.jpg,val\n")))
    lines, rows = read_columns(tmp_path / "t.csv", ("path", "age"))
    assert rows == [["a/é.jpg", "3"], ["b.jpg", "4"]]
    assert lines == [number + (table == "sep=;") for number in (2, 3)]


def test_a_broken_quote_is_named_with_its_line(tmp_path):
    (tmp_path / "t.csv").write_text('a,b\n"x"y,2\n')
    with pytest.raises(ValueError, match=r"t\.csv: line 2: .*expected after"):
        read_rows(tmp_path / "t.csv")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i in range(3):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("saved", SAVED)
def test_every_folders_table_is_read_however_it_was_saved(images, tmp_path, table, saved):
    """agedb-dir and imdb-wiki-dir, nyud2-dir (no header), shhs-dir's own and the provider's table."""

    def write(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SAVED[saved](TABLES[table](text)))

    write(tmp_path / "a.csv", "age,path,split\n3,0.png,train\n4,1.png,val\n5,2.png,test\n")
    ages = read_age_csv(tmp_path / "a.csv", images)
    assert [ages[split].ages.tolist() for split in ("train", "val", "test")] == [[3], [4], [5]]

    for name in ("0.png", "1.png", "2.png"):
        (tmp_path / name).write_bytes((images / name).read_bytes())
    write(tmp_path / "nyu2_train.csv", "data/0.png,data/1.png\ndata/1.png,data/2.png\n")
    pairs = NYUD2.read_pairs(tmp_path, "nyu2_train.csv")
    assert [path[-5:] for path in pairs.images + pairs.depths] == ["0.png", "1.png", "1.png", "2.png"]

    for night in (7, 8, 9):
        (tmp_path / "nights").mkdir(exist_ok=True)
        (tmp_path / "nights" / f"{night}.npz").touch()
    write(tmp_path / "shhs.csv", "nsrrid,gh,split\n7,50,train\n8,55,val\n9,60,test\n")
    nights = SHHS.read_splits(tmp_path)
    assert [nights[split].scores.tolist() for split in ("train", "val", "test")] == [[50], [55], [60]]
    write(tmp_path / "datasets" / "shhs2-dataset-1.csv", "nsrrid,gh_s2,rawgh_s2\n7,50,\n8,,5\n9,,\n")
    assert PREPROCESS.read_scores(tmp_path) == {7: 50, 8: 0}


@pytest.mark.parametrize("saved", SAVED)
def test_sentence_pairs_and_counts_are_read_however_they_were_saved(tmp_path, saved):
    header, row = "sentence1\tsentence2\tscore", "A café.\tA \"bar\", or\t2.5"
    (tmp_path / "a.tsv").write_bytes(SAVED[saved](f"{header}\n{row}\n{row}\n"))
    pairs = STS_B.read_pairs(tmp_path / "a.tsv", 40)
    assert pairs.scores.tolist() == [2.5, 2.5]
    assert pairs.sentences[0][0] == ["A", "café", "."]
    full = "\t".join(["0", "é", "f", "y", "0", "n", "n", "a", "b", "1.5"])
    rows = CREATE.read_rows("b.tsv", SAVED[saved]("\t".join(CREATE.HEADER) + f"\n{full}\n"))
    assert rows == [full.split("\t")]
    (tmp_path / "counts.txt").write_bytes(SAVED[saved]("# größe\n" + "3\n" * 100))
    assert (COUNTS.read_counts(tmp_path / "counts.txt") == np.full(100, 3)).all()


def test_what_we_write_we_read(tmp_path):
    rows = [(3, "a;b, \"c\".jpg", "train"), (4, "é.jpg", "val")]
    write_csv(tmp_path / "a.csv", ("age", "path", "split"), rows)
    assert read_columns(tmp_path / "a.csv", ("path",))[1] == [[row[1]] for row in rows]


NYUD2, COUNTS = from_folder("nyud2-dir", "loaddata"), from_folder("nyud2-dir", "utils")
SHHS, PREPROCESS = from_folder("shhs-dir", "datasets"), from_folder("shhs-dir", "preprocess_shhs")
STS_B, CREATE = from_folder("sts-b-dir", "tasks"), from_folder("sts-b-dir", "glue_data.create_sts")
