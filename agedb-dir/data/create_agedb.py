"""The images in data/AgeDB/ -> data/meta/agedb.csv: the columns age and path, ages read from the file names.

    python data/create_agedb.py --data_dir DIR

The next step is preprocess_agedb.py. For the published split use download_agedb.py instead: it depends on the order of
the rows, which is the authors' own and not that of the names.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent
NAME = re.compile(r"\d+_.*_(\d+)_[fm]\.jpe?g", re.IGNORECASE)  # <id>_<name>_<age>_<gender>.jpg


def agedb_table(data_dir: str | Path) -> tuple[list[tuple[int, str]], int]:
    """`data_dir/AgeDB/<id>_<name>_<age>_<gender>.jpg` -> rows (age, path) in the order of the names, and how many files
    have other names or ages above 200. Raises ValueError where there is no such image.
    """
    folder = Path(data_dir) / "AgeDB"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; python download_agedb.py says how to get the images")
    from imbalanced_regression.faces.table import OLDEST

    rows, others = [], 0
    for name in sorted(os.listdir(folder), key=lambda name: (len(name.split("_")[0]), name)):
        match = NAME.fullmatch(name)
        if match and int(match[1]) <= OLDEST:
            rows.append((int(match[1]), f"AgeDB/{name}"))
        else:
            others += 1
    if not rows:
        raise ValueError(f"{folder} has no image named <id>_<name>_<age>_<gender>.jpg")
    return rows, others


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=HERE, help="the folder that AgeDB/ lies in")
    args = parser.parse_args()
    from imbalanced_regression.faces.table import write_csv

    rows, others = agedb_table(args.data_dir)
    target = args.data_dir / "meta" / "agedb.csv"
    write_csv(target, ("age", "path"), rows)
    print(f"{target}: {len(rows)} images; {others} files of other names left out")


if __name__ == "__main__":
    guard(main)
