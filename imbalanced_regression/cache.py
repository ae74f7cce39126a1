"""Prepared samples of one shape in one file, so that later epochs read bytes instead of decoding images.

The one idea: the file's name is made of what it was made from, so whatever changes makes a new file, and a file appears whole
or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import numpy as np

from .images import BadImage

logger = logging.getLogger(__name__)


def packed(
    count: int, prepare: Callable[[int], np.ndarray], sources: Iterable[str], folder: str | Path, name: str,
    shape: tuple[int, ...], *, version: int, workers: int = 4,
) -> Path:
    """The file under `folder` that holds N = `count` prepared samples, (N, *shape) uint8 (.npy); written if missing.

    Several processes may ask at once: one writes, the others wait.

    Args:
        prepare: number of a sample -> `shape` uint8. It is called from several threads.
        sources: the files that the samples are made of, in order; their paths, lengths and times of change name the file.
        name: the kind of samples, and whatever else decides what `prepare` makes; the file's name begins with it.
        version: another number whenever what `prepare` makes of the same files changes.
        workers: threads that prepare.

    Raises BadImage with the path of a file that cannot be read, OSError where the disk is full.
    """
    folder = Path(folder)
    stamp = hashlib.sha256(str(version).encode())
    for path in sources:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise BadImage(f"{path}: {error.strerror or error}") from error
        stamp.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    target = folder / f"{name}_{stamp.hexdigest()[:24]}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_suffix(".lock")) as alone:
        if not target.exists():
            part = target.with_suffix(".part" if alone else f".{os.getpid()}.part")
            part.unlink(missing_ok=True)  # left by a killed process
            try:
                _write(part, count, prepare, shape, workers)
                os.replace(part, target)
            finally:
                part.unlink(missing_ok=True)
    return target


def _write(target: Path, count: int, prepare: Callable[[int], np.ndarray], shape: tuple[int, ...], workers: int) -> None:
    needed, free = count * prod(shape), shutil.disk_usage(target.parent).free
    if needed + 2**20 > free:
        raise OSError(
            f"the resized images take {needed / 1e9:.2f} GB and {target.parent} has {free / 1e9:.2f} GB free: "
            "name another folder for --cache, or go without"
        )
    logger.info("resizing %d images once into %s (%.2f GB)", count, target.parent, needed / 1e9)
    # written, not mapped: a full disk is then an OSError instead of a bus error
    with open(target, "wb") as file, ThreadPoolExecutor(max(workers, 1)) as pool:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, 256):  # in pieces, so that few images wait in memory
            for sample in pool.map(prepare, range(start, min(start + 256, count))):
                file.write(np.ascontiguousarray(sample).tobytes())
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
