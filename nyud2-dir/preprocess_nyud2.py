"""Recompute what comes with NYUD2-DIR: pixel counts per depth bin, the subset for FDS, the balanced test mask.

    python preprocess_nyud2.py                            # all three, into --data_dir; those that are there are kept
    python preprocess_nyud2.py --mask --overwrite         # one of them, anew

Images are read one by one, so the memory does not grow with their number. Every draw follows from --seed.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
from loaddata import MASK, SUBSET, TEST, TRAIN, DepthDataset, Pairs, read_pairs
from nyu_transform import HEIGHT, WIDTH
from utils import BINS, BUCKET_START

from imbalanced_regression import cli
from imbalanced_regression.files import whole, write

COUNTS = "train_bucket_num.txt"


def main() -> None:
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=Path("./data"), help="where the data lies")
    parser.add_argument("--counts", action="store_true", help=f"training pixels per depth bin: {COUNTS}")
    parser.add_argument("--subset", action="store_true", help=f"training pairs whose features FDS collects: {SUBSET}")
    parser.add_argument("--mask", action="store_true", help=f"test pixels balanced over the depth: {MASK}")
    parser.add_argument("--height", type=int, default=HEIGHT, help="of the cropped images, in pixels")
    parser.add_argument("--width", type=int, default=WIDTH, help="of the cropped images, in pixels")
    parser.add_argument("--pairs", type=int, default=600, help="size of the subset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    args = parser.parse_args()
    cli.check_least(args, height=32, width=32, pairs=1, seed=0)
    chosen = {"counts": args.counts, "subset": args.subset, "mask": args.mask}
    if not any(chosen.values()):
        chosen = dict.fromkeys(chosen, True)
    for name, (file, make) in STEPS.items():
        if not chosen[name]:
            continue
        path = args.data_dir / file
        if path.exists() and not args.overwrite:
            print(f"{path} is there already; --overwrite makes it anew")
        else:
            print(f"{path}: {make(path, args.data_dir, args.height, args.width, args.pairs, args.seed)}")


def make_counts(path: Path, data_dir: Path, height: int, width: int, pairs: int, seed: int) -> str:
    """Pixels per bin of all training depth maps, cropped but not augmented; pixels without depth do not count."""
    counts = count_pixels(DepthDataset(read_pairs(data_dir, TRAIN), height, width))
    text = "".join(f"{count}\n" for count in counts)
    write(path, f"# training pixels per depth bin of 0.1 m, of depth maps cropped to {width}x{height}\n{text}")
    return f"{counts.sum():,} training pixels in {np.count_nonzero(counts)} bins"


def make_subset(path: Path, data_dir: Path, height: int, width: int, pairs: int, seed: int) -> str:
    """`pairs` training rows drawn without repetition, or all where there are fewer."""
    train = read_pairs(data_dir, TRAIN)
    rows = np.random.default_rng([seed, 0]).permutation(len(train))[:pairs]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(as_written(train, i, data_dir) for i in rows)
    write(path, text.getvalue())
    return f"{len(rows)} of {len(train)} training pairs"


def make_mask(path: Path, data_dir: Path, height: int, width: int, pairs: int, seed: int) -> str:
    """From each depth bin from 7 on as many test pixels as the rarest non-empty one has, drawn without repetition.

    Two passes over the images: the first counts, then the places of the chosen pixels in each bin's row of pixels are
    drawn, and the second finds them.
    """
    dataset = DepthDataset(read_pairs(data_dir, TEST), height, width, "16-bit")
    counts = count_pixels(dataset)
    counts[:BUCKET_START] = 0
    if not counts.any():
        raise ValueError(f"{data_dir / TEST}: no test pixel is {BUCKET_START / 10} m away or farther")
    each = int(counts[counts > 0].min())
    random = np.random.default_rng([seed, 1])
    places = {b: np.sort(random.choice(counts[b], each, replace=False, shuffle=False)) for b in np.flatnonzero(counts)}
    with whole(path) as part:
        mask = np.lib.format.open_memmap(part, "w+", np.uint8, (len(dataset), height, width))
        seen = np.zeros(BINS.count, dtype=np.int64)
        for i in range(len(dataset)):
            for b, pixels in by_bin(dataset, i):
                if b in places:
                    first, last = np.searchsorted(places[b], (seen[b], seen[b] + len(pixels)))
                    mask[i].reshape(-1)[pixels[places[b][first:last] - seen[b]]] = 1
                    seen[b] += len(pixels)
        mask.flush()
        del mask
    return f"{each:,} pixels in each of {len(places)} bins of {len(dataset)} images"


STEPS = {"counts": (COUNTS, make_counts), "subset": (SUBSET, make_subset), "mask": (MASK, make_mask)}


def count_pixels(dataset: DepthDataset) -> np.ndarray:
    """(100,) int64: pixels with depth per bin, over the data set."""
    counts = np.zeros(BINS.count, dtype=np.int64)
    for i in range(len(dataset)):
        for b, pixels in by_bin(dataset, i):
            counts[b] += len(pixels)
    return counts


def by_bin(dataset: DepthDataset, i: int):
    """(bin, places of its pixels in the flattened map) of the depth map of item i; pixels without depth are left out."""
    depth = dataset.depth(i)[0].reshape(-1).numpy()
    known = np.flatnonzero(depth > 0)
    index = BINS.index(depth[known])
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(BINS.count + 1))
    for b in np.unique(index):
        yield int(b), known[order[starts[b] : starts[b + 1]]]


def as_written(pairs: Pairs, i: int, data_dir: Path) -> list[str]:
    """The row i as it stands in the csv: `data/...`."""
    return [f"data/{Path(os.path.relpath(file, data_dir)).as_posix()}" for file in (pairs.images[i], pairs.depths[i])]


if __name__ == "__main__":
    cli.guard(main)
