"""Download NYUD2-DIR's data: about 50,000 training and 654 test pairs (4 GB), the subset for FDS, the balanced test mask.

    python download_nyud2.py                     # from Google Drive, by gdown; run it again to go on after a break
    python download_nyud2.py --url URL           # the zip from a mirror: the Drive link has moved before
    python download_nyud2.py --zip nyu_data.zip  # a zip that is here already

Subset and mask are verified by their published hashes. For the zip none is published: its checksums are read while it is
unpacked, --sha256 compares one you know, and every row of its csv files is looked up. Nothing half-done carries its name.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard
from imbalanced_regression.download import download, unpack, verify

HERE = Path(__file__).resolve().parent
DRIVE_ID = "1WoOZOBpOWfmwe7bknWS5PMUCLBPFKTOw"
LISTS_URL = "https://raw.githubusercontent.com/YyzHarry/imbalanced-regression/main/nyud2-dir/data"
LISTS = {
    "nyu2_train_FDS_subset.csv": {"sha256": "e2e00e2388db5a4a6917b7f1c4af68b5fd4012f2884acbbb810ffe8c0957f5b6"},
    "test_balanced_mask.npy": {"git_blob": "156c67de7a6901c50f15b011e07c42c67e6203c3"},
}
CONTENT = ("nyu2_train", "nyu2_test", "nyu2_train.csv", "nyu2_test.csv")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=HERE / "data", help="folder to write to")
    parser.add_argument("--url", help="address of the zip on a mirror, instead of Google Drive")
    parser.add_argument("--zip", type=Path, help="the zip, where it is here already")
    parser.add_argument("--sha256", help="expected hash of the zip")
    parser.add_argument("--lists_url", default=LISTS_URL, help="address of the folder of the subset and the mask")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    there = [name for name in CONTENT if (args.data_dir / name).exists()]
    if len(there) == len(CONTENT) and not args.overwrite:
        print(f"the images are in {args.data_dir} already; --overwrite fetches them anew")
    elif there and not args.overwrite:
        raise FileExistsError(f"{args.data_dir} has {', '.join(there)} but not all of {', '.join(CONTENT)}; pass --overwrite")
    else:
        archive = args.zip or fetch(args.data_dir / "nyu_data.zip", args.url, args.sha256, args.overwrite)
        if args.zip and args.sha256:
            verify(archive, sha256=args.sha256)
        unpack_pairs(archive, args.data_dir)
        print(f"unpacked; {archive} is no longer needed")
    for name, expected in LISTS.items():
        download(f"{args.lists_url.rstrip('/')}/{name}", args.data_dir / name, overwrite=args.overwrite, **expected)

    from loaddata import SUBSET, TEST, TRAIN, read_pairs  # torch, which a failed download does without

    sizes = {name: len(read_pairs(args.data_dir, name)) for name in (TRAIN, TEST, SUBSET)}
    print(f"{args.data_dir} is complete: {sizes}")


def fetch(path: Path, url: str | None, sha256: str | None, overwrite: bool) -> Path:
    """The zip, from a mirror or from Google Drive."""
    if url:
        return download(url, path, sha256=sha256, overwrite=overwrite)
    if path.exists() and not overwrite:
        if sha256:
            verify(path, sha256=sha256)
        return path
    from_drive(path)
    if sha256:
        verify(path, sha256=sha256)
    return path


def from_drive(path: Path) -> None:
    """gdown into `<path>.drive.part`; what arrived before a break is gone on from; then renamed."""
    import gdown
    import requests

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.drive.part")
    way = "Drive limits downloads per day and the link has moved before: try later, or a mirror by --url"
    try:
        gdown.download(id=DRIVE_ID, output=str(part), resume=True, quiet=False)
    except (gdown.exceptions.DownloadError, requests.RequestException, OSError) as error:
        raise OSError(f"Google Drive file {DRIVE_ID}: {type(error).__name__}; {way}") from None
    if not part.is_file():
        raise OSError(f"Google Drive file {DRIVE_ID}: nothing arrived; {way}")
    os.replace(part, path)


def unpack_pairs(archive: Path, data_dir: Path) -> None:
    """Unpack the zip beside its place, find the four parts wherever in it they lie, and move them to `data_dir`."""
    data_dir.mkdir(parents=True, exist_ok=True)
    part = unpack(archive, data_dir / "unpacked.part", overwrite=True)
    try:
        roots = {path.parent for path in part.rglob("nyu2_train.csv")}
        missing = [name for name in CONTENT if len(roots) != 1 or not (next(iter(roots)) / name).exists()]
        if missing:
            raise ValueError(f"{archive} does not hold {', '.join(missing)} in one folder; it is another archive")
        root = roots.pop()
        for name in CONTENT:
            target = data_dir / name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(root / name, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


if __name__ == "__main__":
    guard(main)
