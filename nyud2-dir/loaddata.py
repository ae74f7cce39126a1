"""From the csv files to batches: pairs of an image and its depth map, the scenes held out, and the balanced test mask.

One sample: a row `data/...jpg,data/...png` -> decoded -> `nyu_transform.py` on both -> depth in metres, and a weight per
pixel: from the table of bins in training, 0 or 1 otherwise. Everything cheap to check is checked before training.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from nyu_transform import eval_transform, nearest, output_size, train_transform
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from utils import BINS, pixel_weights

from imbalanced_regression.cache import packed
from imbalanced_regression.files import read_rows
from imbalanced_regression.images import BadImage, as_shown
from imbalanced_regression.training.loaders import EpochDraws, Splits
from imbalanced_regression.training.randomness import derive_seed

logger = logging.getLogger(__name__)

ADVICE = "python download_nyud2.py fetches the data, python make_sample.py makes a sample"
TRAIN, TEST, SUBSET, MASK = "nyu2_train.csv", "nyu2_test.csv", "nyu2_train_FDS_subset.csv", "test_balanced_mask.npy"
# what a depth file holds: Pillow's modes, what makes metres of it, and both in words; training files are 8-bit
FORMATS = {"8-bit": (("L",), lambda depth: depth.float() / 255 * 10, "mode L, 255 = 10 m"),
           "16-bit": (("I;16", "I;16B", "I"), lambda depth: depth.float() / 1000,
                      "mode I;16, millimetres")}


@dataclass(frozen=True)
class Pairs:
    """Rows of a csv: N image files, their depth files, and where each row stands ("file, row n")."""

    images: list[str]
    depths: list[str]
    where: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def only(self, chosen) -> Pairs:
        """The rows at the places `chosen`."""
        return replace(self, **{name: [values[i] for i in chosen] for name, values in vars(self).items()})


def read_pairs(data_dir: str | Path, name: str) -> Pairs:
    """The csv `name` in `data_dir` (no header; image and depth path, both beginning with `data/`, which is `data_dir`).

    Raises ValueError or FileNotFoundError naming the csv and the row: another number of fields, a path that does not begin
    with `data/` or leads outside, a file that is missing; no rows at all.
    """
    path, data_dir = Path(data_dir) / name, Path(data_dir)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {ADVICE}")
    there: dict[str, set[str]] = {}
    pairs = Pairs([], [], [])
    for number, row in read_rows(path):
        where = f"{path}, row {number}"
        if len(row) != 2:
            raise ValueError(f"{where}: expected an image and a depth path, found {len(row)} fields")
        files = [_below(data_dir, text, where) for text in row]
        for file_path, kind in zip(files, ("image", "depth file")):
            folder, base = os.path.split(file_path)
            if folder not in there:  # folder by folder: much faster than asking for 100,000 files
                there[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            if base not in there[folder]:
                raise FileNotFoundError(f"{where}: the {kind} {file_path} is missing; {ADVICE}")
        for values, value in zip((pairs.images, pairs.depths, pairs.where), (*files, where)):
            values.append(value)
    if not len(pairs):
        raise ValueError(f"{path} has no rows; {ADVICE}")
    return pairs


def _below(data_dir: Path, text: str, where: str) -> str:
    parts = PurePosixPath(text).parts
    if len(parts) < 2 or parts[0] != "data" or ".." in parts or "\\" in text or "\0" in text:
        raise ValueError(f"{where}: the path is {text!r}, not data/... below --data_dir")
    return os.path.join(data_dir, *parts[1:])


def scene(path: str) -> str:
    """The scene an image belongs to: its folder's name without `_out`, and without the letter of a part of a recording."""
    return re.sub(r"(\d)[a-z]?(_out)?$", r"\1", os.path.basename(os.path.dirname(path)))


