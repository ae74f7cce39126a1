"""The images in data/AgeDB/ -> data/meta/agedb.csv: the columns age and path, ages read from the file names.

    python data/create_agedb.py --data_dir DIR

The next step is preprocess_agedb.py. For the published split use download_agedb.py instead: it depends on the order of
the rows, which is the authors' own and not that of the names.
"""

from __future__ import annotations

from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=HERE, help="the folder that AgeDB/ lies in")
    args = parser.parse_args()
    from imbalanced_regression.age_data import agedb_table, write_csv

    rows, others = agedb_table(args.data_dir)
    target = args.data_dir / "meta" / "agedb.csv"
    write_csv(target, ("age", "path"), rows)
    print(f"{target}: {len(rows)} images; {others} files of other names left out")


if __name__ == "__main__":
    guard(main)
