"""Faces and their ages: a data set with a cache, and a ResNet encoder with the published names.

One sample: a row of the csv, checked before training (`age_data.py`) -> `AgeDataset`: decoded, resized, cropped,
flipped, uint8 out of the loader -> `ResNetEncoder`: normalised on the device, torchvision's ResNet up to the pool.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..bins import Bins
from ..images import RESNETS, BadImage, as_shown, imagenet_weights
from ..methods.fds import FDS
from ..methods.lds import lds_weights
from ..training.model import Regressor
from ..training.runtime import Splits, epoch_for_workers
from .table import LAST_BIN, SPLITS, AgeSplit

logger = logging.getLogger(__name__)

AGE_BINS = Bins.width(0, LAST_BIN + 1, 1)  # a bin per year, 0..120; larger ages count as 120


# -- images ------------------------------------------------------------------------------------------------------------


def load_face(path: str | Path, size: int) -> Tensor:
    """An image file -> (3, size, size) uint8, RGB `as_shown`, resized bilinearly (antialiased) whatever its proportions.

    The same pixels as Pillow's `convert("RGB").resize(...)` to within 2 of 255, except JPEGs at least twice as large as
    `size` on both sides: those are decoded at 1/2, 1/4 or 1/8 (`draft`), which skips most of the inverse DCT.
    Raises BadImage (a ValueError) with the path: missing, no image, truncated, above Pillow's limit of pixels, or of a mode
    without one meaning.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, above the limit of {Image.MAX_IMAGE_PIXELS}")
            image.draft("RGB", (size, size))  # nothing happens for other formats or smaller images
            image.load()
            rgb = as_shown(image)
            (width, height), content = rgb.size, bytearray(rgb.tobytes())
        # (H, W, 3) seen as (1, 3, H, W): torch resizes this layout with SIMD, several times faster than Pillow
        pixels = torch.frombuffer(content, dtype=torch.uint8).view(1, height, width, 3).permute(0, 3, 1, 2)
        if (width, height) != (size, size):
            pixels = nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        return pixels[0]
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise BadImage(f"{path}: {' '.join(reason.split())}") from error


def crop_and_flip(image: Tensor, top: int, left: int, flip: bool) -> Tensor:
    """(3, S, S) -> (3, S, S): moved by `top` and `left` pixels, black where nothing is, then mirrored if `flip`.

    `top` and `left` in -p..p are a crop of S from the image padded by p.
    """
    size = image.shape[-1]
    out = torch.zeros(image.shape, dtype=image.dtype)
    seen = image[:, max(top, 0) : size + min(top, 0), max(left, 0) : size + min(left, 0)]
    y, x = max(-top, 0), max(-left, 0)
    out[:, y : y + seen.shape[1], x : x + seen.shape[2]] = seen
    return out.flip(2) if flip else out


