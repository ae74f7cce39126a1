"""GloVe 840B, 300 numbers for each of 2.2 million words: 2.2 GB to download, 5.6 GB unpacked.

    python glove/download_glove.py               gives glove/glove.840B.300d.txt; run it again to go on after a break
    python glove/download_glove.py --url MIRROR  the same zip from another address

The zip's own checksum and the width of the first line are what is verified: no other hash of it is published.
Reference: Pennington, Socher, Manning, "GloVe: Global Vectors for Word Representation", EMNLP 2014.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from reader import find_layout

from imbalanced_regression.cli import ArgumentParser, guard
from imbalanced_regression.download import download, unpack

HERE = Path(__file__).resolve().parent
URL = "https://nlp.stanford.edu/data/glove.840B.300d.zip"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=URL, help="address of the zip")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--d_word", type=int, default=300, help="numbers per word that the file must have")
    parser.add_argument("--keep_zip", action="store_true", help="do not delete the zip after unpacking")
    parser.add_argument("--overwrite", action="store_true", help="fetch and unpack again what is there")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    name = Path(urlsplit(args.url).path).name
    if not name.endswith(".zip"):
        parser.error(f"--url {args.url.split('?')[0]}: expected the address of a .zip")
    text = args.out / f"{name.removesuffix('.zip')}.txt"
    if text.exists() and not args.overwrite:
        find_layout(text, args.d_word)
        print(f"{text} is there already")
        return
    archive = download(args.url, args.out / name, overwrite=args.overwrite)
    print(f"unpacking {archive}")
    folder = unpack(archive, text.with_name(f"{text.name}.unpacked.part"), overwrite=True)
    try:
        texts = list(folder.rglob("*.txt"))
        if len(texts) != 1:
            raise ValueError(f"{archive} holds {len(texts)} text files, expected one; pass another --url")
        find_layout(texts[0], args.d_word)
        os.replace(texts[0], text)
    finally:
        shutil.rmtree(folder)
    if not args.keep_zip:
        archive.unlink()
    print(f"{text}: {text.stat().st_size / 1e9:.2f} GB, {args.d_word} numbers per word")


if __name__ == "__main__":
    guard(main)
