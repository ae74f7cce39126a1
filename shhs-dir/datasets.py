"""The data of SHHS-DIR: shhs.csv and nights/<nsrrid>.npz -> data sets; batches are padded to their longest night.

A sample is ({"eeg" (T, 1, 1920), "ecg" (T, 1, 1920), "breathing" (T, 3, 240)} of T epochs of 30 s, score 0..100, weight).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from imbalanced_regression.files import read_columns

SIGNALS = {"eeg": (1, 1920), "ecg": (1, 1920), "breathing": (3, 240)}  # channels, values in 30 s
ADVICE = "run python preprocess_shhs.py, on the downloaded data or with --data_dir sample on what python make_sample.py drew"


class NightDataset(Dataset):
    """The nights of one split; `scores` (N,) float32. Each night is read when asked for."""

    def __init__(self, files: list[Path], scores: np.ndarray):
        self.files, self.scores = files, scores
        self.weights = np.ones(len(scores), np.float32)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int):
        try:
            with np.load(self.files[i]) as stored:
                night = {name: torch.from_numpy(stored[name]) for name in SIGNALS}
            found = {name: tuple(signal.shape) for name, signal in night.items()}
            if not len(night["eeg"]) or found != {name: (len(night["eeg"]), *shape) for name, shape in SIGNALS.items()}:
                raise ValueError(f"its arrays have the shapes {found}")
        except Exception as error:  # a damaged file makes numpy and zipfile raise nearly anything
            raise ValueError(f"{self.files[i]}: cannot be read ({error}); delete it and {ADVICE}") from None
        return night, self.scores[i], self.weights[i]


def read_splits(data_dir: str) -> dict[str, NightDataset]:
    """`data_dir`/shhs.csv (nsrrid, gh, split) -> train, val and test.

    Raises ValueError naming file and row for a bad row, a night without its file, or a split without nights.
    """
    table = Path(data_dir) / "shhs.csv"
    if not table.is_file():
        raise ValueError(f"--data_dir: no shhs.csv in {data_dir}; {ADVICE}")
    rows: dict[str, tuple[list[Path], list[float]]] = {name: ([], []) for name in ("train", "val", "test")}
    try:
        lines, content = read_columns(table, ("nsrrid", "gh", "split"))
    except ValueError as error:
        raise ValueError(f"{error}; {ADVICE}") from None
    for number, row in zip(lines, content):
        try:
            path, score = table.parent / "nights" / f"{int(row[0])}.npz", float(row[1])
            files, scores = rows[row[2]]
        except (KeyError, ValueError):
            raise ValueError(f"{table}: row {number}: expected nsrrid,gh,split, found {row}") from None
        if not 0 <= score <= 100:
            raise ValueError(f"{table}: row {number}: the score {score:g} lies outside 0..100")
        if not path.is_file():
            raise ValueError(f"{table}: row {number}: there is no {path}; {ADVICE}")
        files.append(path)
        scores.append(score)
    empty = [name for name, (files, _) in rows.items() if not files]
    if empty:
        raise ValueError(f"{table}: no night in {empty[0]}; {ADVICE}")
    return {name: NightDataset(files, np.array(scores, np.float32)) for name, (files, scores) in rows.items()}


def collate(samples) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Samples -> ({"eeg" (B, T, 1, 1920), ..., "lengths" (B,)}, scores (B, 1), weights (B, 1)), T the longest night's epochs.

    Signals stay float16, half the bytes to move; the padding is zeros, which the model never looks at.
    """
    nights, scores, weights = zip(*samples)
    lengths = torch.tensor([len(night["eeg"]) for night in nights])
    inputs = {"lengths": lengths}
    for name in SIGNALS:
        padded = torch.zeros(len(nights), int(lengths.max()), *nights[0][name].shape[1:], dtype=torch.float16)
        for row, night in zip(padded, nights):
            row[: len(night[name])] = night[name]
        inputs[name] = padded
    return inputs, torch.tensor(np.array(scores))[:, None], torch.tensor(np.array(weights)).reshape(len(weights), -1)


def length(dataset: NightDataset, i: int) -> int:
    """The size of a night's file, which goes with its epochs and needs no reading."""
    return dataset.files[i].stat().st_size