class AgeDataset(Dataset):
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
        # (N, 1) float32 tensors: an item is a view, made in no time
        self.ages = torch.tensor(np.asarray(ages, dtype=np.float32)).reshape(-1, 1)
        weights = np.ones(len(self.ages)) if weights is None else weights
        self.weights = torch.tensor(np.asarray(weights, dtype=np.float32)).reshape(-1, 1)
        lengths = len(self.paths), len(self.ages), len(self.weights)
        if len(set(lengths)) != 1:
            raise ValueError("lengths differ: {} paths, {} ages, {} weights".format(*lengths))
        if img_size < 1 or seed < 0:
            raise ValueError(f"img_size must be positive and seed not negative, found {img_size} and {seed}")
        self.img_size, self.train, self.seed = img_size, train, seed
        self.padding = round(img_size / 14) if padding is None else padding
        self._epoch = epoch_for_workers()
        self._cache = None if cache is None else resized_cache(self.paths, img_size, cache, workers=cache_workers)
        self._pixels: np.ndarray | None = None

    def set_epoch(self, epoch: int) -> None:
        """Draw the crops and flips of this epoch from now on; call it before `iter(loader)`."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        if self.train:
            draw = np.random.SeedSequence((self.seed, int(self._epoch), index)).generate_state(3).tolist()
            top, left = (number % (2 * self.padding + 1) - self.padding for number in draw[:2])
            image = crop_and_flip(self._image(index), top, left, draw[2] % 2 == 1)
        else:
            image = self._image(index).contiguous()
        return image, self.ages[index], self.weights[index]

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
    stamp = hashlib.sha256(b"2")  # raised whenever load_face gives other pixels
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
            part.unlink(missing_ok=True)  # a killed process left it
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


# -- weights, data sets and the model ----------------------------------------------------------------------------------


PUBLISHED_CLIP = (5, 1000)  # bounds of the counts of "inverse"

# published key prefix -> ours; the files of DataParallel models, as published, and bare ones
RENAMES = (
    ("module.linear.", "head."),
    ("module.FDS.", "fds."),
    ("module.", "encoder."),
    ("linear.", "head."),
    ("FDS.", "fds."),
    ("", "encoder."),
)


def age_weights(ages, reweight: str, lds: bool, lds_kernel: str, lds_ks: int, lds_sigma: float) -> np.ndarray:
    """The published weights: ages (N,) -> (N,) float32 with mean 1; all ones for reweight "none".

    Counts per year, for "inverse" within 5..1000; zeros beyond the end bins; "inverse" with LDS cuts the smoothed counts
    to whole numbers, because the published weights do.
    """
    inverse = reweight == "inverse"
    return lds_weights(
        ages, AGE_BINS, reweight=reweight, lds=lds, kernel=lds_kernel, ks=lds_ks, sigma=lds_sigma,
        clip=PUBLISHED_CLIP if inverse else None, boundary="zeros", truncate=inverse,
    )


def age_splits(
    splits: dict[str, AgeSplit],
    weights: np.ndarray,
    *,
    img_size: int,
    seed: int,
    cache: str | None = None,
    workers: int = 4,
) -> Splits:
    """The csv's splits as data sets; training images are augmented, and the statistics of FDS see them so too."""
    options: dict[str, Any] = {"img_size": img_size, "seed": seed, "cache": cache, "cache_workers": max(workers, 1)}
    train, val, test = (splits[name] for name in SPLITS)
    return Splits(
        train=AgeDataset(train.paths, train.ages, weights, train=True, **options),
        val=AgeDataset(val.paths, val.ages, **options),
        test=AgeDataset(test.paths, test.ages, **options),
    )


def age_model(model: str, fds: Callable[[int], FDS | None], *, imagenet: bool = False) -> Regressor:
    """ResNet -> FDS on its pooled features -> linear; `fds` makes the FDS for a feature width, or None."""
    encoder = ResNetEncoder(model, imagenet=imagenet)
    return Regressor(encoder, nn.Linear(encoder.feature_dim, 1), fds(encoder.feature_dim))


def normalize(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1, i.e. mean and standard deviation 0.5; float images pass unchanged."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images


class ResNetEncoder(nn.Module):
    """torchvision's ResNet without its classifier: images (B, 3, H, W), uint8 or normalised floats -> features (B, D).

    Modules keep torchvision's names, so published checkpoints load. D = `feature_dim`: 512 for resnet18 and 34, else
    2048. The average pool takes any image size; at 224 it is the published 7x7 pool. From scratch the weights are
    torchvision's fan-out Kaiming draw, as published; `imagenet=True` starts from torchvision's ImageNet weights (the
    input stays normalised with 0.5).
    """

    def __init__(self, model: str = "resnet50", *, imagenet: bool = False):
        super().__init__()
        if model not in RESNETS:
            raise ValueError(f"--model is {model!r}, not one of {', '.join(RESNETS)}")
        import torchvision.models

        net = torchvision.models.get_model(model, weights=None)
        if imagenet:
            net.load_state_dict(imagenet_weights(model))
        self.feature_dim = RESNETS[model]
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.avgpool = net.avgpool

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(normalize(images)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)
