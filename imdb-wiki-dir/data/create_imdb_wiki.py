"""imdb_crop/imdb.mat and wiki_crop/wiki.mat -> data/meta/imdb.csv and meta/wiki.csv: the columns age and path.

    python data/create_imdb_wiki.py --data_dir DIR --min_score 1

Kept are faces that were found clearly (face_score >= --min_score), alone in their picture, with an age of 0..200.
The next step is preprocess_imdb_wiki.py. For the published split use download_imdb_wiki.py instead.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent


def imdb_wiki_table(data_dir: str | Path, db: str, min_score: float = 1.0) -> tuple[list[tuple[int, str]], dict[str, int]]:
    """`data_dir/{db}_crop/{db}.mat`, db "imdb" or "wiki" -> rows (age, path) in the file's order, and what is left out.

    Kept: face_score >= `min_score`, no second face (second_face_score nan or <= 0), 0 <= age <= 200. The age is the
    year of the photo less that of birth, less one for a birth in July or later (the photo counts as one of mid-year).
    A row whose birth or photo is NaN or infinite, or which names no file, is left out.
    """
    from scipy.io import loadmat

    from imbalanced_regression.faces.table import OLDEST

    path = Path(data_dir) / f"{db}_crop" / f"{db}.mat"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; python download_imdb_wiki.py gets it")
    try:
        record = loadmat(str(path), variable_names=[db])[db][0, 0]
        names = [str(cell.ravel()[0]) if np.size(cell) else "" for cell in record["full_path"].ravel()]
        dob, taken, score, second = (
            record[field].ravel().astype(float) for field in ("dob", "photo_taken", "face_score", "second_face_score")
        )
    except Exception as error:  # a damaged file makes scipy raise nearly anything
        raise ValueError(f"{path} is not the {db} struct of IMDB-WIKI: {type(error).__name__} {error}") from error
    if not len(dob) == len(taken) == len(names) == len(score) == len(second):
        raise ValueError(f"{path}: the fields have different lengths")
    rows, left = [], {"no or unclear face": 0, "second face": 0, "impossible age": 0, "no birth, photo or path": 0}
    for i, name in enumerate(names):
        if not (np.isfinite(dob[i]) and np.isfinite(taken[i]) and name):  # holes, as other tools save them
            left["no birth, photo or path"] += 1
            continue
        # a Matlab datenum counts from year 0, Python's ordinal from year 1; some births in the file are before both
        born = date.fromordinal(min(max(int(dob[i]) - 366, 1), date.max.toordinal()))
        age = int(taken[i]) - born.year - (born.month >= 7)
        if not score[i] >= min_score:
            left["no or unclear face"] += 1
        elif second[i] > 0:
            left["second face"] += 1
        elif not 0 <= age <= OLDEST:
            left["impossible age"] += 1
        else:
            rows.append((age, f"{db}_crop/{name}"))
    return rows, left


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=HERE, help="the folder that imdb_crop/ and wiki_crop/ lie in")
    parser.add_argument("--db", nargs="+", choices=("imdb", "wiki"), default=["imdb", "wiki"], help="which of the two")
    parser.add_argument("--min_score", type=float, default=1.0, help="least score of the face detector")
    args = parser.parse_args()
    from imbalanced_regression.faces.table import write_csv

    for db in args.db:
        rows, left = imdb_wiki_table(args.data_dir, db, args.min_score)
        if not rows:  # before anything is written: an earlier csv stays
            why = ", ".join(f"{count} {why}" for why, count in left.items() if count) or "the file has no rows"
            raise ValueError(f"{args.data_dir / f'{db}_crop' / f'{db}.mat'}: no image is left with --min_score "
                             f"{args.min_score:g} ({why}); pass a lower one, or --db without {db}")
        target = args.data_dir / "meta" / f"{db}.csv"
        write_csv(target, ("age", "path"), rows)
        print(f"{target}: {len(rows)} images; left out: " + ", ".join(f"{count} {why}" for why, count in left.items()))


if __name__ == "__main__":
    guard(main)
