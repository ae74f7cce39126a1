"""Writing a file whole or not at all: to a temporary file first, then a rename. Needs nothing but Python."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data` in one step; OSError (a full disk, say) leaves what was there."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if not isinstance(error, OSError):
            raise
        if not path.parent.is_dir():
            raise OSError(error.errno, f"cannot write {path}: its folder has been deleted or moved") from error
        kept = "the file before it is kept" if path.exists() else "there was none before"
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; {kept}") from error