def held_out(pairs: Pairs, share: float, seed: int) -> np.ndarray:
    """Which rows belong to the scenes held out from training, (N,) bool: `share` of the scenes, at least one, by `seed`.

    Raises ValueError where there are fewer than two scenes.
    """
    scenes = [scene(path) for path in pairs.images]
    names = sorted(set(scenes))
    if len(names) < 2:
        raise ValueError(
            f"{pairs.where[0]}: all images are of one scene, {names[0]}; choosing a checkpoint on held-out scenes needs "
            "two, or pass --select_on test"
        )
    count = min(max(1, round(share * len(names))), len(names) - 1)
    chosen = set(np.random.default_rng([seed, 5]).permutation(names)[:count].tolist())
    return np.array([name in chosen for name in scenes])


def read_image(path: str, where: str) -> Tensor:
    """An image file -> (3, H, W) uint8, RGB. Raises BadImage (a ValueError) with file and row."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return torch.from_numpy(np.array(as_shown(image))).permute(2, 0, 1)
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise BadImage(f"{where}: {path} cannot be read: {' '.join(str(error).split())}") from error


def read_depth(path: str, where: str, kind: str) -> Tensor:
    """A depth file -> (1, H, W), uint8 or int32 as stored; `kind` is a key of `FORMATS`.

    Raises BadImage (a ValueError) with file and row: unreadable, of another bit depth, or without any depth.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.array(image)
    except Exception as error:  # as above
        raise BadImage(f"{where}: {path} cannot be read: {' '.join(str(error).split())}") from error
    if mode not in FORMATS[kind][0]:
        raise BadImage(f"{where}: the depth file {path} is of mode {mode}, expected {kind} grey values ({FORMATS[kind][2]})")
    if values.min() < 0 or values.max() > 65535:
        raise BadImage(f"{where}: the depth file {path} holds {values.min()} to {values.max()}, expected 0 to 65535")
    if not values.any():
        raise BadImage(f"{where}: the depth file {path} is all zero; it holds no depth")
    return torch.from_numpy(values if kind == "8-bit" else values.astype(np.int32))[None]


def read_pair(pairs: Pairs, index: int, kind: str) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """A pair as its files hold it. Raises BadImage as `read_image` and `read_depth` do, and where the sizes differ."""
    where = pairs.where[index]
    image = read_image(pairs.images[index], where)
    depth = read_depth(pairs.depths[index], where, kind)
    if image.shape[-2:] != depth.shape[-2:]:
        sizes = " and ".join(f"{x.shape[-1]}x{x.shape[-2]}" for x in (image, depth))
        raise BadImage(f"{where}: {pairs.images[index]} and its depth file differ in size: {sizes}")
    return tv_tensors.Image(image), tv_tensors.Mask(depth)


class ResizedPairs:
    """The 8-bit pairs of a csv after the first of their transforms, in one file: 4 bytes a pixel, made on first use.

    Args:
        pairs: the rows.
        height, width: of the images that a data set makes of them, in pixels.
        folder: where the file lies.
        workers: threads that make it.

    Raises BadImage (a ValueError) naming file and row: see `read_pair`; pairs of several shapes.
    """

    def __init__(self, pairs: Pairs, height: int, width: int, folder: str, workers: int = 4):
        scale = eval_transform(height, width).transforms[0]
        shape = (4, *scale(*read_pair(pairs, 0, "8-bit"))[0].shape[-2:])

        def prepare(index: int) -> np.ndarray:
            pair = torch.cat([part.as_subclass(Tensor) for part in scale(*read_pair(pairs, index, "8-bit"))]).numpy()
            if pair.shape != shape:
                raise BadImage(
                    f"--cache: {pairs.where[index]}: {pairs.images[index]} is {pair.shape[-1]}x{pair.shape[-2]} when resized, "
                    f"the first is {shape[-1]}x{shape[-2]}; one file holds images of one shape, so go without"
                )
            return pair

        both = list(zip(pairs.images, pairs.depths))
        files = (path for pair in both for path in pair)
        self.path = packed(len(pairs), prepare, files, folder, f"depth_{scale.shorter}", shape, version=1, workers=workers)
        self._places = {pair: place for place, pair in enumerate(both)}
        self._values: np.ndarray | None = None

    def get(self, pairs: Pairs, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask] | None:
        """A row's pair, resized; None for one that is not of the csv."""
        place = self._places.get((pairs.images[index], pairs.depths[index]))
        if place is None:
            return None
        if self._values is None:  # opened in each worker; mode "c" because torch wants writable memory
            self._values = np.load(self.path, mmap_mode="c")
        pair = torch.from_numpy(self._values[place])
        return tv_tensors.Image(pair[:3]), tv_tensors.Mask(pair[3:])

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_values": None}  # a pickled memmap would carry all its pixels


