"""Tables of numbers and categories as resampling sees them: numpy arrays, pandas and polars frames alike.

The one idea: numbers become one float64 matrix, categories become whole-numbered codes, and a new row of categories is a
row to copy from. So every column keeps its type, and no column is ever guessed at. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bins import as_labels


@dataclass
class Table:
    """N rows apart into numbers (N, P) float64 and codes (N, C) of categories; which columns of X they are; integers (P,)."""

    X: Any
    numbers: np.ndarray
    codes: np.ndarray
    numeric: list[int]
    nominal: list[int]
    limits: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        """New numbers (S, P) with those of integer columns rounded to whole ones that the column's type can hold."""
        whole = np.isfinite(self.limits[0])
        numbers[:, whole] = np.clip(np.rint(numbers[:, whole]), *self.limits[:, whole])
        return numbers

    def with_rows(self, kept: np.ndarray, numbers: np.ndarray, sources: np.ndarray):
        """X's rows `kept`, then new rows of numbers (S, P) whose c-th category is that of row `sources[:, c]`; as X is."""
        columns: dict[int, Any] = dict(zip(self.numeric, numbers.T)) | dict(zip(self.nominal, sources.T))
        if _is_polars(self.X):
            return _polars_rows(self.X, kept, columns, set(self.nominal))
        if _is_pandas(self.X):
            return _pandas_rows(self.X, kept, columns, set(self.nominal))
        new = np.empty((len(numbers), self.X.shape[1]), dtype=self.X.dtype)
        for j, values in columns.items():
            new[:, j] = self.X[values, j] if j in self.nominal else values
        return np.concatenate([self.X[kept], new])


def read_table(X, categorical: Sequence | None = None) -> Table:
    """A table (N, P) as numbers and categories.

    Args:
        X: an array, a pandas or a polars frame. Strings, booleans, objects and categories are categories, the rest numbers.
        categorical: positions or names of further columns that hold categories, written as numbers.

    Raises:
        ValueError: missing or infinite values with their column and row, dates, sparse or other shapes, unknown columns.
    """
    if hasattr(X, "tocsr"):
        raise ValueError("X: expected a dense table, found a sparse matrix; pass X.toarray()")
    framed = _is_pandas(X) or _is_polars(X)
    if not framed:
        X = np.asarray(X.detach().cpu() if hasattr(X, "detach") else X)
        if X.dtype.kind not in "fiubOUS":
            raise ValueError(f"X: expected numbers or categories, found {X.dtype}")
    if not framed and X.ndim != 2:
        raise ValueError(f"X: expected shape (N, P), found {X.shape}")
    names = list(X.columns) if framed else list(range(X.shape[1]))
    if not names or not len(X):
        raise ValueError(f"X: expected at least one row and one column, found shape {tuple(X.shape)}")
    said = _positions(categorical, names)
    numeric, nominal, numbers, codes, limits = [], [], [], [], []
    for j, name in enumerate(names):
        column = _column(X, j)
        title = f"X: column {name!r}"
        if j in said or _is_nominal(column):
            nominal.append(j)
            codes.append(_codes(column, title))
        else:
            numeric.append(j)
            values, limit = _numbers(column, title)
            numbers.append(values)
            limits.append(limit)
    rows = len(X)
    return Table(
        X, np.stack(numbers, axis=1) if numbers else np.empty((rows, 0)),
        np.stack(codes, axis=1) if codes else np.empty((rows, 0), dtype=np.int64), numeric, nominal,
        np.array(limits, dtype=np.float64).reshape(-1, 2).T,
    )


def read_target(y, rows: int) -> np.ndarray:
    """Labels as (N,) float64 of any container; ValueError for NaN, another shape, or another length than `rows`."""
    labels = as_labels(y.to_numpy() if _is_pandas(y) or _is_polars(y) else y, "y")
    if len(labels) != rows:
        raise ValueError(f"y: expected as many labels as X has rows ({rows}), found {len(labels)}")
    return labels


def target_like(y, kept: np.ndarray, new: np.ndarray):
    """Labels `kept` of y and `new` ones, in y's container and type; integers are rounded."""
    module = "pandas" if _is_pandas(y) else "polars" if _is_polars(y) else ""
    if module == "pandas":
        import pandas as pd

        if isinstance(y, pd.DataFrame):
            return pd.DataFrame({y.columns[0]: target_like(y.iloc[:, 0], kept, new)})
        values = y.to_numpy()
        values = np.concatenate([values[kept], _as_type(new, values.dtype)])
        return pd.Series(values, name=y.name).astype(y.dtype)
    if module == "polars":
        import polars as pl

        if isinstance(y, pl.DataFrame):
            return pl.DataFrame([target_like(y.to_series(0), kept, new)])
        values = y.to_numpy()
        return pl.Series(y.name, np.concatenate([values[kept], _as_type(new, values.dtype)])).cast(y.dtype)
    array = np.asarray(y.detach().cpu() if hasattr(y, "detach") else y)
    new = _as_type(new, array.dtype)
    return np.concatenate([array[kept], new.reshape(-1, *array.shape[1:])])


