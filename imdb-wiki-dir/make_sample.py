"""A sample to try IMDB-WIKI-DIR on: drawn faces in the real layout, sample/imdb_wiki.csv, imdb_crop/ and wiki_crop/.

    python make_sample.py                     6,104 training images with AgeDB's distribution of ages, 400 val, 400 test
    python make_sample.py --sheet faces.png   a sheet of such faces sorted by age instead
    python train.py --data_dir sample

Half of the images are IMDB's, half WIKI's, with imdb.mat and wiki.mat, so data/create_imdb_wiki.py works on them too.
Val and test have the same number of every age. No person is real, and no result on the sample is a benchmark result.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent
DATENUM = 366  # Matlab's day of year 1's first day, less Python's


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=6104, help="images in train")
    parser.add_argument("--per_age", type=int, default=4, help="images of each age in val, and in test")
    parser.add_argument("--size", type=int, default=64, help="side of an image in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "sample", help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="replace a sample that is there")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 4), help="processes that draw")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw a sheet sorted by age there, and no sample")
    args = parser.parse_args()
    from imbalanced_regression.faces import drawn as faces

    if args.sheet:
        faces.draw_sheet(size=args.size, seed=args.seed).save(args.sheet)
        print(args.sheet)
        return
    people = faces.sample_people(args.train, args.per_age, args.seed)
    records = {"imdb": [], "wiki": []}
    paths = []
    for i, person in enumerate(people):
        db = "imdb" if i % 2 else "wiki"
        born = date(1900 + i % 60, 1 + i % 12, 1 + i % 28)
        taken = born.year + person.age + (born.month >= 7)  # the age is that of mid-year
        if db == "imdb":
            path = f"{i % 100:02d}/nm{i:07d}_rm{i:09d}_{born.year}-{born.month}-{born.day}_{taken}.jpg"
        else:
            path = f"{i % 100:02d}/{i}_{born}_{taken}.jpg"
        records[db].append((born, taken, path, float(person.gender == "m"), person.name, 3.5, float("nan")))
        paths.append(f"{db}_crop/{path}")
    faces.write_sample(
        people, paths, args.out, "imdb_wiki.csv", size=args.size, seed=args.seed, workers=args.workers, overwrite=args.overwrite
    )
    for db, rows in records.items():
        # as in the real files: pictures without a face, and with two, which create_imdb_wiki.py leaves out
        rows += [(date(1950, 1, 1), 1990, f"00/none_{db}.jpg", 0.0, "Nobody", float("-inf"), float("nan"))]
        rows += [(date(1950, 1, 1), 1990, f"00/two_{db}.jpg", 0.0, "TwoPeople", 4.0, 2.5)]
        write_mat(args.out / f"{db}_crop" / f"{db}.mat", db, rows)
    print(f"{args.out / 'imdb_wiki.csv'}: {len(people)} drawn faces of {args.size} px")


def write_mat(path: Path, db: str, rows: list[tuple]) -> None:
    """The struct of the real imdb.mat and wiki.mat: one row of values per field, texts in cells."""
    import numpy as np
    from scipy.io import savemat

    born, taken, names, gender, people, score, second = zip(*rows)

    def cells(values) -> np.ndarray:
        array = np.empty((1, len(values)), object)
        array[0, :] = values
        return array

    boxes = np.empty((1, len(rows)), object)
    for i in range(len(rows)):
        boxes[0, i] = np.array([[1.0, 1.0, 64.0, 64.0]])
    fields = {
        "dob": np.array([[day.toordinal() + DATENUM for day in born]], np.int32),
        "photo_taken": np.array([taken], np.uint16),
        "full_path": cells(names),
        "gender": np.array([gender]),
        "name": cells(people),
        "face_location": boxes,
        "face_score": np.array([score]),
        "second_face_score": np.array([second]),
    }
    savemat(path, {db: fields}, do_compression=True)


if __name__ == "__main__":
    guard(main)