class DepthDataset(EpochDraws, Dataset):
    """Item -> (image (3, height, width) float32, depth in metres and weights, (1, h, w) float32 each).

    Args:
        pairs: the rows.
        height, width: of the images, in pixels.
        kind: of the depth files, "8-bit" or "16-bit".
        table: (100,) weights of the depth bins. None: a pixel with depth counts 1, one without 0.
        mask: (N, height, width) 0/1, the pixels that count, instead.
        half: depth at the model's output size, as training and FDS need it; else at the image's, as measuring does.
        kept: where resized pairs are kept; what it has is not read from the files again.
        augment: random scale, flip, rotation and colours, a pure function of (seed, epoch, index): four processes see
            what one sees. Call `set_epoch` before each pass. Index i + N is another view of item i.

    Raises BadImage (a ValueError) naming file and row, when an item is read: see `read_image` and `read_depth`; sizes that
    differ; a pixel of the mask without depth.
    """

    def __init__(
        self, pairs: Pairs, height: int, width: int, kind: str = "8-bit", *, table: np.ndarray | None = None,
        mask: np.ndarray | None = None, half: bool = False, augment: bool = False, seed: int = 0,
        kept: ResizedPairs | None = None,
    ):
        super().__init__(seed)
        self.pairs, self.kind, self.half, self.augment = pairs, kind, half, augment
        self.size = output_size(height, width) if half else (height, width)
        self.geometry = eval_transform(height, width)
        self.transform = train_transform(height, width) if augment else self.geometry
        self.table = None if table is None else torch.from_numpy(table)
        self.mask = mask
        self.kept = kept

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        draws, index = self.draws(index), index % len(self)
        pair = self.kept.get(self.pairs, index) if self.kept else None
        pair = pair or read_pair(self.pairs, index, self.kind)
        if self.augment:
            with torch.random.fork_rng(devices=[]):  # no one else's draws change
                torch.default_generator.manual_seed(derive_seed(*draws))
                pair = self.transform(*pair)
        else:
            pair = self.transform(*pair)
        image, depth = (part.as_subclass(Tensor) for part in pair)
        depth = FORMATS[self.kind][1](nearest(depth, self.size))
        return image, depth, self.weights(index, depth)

    def depth(self, index: int) -> Tensor:
        """The depth map alone, without augmentation: (1, h, w) float32 in metres. Its image is not read."""
        stored = read_depth(self.pairs.depths[index], self.pairs.where[index], self.kind)
        return FORMATS[self.kind][1](nearest(self.geometry(tv_tensors.Mask(stored)).as_subclass(Tensor), self.size))

    def weights(self, index: int, depth: Tensor) -> Tensor:
        """What each pixel of the item's depth map counts, (1, h, w) float32."""
        if self.mask is not None:
            weights = torch.from_numpy(np.array(self.mask[index], dtype=np.float32))[None]
            if (depth[weights > 0] <= 0).any():
                raise BadImage(f"{self.pairs.where[index]}: {MASK} marks pixels without depth; it is of another test set")
            return weights
        return (depth > 0).float() if self.table is None else pixel_weights(depth, self.table)


