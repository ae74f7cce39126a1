"""The data of UCI-DIR: one table -> standardised inputs, a seeded split with balanced validation and test, and data sets.

A sample is (inputs (D,), label, weight); a whole batch is read by one indexing, for a table is small.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from utils import TABLES, UciTable

from imbalanced_regression.tools import protocols


class RowDataset(Dataset):
    """The rows of one split: inputs (N, D), `labels` (N,), `weights` (N,), float32 each."""

    def __init__(self, inputs: np.ndarray, labels: np.ndarray):
        self.inputs = torch.tensor(inputs, dtype=torch.float32)
        self.labels = labels.astype(np.float32)
        self.weights = np.ones(len(labels), np.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int):
        return self.inputs[i], self.labels[i], self.weights[i]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """A batch: (B, D), (B, 1), (B, 1) or (B, heads)."""
        rows = np.asarray(indices)  # once, for each indexing by a list would convert it anew
        weights = torch.from_numpy(self.weights[rows]).reshape(len(rows), -1)
        return self.inputs[torch.from_numpy(rows)], torch.from_numpy(self.labels[rows])[:, None], weights


def collate(batch):
    """What `RowDataset.__getitems__` gave is a batch already."""
    return batch


def read_table(name: str, data_dir: str | Path) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """The table `name` of `data_dir`: numbers (N, P) float64, columns of category names (N,), labels (N,).

    Raises ValueError naming file and line for anything that is not that table, or where it is missing.
    """
    table = TABLES[name]
    found = [Path(data_dir) / file for file in table.files if (Path(data_dir) / file).is_file()]
    if not found:
        way = f"run python download_uci.py --dataset {name}"
        more = ", or pass --data_dir sample" if name == "concrete" else ""
        raise ValueError(f"--data_dir: {data_dir} holds none of {', '.join(table.files)}; {way}{more}")
    return parse(found[0], table)


def parse(path: Path, table: UciTable) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """One file as UCI gives it, or the same as csv, as in `read_table`."""
    cells = _cells(path)
    width = table.numbered + table.inputs + 1
    if cells and not _is_row(cells[0], table):
        cells = cells[1:]  # headings
    for number, row in enumerate(cells, start=1):
        if len(row) != width:
            raise ValueError(f"{path}: row {number}: expected {width} columns, found {len(row)}")
        if not _is_row(row, table):
            raise ValueError(f"{path}: row {number}: expected numbers, found {row}")
    if len(cells) != table.rows:
        raise ValueError(f"{path}: expected {table.rows} rows, found {len(cells)}; is it another table?")
    columns = list(zip(*(row[table.numbered :] for row in cells)))
    labels = np.array(columns[-1], dtype=np.float64)
    if abs(labels.mean() - table.mean) > 1e-3 * table.mean:
        raise ValueError(f"{path}: expected labels with mean {table.mean:g}, found {labels.mean():g}; is it another table?")
    numbers = [np.array(columns[j], dtype=np.float64) for j in range(table.inputs) if j not in table.categories]
    categories = [np.array(columns[j], dtype=str) for j in table.categories]
    return np.stack(numbers, axis=1), categories, labels


def _cells(path: Path) -> list[list]:
    if path.suffix in (".xls", ".xlsx"):
        try:
            import pandas as pd

            frame = pd.read_excel(path, header=None)
        except ImportError as error:
            raise ValueError(f"{path}: needs {error.name}: pip install pandas openpyxl xlrd, or save it as csv") from None
        except Exception as error:  # a damaged workbook makes its readers raise nearly anything
            raise ValueError(f"{path}: no spreadsheet ({error})") from None
        return frame.dropna(how="all").to_numpy(dtype=object).tolist()
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no table of text ({error})") from None
    if lines and "," in lines[0]:
        return list(csv.reader(lines))
    return [line.split() for line in lines]


def _is_row(row: Sequence, table: UciTable) -> bool:
    offset = int(table.numbered)
    for j, cell in enumerate(row):
        if j - offset in table.categories:
            continue
        try:
            if not np.isfinite(float(cell)):
                return False
        except (TypeError, ValueError):
            return False
    return True


def content_sha256(path: Path) -> str:
    """The hash of a text table's lines without their ends, which differ between copies of one file."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# -- the split ---------------------------------------------------------------------------------------------------------


def split_rows(labels: np.ndarray, table: UciTable, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of train, val and test: of each bin k = min(count // 3, cap) go to test, k to val, the rest trains."""
    return protocols.make_split(labels, protocols.Shape(), table.bins, cap=table.cap, seed=seed)


def read_splits(
    name: str, data_dir: str | Path, *, split: str | None = None, seed: int = 0, resample: Callable | None = None
) -> dict[str, RowDataset]:
    """The table's train, val and test. Numbers are standardised by the training rows, categories one-hot in sorted order.

    Args:
        split: an explicit split file; None splits by `split_rows` with `seed`.
        resample: (X, y, positions of categories) -> (X, y): acts on the training rows, standardised, categories as such.

    Raises:
        ValueError: no such table, a bad split file, a split without rows, no rare labels to resample for.
    """
    numbers, categories, labels = read_table(name, data_dir)
    rows = split_rows(labels, TABLES[name], seed) if split is None else protocols.read_split_file(split, labels)
    mean, scale = numbers[rows["train"]].mean(axis=0), numbers[rows["train"]].std(axis=0)
    numbers = (numbers - mean) / np.where(scale > 0, scale, 1)
    known = [np.unique(column) for column in categories]
    codes = [np.searchsorted(names, column) for names, column in zip(known, categories)]
    X = np.column_stack([numbers, *codes])
    parts = {part: (X[chosen], labels[chosen]) for part, chosen in rows.items()}
    if resample is not None:
        try:
            parts["train"] = resample(*parts["train"], range(numbers.shape[1], X.shape[1]))
        except ValueError as error:
            raise ValueError(f"--resample: {error}") from None
    return {part: RowDataset(_one_hot(inputs, known), values) for part, (inputs, values) in parts.items()}


def _one_hot(X: np.ndarray, known: list[np.ndarray]) -> np.ndarray:
    width = X.shape[1] - len(known)
    columns = [X[:, width + c, None] == np.arange(len(names)) for c, names in enumerate(known)]
    return np.concatenate([X[:, :width], *columns], axis=1)
