"""The data of SHHS-DIR: shhs.csv and one file of epochs per night, as preprocess_shhs.py makes them -> padded batches.

A sample is (night, score, weight); a night is {signal: (T, C, n) float16} of T 30-second epochs.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from models import SIGNALS
from torch import Tensor
from torch.utils.data import Dataset

TABLE, NIGHTS = "shhs.csv", "nights"
SPLITS = ("train", "val", "test")


@dataclass
class Nights:
    """The nights of one split: their files, and their scores (N,) float32."""

    paths: list[Path]
    scores: np.ndarray


def read_splits(data_dir: str) -> dict[str, Nights]:
    """shhs.csv -> split -> its nights.

    Raises ValueError naming file and line for a missing column, score or file, a path outside the folder, or an empty split.
    """
    folder = Path(data_dir)
    table = folder / TABLE
    try:
        rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))
    except UnicodeDecodeError:
        raise ValueError(f"{table}: is not UTF-8") from None
    except (OSError, csv.Error) as error:
        raise ValueError(
            f"--data_dir: {table} cannot be read ({getattr(error, 'strerror', None) or error}); run python preprocess_shhs.py, "
            "or python make_sample.py for a sample"
        ) from None
    header = rows[0] if rows else []
    missing = [name for name in ("nsrrid", "gh", "split") if name not in header]
    if missing:
        raise ValueError(f"{table}: line 1: no column {missing[0]!r} in the header")
    at = [header.index(name) for name in ("nsrrid", "gh", "split")]
    found: dict[str, tuple[list[Path], list[float]]] = {name: ([], []) for name in SPLITS}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise ValueError(f"{table}: line {line}: expected {len(header)} fields, found {len(row)}")
        night, text, split = (row[i] for i in at)
        if not (night.isascii() and night.isdigit()):
            raise ValueError(f"{table}: line {line}: nsrrid: expected a whole number, found {night!r}")
        try:
            score = float(text)
        except ValueError:
            raise ValueError(f"{table}: line {line}: gh: expected a number, found {text!r}") from None
        if not 0 <= score <= 100:
            raise ValueError(f"{table}: line {line}: gh: {text} lies outside 0..100")
        if split not in SPLITS:
            raise ValueError(f"{table}: line {line}: split: expected one of {', '.join(SPLITS)}, found {split!r}")
        path = folder / NIGHTS / f"{night}.npz"
        if not path.is_file():
            raise ValueError(f"{table}: line {line}: {path} is missing; run python preprocess_shhs.py again")
        found[split][0].append(path)
        found[split][1].append(score)
    empty = [name for name, (paths, _) in found.items() if not paths]
    if empty:
        raise ValueError(f"{table}: no night belongs to {empty[0]}")
    return {name: Nights(paths, np.array(scores, dtype=np.float32)) for name, (paths, scores) in found.items()}


def load_night(path: Path) -> dict[str, Tensor]:
    """{signal: (T, C, n) float16}. Raises ValueError for a damaged file, or signals that do not fit one another."""
    try:
        with np.load(path, allow_pickle=False) as file:
            night = {name: torch.from_numpy(file[name]) for name in SIGNALS}
    except (OSError, KeyError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: is damaged ({error}); delete it and run python preprocess_shhs.py again") from None
    shapes = {name: tuple(signal.shape) for name, signal in night.items()}
    fits = all(len(s) == 3 and s[0] == shapes["eeg"][0] > 0 and s[1] == SIGNALS[n] for n, s in shapes.items())
    if not fits:
        raise ValueError(f"{path}: unexpected shapes {shapes}; delete it and run python preprocess_shhs.py again")
    return night


class NightDataset(Dataset):
    """Nights in the order of the csv: item -> ({signal: (T, C, n)}, score, weight)."""

    def __init__(self, nights: Nights, weights: np.ndarray | None = None):
        self.nights = nights
        self.weights = np.ones(len(nights.paths), np.float32) if weights is None else weights

    def __len__(self) -> int:
        return len(self.nights.paths)

    def __getitem__(self, i: int):
        return load_night(self.nights.paths[i]), self.nights.scores[i], self.weights[i]


def collate(samples: Sequence) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Samples -> ({signal: (B, T, C, n), "lengths": (B,)}, scores (B, 1), weights (B, 1)), padded by 0 to the longest."""
    nights, scores, weights = zip(*samples)
    inputs = {
        name: torch.nn.utils.rnn.pad_sequence([night[name] for night in nights], batch_first=True) for name in SIGNALS
    }
    inputs["lengths"] = torch.tensor([len(night["eeg"]) for night in nights])
    return inputs, torch.tensor(np.array(scores))[:, None], torch.tensor(np.array(weights))[:, None]


def length(dataset: NightDataset, i: int) -> int:
    """About how long a night is: the size of its file, which need not be opened."""
    return dataset.nights.paths[i].stat().st_size
