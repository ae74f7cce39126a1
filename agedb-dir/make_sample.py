"""A sample to try AgeDB-DIR on: drawn faces in the real layout, sample/agedb.csv and sample/AgeDB/*.jpg.

    python make_sample.py                     6,104 training images with AgeDB's distribution of ages, 400 val, 400 test
    python make_sample.py --sheet faces.png   a sheet of such faces sorted by age instead
    python train.py --data_dir sample

The training ages are AgeDB's own, halved; val and test have the same number of every age. No person is real, and no
result on the sample is a benchmark result.
"""

from __future__ import annotations

import os
from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent


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
    paths = [f"AgeDB/{i}_{person.name}_{person.age}_{person.gender}.jpg" for i, person in enumerate(people)]
    faces.write_sample(
        people, paths, args.out, "agedb.csv", size=args.size, seed=args.seed, workers=args.workers, overwrite=args.overwrite
    )
    print(f"{args.out / 'agedb.csv'}: {len(people)} drawn faces of {args.size} px")


if __name__ == "__main__":
    guard(main)
