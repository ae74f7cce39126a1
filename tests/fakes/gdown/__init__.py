"""Stands in for gdown in the tests of download_nyud2.py: the file's `FAKE_DRIVE` says how a download ends."""

from __future__ import annotations

import os
from pathlib import Path

from . import exceptions

__all__ = ["download", "exceptions"]


def download(url=None, output=None, quiet=False, *, id=None, resume=False):
    assert url is None
    assert resume
    if os.environ["FAKE_DRIVE"] == "quota":
        raise exceptions.FileURLRetrievalError("Too many users have viewed or downloaded this file recently")
    Path(output).write_bytes(Path(os.environ["FAKE_DRIVE"]).read_bytes())
    return output
