"""Word vectors of a vocabulary, from a text file of 2.2 million lines in GloVe's layout or word2vec's, in seconds.

One idea: a line is looked at only up to its first space or tab, as bytes; the 300 numbers are parsed for wanted words alone.
What was found is kept beside the file (`<file>.<key>.npz`), so that the next run does not read the file again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imbalanced_regression.files import whole

log = logging.getLogger(__name__)

BUFFER = 1 << 24  # bytes read at once


def read_glove(path: str | os.PathLike, words: Sequence[str], dim: int, seed: int) -> np.ndarray:
    """(len(words), dim) float32: the file's vector of each word; row 0, the padding, zeros.

    Words that are not in the file are drawn from N(0, 1); a word's draw depends on `seed` and its row alone. Of a word
    that stands in the file twice the first vector counts.
    A first line `<words> <width>`, as word2vec and fastText write it, tabs in place of spaces and a byte order mark are
    recognised.
    Raises ValueError when the file is missing, is no such text, has vectors of another width than `dim`, or a line that is
    no vector.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: run `python glove/download_glove.py`, or pass --glove 0")
    layout = find_layout(path, dim)
    vectors = np.random.default_rng(seed).standard_normal((len(words), dim), dtype=np.float32)
    cache = path.with_name(f"{path.name}.{_key(path, words, dim)}.npz")
    found = _load(cache, len(words), dim)
    if found is None:
        found = _scan(path, words, dim, layout)
        _save(cache, *found)
    rows, values = found
    vectors[rows] = values
    vectors[:1] = 0
    log.info("%s: %d of %d words found, the others drawn from N(0, 1)", path, len(rows), len(words))
    if not len(rows) and len(words) > 2:
        log.warning("%s has none of the words: is it of another language, or not in UTF-8?", path)
    return vectors


def find_layout(path: str | os.PathLike, dim: int) -> tuple[bytes, int]:
    """What separates a word from its numbers, b" " or b"\\t", and how many lines of header there are, 0 or 1.

    Raises ValueError unless the first line after the header is a word and `dim` numbers.
    """
    with open(path, "rb") as file:
        first, second = file.readline(1 << 20), file.readline(1 << 20)  # bounded: the file may be anything
    for start, what in _OTHERS.items():
        if first.startswith(start):
            raise ValueError(f"{path} is {what}")
    line, header = first.removeprefix(_MARK).rstrip(), 0
    numbers = line.split()
    if dim != 1 and len(numbers) == 2 and all(number.isdigit() for number in numbers):  # word2vec's and fastText's first line
        if int(numbers[1]) != dim:
            raise ValueError(
                f"{path}, line 1: vectors of {int(numbers[1])} numbers by its header, expected {dim}; "
                "pass the file's width by --d_word"
            )
        line, header = second.rstrip(), 1
        if b"\0" in line or not _is_text(line):
            raise ValueError(f"{path}, line 2: word2vec's binary format; save the vectors as text (gensim: binary=False)")
    if not _is_text(line):
        raise ValueError(f"{path}, line {header + 1}: no UTF-8 text; save it as a text file of words and their numbers")
    separator = b"\t" if b"\t" in line else b" "
    found = len(_numbers(line, separator))
    if found == 0 and line.count(b",") == dim:
        raise ValueError(f"{path}, line {header + 1}: separated by commas; expected spaces or tabs")
    if found != dim:
        _floats(path, header + 1, _numbers(line, separator), found)
        raise ValueError(
            f"{path}, line {header + 1}: {found} numbers after the word, expected {dim}; pass the file's width by --d_word"
        )
    _parse(path, header + 1, line, separator, dim)
    return separator, header


_MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark
_OTHERS = {
    b"PK": "a zip archive; unpack it",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
}


def _is_text(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _numbers(line: bytes, separator: bytes) -> list[bytes]:
    """What stands after the word; numbers may be separated by spaces where the word is by a tab."""
    at = line.find(separator)
    return [] if at < 0 else line[at + 1 :].replace(b"\t", b" ").split(b" ")


def _scan(path: Path, words: Sequence[str], dim: int, layout: tuple[bytes, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n,) and vectors (n, dim) of the words in the file."""
    separator, header = layout
    # a token never holds a space; "" would match every line that begins with one
    wanted = {word.encode("utf-8", "replace"): row for row, word in enumerate(words) if row and word}
    rows, values = [], []
    with open(path, "rb", buffering=BUFFER) as file:
        for number, line in enumerate(file, 1):
            if number <= header:
                continue
            if number == 1:
                line = line.removeprefix(_MARK)
            word = line[: line.find(separator)]
            row = wanted.get(word)
            if row is None:
                continue
            line = line.rstrip()
            if separator == b" " and line.count(b" ") > dim:  # a token of GloVe 840B with spaces in it, such as ". . ."
                continue
            values.append(_parse(path, number, line, separator, dim))
            rows.append(row)
            del wanted[word]
            if not wanted:
                break
    return np.array(rows, np.int64), np.array(values, np.float32).reshape(len(rows), dim)


def _floats(path: str | os.PathLike, line: int, numbers: list[bytes], dim: int) -> np.ndarray:
    try:
        return np.array(numbers, dtype=np.float64)
    except ValueError:
        shown = b" ".join(numbers)[:20].decode("utf-8", "replace")
    raise ValueError(
        f"{path}, line {line}: not a word and {dim} numbers ({shown!r}); expected a text file of GloVe, word2vec or fastText"
    )


def _parse(path: str | os.PathLike, number: int, line: bytes, separator: bytes, dim: int) -> np.ndarray:
    values = _floats(path, number, _numbers(line, separator), dim)
    if len(values) != dim:
        raise ValueError(f"{path}, line {number}: {len(values)} numbers, expected {dim} (--d_word); is the file cut short?")
    if not np.isfinite(values).all():
        raise ValueError(f"{path}, line {number}: a number is not finite")
    return values.astype(np.float32)


# -- the cache --


def _key(path: Path, words: Sequence[str], dim: int) -> str:
    state = path.stat()
    text = "\n".join((str(state.st_size), str(state.st_mtime_ns), str(dim), *words))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _load(cache: Path, count: int, dim: int) -> tuple[np.ndarray, np.ndarray] | None:
    if not cache.exists():
        return None
    try:
        with open(cache, "rb") as file, np.load(file, allow_pickle=False) as kept:
            rows, values = kept["rows"], kept["values"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        rows = values = np.empty(0)
    fits = rows.dtype == np.int64 and values.shape == (len(rows), dim) and (rows < count).all() and (rows > 0).all()
    if not fits:
        log.warning("%s is damaged; reading the vectors anew", cache)
        return None
    return rows, values


def _save(cache: Path, rows: np.ndarray, values: np.ndarray) -> None:
    try:
        with whole(cache) as part, open(part, "wb") as file:
            np.savez(file, rows=rows, values=values)
    except OSError as error:  # a read-only folder or a full disk: slower next time, nothing worse
        log.warning("could not keep the vectors in %s (%s)", cache, error.strerror)
