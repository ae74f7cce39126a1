"""Checkpoints: written whole or not at all, read without running code, and the key names of published files.

The one idea: a file of a run is replaced in one step (temporary file, then rename), so there is always a whole one.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..files import whole, written
from .model import Regressor

logger = logging.getLogger(__name__)

LAST, BEST = "ckpt.pth.tar", "ckpt.best.pth.tar"

# published prefix -> ours, tried in this order
Renames = Sequence[tuple[str, str]]

_WRAPPERS = ("module.", "_orig_mod.")
_OF_HEAD = ("head.", "neck.", "target.")  # what begins anew on a pre-trained encoder


def save(folder: Path, state: dict, is_best: bool) -> None:
    """Write the last checkpoint of a run, and the best if it is. The best comes first: a kill between leaves both usable.

    The state goes to the disk once and tensor by tensor, so that no second copy of it is ever in memory. Both are one file
    there until the next is written, where the disk has hard links, and copies of it where it has none.
    """
    first = folder / (BEST if is_best else LAST)
    with written(first) as file:
        _write_state(state, file)
    if not is_best:
        return
    try:
        with whole(folder / LAST) as part:
            os.link(first, part)
    except OSError:  # no hard links here
        with open(first, "rb") as best, written(folder / LAST) as file:
            shutil.copyfileobj(best, file)


def _write_state(state: dict, file: BinaryIO) -> None:
    """`torch.save`, from which a failed write comes out as itself: torch would report the length that its file then lacks."""
    watched = _Watched(file)
    try:
        torch.save(state, watched)  # type: ignore[arg-type]  # torch asks for `write` and `flush`
    except RuntimeError:
        if watched.failed is not None:
            raise watched.failed from None
        raise


class _Watched:
    """A file that remembers what its first failed write raised."""

    def __init__(self, file: BinaryIO):
        self.file, self.flush = file, file.flush
        self.failed: OSError | None = None

    def write(self, data) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.failed = self.failed or error
            raise


def load(path: str | Path, flag: str = "--resume") -> dict:
    """The contents of a checkpoint, on the CPU. Nothing in the file is executed.

    Raises:
        ValueError: no such file, a truncated one, or one that holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{flag}: there is no checkpoint {path}")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hides warnings about pickle protocols; unreadable files raise below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "weights only" in str(error).lower():
            raise ValueError(
                f"{flag}: {path} holds more than tensors and plain values and is not loaded, as it could run code; where you "
                'trust it, save its tensors again: torch.save({"state_dict": model.state_dict()}, PATH)'
            ) from None
        raise ValueError(f"{flag}: {path} is truncated or no checkpoint") from None
    # errors that a damaged file raises
    except (RuntimeError, OSError, EOFError, LookupError, ValueError, AttributeError, TypeError, zipfile.BadZipFile):
        raise ValueError(f"{flag}: {path} is truncated or no checkpoint") from None
    if not isinstance(content, dict):
        raise ValueError(f"{flag}: {path} holds no state dict but {type(content).__name__}")
    state = content.get("state_dict", content)
    if not (isinstance(state, dict) and all(isinstance(name, str) for name in state)):
        raise ValueError(f"{flag}: {path} holds no state dict: expected tensors by name")
    return content


def _numpy_scalars() -> list:
    """What numpy scalars are pickled with; published depth checkpoints hold some, and they carry no code."""
    scalar = np.float64(0).__reduce__()[0]  # the function's home moved in numpy 2; files name either
    types = [type(np.dtype(name)) for name in ("float64", "float32", "float16", "int64", "int32", "bool")]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *types]


def state_dict_of(content: dict, renames: Renames = ()) -> dict[str, Tensor]:
    """The model's state in our names, from our files or published ones (dict with `state_dict`, or bare; with `module.`)."""
    state = content.get("state_dict", content)
    return {_rename(name, renames): value for name, value in state.items() if isinstance(value, Tensor)}


def published_names(state: dict[str, Tensor], renames: Renames) -> dict[str, Tensor]:
    """The other way round: our names -> published ones, so that our files load where the published ones do."""
    backwards = [(ours, published) for published, ours in renames]
    return {_rename(name, backwards): value for name, value in state.items()}


def _rename(name: str, renames: Renames) -> str:
    if name.startswith("target."):  # of no published file, whose names may begin with anything
        return name
    for old, new in renames:
        if name.startswith(old):
            return new + name.removeprefix(old)
    for wrapper in _WRAPPERS:
        if name.startswith(wrapper):
            return _rename(name.removeprefix(wrapper), renames)
    return name


def load_model(model: Regressor, content: dict, *, renames: Renames = (), path="", flag: str = "--resume", encoder_only=False):
    """Fill a model from a checkpoint's content; with `encoder_only` everything but the neck, the head and its unit.

    An encoder whose tensors mean something only beside its data (rows by word) has `fit(content, state, source)`, which
    makes the file's state its own, and `kept_with()`, which a checkpoint of it keeps besides.

    FDS statistics in the file are left out where the model has no FDS, and may be absent where it has: they play no part
    in predictions.

    Raises:
        ValueError: names or shapes do not fit, as when the file is of another model or of other data.
    """
    state = state_dict_of(content, renames)
    fit = getattr(model.encoder, "fit", None)
    if fit is not None:
        state = fit(content, state, f"{flag}: {path}")
    own = model.state_dict()
    if encoder_only:
        state = {name: value for name, value in state.items() if not name.startswith(_OF_HEAD)}
        own = {name: value for name, value in own.items() if not name.startswith(_OF_HEAD)}
    if model.fds is None:
        state = {name: value for name, value in state.items() if not name.startswith("fds.")}
    elif not any(name.startswith("fds.") for name in state):
        logger.warning("%s %s has no FDS statistics; they start anew", flag, path)
        own = {name: value for name, value in own.items() if not name.startswith("fds.")}
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    misfits = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if missing or unexpected or misfits:
        why = [*misfits[:2], *(f"no {name}" for name in missing[:2]), *(f"unknown {name}" for name in unexpected[:2])]
        raise ValueError(
            f"{flag}: {path} is of another model, or of other data or flags: {'; '.join(why)} "
            f"({len(misfits)} other shapes, {len(missing)} missing, {len(unexpected)} unknown)"
        )
    model.load_state_dict(state, strict=False)
