"""What is UCI-DIR's own: the four tables with their bins, shots and splits, the training weights, and the metrics by shot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imbalanced_regression import Bins, get_lds_kernel_window, lds_weights, shot_metrics

__all__ = ["TABLES", "UciTable", "evaluate", "get_lds_kernel_window", "sample_weights"]


@dataclass(frozen=True)
class UciTable:
    """A table: its label, the bins that count it, and what is many and few with so few rows.

    files: names it may have in --data_dir, the one at UCI first. rows, inputs: its size, without label and row numbers.
    cap: labels of a bin that go to validation, and as many to test, at most. many, few: the limits of the shots.
    """

    files: tuple[str, ...]
    url: str
    label: str
    rows: int
    inputs: int
    bins: Bins
    cap: int
    many: int
    few: int
    mean: float  # of the label, to tell a wrong file
    sha256: str = ""  # of a text file's lines, see datasets.content_sha256; spreadsheets are told by size and mean
    categories: tuple[int, ...] = ()
    numbered: bool = False  # the first column counts the rows


_AT = "https://archive.ics.uci.edu/ml/machine-learning-databases"

# what --dataset chooses from. The limits of the shots go with the size: 100 and 20 are AgeDB's, with 12,208 faces
TABLES = {
    "airfoil": UciTable(
        ("airfoil_self_noise.dat", "airfoil.csv"), f"{_AT}/00291/airfoil_self_noise.dat", "sound pressure level (dB)",
        1503, 5, Bins.width(103, 141, 1), cap=10, many=40, few=15, mean=124.83594,
        sha256="45f5a83126a60093708f642de4ebcd567509095d3471a49acd8abd0b2a1e3eed",
    ),
    "abalone": UciTable(
        ("abalone.data", "abalone.csv"), f"{_AT}/abalone/abalone.data", "rings", 4177, 8, Bins.width(0.5, 29.5, 1), cap=20,
        many=100, few=20, mean=9.93368, categories=(0,),
        sha256="70b4672819ddbe452943c1145c7030b6a7315db0b53cd31b252ee5b0c1008770",
    ),
    "real_estate": UciTable(
        ("Real estate valuation data set.xlsx", "real_estate.csv"), f"{_AT}/00477/Real%20estate%20valuation%20data%20set.xlsx",
        "price of unit area (10,000 TWD / ping)", 414, 6, Bins.width(4, 120, 4), cap=4, many=20, few=5, mean=37.98019,
        numbered=True,
    ),
    "concrete": UciTable(
        ("Concrete_Data.xls", "concrete.csv"), f"{_AT}/concrete/compressive/Concrete_Data.xls", "strength (MPa)", 1030, 8,
        Bins.width(2, 84, 2), cap=8, many=20, few=8, mean=35.81796,
    ),
}


def sample_weights(
    bins: Bins, labels, reweight: str, lds: bool, lds_kernel: str = "gaussian", lds_ks: int = 5, lds_sigma: float = 2
) -> np.ndarray:
    """The weight of every training row: labels (N,) -> (N,) float32 with mean 1.

    reweight is "none" (all ones), "sqrt_inv" or "inverse". Nothing published binds the ends here, so they get no weight for
    free (`effective_density`'s "renormalize").
    """
    return lds_weights(labels, bins, reweight=reweight, lds=lds, kernel=lds_kernel, ks=lds_ks, sigma=lds_sigma)


def evaluate(preds, labels, train_labels, table: UciTable) -> dict:
    """MSE, MAE (l1) and G-Mean in the label's unit, by the table's limits of the shots; zero-shot labels apart."""
    return shot_metrics(preds, labels, train_labels, table.bins, table.many, table.few)
