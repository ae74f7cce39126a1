"""Writing a file whole or not at all: to a temporary file first, then a rename. Needs nothing but Python."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data` in one step; OSError leaves what was there."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; the file before it is kept") from error
