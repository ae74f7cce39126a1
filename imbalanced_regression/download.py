"""Verified, resumable downloads, and archives unpacked whole or not at all.

`download` collects a file in `<name>.part`, goes on where an earlier try stopped, and lets `<name>` appear only once
its hash is right. `unpack` looks at every member before it writes the first, and works in a sibling folder that it
renames. So whatever carries its final name is complete. (`pooch.retrieve` cannot resume and logs whole addresses.)
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import lzma
import os
import re
import shutil
import stat
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, NamedTuple
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

ATTEMPTS = 4  # tries in a row that bring no new byte
BACKOFF = 1.0  # seconds before the second try; doubles with each further one
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of the answer
CHUNK = 1 << 16  # bytes; a dropped connection loses at most one

_here = threading.local()


def download(
    url: str,
    path: str | os.PathLike,
    *,
    sha256: str | None = None,
    git_blob: str | None = None,
    size: int | None = None,
    headers: Mapping[str, str] | None = None,
    secret: str | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Path:
    """Fetch `url` into `path`, resuming `<path>.part`, and return `path`; it exists only once complete and verified.

    sha256, git_blob: expected hash, see `verify`; size: expected bytes. An existing `path` that fits them is kept
    without a connection (one that nothing can be compared with is kept too, unless `overwrite`); one that does not fit
    is a ValueError, unless `overwrite`.
    headers: sent along, e.g. an authorization. Header values, the query and user part of `url`, and `secret` (a token
    that stands in the path of `url`) are in no message and no log line.

    Raises ValueError when what arrived, or what is there, is not what was expected (nothing that arrived is kept), and
    OSError when the network or the disk fails (what arrived stays in `<path>.part`; the next call goes on from there).
    """
    path = Path(path)
    hashed = bool(sha256 or git_blob)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name the file to download into")
    if path.exists():
        fault = _fault(path, sha256, git_blob, size)
        if fault and not overwrite:
            raise ValueError(f"{path} is not the expected file: {fault}; delete it or pass --overwrite")
        if not fault and (hashed or not overwrite):
            log.info("%s is there already%s", path, "" if hashed else " (content not checked: no hash is known)")
            return path
    path.parent.mkdir(parents=True, exist_ok=True)
    job = _Job(url, _redact(url, secret), path.with_name(path.name + ".part"), hashed, size, headers or {}, progress)
    resumed = _fetch(job)
    fault = _fault(job.part, sha256, git_blob, size)
    if fault and resumed:  # pieces of two different files, perhaps
        log.warning("%s, put together from pieces, is wrong (%s); starting from the first byte", path.name, fault)
        job.discard()
        _fetch(job)
        fault = _fault(job.part, sha256, git_blob, size)
    if fault:
        job.discard()
        raise ValueError(f"{job.where} is not the expected file: {fault}; nothing was kept, try a mirror with --url")
    os.replace(job.part, path)
    job.discard()
    log.info("%s: %s from %s%s", path, _bytes(path.stat().st_size), job.where, ", hash right" if hashed else "")
    return path


def verify(path: str | os.PathLike, sha256: str | None = None, git_blob: str | None = None) -> None:
    """Raise ValueError, with both hashes, unless the file at `path` has the hash(es) given.

    sha256: hex digest of the content; git_blob: git's id of it, the sha1 of b"blob <bytes>\\0" and the content.
    """
    if not (sha256 or git_blob):
        raise ValueError(f"verify({path}): pass sha256 or git_blob")
    fault = _fault(Path(path), sha256, git_blob, None)
    if fault:
        raise ValueError(f"{path} is not the expected file: {fault}")


def unpack(
    archive: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    password: str | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Path:
    """Unpack a zip or tar (plain, gz, bz2, xz) into `folder` and return it; it appears only once every member is there.

    A single top folder of the same name as `folder` is not nested a second time: `imdb_crop.tar` holds `imdb_crop/...`
    and `unpack("imdb_crop.tar", "data/imdb_crop")` gives `data/imdb_crop/...`. `__MACOSX` entries are left out.
    Only files and folders with relative paths are accepted: `..`, absolute and drive paths, links and devices are
    refused before anything is written. Owners, permissions and times in the archive are ignored.

    Raises ValueError for an archive that is unsafe, truncated, corrupt or locked, and FileExistsError for a `folder`
    that holds anything, unless `overwrite` (then it is replaced, after the archive was unpacked).
    """
    archive, folder = Path(archive), Path(os.path.abspath(folder))
    if not archive.is_file():
        raise FileNotFoundError(f"archive {archive} does not exist")
    taken = folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
    if taken and not overwrite:
        raise FileExistsError(f"{folder} exists; delete it or pass --overwrite")
    work = folder.with_name(folder.name + ".unpack.part")
    _remove(work)  # an interrupted run left it
    try:
        with _open_archive(archive, password) as members:
            # the zip or tar headers are read to the end here, so nothing is written from an archive with a bad member
            members = _relative_to_top(members, folder.name)
            need = sum(member.size for member in members)
            folder.parent.mkdir(parents=True, exist_ok=True)
            _need_space(folder.parent, need, str(archive))
            work.mkdir()
            with _bar(archive.name, need, 0, progress) as bar:
                for member in members:
                    _write_member(member, work.joinpath(*member.parts), bar)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        _remove(work)
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault; gzip's and bz2's have no number
            raise
        hint = " or the password is wrong" if password else ""
        raise ValueError(
            f"archive {archive} is truncated or corrupt{hint} ({error}); delete it and download it again"
        ) from None
    except BaseException:
        _remove(work)
        raise
    old = folder.with_name(folder.name + ".old.part")
    _remove(old)
    if folder.exists():  # only renamed, so that no moment loses both
        os.replace(folder, old)
    os.replace(work, folder)
    _remove(old)
    return folder


# -- hashes --


def _fault(path: Path, sha256: str | None, git_blob: str | None, size: int | None) -> str | None:
    """What is wrong with the file, in words; None when it has the size and hashes asked for."""
    import pooch

    found = path.stat().st_size
    if size is not None and found != size:
        return f"it has {found} bytes, expected {size}"
    for name, expected in (("sha256", sha256), ("git blob", git_blob)):
        if expected:
            actual = pooch.file_hash(str(path), "sha256") if name == "sha256" else _git_blob(path, found)
            if actual != expected.lower():
                return f"its {name} is {actual}, expected {expected.lower()}"
    return None


def _git_blob(path: Path, size: int) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# -- network --


class _Job(NamedTuple):
    url: str
    where: str  # the address as it may be shown
    part: Path
    hashed: bool
    size: int | None
    headers: Mapping[str, str]
    progress: bool

    @property
    def tag(self) -> Path:
        """Beside `.part`: the server's ETag or date of the content that `.part` is the beginning of."""
        return self.part.with_name(self.part.name.removesuffix(".part") + ".tag.part")

    def have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)


