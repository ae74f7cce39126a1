"""The csv `age,path,split` of images of faces: split, written, plotted, and read with every check.

Raw data -> rows (age, path), by a folder's script -> `split_by_age` -> the csv -> `read_age_csv` -> training.
"""

from __future__ import annotations

import csv
import logging
import os
import random
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..files import read_columns, whole

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
LAST_BIN = 120  # bins are the years 0..120, larger ages count as 120
OLDEST = 200  # an age above this is a fault of the data


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AgeSplit:
    """One split of the csv: N image files, their ages (N,) float32 in years, and the csv line of each (N,) int64."""

    paths: list[str]
    ages: np.ndarray
    lines: np.ndarray
    dropped: int = 0  # rows left out by `skip_bad_images`

    def __len__(self) -> int:
        return len(self.paths)


def read_age_csv(
    csv_path: str | Path,
    data_dir: str | Path,
    *,
    skip_bad_images: bool = False,
    img_size: int = 224,
    workers: int = 4,
    advice: str = "",
) -> dict[str, AgeSplit]:
    """The csv `age,path,split` -> {"train": ..., "val": ..., "test": ...}, everything checked that is cheap to check.

    Raises ValueError, or FileNotFoundError for what is not there, naming the file and the line: a missing csv, column
    or image; an age that is no number or not in 0..200; an unknown or empty split; a path that leaves `data_dir`.
    Images are looked up folder by folder: a second or two for 200,000. `advice` ends the message where data are missing.
    With `skip_bad_images` each image is also decoded once, by `workers` threads, and what is missing or damaged is
    dropped, logged and counted in `AgeSplit.dropped`.
    """
    csv_path, data_dir = Path(csv_path), Path(data_dir)
    advice = f"; {advice}" if advice else ""
    if not csv_path.is_file():
        raise FileNotFoundError(f"{csv_path} is missing{advice}")
    if not data_dir.is_dir():
        raise FileNotFoundError(f"the image folder {data_dir} is missing{advice}")
    lines, rows = read_columns(csv_path, ("age", "path", "split"))
    ages = np.empty(len(rows))
    for i, (age, path, split) in enumerate(rows):
        where = f"{csv_path}, line {lines[i]}"
        ages[i] = _age(age, where)
        if split not in SPLITS:
            raise ValueError(f"{where}: split is {split!r}, not one of {', '.join(SPLITS)}")
        if _leaves_folder(path):
            raise ValueError(f"{where}: path is {path!r}, not a file below {data_dir}")
    there = _present(data_dir, [path for _, path, _ in rows])
    if not there.all() and not skip_bad_images:
        i = int(there.argmin())
        raise FileNotFoundError(
            f"{csv_path}, line {lines[i]}: the image {data_dir / rows[i][1]} is missing "
            f"({int((~there).sum())} of {len(rows)} are); --skip_bad_images goes on without them{advice}"
        )
    splits = {}
    for name in SPLITS:
        mine = np.array([i for i, (_, _, split) in enumerate(rows) if split == name], dtype=np.int64)
        paths = [os.path.join(data_dir, rows[i][1]) for i in mine]
        whole = AgeSplit(paths, ages[mine].astype(np.float32), np.array(lines, dtype=np.int64)[mine])
        splits[name] = _drop_bad(whole, there[mine], img_size, workers) if skip_bad_images else whole
        if not len(splits[name]):
            what = f"all {len(mine)} images of the split {name} are missing or damaged" if len(mine) else ""
            raise ValueError(f"{csv_path}: {what or f'no row belongs to the split {name}'}{advice}")
    return splits


def _age(text: str, where: str) -> float:
    try:
        age = float(text)
    except ValueError:
        age = float("nan")
    if not 0 <= age <= OLDEST:
        raise ValueError(f"{where}: age is {text!r}, not a number from 0 to {OLDEST}")
    return age


def _leaves_folder(path: str) -> bool:
    """Whether a path is absolute, on Unix or Windows, climbs out of the folder it is relative to, or names no file."""
    parts = path.replace("\\", "/").split("/")
    if parts[0] == "" or ":" in parts[0] or "\0" in path:
        return True
    depth = 0
    for part in parts:
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return depth == 0


