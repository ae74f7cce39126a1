"""Faces and their ages as a data set, with a cache of the resized images.

One sample: a row of the csv, checked before training (`table.py`) -> decoded and resized (`pixels.py`), or read from the
cache -> cropped and flipped, uint8 out of the loader.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..images import BadImage
from ..training.loaders import EpochDraws
from .pixels import crop_and_flip, load_face

logger = logging.getLogger(__name__)


class AgeDataset(EpochDraws, Dataset):
    """Item -> (image (3, S, S) uint8, age (1,) float32, weight (1,) float32), S = `img_size`.

    Training images are cropped and flipped at random as a pure function of (seed, epoch, index): four processes see
    what one sees, and a resumed run what an uninterrupted one would have seen. So call `set_epoch` before each pass
    over the loader; the epoch lies in shared memory and so reaches workers that live on between epochs.
    `padding`: how many black pixels the random crop may show at an edge; None takes S / 14, the published 16 at 224.
    `cache`: a folder that keeps the resized images of this split in one file (3 S^2 bytes each), made on first use.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        ages: np.ndarray | Sequence[float],
        weights: np.ndarray | Sequence[float] | None = None,
        *,
        img_size: int = 224,
        train: bool = False,
        seed: int = 0,
        padding: int | None = None,
        cache: str | Path | None = None,
        cache_workers: int = 4,
    ):
        self.paths = [str(path) for path in paths]
        # (N, 1) float32 tensors: an item is a view, not a copy
        self.ages = torch.tensor(np.asarray(ages, dtype=np.float32)).reshape(-1, 1)
        weights = np.ones(len(self.ages)) if weights is None else weights
        self.weights = torch.tensor(np.asarray(weights, dtype=np.float32))
        self.weights = self.weights[:, None] if self.weights.dim() == 1 else self.weights  # (N, heads) for some heads
        lengths = len(self.paths), len(self.ages), len(self.weights)
        if len(set(lengths)) != 1:
            raise ValueError("lengths differ: {} paths, {} ages, {} weights".format(*lengths))
        if img_size < 1 or seed < 0:
            raise ValueError(f"img_size must be positive and seed not negative, found {img_size} and {seed}")
        super().__init__(seed)
        self.img_size, self.train = img_size, train
        self.padding = round(img_size / 14) if padding is None else padding
        self._cache = None if cache is None else resized_cache(self.paths, img_size, cache, workers=cache_workers)
        self._pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        draws, index = self.draws(index), index % len(self)
        if self.train:
            draw = np.random.SeedSequence(draws).generate_state(3).tolist()
            top, left = (number % (2 * self.padding + 1) - self.padding for number in draw[:2])
            image = crop_and_flip(self._image(index), top, left, draw[2] % 2 == 1)
        else:
            image = self._image(index).contiguous()
        return image, self.ages[index], self.weights[index]

    def as_they_are(self) -> AgeDataset:
        """The same faces neither cropped nor flipped."""
        plain = copy.copy(self)
        plain.train = False
        return plain

    def _image(self, index: int) -> Tensor:
        if self._cache is None:
            return load_face(self.paths[index], self.img_size)
        if self._pixels is None:  # opened in each worker; mode "c" because torch wants writable memory
            self._pixels = np.load(self._cache, mmap_mode="c")
        return torch.from_numpy(self._pixels[index])

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_pixels": None}  # a pickled memmap would carry all its pixels


# -- the resized cache -------------------------------------------------------------------------------------------------


def resized_cache(paths: Sequence[str], size: int, folder: str | Path, *, workers: int = 4) -> Path:
    """The file under `folder` that holds all images resized, (N, 3, size, size) uint8 (.npy); written if not there yet.

    Its name is made of the size and of every source's path, length and time of change, so changed images make a new
    file. Several processes may ask at once: one writes, the others wait. A file appears whole or not at all.
    Raises BadImage with the path of an image that cannot be read, OSError where the disk is full.
    """
    folder = Path(folder)
    stamp = hashlib.sha256(b"2")  # bump the number when the pixels that load_face makes change
    for path in paths:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise BadImage(f"{path}: {error.strerror or error}") from error
        stamp.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    target = folder / f"faces_{size}_{stamp.hexdigest()[:24]}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_suffix(".lock")) as alone:
        if not target.exists():
            part = target.with_suffix(".part" if alone else f".{os.getpid()}.part")
            part.unlink(missing_ok=True)  # left by a killed process
            try:
                _write_cache(part, paths, size, workers)
                os.replace(part, target)
            finally:
                part.unlink(missing_ok=True)
    return target


def _write_cache(target: Path, paths: Sequence[str], size: int, workers: int) -> None:
    needed, free = len(paths) * 3 * size * size, shutil.disk_usage(target.parent).free
    if needed + 2**20 > free:
        raise OSError(
            f"the resized images take {needed / 1e9:.2f} GB and {target.parent} has {free / 1e9:.2f} GB free: "
            "name another folder for --cache, or go without"
        )
    logger.info("resizing %d images once into %s (%.2f GB)", len(paths), target.parent, needed / 1e9)
    # written, not mapped: a full disk is then an OSError instead of a bus error
    with open(target, "wb") as file, ThreadPoolExecutor(max(workers, 1)) as pool:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), 3, size, size)}
        np.lib.format.write_array_header_1_0(file, header)
        rest = iter(paths)
        while chunk := list(islice(rest, 256)):  # in pieces, so that few images wait in memory
            for image in pool.map(lambda path: load_face(path, size).contiguous(), chunk):
                file.write(image.numpy().tobytes())
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Wait for and hold a lock that the system lets go when the process ends; False where the system has no locks.

    Without locks two processes may both write, each its own part, and the later rename stands.
    """
    with open(path, "wb") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):  # Windows; some network disks
            yield False
        else:
            yield True