class _Retry(Exception):
    """This try failed in a way that another may not."""

    def __init__(self, why: str, wait: float | None = None):
        super().__init__(why)
        self.wait = wait


def _fetch(job: _Job) -> bool:
    """Bring `job.part` to its full length; True if it was put together from more than one answer."""
    failures, best = 0, job.have()
    while True:
        try:
            return _one_try(job)
        except _Retry as why:
            have = job.have()
            failures = 1 if have > best else failures + 1
            best = max(best, have)
            if failures >= ATTEMPTS:
                kept = f"; {_bytes(have)} are kept in {job.part}, the same command goes on from there" if have else ""
                raise OSError(f"{job.where}: {why}, {ATTEMPTS} times in a row{kept}") from None
            wait = why.wait if why.wait is not None else min(BACKOFF * 2 ** (failures - 1), 30)
            log.warning("%s: %s; trying again in %.0f s", job.where, why, wait)
            time.sleep(wait)


def _one_try(job: _Job) -> bool:
    """One request; True if it continued what was there."""
    have = job.have()
    stamp = job.tag.read_text(encoding="utf-8") if job.tag.exists() else ""
    if not stamp and not job.hashed:
        have = 0  # nothing would tell whether the rest belongs to this beginning
    # asked for as stored: ranges count stored bytes, not compressed ones
    headers = {"Accept-Encoding": "identity", **job.headers}
    if have:
        headers["Range"] = f"bytes={have}-"
        if stamp:
            headers["If-Range"] = stamp
    with _request(job, headers) as answer:
        if answer.status_code == 416 and have:
            if answer.headers.get("Content-Range", "").endswith(f"*/{have}"):
                return True  # it was complete already
            job.discard()
            raise _Retry("the server's file has changed since the last try", wait=0)
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        if answer.status_code == 206 and (span is None or int(span[1]) != have):
            job.discard()
            if not have:
                raise OSError(f"{job.where}: the server sent another part of the file than asked for")
            raise _Retry("the server sent another part of the file than asked for", wait=0)
        if answer.status_code not in (200, 206):
            _refused(job, answer)
        if answer.status_code == 200:
            have = 0  # the server does not know ranges, or has other content by now
        packed = answer.headers.get("Content-Encoding", "identity") != "identity"
        length = span[2] if span else answer.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() and not packed else None
        if job.size is not None and total is not None and total != job.size:
            job.discard()
            raise ValueError(f"{job.where}: the server's file has {total} bytes, expected {job.size}; try a mirror")
        if total is not None:
            _need_space(job.part.parent, total - have, job.part.name.removesuffix(".part"))
        if not have:
            etag = answer.headers.get("ETag", "")  # a weak one (W/...) does not promise equal bytes
            stamp = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")
            job.part.unlink(missing_ok=True)  # first the old bytes, then the tag: never the new tag over old bytes
            job.tag.write_text("" if packed else stamp, encoding="utf-8")
        try:
            with (
                open(job.part, "ab") as file,
                _bar(job.part.name.removesuffix(".part"), total, have, job.progress) as bar,
            ):
                for block in _blocks(answer):
                    file.write(block)
                    bar.update(len(block))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = "the disk is full" if full else f"cannot write ({error.strerror})"
            raise OSError(
                error.errno,
                f"{job.part}: {what}; {_bytes(job.have())} are kept, make room and run the same command again",
            ) from None
    if total is not None and job.have() != total:
        raise _Retry(f"the connection closed after {_bytes(job.have())} of {_bytes(total)}")
    return have > 0