def read_mask(data_dir: str | Path, count: int, height: int, width: int) -> np.ndarray:
    """The balanced test mask, (count, height, width) 0/1, mapped from its file.

    Raises ValueError or FileNotFoundError: missing, no array, another shape, other values than 0 and 1.
    """
    path, way = Path(data_dir) / MASK, "python preprocess_nyud2.py --mask makes one"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; python download_nyud2.py fetches it, {way}")
    try:
        mask = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged file makes numpy raise nearly anything
        raise ValueError(f"{path} is no array of numbers ({' '.join(str(error).split())}); {way}") from None
    if mask.shape == (count, 1, height, width):
        mask = mask[:, 0]
    if mask.shape != (count, height, width):
        raise ValueError(f"{path} has shape {mask.shape}; {TEST} and the size of the images ask for {(count, height, width)}: "
                         f"{way}, with the same --height and --width")
    for i in range(count):
        if not np.isin(mask[i], (0, 1)).all():
            raise ValueError(f"{path}: image {i + 1} holds other values than 0 and 1; {way}")
    return mask


def check_test(dataset: DepthDataset, bins) -> None:
    """Read every depth map of the test set under its mask once, a few seconds, so that a wrong mask stops no run at its end.

    Raises ValueError where pixels without depth are marked (with file and row), or where the marked pixels are not
    balanced over the depth bins: then the mask is of another test set.
    """
    counts = np.zeros(bins.count, dtype=np.int64)
    for i in range(len(dataset)):
        depth = dataset.depth(i)
        weights = dataset.weights(i, depth)
        counts += np.bincount(bins.index(depth[weights > 0].numpy()), minlength=bins.count) if weights.any() else 0
    present = counts[counts > 0]
    path = dataset.pairs.where[0].rsplit(",", 1)[0]
    if not len(present):
        raise ValueError(f"{MASK} beside {path} marks no pixel; python preprocess_nyud2.py --mask makes one")
    # the published mask was drawn with Pillow's resizing, so a few of its pixels fall into neighbouring bins
    if present.max() > 2 * np.median(present) + 20:
        raise ValueError(
            f"{MASK} beside {path} marks {present.min()} to {present.max()} pixels per depth bin, which is not balanced: "
            "it is of another test set; python preprocess_nyud2.py --mask makes the right one"
        )


def make_splits(
    data_dir: str, size: tuple[int, int], table: np.ndarray, *, seed: int, subset: bool, val_share: float | None,
    cache: str | None = None, workers: int = 4,
) -> Splits:
    """The training set without the held-out scenes, these to choose the checkpoint on, the test set, and FDS's subset.

    Args:
        size: height and width of the images.
        table: (100,) weights of the depth bins.
        subset: whether FDS takes its statistics from a pass over its published subset.
        val_share: share of the training scenes held out; None chooses on the test set, as published.
        cache: a folder that keeps the training pairs resized, or None; the test set is small and of another kind.
        workers: threads that resize them.
    """
    train, test = read_pairs(data_dir, TRAIN), read_pairs(data_dir, TEST)
    measured = DepthDataset(test, *size, "16-bit", mask=read_mask(data_dir, len(test), *size))
    check_test(measured, BINS)
    kept = None if cache is None else ResizedPairs(train, *size, cache, max(workers, 1))
    passed = read_pairs(data_dir, SUBSET) if subset else None
    if val_share is None:
        logger.warning("--select_on test: the checkpoint is chosen on the test set, as published; its numbers are optimistic")
        val = measured
    else:
        out = held_out(train, val_share, seed)
        logger.info("%d of %d training images are held out, of whole scenes, to choose the checkpoint", out.sum(), len(out))
        val = DepthDataset(train.only(out.nonzero()[0]), *size, kept=kept)
        held = set(val.pairs.images)
        train = train.only((~out).nonzero()[0])
        if passed is not None:
            passed = passed.only([i for i, path in enumerate(passed.images) if path not in held])
            if not len(passed):
                raise ValueError(f"--val_share: all rows of {SUBSET} are of held-out scenes; make another, or --select_on test")
    return Splits(
        train=DepthDataset(train, *size, table=table, half=True, augment=True, seed=seed, kept=kept), val=val, test=measured,
        stats=None if passed is None else DepthDataset(passed, *size, half=True, kept=kept),
    )