# -- columns -----------------------------------------------------------------------------------------------------------


def _is_pandas(X) -> bool:
    return type(X).__module__.split(".")[0] == "pandas"


def _is_polars(X) -> bool:
    return type(X).__module__.split(".")[0] == "polars"


def _column(X, j: int):
    if _is_pandas(X):
        return X.iloc[:, j]
    if _is_polars(X):
        return X.to_series(j)
    column = X[:, j]
    if column.dtype.kind == "O":
        types = {type(value) for value in column}
        if types and all(issubclass(kind, (int, float, np.number)) and kind is not bool for kind in types):
            return column.astype(np.int64 if all(issubclass(kind, (int, np.integer)) for kind in types) else np.float64)
    return column


def _is_nominal(column) -> bool:
    if _is_polars(column):
        return not (column.dtype.is_numeric() or column.dtype.is_temporal())
    kind = getattr(column.dtype, "kind", "O")
    return kind in "ObUST" or not isinstance(column.dtype, np.dtype) and kind not in "iufcmM"


def _numbers(column, title: str) -> tuple[np.ndarray, tuple[float, float]]:
    """(N,) float64, and the least and greatest whole number of its type; infinite for floats."""
    integer, dtype = False, None
    if _is_polars(column):
        if column.dtype.is_temporal():
            raise ValueError(f"{title} holds dates ({column.dtype}); make numbers of them, for example days, or leave it out")
        integer = column.dtype.is_integer()
        values = column.cast(_polars_float()).to_numpy()
    else:
        kind = column.dtype.kind
        if kind in "cmM":
            raise ValueError(f"{title} has type {column.dtype}; make real numbers of it, for example days, or leave it out")
        integer, dtype = kind in "iu", column.dtype
        values = column.to_numpy(dtype=np.float64, na_value=np.nan) if _is_pandas(column) else column.astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"{title} has {bad.sum()} missing or infinite values, the first in row {int(bad.argmax())}; fill them or drop "
            "the rows"
        )
    if not integer:
        return values, (-np.inf, np.inf)
    name = str(dtype if dtype is not None else column.dtype).lower()
    info = np.iinfo(name if name in np.sctypeDict else np.int64)
    # float64 knows whole numbers up to 2^53 only, and rounds the ends of 64-bit types up
    return values, (max(info.min, -(2**53)), min(info.max, 2**53))


def _codes(column, title: str) -> np.ndarray:
    """(N,) int64: equal categories have equal codes."""
    if _is_polars(column) or _is_pandas(column):
        missing = np.asarray(column.is_null() if _is_polars(column) else column.isna())
        values = column.to_numpy() if _is_pandas(column) else np.array(column.to_list(), dtype=object)
    else:
        values, missing = column, np.zeros(1, dtype=bool)
        if values.dtype.kind in "fO":
            missing = np.array([value is None or value != value for value in values])  # NaN alone differs from itself
    if missing.any():
        raise ValueError(
            f"{title} has {missing.sum()} missing values, the first in row {int(missing.argmax())}; fill them or drop the rows"
        )
    known: dict = {}
    try:
        return np.array([known.setdefault(value, len(known)) for value in values.tolist()], dtype=np.int64)
    except TypeError:
        raise ValueError(f"{title} holds {type(values[0]).__name__} objects, which are no categories; leave it out") from None


def _positions(categorical, names: list) -> set[int]:
    if categorical is None:
        return set()
    if isinstance(categorical, (str, int, np.integer)):
        categorical = [categorical]
    found = set()
    for column in categorical:
        if column in names:
            found.add(names.index(column))
        elif isinstance(column, (int, np.integer)) and 0 <= column < len(names):
            found.add(int(column))
        else:
            raise ValueError(f"categorical: expected columns of X, for example {names[0]!r}, found {column!r}")
    return found


def _as_type(values: np.ndarray, dtype) -> np.ndarray:
    if dtype.kind in "iu":
        values = np.rint(values)
    return values.astype(dtype)


def _polars_float():
    import polars as pl

    return pl.Float64


def _polars_rows(X, kept: np.ndarray, columns: dict[int, np.ndarray], nominal: set[int]):
    import polars as pl

    made = []
    for j, name in enumerate(X.columns):
        old, values = X.to_series(j), columns[j]
        new = old.gather(values.astype(np.int64)) if j in nominal else pl.Series(name, values).cast(old.dtype)
        made.append(pl.concat([old.gather(kept.astype(np.int64)), new]))
    return pl.DataFrame(made)


def _pandas_rows(X, kept: np.ndarray, columns: dict[int, np.ndarray], nominal: set[int]):
    import pandas as pd

    made = []
    for j in range(X.shape[1]):
        old, values = X.iloc[:, j], columns[j]
        new = old.iloc[values] if j in nominal else pd.Series(values).astype(old.dtype)
        made.append(pd.concat([old.iloc[kept], new], ignore_index=True) if len(new) else old.iloc[kept].reset_index(drop=True))
    frame = pd.concat(made, axis=1)
    frame.columns = X.columns
    return frame