def _request(job: _Job, headers: Mapping[str, str]):
    import requests

    # messages of requests carry the whole address, hence `from None` and words of our own
    logging.getLogger("urllib3.connectionpool").addFilter(_outside_request)
    _here.requesting = True
    try:
        return requests.get(job.url, headers=dict(headers), stream=True, timeout=TIMEOUT)
    except requests.Timeout:
        raise _Retry("no answer in time") from None
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise _Retry(_reason(error)) from None
    except requests.RequestException as error:
        problem = type(error).__name__
        raise ValueError(f"url {job.where!r} cannot be fetched ({problem}); pass an http(s) address") from None
    finally:
        _here.requesting = False


def _blocks(answer) -> Iterator[bytes]:
    import requests

    try:
        yield from answer.iter_content(CHUNK)
    except requests.RequestException as error:
        raise _Retry(_reason(error)) from None


def _refused(job: _Job, answer) -> None:
    code = answer.status_code
    if code in (408, 425, 429) or code >= 500:
        after = answer.headers.get("Retry-After", "")
        raise _Retry(f"the server answers {code}", wait=min(int(after), 60) if after.isdigit() else None)
    advice = {
        401: "it asks for a token or password, or the one given is wrong",
        403: "it refuses access; check the token or password",
        404: "no such file; pass another address with --url",
    }.get(code, "check the address")
    raise OSError(f"{job.where}: the server answers {code}: {advice}")


def _reason(error: BaseException) -> str:
    """Why a connection failed, without the address that the library's own message repeats."""
    text = repr(error)
    for sign, why in {
        "NameResolutionError": "the server's name is not known (is there a connection?)",
        "Connection refused": "the server refuses the connection",
        "timed out": "no answer in time",
        "ProxyError": "the proxy does not answer",
        "SSLError": "the server's certificate is not trusted",
    }.items():
        if sign in text:
            return why
    return "the connection broke"


def _outside_request(record: logging.LogRecord) -> bool:
    """urllib3 logs each request's path and query at DEBUG, tokens among them: this filter drops ours."""
    return not getattr(_here, "requesting", False)


