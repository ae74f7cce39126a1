"""The data of AgeDB-DIR: <dataset>.csv (age, path, split) and its images -> three data sets, every row checked first."""

from __future__ import annotations

from pathlib import Path

from imbalanced_regression.faces.table import AgeSplit, read_age_csv

ADVICE = "python download_agedb.py gets the csv and says how to get the images, python make_sample.py draws a sample"


def read_splits(data_dir: str, dataset: str = "agedb", *, split: str | None = None, **options) -> dict[str, AgeSplit]:
    """`data_dir`/`dataset`.csv, or the csv `split`, -> the splits; the paths in it are relative to `data_dir`.

    See `table.read_age_csv`."""
    return read_age_csv(split or Path(data_dir) / f"{dataset}.csv", data_dir, advice=ADVICE, **options)
