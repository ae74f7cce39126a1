"""Reads one column of labels from a file as people have them, and gives the Python line that reads it the same way.

The one idea: a table is read by one call of pandas whose arguments are found first (separator, encoding, header), and what
cannot be read surely is refused with the way out. Tables need pandas; `.npy` needs numpy only.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_READABLE = ".csv, .tsv (also .gz), .npy or .parquet"
_LOOKED_AT = 50  # lines from which the separator is found
_SIGNS = r"[\s$€£¥₹%'’]"  # currency, per cent, and what groups thousands besides points and commas
_PLAIN = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_GROUPED = r"[+-]?\d{{1,3}}({0}\d{{3}})+({1}\d+)?"


def read_labels(path: str | Path, target: str | None = None) -> tuple[np.ndarray, str, list[str]]:
    """The column `target` of a table as (N,) float64, missing values as NaN; the Python line that reads it; what was odd.

    For `.npy` the target is a column number, and may be None for arrays (N,) or (N, 1); for tables it may be None where
    there is one column. Spaces around names are dropped, other separators than the suffix's recognised, Latin-1 and
    UTF-16 read, thousands, decimal commas, currency and per cent signs understood where they are so beyond doubt.

    Raises:
        ValueError: a file that is not there, not readable or of another kind; a column that is missing or no number.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"FILE: there is no file {path}")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in _PACKED else (suffixes or [""])[-1]
    if kind == ".npy":
        return *_read_npy(path, target), []
    if kind not in _SEPARATORS and kind != ".parquet":
        raise ValueError(f"FILE: expected {_READABLE}, found {path.name}")
    try:
        import pandas
    except ImportError:
        raise ValueError("FILE: tables are read by pandas, which is not installed: pip install pandas, or pass .npy") from None
    odd: list[str] = []
    written: list[str] = []  # the header as it stands in the file: pandas calls the second of two columns x "x.1"
    try:
        if kind == ".parquet":
            table, code = pandas.read_parquet(path), f"pandas.read_parquet({str(path)!r})"
        else:
            how = _how_to_read(path, _SEPARATORS[kind], pandas, odd)
            table = pandas.read_csv(path, low_memory=False, **how)
            if "header" not in how:
                written = pandas.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, **how).iloc[0].tolist()
            code = f"pandas.read_csv({', '.join([repr(str(path)), *(f'{name}={value!r}' for name, value in how.items())])})"
    except ImportError:
        raise ValueError("FILE: parquet needs pyarrow, which is not installed: pip install pyarrow") from None
    except (ValueError, UnicodeError, EOFError, OSError) as error:  # errors that pandas raises on files that are no tables
        raise ValueError(f"FILE: {path} cannot be read: {' '.join(str(error).split())}") from None
    names = [str(name) for name in table.columns]
    if names != [name.strip() for name in names]:
        names = [name.strip() for name in names]
        code += ".rename(columns=str.strip)"
    if target is not None:
        target = target.strip()
    numbers = [name for name, type_ in zip(names, table.dtypes) if pandas.api.types.is_numeric_dtype(type_)]
    if target is None:
        if len(names) != 1:
            raise ValueError(f"--target: name the column of labels, one of {_some(numbers or names)}")
        target = names[0]
    if target not in names:
        found = f"its columns of numbers are {_some(numbers)}" if numbers else f"its columns are {_some(names)}"
        raise ValueError(f"--target: {path.name} has no column {target!r}; {found}")
    alike = max(names.count(target), [name.strip() for name in written].count(target))
    if alike > 1:
        raise ValueError(f"--target: {path.name} has {alike} columns {target!r}; rename all but one")
    at = names.index(target)
    code += f"[{target!r}]" if "header" not in code else f"[{at}]"
    column = table.iloc[:, at]
    if len(column) == 0:
        raise ValueError(f"--target: {path.name} has a header and no rows below it")
    if target not in numbers:
        column, more = _understood(column, target, pandas)
        code += more
    return column.to_numpy(dtype=np.float64, na_value=np.nan), f"{code}.to_numpy()", odd


def read_texts(path: Path, name: str) -> list[str] | None:
    """The column `name` of a text table as it is written, in the rows of `read_labels`; None for a file without it."""
    if path.suffix.lower() not in _SEPARATORS:
        return None
    import pandas

    how = _how_to_read(path, _SEPARATORS[path.suffix.lower()], pandas, [])
    table = pandas.read_csv(path, dtype=str, keep_default_na=False, **how).rename(columns=lambda column: str(column).strip())
    return table[name].tolist() if list(table.columns).count(name) == 1 else None