def _redact(url: str, secret: str | None) -> str:
    """`url` without user, password, query and fragment, and with `secret` starred out."""
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme else parts.path
    if parts.query:
        shown += "?..."
    return shown.replace(secret, "***") if secret else shown


# -- archives --


class _Member(NamedTuple):
    parts: tuple[str, ...]
    is_dir: bool
    size: int
    open: Callable[[], IO[bytes] | None]  # the content; None for tar's folders


@contextlib.contextmanager
def _open_archive(archive: Path, password: str | None) -> Iterator[list[_Member]]:
    with open(archive, "rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip:
        with zipfile.ZipFile(archive) as opened:
            yield _zip_members(archive, opened, password)
    else:
        with tarfile.open(archive) as opened:
            yield _tar_members(archive, opened)


def _zip_members(archive: Path, opened: zipfile.ZipFile, password: str | None) -> list[_Member]:
    key = password.encode() if password is not None else None

    def open_member(info: zipfile.ZipInfo) -> IO[bytes]:
        try:
            return opened.open(info, pwd=key)
        except NotImplementedError as error:
            raise ValueError(f"archive {archive}: {error}; unpack it with 7-Zip instead") from None
        except RuntimeError:  # zipfile's word for a missing or wrong password
            what = "needs a password" if key is None else "does not open with the password given"
            raise ValueError(f"archive {archive} {what}; pass the right one with --password") from None

    members = []
    for info in opened.infolist():
        if info.compress_type == 99:
            raise ValueError(f"archive {archive} is locked with AES, which Python cannot read; unpack it with 7-Zip")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"archive {archive}: {info.filename!r} is a link or device; it was not unpacked")
        parts = _safe_parts(archive, info.filename)
        members.append(_Member(parts, info.is_dir(), info.file_size, partial(open_member, info)))
    return members


def _tar_members(archive: Path, opened: tarfile.TarFile) -> list[_Member]:
    members = []
    for info in opened.getmembers():
        if not (info.isreg() or info.isdir()):
            raise ValueError(f"archive {archive}: {info.name!r} is a link or device; it was not unpacked")
        parts = _safe_parts(archive, info.name)
        members.append(_Member(parts, info.isdir(), info.size, partial(opened.extractfile, info)))
    # tarfile takes a file cut between two members, or garbage after one, for the end: the zero block must be there
    opened.fileobj.seek(opened.offset)
    if opened.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    while opened.fileobj.read(1 << 20):  # to the last byte, where gzip, bzip2 and xz keep their checksum
        pass
    return members


def _safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    """The member's path as relative parts; read as Windows would, which splits at both slashes and knows drives."""
    path = PureWindowsPath(name)
    if name.startswith(("/", "\\")) or path.drive or path.root or ".." in path.parts or "\0" in name:
        raise ValueError(f"archive {archive}: {name!r} leads outside its folder; it was not unpacked")
    return tuple(part for part in path.parts if part != ".")


def _relative_to_top(members: list[_Member], name: str) -> list[_Member]:
    members = [member for member in members if member.parts and member.parts[0] != "__MACOSX"]
    nested = {member.parts[0] for member in members} == {name} and all(m.is_dir or len(m.parts) > 1 for m in members)
    return [member._replace(parts=member.parts[1:]) for member in members] if nested else members


def _write_member(member: _Member, target: Path, bar) -> None:
    if member.is_dir:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = member.open()
    assert source is not None, "only folders have no content"
    with source, open(target, "wb") as file:
        while block := source.read(1 << 20):
            file.write(block)
            bar.update(len(block))
        if file.tell() != member.size:
            raise EOFError(f"{'/'.join(member.parts)} is cut short")


def _remove(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)


# -- both --


def _need_space(folder: Path, need: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OSError(errno.ENOSPC, f"{what} needs {_bytes(need)} in {folder}, {_bytes(free)} are free; make room first")


def _bar(name: str, total: int | None, have: int, progress: bool):
    from tqdm import tqdm

    # None: shown on a terminal, silent in a file
    hide = None if progress else True
    return tqdm(total=total, initial=have, desc=name, unit="B", unit_scale=True, disable=hide, leave=False)


def _bytes(count: int) -> str:
    for unit, scale in {"GB": 1e9, "MB": 1e6, "kB": 1e3}.items():
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
