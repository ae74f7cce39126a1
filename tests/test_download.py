"""What download.py promises, against a server on this machine that misbehaves on request."""

from __future__ import annotations

import errno
import hashlib
import http.server
import inspect
import io
import logging
import os
import shutil
import tarfile
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import PROGRAMS, ROOT, fresh

from imbalanced_regression import download as module
from imbalanced_regression.download import download, unpack, verify

DATA = bytes(range(256)) * 1200  # 307,200 bytes: several chunks
SHA = hashlib.sha256(DATA).hexdigest()
BLOB = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.plan.data`; the plan says which request to refuse, delay or cut short."""

    def do_GET(self):
        plan = self.server.plan
        plan.seen.append((self.path, dict(self.headers)))
        turn = len(plan.seen) - 1
        if plan.silent_at == turn:
            module.TIMEOUT = (600, 600)  # of the next try
            plan.over.wait()
            return
        status = plan.statuses[turn] if turn < len(plan.statuses) else 200
        if status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, asked = 0, self.headers.get("Range")
        fresh = self.headers.get("If-Range") in (None, plan.etag)
        if asked and plan.ranges and fresh:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(plan.data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(plan.data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(plan.data) - 1}/{len(plan.data)}")
        else:
            self.send_response(200)
        body = plan.data[start:]
        self.send_header("Content-Length", str(len(body)))
        if plan.etag:
            self.send_header("ETag", plan.etag)
        self.end_headers()
        cut = plan.cuts[turn] if turn < len(plan.cuts) else None
        plan.sent.append(self.wfile.write(body[:cut]))
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "BACKOFF", 0.0)
    plan = SimpleNamespace(data=DATA, etag='"v1"', ranges=True, cuts=[], statuses=[], silent_at=None, seen=[], sent=[])
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.plan = plan
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    plan.over = threading.Event()
    plan.url = f"http://127.0.0.1:{running.server_port}/files/data.bin"
    yield plan
    plan.over.set()
    running.shutdown()
    running.server_close()
    thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- a download --


@pytest.mark.parametrize("expected", [{"sha256": SHA}, {"git_blob": BLOB}, {"size": len(DATA)}, {}])
def test_a_file_arrives_whole_and_alone(server, tmp_path, expected):
    path = download(server.url, tmp_path / "new" / "data.bin", **expected)
    assert path.read_bytes() == DATA
    assert names(path.parent) == ["data.bin"]


def test_an_existing_right_file_needs_no_connection(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    for overwrite in (False, True):
        assert download("http://127.0.0.1:1/data.bin", path, sha256=SHA, git_blob=BLOB, overwrite=overwrite) == path


def test_an_existing_wrong_file_is_named_with_both_hashes_and_left_alone(server, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"mine")
    with pytest.raises(ValueError, match="data.bin.*--overwrite") as error:
        download(server.url, path, sha256=SHA)
    assert SHA in str(error.value)
    assert hashlib.sha256(b"mine").hexdigest() in str(error.value)
    assert path.read_bytes() == b"mine"
    assert not server.seen
    download(server.url, path, sha256=SHA, overwrite=True)
    assert path.read_bytes() == DATA


def test_without_any_hash_an_existing_file_is_fetched_again_only_by_overwrite(server, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"mine")
    assert download(server.url, path).read_bytes() == b"mine"
    assert download(server.url, path, overwrite=True).read_bytes() == DATA


def test_a_wrong_hash_keeps_nothing(server, tmp_path):
    with pytest.raises(ValueError, match=SHA):
        download(server.url, tmp_path / "data.bin", sha256="0" * 64)
    assert names(tmp_path) == []
    assert len(server.seen) == 1


def test_an_overwriting_download_that_fails_leaves_the_old_file(server, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"mine")
    with pytest.raises(ValueError, match="expected"):
        download(server.url, path, sha256="0" * 64, overwrite=True)
    assert path.read_bytes() == b"mine"


def test_a_dropped_connection_is_resumed_where_it_broke(server, tmp_path):
    server.cuts = [150_000, 100_000]
    path = download(server.url, tmp_path / "data.bin", sha256=SHA)
    assert path.read_bytes() == DATA
    starts = [int(headers["Range"][6:-1]) for _, headers in server.seen[1:]]
    assert 150_000 - module.CHUNK <= starts[0] <= 150_000
    assert starts[1] > starts[0]
    assert names(tmp_path) == ["data.bin"]


def test_a_later_call_goes_on_from_the_part(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    server.cuts = [200_000]
    for expected in ({"sha256": SHA}, {}):
        server.seen.clear()
        path = tmp_path / f"{len(expected)}.bin"
        # one failed try in a row is all, but bytes came
        server.cuts = [200_000, 0]
        with pytest.raises(OSError, match="are kept in .*the same command goes on"):
            download(server.url, path, **expected)
        assert not path.exists()
        kept = path.with_name(path.name + ".part").stat().st_size
        assert kept > 100_000
        server.cuts = []
        assert download(server.url, path, **expected).read_bytes() == DATA
        assert server.seen[-1][1]["Range"] == f"bytes={kept}-"
        assert server.seen[-1][1]["If-Range"] == '"v1"'


def test_a_complete_part_is_not_fetched_again(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(DATA)
    download(server.url, tmp_path / "data.bin", sha256=SHA)
    assert server.sent == []  # answered 416
    assert names(tmp_path) == ["data.bin"]


@pytest.mark.parametrize("left", [len(DATA) + 5, 1000])
def test_a_part_of_something_else_is_replaced(server, tmp_path, left):
    (tmp_path / "data.bin.part").write_bytes(b"x" * left)
    assert download(server.url, tmp_path / "data.bin", sha256=SHA).read_bytes() == DATA


def test_content_that_changed_between_two_tries_is_fetched_anew(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    server.cuts = [200_000, 0]
    with pytest.raises(OSError, match="kept"):
        download(server.url, tmp_path / "data.bin")
    server.data, server.etag, server.cuts = DATA[::-1], '"v2"', []
    assert download(server.url, tmp_path / "data.bin").read_bytes() == DATA[::-1]


def test_without_hash_and_tag_nothing_is_resumed(server, tmp_path):
    server.etag, server.cuts = None, [200_000]
    assert download(server.url, tmp_path / "data.bin").read_bytes() == DATA
    assert "Range" not in server.seen[1][1]


def test_a_server_that_ignores_ranges_still_delivers(server, tmp_path):
    server.ranges, server.cuts = False, [200_000]
    assert download(server.url, tmp_path / "data.bin", sha256=SHA).read_bytes() == DATA
    assert len(server.seen) == 2


def test_a_server_that_always_drops_at_the_same_byte_is_given_up(server, tmp_path):
    server.ranges, server.cuts = False, [100_000] * 20
    with pytest.raises(OSError, match=f"{module.ATTEMPTS} times in a row"):
        download(server.url, tmp_path / "data.bin", sha256=SHA)
    assert len(server.seen) == module.ATTEMPTS


def test_a_busy_server_is_asked_again_and_a_refusing_one_is_not(server, tmp_path):
    server.statuses = [503, 429]
    assert download(server.url, tmp_path / "data.bin", sha256=SHA).read_bytes() == DATA
    for status, word in {404: "--url", 403: "token", 401: "token"}.items():
        server.seen.clear()
        server.statuses = [status]
        with pytest.raises(OSError, match=f"{status}.*{word}"):
            download(server.url, tmp_path / "other.bin")
        assert len(server.seen) == 1
    assert names(tmp_path) == ["data.bin"]


def test_a_slow_reply_is_asked_for_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (600, 0.1))
    server.silent_at = 0
    assert download(server.url, tmp_path / "data.bin", sha256=SHA).read_bytes() == DATA
    assert len(server.seen) == 2


def test_a_size_that_differs_is_refused_before_the_body(server, tmp_path):
    with pytest.raises(ValueError, match=f"{len(DATA)} bytes, expected 7"):
        download(server.url, tmp_path / "data.bin", size=7)
    assert names(tmp_path) == []


def test_no_server_and_no_address_are_one_line_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BACKOFF", 0.0)
    with pytest.raises(OSError, match="refuses the connection, 4 times"):
        download("http://127.0.0.1:1/data.bin", tmp_path / "data.bin")
    for url in ("data.bin", "ftp://127.0.0.1/data.bin"):
        with pytest.raises(ValueError, match="http"):
            download(url, tmp_path / "data.bin")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        download("http://127.0.0.1:1/data.bin", tmp_path)


def test_a_full_disk_keeps_the_part_and_says_so(server, tmp_path, monkeypatch):
    class FullAfterTwo(io.FileIO):
        written = 0

        def write(self, block):
            FullAfterTwo.written += 1
            if FullAfterTwo.written > 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(block)

    monkeypatch.setattr(module, "open", lambda path, mode: FullAfterTwo(path, mode), raising=False)
    with pytest.raises(OSError, match="data.bin.part: the disk is full; 131.1 kB are kept") as error:
        download(server.url, tmp_path / "data.bin", sha256=SHA)
    assert error.value.errno == errno.ENOSPC
    assert (tmp_path / "data.bin.part").read_bytes() == DATA[: 2 * module.CHUNK]
    monkeypatch.undo()
    assert download(server.url, tmp_path / "data.bin", sha256=SHA).read_bytes() == DATA
    assert server.seen[-1][1]["Range"] == f"bytes={2 * module.CHUNK}-"


def test_too_little_room_is_said_before_the_body(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(OSError, match="needs 307.2 kB .* 10.0 kB are free"):
        download(server.url, tmp_path / "data.bin", sha256=SHA)
    assert not (tmp_path / "data.bin").exists()


def test_tokens_are_in_no_message_and_no_log_line(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = ("querytoken", "headertoken", "pathtoken", "userpart")
    url = server.url.replace("http://", "http://userpart:userpart@").replace("/files/", "/a/pathtoken/") + "?t=querytoken"
    given = {"headers": {"X-Auth": "headertoken"}, "secret": "pathtoken"}
    server.cuts, server.statuses = [1000], [503]
    download(url, tmp_path / "data.bin", sha256=SHA, **given)
    messages = []
    for status, refused in ((404, url), (200, url.replace(":userpart@", ":userpart@127.0.0.1:1@")), (200, "x" + url)):
        server.seen.clear()
        server.statuses = [status]
        try:
            download(refused, tmp_path / "other.bin", sha256="0" * 64, **given)
        except (ValueError, OSError) as error:
            messages.append(str(error))
    with pytest.raises(OSError, match="refuses the connection") as error:
        download("http://127.0.0.1:1/a/pathtoken/data.bin?t=querytoken", tmp_path / "other.bin", **given)
    messages.append(str(error.value))
    assert len(messages) == 4
    assert "/a/***/data.bin?..." in caplog.text
    for secret in secrets:
        assert secret not in caplog.text
        assert not any(secret in message for message in messages)


def test_verify_names_the_file_and_both_hashes(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    verify(path, sha256=SHA, git_blob=BLOB)
    verify(path, sha256=SHA.upper())
    with pytest.raises(ValueError, match=rf"data.bin.*git blob is {BLOB}, expected {'1' * 40}"):
        verify(path, git_blob="1" * 40)
    with pytest.raises(ValueError, match="sha256 or git_blob"):
        verify(path)


def test_importing_the_module_imports_no_third_party():
    words = [PROGRAMS / "imports_alone.py", "imbalanced_regression.download", "pooch", "requests", "tqdm"]
    assert fresh(words) == ""


# -- an archive --


def make_tar(path: Path, members: dict, mode: str = "w") -> Path:
    """members: name -> bytes, None (a folder) or a TarInfo's `type, linkname`."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, tuple):
                info.type, info.linkname = content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def make_zip(path: Path, members: dict) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            if isinstance(content, int):  # the Unix mode of a link or device
                info.external_attr, content = content << 16, b"target"
            archive.writestr(info, content or b"")
    return path


FILES = {"a/one.txt": b"one", "a/b/two.bin": DATA, "three": b""}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_what_went_in_comes_out(tmp_path, mode):
    archive = tmp_path / "archive"
    make_zip(archive, FILES) if mode == "zip" else make_tar(archive, {"a": None, **FILES}, mode)
    folder = unpack(archive, tmp_path / "deep" / "out")
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == FILES
    assert names(folder.parent) == ["out"]


def test_a_top_folder_of_the_same_name_is_not_nested_twice(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"AgeDB/": None, "AgeDB/1.jpg": b"1", "__MACOSX/AgeDB/._1.jpg": b"junk"})
    assert names(unpack(archive, tmp_path / "AgeDB")) == ["1.jpg"]
    assert names(unpack(archive, tmp_path / "faces")) == ["AgeDB"]


BAD_NAMES = ["/etc/evil", "../evil", "a/../../evil", "C:\\evil", "C:evil", "..\\evil", "\\\\host\\share\\evil"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_paths_that_lead_outside_are_refused_before_anything_is_written(tmp_path, name):
    for archive in (
        make_tar(tmp_path / "x.tar", {"good": b"good", name: b"evil"}),
        make_zip(tmp_path / "x.zip", {"good": b"good", name: b"evil"}),
    ):
        with pytest.raises(ValueError, match="leads outside"):
            unpack(archive, tmp_path / "sub" / "out")
    assert names(tmp_path) == ["x.tar", "x.zip"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    archive = make_tar(tmp_path / "x.tar", {"good": b"good", "link": (kind, "good"), "link/evil": b"evil"})
    with pytest.raises(ValueError, match="link or device"):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path) == ["x.tar"]


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, mode):
    archive = make_zip(tmp_path / "x.zip", {"good": b"good", "link": mode})
    with pytest.raises(ValueError, match="link or device"):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path) == ["x.zip"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_a_truncated_archive_is_named_and_leaves_nothing(tmp_path, mode):
    noise = os.urandom(100_000)  # so that compression does not hide where it is cut
    files = {"one": noise, "two": noise[::-1]}
    whole = make_zip(tmp_path / "w", files) if mode == "zip" else make_tar(tmp_path / "w", files, mode)
    content = whole.read_bytes()
    archive = tmp_path / "cut"
    # a tar cut exactly between two members (512 + 100,352 bytes in) is the one tarfile would take for whole
    for length in (0, 1, 300, 50_000, 512 + 100_352, len(content) // 2, len(content) - 10_240 if mode == "w" else -1):
        archive.write_bytes(content[:length])
        with pytest.raises(ValueError, match="cut is truncated or corrupt"):
            unpack(archive, tmp_path / "out")
    assert names(tmp_path) == ["cut", "w"]


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "zip"])
def test_a_corrupt_archive_is_named_and_leaves_nothing(tmp_path, mode):
    archive = tmp_path / "x"
    files = {"one": os.urandom(50_000), "two": b"2"}
    make_zip(archive, files) if mode == "zip" else make_tar(archive, files, mode)
    content = bytearray(archive.read_bytes())
    content[20_000:20_010] = bytes(10)
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="x is truncated or corrupt"):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path) == ["x"]


def test_something_else_than_an_archive_is_an_error(tmp_path):
    (tmp_path / "page.zip").write_text("<html>Sign in</html>")
    with pytest.raises(ValueError, match="page.zip is truncated or corrupt"):
        unpack(tmp_path / "page.zip", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="absent.zip does not exist"):
        unpack(tmp_path / "absent.zip", tmp_path / "out")


def test_an_existing_folder_is_untouched_unless_overwritten(tmp_path):
    archive = make_zip(tmp_path / "x.zip", FILES)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="out exists.*--overwrite"):
        unpack(archive, folder)
    assert names(folder) == ["mine"]
    broken = tmp_path / "broken.zip"
    broken.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(ValueError, match="broken.zip"):
        unpack(broken, folder, overwrite=True)
    assert names(folder) == ["mine"]
    assert names(unpack(archive, folder, overwrite=True)) == ["a", "three"]
    assert names(tmp_path) == ["broken.zip", "out", "x.zip"]


def test_an_interrupted_unpacking_leaves_no_folder_that_looks_whole(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "x.zip", FILES)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_write_member", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out")
    monkeypatch.undo()
    assert names(tmp_path) == ["x.zip"]
    (tmp_path / "out.unpack.part").mkdir()  # what a killed one leaves
    (tmp_path / "out.unpack.part" / "old").touch()
    assert names(unpack(archive, tmp_path / "out")) == ["a", "three"]
    assert names(tmp_path) == ["out", "x.zip"]


# "a.txt" holding b"locked content\n", encrypted with the password "right"
LOCKED = (
    "504b03040a0009000000c191765dfcb1d7631b0000000f00000005000000612e747874d507bbeced14362df2628c97e709c361d06b6d20"
    "93bf2bcd8d28de504b0708fcb1d7631b0000000f000000504b01021e030a0009000000c191765dfcb1d7631b0000000f00000005000000"
    "0000000001000000a48100000000612e747874504b05060000000001000100330000004e0000000000"
)


@pytest.mark.parametrize(("password", "word"), [(None, "needs a password"), ("letmein", "password")])
def test_a_locked_zip_asks_for_the_password_and_never_shows_it(tmp_path, password, word):
    archive = tmp_path / "locked.zip"
    archive.write_bytes(bytes.fromhex(LOCKED))
    with pytest.raises(ValueError, match=word) as error:
        unpack(archive, tmp_path / "out", password=password)
    assert "letmein" not in str(error.value)
    assert names(tmp_path) == ["locked.zip"]
    folder = unpack(archive, tmp_path / "out", password="right")
    assert (folder / "a.txt").read_bytes() == b"locked content\n"


# -- Google Drive, by gdown --


def test_what_the_script_uses_of_gdown_is_there():
    """From 6.0 on; 5.2 has no DownloadError, so that a used-up quota ended in a traceback."""
    import gdown

    assert issubclass(gdown.exceptions.FileURLRetrievalError, gdown.exceptions.DownloadError)
    assert {"id", "output", "resume", "quiet"} <= inspect.signature(gdown.download).parameters.keys()
    assert '"gdown>=6.0"' in (ROOT / "pyproject.toml").read_text()


def test_a_used_up_quota_of_google_drive_is_one_line_with_the_way_out(tmp_path):
    paths = os.pathsep.join([str(ROOT / "tests" / "fakes"), str(ROOT)])
    words = ["download_nyud2.py", "--data_dir", tmp_path / "data"]
    said = fresh(words, ROOT / "nyud2-dir", code=2, PYTHONPATH=paths, FAKE_DRIVE="quota")
    assert said.count("\n") == 1
    assert "FileURLRetrievalError; Drive limits downloads per day and the link has moved before: try later, or a mirror" in said
    (tmp_path / "zip").write_bytes(b"no zip")
    said = fresh(words, ROOT / "nyud2-dir", code=2, PYTHONPATH=paths, FAKE_DRIVE=str(tmp_path / "zip"))
    assert "nyu_data.zip" in said
    assert (tmp_path / "data" / "nyu_data.zip").read_bytes() == b"no zip"
