"""Files of text and tables as people have them, read alike everywhere; and writing a file whole or not at all.

The one idea: how a spreadsheet saved a table (byte order mark, encoding, line ends, separator) is no reader's business.
Needs nothing but Python.
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

logger = logging.getLogger(__name__)

SEPARATORS = (",", ";", "\t")
_WAY_OUT = "save it as text, in a spreadsheet as CSV UTF-8"


def read_text(path: str | Path) -> str:
    """A text file's content, as `decode` reads it. Raises OSError, and ValueError with the file and the way out."""
    return decode(Path(path).read_bytes(), path)


def decode(data: bytes, name: str | Path) -> str:
    """Bytes of a text file -> text whose lines end with a line feed, without a byte order mark.

    UTF-8; UTF-16 where a byte order mark says so; else Windows-1252, with a warning that names the line. CRLF counts as a
    line feed, and so does a CR where the file has no line feed at all.

    Raises ValueError with `name` and the way out for what is no text.
    """
    kind = "a spreadsheet or zip file" if data.startswith(b"PK\x03\x04") else "no text"
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        if error.encoding.startswith("utf-16"):
            raise ValueError(f"{name}: is damaged UTF-16 ({error.reason}); {_WAY_OUT}") from None
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        if "\0" not in text:
            line = data[: error.start].count(b"\n") + 1
            logger.warning("%s: line %d is not UTF-8; the file is read as Windows-1252 (Latin-1)", name, line)
    if "\0" in text:
        raise ValueError(f"{name}: is {kind} (it holds bytes of 0); {_WAY_OUT}")
    text = text.replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\r", "\n")


def read_rows(path: str | Path) -> list[tuple[int, list[str]]]:
    """A table's rows with their line numbers: (line, fields), the header too where there is one.

    Fields are separated by that of comma, semicolon and tab which the first line has most of, or by what a first line
    `sep=;` says; they lose the spaces around them. Rows of empty fields are left out.

    Raises OSError, and ValueError with file and line for what is no table of text.
    """
    text = read_text(path)
    first, _, rest = text.partition("\n")
    named = first.strip().strip('"').lower()
    if named.startswith("sep=") and len(named) == 5:
        separator, start, text = first.strip().strip('"')[4], 1, rest
    else:
        separator, start = max(SEPARATORS, key=first.count), 0
    rows = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if any(fields):
                rows.append((start + reader.line_num, fields))
    except csv.Error as error:
        raise ValueError(f"{path}: line {start + reader.line_num}: {error}") from None
    return rows


def read_columns(path: str | Path, columns: Sequence[str]) -> tuple[list[int], list[list[str]]]:
    """Of a table with a header its rows' line numbers, and of each row the fields of `columns`, found by name.

    Names are compared without regard to case. Raises OSError, and ValueError with the file and the line: a column that is
    missing, or a row of another width than the header's.
    """
    rows = read_rows(path)
    header = rows[0][1] if rows else []
    places = {name.casefold(): place for place, name in reversed(list(enumerate(header)))}
    missing = [name for name in columns if name.casefold() not in places]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; found: {', '.join(header) or 'nothing'}")
    for line, fields in rows:
        if len(fields) != len(header):
            raise ValueError(f"{path}: line {line} has {len(fields)} fields, not {len(header)}")
    wanted = [places[name.casefold()] for name in columns]
    return [line for line, _ in rows[1:]], [[fields[place] for place in wanted] for _, fields in rows[1:]]


def part_of(path: Path) -> Path:
    """The temporary file beside `path` that this process writes before a rename."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to write in the place of `path`: at the end it becomes `path` in one step, an error leaves what was there."""
    part = part_of(path)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """An open file to write in the place of `path`: at the end it lies on the disk and becomes `path` in one step.

    An error leaves what was there; an OSError (a full disk, say) within is raised anew, naming `path` and what is kept.
    """
    part = part_of(path)
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if not isinstance(error, OSError):
            raise
        if not path.parent.is_dir():
            raise OSError(error.errno, f"cannot write {path}: its folder has been deleted or moved") from error
        kept = "the file before it is kept" if path.exists() else "there was none before"
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; {kept}") from error


def write(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data` in one step, as `written`."""
    with written(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)
