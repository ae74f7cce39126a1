"""GloVe vectors of a vocabulary, from a text file of 2.2 million lines, in seconds.

One idea: a line is looked at only up to its first space, as bytes; the 300 numbers are parsed for wanted words alone.
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

log = logging.getLogger(__name__)

BUFFER = 1 << 24  # bytes read at once


def read_glove(path: str | os.PathLike, words: Sequence[str], dim: int, seed: int) -> np.ndarray:
    """(len(words), dim) float32: the file's vector of each word; row 0, the padding, zeros.

    Words that are not in the file are drawn from N(0, 1); a word's draw depends on `seed` and its row alone. Of a word
    that stands in the file twice the first vector counts.
    Raises ValueError when the file is missing, has vectors of another width than `dim`, or a line that is no vector.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: run `python glove/download_glove.py`, or pass --glove 0")
    check_width(path, dim)
    vectors = np.random.default_rng(seed).standard_normal((len(words), dim), dtype=np.float32)
    cache = path.with_name(f"{path.name}.{_key(path, words, dim)}.npz")
    found = _load(cache, len(words), dim)
    if found is None:
        found = _scan(path, words, dim)
        _save(cache, *found)
    rows, values = found
    vectors[rows] = values
    vectors[:1] = 0
    log.info("%s: %d of %d words found, the others drawn from N(0, 1)", path, len(rows), len(words))
    return vectors


def check_width(path: str | os.PathLike, dim: int) -> None:
    """ValueError unless the first line of the file is a word and `dim` numbers."""
    with open(path, "rb") as file:
        line = file.readline(1 << 20).rstrip()  # bounded: the file may be anything
    found = line.count(b" ")
    if found != dim:
        raise ValueError(f"{path}, line 1: {found} numbers after the word, expected {dim}; pass the file's width by --d_word")
    _parse(path, 1, line, dim)


def _scan(path: Path, words: Sequence[str], dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n,) and vectors (n, dim) of the words in the file."""
    # a token never holds a space; "" would match every line that begins with one
    wanted = {word.encode("utf-8", "replace"): row for row, word in enumerate(words) if row and word}
    rows, values = [], []
    with open(path, "rb", buffering=BUFFER) as file:
        for number, line in enumerate(file, 1):
            row = wanted.get(line[: line.find(b" ")])
            if row is None:
                continue
            line = line.rstrip()
            if line.count(b" ") > dim:  # one of GloVe 840B's tokens with spaces in them, such as ". . .": not this word
                continue
            values.append(_parse(path, number, line, dim))
            rows.append(row)
            del wanted[line[: line.find(b" ")]]
            if not wanted:
                break
    return np.array(rows, np.int64), np.array(values, np.float32).reshape(len(rows), dim)


def _parse(path: str | os.PathLike, number: int, line: bytes, dim: int) -> np.ndarray:
    try:
        values = np.array(line.split(b" ")[1:], dtype=np.float64)
    except ValueError:
        raise ValueError(f"{path}, line {number}: not a word and {dim} numbers; is it a GloVe text file?") from None
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
    whole = rows.dtype == np.int64 and values.shape == (len(rows), dim) and (rows < count).all() and (rows > 0).all()
    if not whole:
        log.warning("%s is damaged; reading the vectors anew", cache)
        return None
    return rows, values


def _save(cache: Path, rows: np.ndarray, values: np.ndarray) -> None:
    partial = cache.with_name(f"{cache.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as file:
            np.savez(file, rows=rows, values=values)
        os.replace(partial, cache)
    except OSError as error:  # a read-only folder or a full disk: slower next time, nothing worse
        partial.unlink(missing_ok=True)
        log.warning("could not keep the vectors in %s (%s)", cache, error.strerror)
