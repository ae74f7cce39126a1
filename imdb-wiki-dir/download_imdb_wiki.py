"""IMDB-WIKI-DIR's data: the published split, and the face crops of IMDB (7 GB) and WIKI (1 GB).

    python download_imdb_wiki.py               everything, into data/; run it again to go on after a break
    python download_imdb_wiki.py --only csv    the published split alone, data/imdb_wiki.csv
    python download_imdb_wiki.py --only wiki   the split and the smaller part of the images

The csv is verified by its hash; of the two archives none is published, they are checked while they are unpacked.
Reference: Rothe, Timofte, Van Gool, "Deep expectation of real and apparent age from a single image", IJCV 2018.
"""

from __future__ import annotations

import logging
from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard
from imbalanced_regression.download import download, unpack

HERE = Path(__file__).resolve().parent
URL = "https://raw.githubusercontent.com/YyzHarry/imbalanced-regression/main/imdb-wiki-dir/data/imdb_wiki.csv"
GIT_BLOB = "c1512e3da0de9076a0793b982c9a74cd872c0d8b"
IMAGES_URL = "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/static"
PARTS = {"csv": (), "imdb": ("imdb_crop",), "wiki": ("wiki_crop",), "all": ("imdb_crop", "wiki_crop")}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=HERE / "data", help="folder to write to")
    parser.add_argument("--only", choices=PARTS, default="all", help="the csv alone, or with one part of the images")
    parser.add_argument("--url", default=URL, help="address of imdb_wiki.csv, for a mirror")
    parser.add_argument("--images_url", default=IMAGES_URL, help="folder of imdb_crop.tar and wiki_crop.tar, for a mirror")
    parser.add_argument("--keep_tar", action="store_true", help="do not delete the archives after unpacking")
    parser.add_argument("--overwrite", action="store_true", help="fetch and unpack again what is there")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    table = download(args.url, args.data_dir / "imdb_wiki.csv", git_blob=GIT_BLOB, overwrite=args.overwrite)
    for name in PARTS[args.only]:
        if (args.data_dir / name).is_dir() and not args.overwrite:
            print(f"{args.data_dir / name} is there already")
            continue
        archive = download(f"{args.images_url}/{name}.tar", args.data_dir / f"{name}.tar", overwrite=args.overwrite)
        print(f"unpacking {archive}")
        unpack(archive, args.data_dir / name, overwrite=args.overwrite)
        if not args.keep_tar:
            archive.unlink()
    if not all((args.data_dir / name).is_dir() for name in PARTS["all"]):
        print(f"{table} is the published split; training needs imdb_crop and wiki_crop beside it")
        return
    from imbalanced_regression.faces.table import read_age_csv

    sizes = {name: len(split) for name, split in read_age_csv(table, args.data_dir).items()}
    print(f"{args.data_dir} is complete: {sizes}")


if __name__ == "__main__":
    guard(main)