def _how_to_read(path: Path, separator: str, pandas, odd: list[str]) -> dict:
    """The arguments of `pandas.read_csv` beside its path."""
    with pandas.io.common.get_handle(path, "rb", is_text=False, compression="infer") as opened:
        start = opened.handle.read(1 << 20)
    encoding = None
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in start:
        raise ValueError("it holds zero bytes, as UTF-16 without its mark or a binary file does; save it as UTF-8")
    elif start.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8-sig"
    else:
        try:
            start[: start.rfind(b"\n") + 1 or None].decode("utf-8")
        except UnicodeDecodeError:
            encoding = "latin-1"
    if encoding in ("latin-1", "utf-16"):
        odd.append(f"{path.name} is not UTF-8 and is read as {encoding}; where letters look wrong, save it as UTF-8")
    text = start.decode(encoding or "utf-8", errors="ignore")
    lines = [line for line in text.splitlines()[: _LOOKED_AT + 1] if line.strip()][:_LOOKED_AT]
    found = _separator(lines, separator)
    how: dict = {} if found == "," else {"sep": found}
    if encoding is not None:
        how["encoding"] = encoding
    fields = [len(row) for row in csv.reader(lines, delimiter=found)]
    if fields and max(fields) > fields[0]:  # pandas would take the first of them for an index, and shift the rest
        raise ValueError("lines have more fields than its header; quote numbers with commas, or separate columns by ;")
    first = next(csv.reader(lines[:1], delimiter=found), [])
    if any(name != name.strip() for name in first):
        how["skipinitialspace"] = True
    if first and all(re.fullmatch(_PLAIN, name.strip()) for name in first):
        how["header"] = None
        odd.append(
            f"the first line of {path.name} holds numbers, so it is read as data; the columns are called 0 to {len(first) - 1}"
        )
    return how


def _separator(lines: list[str], usual: str) -> str:
    """The separator that cuts all lines into equally many fields, the most; where none cuts any, one that is absent."""
    best, most = usual, 1
    for separator in (usual, *(other for other in (",", ";", "\t", "|") if other != usual)):
        fields = {len(row) for row in csv.reader(lines, delimiter=separator)}
        if len(fields) == 1 and max(fields) > most:
            best, most = separator, max(fields)
    if most == 1 and lines:
        per_line = [len(row) for row in csv.reader(lines, delimiter=usual)]
        if per_line[0] == 1 and max(per_line) == 2:  # one column of numbers with decimal commas
            return next(other for other in (";", "\t", "|") if not any(other in line for line in lines))
    return best


def _understood(column, target: str, pandas) -> tuple:
    """A column of text as numbers, and the Python that makes them; ValueError where one of them could mean two."""
    present = column.dropna()
    if present.empty:
        raise ValueError(f"--target: column {target!r} holds no numbers, all its entries are missing")
    text = present.astype(str).str.replace(_SIGNS, "", regex=True)
    decimal = ""
    for thousands, point in ((",", r"\."), (r"\.", ",")):
        plain = rf"[+-]?(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?"
        if (text.str.fullmatch(plain) | text.str.fullmatch(_GROUPED.format(thousands, point))).all():
            if decimal:
                example = present[text.str.contains("[.,]")].iloc[0]
                raise ValueError(
                    f"--target: entries of column {target!r} such as {str(example)!r} may be thousands or decimals; write them "
                    "without separators of thousands and with a point"
                )
            decimal = point[-1]
            if not text.str.contains("[.,]").any():
                break
    if not decimal:
        strange = present[pandas.to_numeric(text, errors="coerce").isna()]
        strange = strange if len(strange) else present
        raise ValueError(
            f"--target: column {target!r} holds {len(strange)} entries that are no numbers, the first {str(strange.iloc[0])!r}"
            "; leave them empty where a label is missing, and write 1,834.31 or 18 % as 1834.31 and 18"
        )
    keep = rf"[^\d{decimal}eE+-]"
    point = ".str.replace(',', '.')" if decimal == "," else ""
    code = f".str.replace({keep!r}, '', regex=True){point}.astype(float)"
    numbers = column.astype("string").str.replace(keep, "", regex=True)
    return pandas.to_numeric(numbers.str.replace(",", ".") if decimal == "," else numbers), code


def _read_npy(path: Path, target: str | None) -> tuple[np.ndarray, str]:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file makes numpy raise nearly anything
        raise ValueError(f"FILE: {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError(f"FILE: {path} holds no numbers but {getattr(array, 'dtype', type(array).__name__)}")
    code = f"np.load({str(path)!r})"
    if array.ndim == 1 and target is None:
        return array.astype(np.float64), code
    if array.ndim != 2:
        raise ValueError(f"FILE: expected an array (N,) or (N, M), found {array.shape}" + (
            f"; leave out --target {target}" if array.ndim == 1 else ""))
    if target is None and array.shape[1] == 1:
        target = "0"
    if target is None or not target.isdecimal() or int(target) >= array.shape[1]:
        raise ValueError(f"--target: expected a column number, 0 to {array.shape[1] - 1}, found {target}")
    return array[:, int(target)].astype(np.float64), f"{code}[:, {int(target)}]"


def _some(names: list[str]) -> str:
    return (", ".join(names[:12]) + (" ..." if len(names) > 12 else "")) or "none"
