"""AgeDB-DIR's data: the published split is downloaded, the images are unpacked from the zip that their authors give out.

    python download_agedb.py                                     data/agedb.csv, verified; says how to get the images
    python download_agedb.py --zip AgeDB.zip --password PASSWORD  the images too, into data/AgeDB/

The images are free for research: ask for the zip's password as https://ibug.doc.ic.ac.uk/resources/agedb/ says.
Reference: Moschoglou et al., "AgeDB: the first manually collected, in-the-wild age database", CVPR Workshops 2017.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard
from imbalanced_regression.download import download, unpack

HERE = Path(__file__).resolve().parent
URL = "https://raw.githubusercontent.com/YyzHarry/imbalanced-regression/main/agedb-dir/data/agedb.csv"
SHA256 = "ab9f8d4c7099a9d74ec5094c42b6fe9f1927a166a48d2ab800a88b2fd6081252"
HOW = "ask for the images as https://ibug.doc.ic.ac.uk/resources/agedb/ says, then pass --zip AgeDB.zip --password PASSWORD"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=HERE / "data", help="folder to write to")
    parser.add_argument("--url", default=URL, help="address of agedb.csv, for a mirror")
    parser.add_argument("--zip", type=Path, help="the zip of the images, from their authors")
    parser.add_argument("--password", help="its password")
    parser.add_argument("--overwrite", action="store_true", help="replace another agedb.csv, or images that are there")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    table = download(args.url, args.data_dir / "agedb.csv", sha256=SHA256, overwrite=args.overwrite)
    images = args.data_dir / "AgeDB"
    if args.zip:
        unpack_images(args.zip, images, args.password, args.overwrite)
    if not images.is_dir():
        print(f"{table} is the published split; now {HOW}")
        return
    from imbalanced_regression.faces.table import read_age_csv

    sizes = {name: len(split) for name, split in read_age_csv(table, args.data_dir, advice=HOW).items()}
    print(f"{args.data_dir} is complete: {sizes}")


def unpack_images(archive: Path, images: Path, password: str | None, overwrite: bool) -> None:
    """Unpack the zip, wherever in it the images lie, to `images`."""
    if images.exists() and not overwrite:
        raise FileExistsError(f"{images} exists; delete it or pass --overwrite")
    part = unpack(archive, images.with_name("AgeDB.unpacked.part"), password=password, overwrite=True)
    try:
        folders = {path.parent for path in part.rglob("*_*_*_[fm].jpg")}
        if len(folders) != 1:
            raise ValueError(f"{archive} holds {len(folders)} folders of images <id>_<name>_<age>_<gender>.jpg, expected one")
        if images.exists():
            shutil.rmtree(images)
        os.replace(folders.pop(), images)
    finally:
        shutil.rmtree(part, ignore_errors=True)


if __name__ == "__main__":
    guard(main)
