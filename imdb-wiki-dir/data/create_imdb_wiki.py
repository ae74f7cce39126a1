"""imdb_crop/imdb.mat and wiki_crop/wiki.mat -> data/meta/imdb.csv and meta/wiki.csv: the columns age and path.

    python data/create_imdb_wiki.py --data_dir DIR --min_score 1

Kept are faces that were found clearly (face_score >= --min_score), alone in their picture, with an age of 0..200.
The next step is preprocess_imdb_wiki.py. For the published split use download_imdb_wiki.py instead.
"""

from __future__ import annotations

from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=HERE, help="the folder that imdb_crop/ and wiki_crop/ lie in")
    parser.add_argument("--db", nargs="+", choices=("imdb", "wiki"), default=["imdb", "wiki"], help="which of the two")
    parser.add_argument("--min_score", type=float, default=1.0, help="least score of the face detector")
    args = parser.parse_args()
    from imbalanced_regression.age_data import imdb_wiki_table, write_csv

    for db in args.db:
        rows, left = imdb_wiki_table(args.data_dir, db, args.min_score)
        target = args.data_dir / "meta" / f"{db}.csv"
        write_csv(target, ("age", "path"), rows)
        print(f"{target}: {len(rows)} images; left out: " + ", ".join(f"{count} {why}" for why, count in left.items()))


if __name__ == "__main__":
    guard(main)
