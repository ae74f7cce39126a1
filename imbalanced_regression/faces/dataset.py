"""Faces and their ages as a data set, with a cache of the resized images.

One sample: a row of the csv, checked before training (`table.py`) -> decoded and resized (`pixels.py`), or read from the
cache -> cropped and flipped, uint8 out of the loader.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..cache import packed
from ..training.loaders import EpochDraws
from .pixels import crop_and_flip, load_face

CACHE_VERSION = 2  # another number whenever the pixels that load_face makes change


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
        self._cache = None if cache is None else packed(
            len(self.paths), lambda i: load_face(self.paths[i], img_size).numpy(), self.paths, cache, f"faces_{img_size}",
            (3, img_size, img_size), version=CACHE_VERSION, workers=cache_workers,
        )
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
