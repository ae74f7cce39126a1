"""SHHS visit 2 from the National Sleep Research Resource: the EDF files and the table with the scores.

    NSRR_TOKEN=... python download_shhs.py               into data/, some 2,650 nights, well above 100 GB
    NSRR_TOKEN=... python download_shhs.py --limit 20    the table and the first 20 nights
    python download_shhs.py                              without a token: how to get one

A file appears under its name only once its size and md5 are right; the same command goes on where an earlier one stopped.
The token is sent to the service alone, and stands in no file, message or log line.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

from imbalanced_regression.cli import ArgumentParser, check_least, guard
from imbalanced_regression.download import download

HERE = Path(__file__).resolve().parent
URL = "https://sleepdata.org"
HOW = (
    "no token. 1. Make an account at https://sleepdata.org. 2. Ask for the data at https://sleepdata.org/datasets/shhs "
    "(Request Data Access) and wait for the approval by e-mail. 3. Copy the token from https://sleepdata.org/dashboard. "
    "4. Run NSRR_TOKEN=<token> python download_shhs.py"
)
EDFS, TABLES = "polysomnography/edfs/shhs2", "datasets"
log = logging.getLogger("download_shhs")


class File(NamedTuple):
    """A file of the service: its path there and here, bytes, and md5 (None: not told)."""

    path: str
    size: int
    md5: str | None


def ask(base: str, where: str, token: str, **query: str):
    """The service's JSON answer to `where`."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"{base}/api/v1/{where}?{urlencode({**query, 'auth_token': token})}"
        text = download(address, Path(folder) / "answer.json", secret=token, progress=False).read_bytes()
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(f"{base}/api/v1/{where}: the answer is no JSON; is --url the service's address?") from None


def list_files(base: str, folder: str, name: str, token: str) -> list[File]:
    """The files in `folder` whose names match `name`, sorted; nothing the service says leads outside the folder."""
    entries = ask(base, "datasets/shhs/files.json", token, path=folder)
    if not isinstance(entries, list):
        raise ValueError(f"{base}: expected a list of files in {folder}, found {type(entries).__name__}")
    files = []
    for entry in entries:
        if entry.get("is_file") and re.fullmatch(name, str(entry.get("file_name"))):
            files.append(File(f"{folder}/{entry['file_name']}", int(entry["file_size"]), entry.get("file_checksum_md5")))
    if not files:
        raise ValueError(f"{base}: no {name} in {folder}; has your request for SHHS been approved?")
    return sorted(files)


def fetch(base: str, file: File, folder: Path, token: str) -> None:
    """One file, verified."""
    path = folder / file.path
    if path.exists() and path.stat().st_size == file.size:
        return
    arrived = path.with_name(path.name + ".unchecked.part")  # not the final name: the md5 comes first
    address = f"{base}/datasets/shhs/files/m/browser/{quote(file.path)}?{urlencode({'auth_token': token})}"
    download(address, arrived, size=file.size, secret=token, progress=False)
    if file.md5:
        with arrived.open("rb") as content:
            found = hashlib.file_digest(content, "md5").hexdigest() if hasattr(hashlib, "file_digest") else _md5(content)
        if found != file.md5.lower():
            arrived.unlink()
            raise ValueError(f"{file.path}: its md5 is {found}, expected {file.md5}; nothing was kept")
    os.replace(arrived, path)


def _md5(content) -> str:
    digest = hashlib.md5()
    while block := content.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--token", default="", help="of sleepdata.org; better NSRR_TOKEN, which no list of processes shows")
    parser.add_argument("--data_dir", type=Path, default=HERE / "data", help="folder to write to")
    parser.add_argument("--url", default=URL, help="address of the service, for a mirror")
    parser.add_argument("--limit", type=int, default=None, help="nights to fetch at most")
    parser.add_argument("--workers", type=int, default=4, help="files fetched at a time")
    args = parser.parse_args()
    check_least(args, limit=1, workers=1)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("imbalanced_regression.download").setLevel(logging.WARNING)
    token = (args.token or os.environ.get("NSRR_TOKEN", "")).strip()
    if not token:
        raise ValueError(HOW)
    base = args.url.rstrip("/")
    profile = ask(base, "account/profile.json", token)
    if not isinstance(profile, dict) or not profile.get("authenticated"):
        raise ValueError("the service does not accept the token; copy it again from https://sleepdata.org/dashboard")

    tables = list_files(base, TABLES, r"shhs2-dataset-[\d.]+\.csv", token)
    table = max(tables, key=lambda file: [int(n) for n in re.findall(r"\d+", file.path)])
    files = [table, *list_files(base, EDFS, r"shhs2-\d+\.edf", token)[: args.limit]]
    total = sum(file.size for file in files)
    log.info("%d files, %.1f GB", len(files), total / 1e9)
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    failed, here = [], 0
    bar = tqdm(total=total, unit="B", unit_scale=True, desc="SHHS", disable=None)  # on a terminal; lines of the log elsewhere
    with ThreadPoolExecutor(args.workers) as pool, bar, logging_redirect_tqdm():
        jobs = {pool.submit(fetch, base, file, args.data_dir, token): file for file in files}
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                file, error = jobs[job], job.exception()
                if error is None:
                    here += file.size
                    bar.update(file.size)
                elif isinstance(error, (ValueError, OSError)):
                    failed.append(file)
                    log.warning("%s: %s", file.path, error)
                else:
                    raise error
                if bar.disable and (done % 20 == 0 or done == len(files)):
                    log.info("%d of %d files, %.2f of %.2f GB", done, len(files), here / 1e9, total / 1e9)
        finally:
            pool.shutdown(cancel_futures=True)
    if failed:
        raise OSError(f"{len(failed)} of {len(files)} files are missing ({failed[0].path}, ...); run the same command again")
    print(f"{args.data_dir} is complete: {table.path} and {len(files) - 1} nights")


if __name__ == "__main__":
    guard(main)