def _present(data_dir: Path, paths: Sequence[str]) -> np.ndarray:
    """(N,) bool: which files exist. One listing per folder instead of one question per file."""
    folders: dict[str, set[str]] = {}
    there = np.zeros(len(paths), bool)
    for i, path in enumerate(paths):
        folder, name = os.path.split(path)
        if folder not in folders:
            try:
                folders[folder] = set(os.listdir(data_dir / folder))
            except OSError:
                folders[folder] = set()
        there[i] = name in folders[folder]
    return there


def _drop_bad(split: AgeSplit, there: np.ndarray, size: int, workers: int) -> AgeSplit:
    from ..images import BadImage
    from .pixels import load_face  # torch, which the scripts that make a csv do without

    reasons = {int(i): f"{split.paths[i]}: is missing" for i in np.flatnonzero(~there)}

    def check(i: int) -> None:
        try:
            load_face(split.paths[i], size)
        except BadImage as error:
            reasons[i] = str(error)

    with ThreadPoolExecutor(max(workers, 1)) as pool:  # Pillow decodes without the interpreter's lock
        for _ in pool.map(check, np.flatnonzero(there).tolist()):
            pass
    for i in sorted(reasons)[:5]:
        logger.warning("skipped, line %d: %s", split.lines[i], reasons[i])
    if reasons:
        logger.warning("skipped %d of %d images", len(reasons), len(split))
    keep = np.array([i for i in range(len(split)) if i not in reasons], dtype=np.int64)
    paths = [split.paths[i] for i in keep]
    return replace(split, paths=paths, ages=split.ages[keep], lines=split.lines[keep], dropped=len(reasons))


# -- making ------------------------------------------------------------------------------------------------------------


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a csv whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def split_by_age(ages: Sequence[int], cap: int, seed: int = 666) -> list[str]:
    """The published split: each age 0..120 shuffled, the first k = min(count // 3, cap) to val, the next k to test.

    The rest is train, and so is whoever is older than 120. The order of the rows counts: from agedb.csv's own (cap 30)
    the published split comes back exactly.
    """
    rng = random.Random(seed)  # Python's own generator: numpy's would give another split
    groups: dict[int, list[int]] = {}
    for i, age in enumerate(ages):
        groups.setdefault(age, []).append(i)
    splits = ["train"] * len(ages)
    for age in range(LAST_BIN + 1):
        rows = groups.get(age, [])
        rng.shuffle(rows)  # what is drawn depends on their number alone, so row numbers stand for the paths
        k = min(len(rows) // 3, cap)
        for split, part in (("val", rows[:k]), ("test", rows[k : 2 * k])):
            for i in part:
                splits[i] = split
    return splits


def preprocess(metas: Sequence[str | Path], target: str | Path, *, cap: int, seed: int = 666) -> dict[str, int]:
    """The csvs `metas` (age, path), one after the other -> `target` (age, path, split). Returns each split's size."""
    rows = []
    for meta in map(Path, metas):
        if not meta.is_file():
            raise FileNotFoundError(f"{meta} is missing; run the create script first")
        for line, (age, path) in zip(*read_columns(meta, ("age", "path"))):
            years = _age(age, f"{meta}, line {line}")
            if years != int(years):
                raise ValueError(f"{meta}, line {line}: age is {age!r}, not a whole number of years")
            rows.append((int(years), path))
    splits = split_by_age([age for age, _ in rows], cap, seed)
    write_csv(target, ("age", "path", "split"), [(*row, split) for row, split in zip(rows, splits)])
    return {name: splits.count(name) for name in SPLITS}


def plot_splits(csv_path: str | Path, png: str | Path, title: str) -> None:
    """Bars of the number of images per age, one panel per split, as a PNG."""
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    _, rows = read_columns(csv_path, ("age", "split"))
    ages = np.array([float(age) for age, _ in rows]).astype(int)
    splits = np.array([split for _, split in rows])
    figure = Figure(figsize=(8, 7), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    for panel, name, color in zip(panels, SPLITS, ("#33628d", "#c77f2a", "#4f8a4b")):
        mine = ages[splits == name]
        panel.bar(np.arange(OLDEST + 1), np.bincount(mine, minlength=OLDEST + 1), width=1, color=color)
        panel.set_title(f"{name}: {len(mine):,} images", loc="left", fontsize=11)
        panel.set_ylabel("images per age")
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlim(-1, max(ages.max(initial=0), 1) + 1)
    panels[-1].set_xlabel("age (years)")
    figure.suptitle(title, fontsize=13)
    figure.savefig(png, dpi=120)
