"""SHHS-DIR's data: visit-2 recordings and the data csv, from the National Sleep Research Resource, with a token.

    python download_shhs.py --token TOKEN            # or NSRR_TOKEN=TOKEN python download_shhs.py
    python download_shhs.py --csv_only               # the csv alone
    python download_shhs.py --limit 5                # the first five recordings, to look at

About 2,650 recordings. Started again, it goes on where it stopped; sizes and, where the service tells them, MD5 sums are
checked. The token is in no log and no file.
Reference: Quan et al. 1997, "The Sleep Heart Health Study"; Zhang et al. 2018, "The National Sleep Research Resource".
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from imbalanced_regression.cli import ArgumentParser, check_least, guard
from imbalanced_regression.download import download

logger = logging.getLogger(__name__)

HERE = Path(__file__).resolve().parent
URL, CLIENT = "https://sleepdata.org", "imbalanced-regression"
EDFS, TABLES = "polysomnography/edfs/shhs2", "datasets"
HOW = (
    "1. make an account on https://sleepdata.org; 2. ask for access to SHHS at https://sleepdata.org/datasets/shhs and sign "
    "the agreement; 3. once it is granted, copy your token from https://sleepdata.org/dashboard; "
    "4. pass it by --token TOKEN, or as the environment variable NSRR_TOKEN"
)
TRIES, PATIENCE = 4, 60  # of a listing; seconds


class Entry(NamedTuple):
    """A file of the service: its path there, its bytes, and its MD5 sum where one is told."""

    path: str
    size: int | None
    md5: str | None


def list_files(url: str, token: str, path: str, pause: float = 2.0) -> list[Entry]:
    """The files in a folder of the data set.

    Raises ValueError for a token that is refused or an unexpected answer, OSError where the service does not answer.
    No message has the token: the address, in which it stands, is never quoted.
    """
    import requests

    where, reason = f"{url}/api/v1/datasets/shhs/files.json", ""
    for again in range(TRIES):
        if again:
            time.sleep(pause * 2**again)
        try:
            answer = requests.get(where, params={"path": path, "auth_token": token}, timeout=PATIENCE)
        except requests.RequestException as error:
            reason = type(error).__name__
            continue
        if answer.status_code >= 500 or answer.status_code == 429:
            reason = f"it answered {answer.status_code}"
            continue
        if answer.status_code in (401, 403, 404):
            raise ValueError(f"--token: {url} does not let it read {path} ({answer.status_code}); to get a token: {HOW}")
        try:
            entries = answer.json()
            found = [
                Entry(str(e["full_path"]), e.get("file_size"), e.get("file_checksum_md5") or None)
                for e in entries if e.get("is_file", True)
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            said = f"answered with something else than a list of files ({answer.status_code})"
            raise ValueError(f"--url: {where} {said}") from None
        if not found:
            raise ValueError(f"--token: {url} shows no file in {path}; the access may not be granted yet; {HOW}")
        for entry in found:
            parts = PurePosixPath(entry.path).parts
            if entry.path.startswith("/") or ".." in parts or "\\" in entry.path:
                raise ValueError(f"--url: {url} lists an unsafe path: {entry.path!r}")
        return found
    raise OSError(f"{url} could not be asked for {path}: {reason}; try again later")


def fetch(entry: Entry, url: str, token: str, folder: Path, progress: bool = False) -> Path:
    """One file, verified, resumed where it broke off."""
    path = folder / entry.path
    known = path.exists()
    address = f"{url}/datasets/shhs/files/a/{token}/m/{CLIENT}/{entry.path}"
    download(address, path, size=entry.size, secret=token, progress=progress)
    if entry.md5 and not known:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest() if hasattr(hashlib, "file_digest") else \
                hashlib.md5(file.read()).hexdigest()  # noqa: S324  # the service tells no other sum
        if found != entry.md5:
            path.unlink()
            raise ValueError(f"{path} has MD5 {found}, not {entry.md5}; it was deleted, start again")
    return path


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--token", default=None, help="of sleepdata.org; default: the environment variable NSRR_TOKEN")
    parser.add_argument("--data_dir", type=Path, default=HERE / "data", help="folder to write to")
    parser.add_argument("--url", default=URL, help="address of the service, for a mirror")
    parser.add_argument("--workers", type=int, default=4, help="files fetched at a time")
    parser.add_argument("--csv_only", action="store_true", help="fetch the data csv alone")
    parser.add_argument("--limit", type=int, default=None, help="fetch only so many recordings")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    check_least(args, workers=1, limit=1)
    token = (args.token or os.environ.get("NSRR_TOKEN") or "").strip()
    if not token:
        raise ValueError(f"--token: none was given. {HOW}")
    if not re.fullmatch(r"[\w.~-]+", token):
        raise ValueError("--token: it holds characters that no token has; copy it from https://sleepdata.org/dashboard")
    url = args.url.rstrip("/")

    tables = [e for e in list_files(url, token, TABLES) if re.fullmatch(r".*/?shhs2-dataset-[\d.]+\w*\.csv", e.path)]
    if not tables:
        raise ValueError(f"--url: {url} lists no {TABLES}/shhs2-dataset-*.csv")
    print(fetch(max(tables, key=lambda e: e.path), url, token, args.data_dir))
    if args.csv_only:
        return
    nights = sorted(e for e in list_files(url, token, EDFS) if e.path.lower().endswith(".edf"))[: args.limit]
    fetch_all(nights, partial(fetch, url=url, token=token, folder=args.data_dir), args.workers)
    print(f"{args.data_dir}: {len(nights)} recordings; now python preprocess_shhs.py --data_dir {args.data_dir}")


def fetch_all(entries: list[Entry], fetch_one, workers: int) -> None:
    """Fetch in parallel with a progress bar; all others are finished before a failure is reported."""
    from tqdm import tqdm

    failed: list[tuple[str, Exception]] = []

    def one(entry: Entry) -> int:
        try:
            fetch_one(entry)
        except (ValueError, OSError) as error:
            failed.append((entry.path, error))
        return entry.size or 0

    total = sum(entry.size or 0 for entry in entries)
    bar = tqdm(total=total, unit="B", unit_scale=True, desc="recordings", disable=None)
    with ThreadPoolExecutor(workers) as pool, bar:
        for size in pool.map(one, entries):
            bar.update(size)
    if failed:
        path, error = failed[0]
        raise OSError(f"{len(failed)} of {len(entries)} files failed, the first {path}: {error}; start again to go on")


if __name__ == "__main__":
    guard(main)
