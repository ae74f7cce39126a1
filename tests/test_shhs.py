"""SHHS-DIR from the provider's files to a trained model, on made-up nights; the download against a server on this machine."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import http.server
import json
import os
import pty
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from commands import PROGRAMS, ROOT, commands, execute, run_program, together

SHHS = ROOT / "shhs-dir"
SMALL = ["--width", "4", "--d_hid", "8", "--batch_size", "16", "--epochs", "1", "--workers", "0", "--device", "cpu"]
SAMPLE = ["--train", "5", "--per_score", "1", "--minutes", "3", "4", "--workers", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A prepared sample, some of whose files are odd as the real ones are, or broken."""
    out = tmp_path_factory.mktemp("shhs") / "sample"
    execute(["make_sample.py", "--out", out, *SAMPLE], SHHS)
    edfs = sorted((out / "polysomnography/edfs/shhs2").glob("*.edf"))
    whole = [path.read_bytes() for path in edfs[:5]]
    edfs[0].write_bytes(whole[0][:168] + b"00.00.00" + whole[0][176:])  # no start date
    edfs[1].write_bytes(whole[1][:-700])  # the last record is cut short
    edfs[2].write_bytes(b"")
    edfs[3].write_bytes(b"<html>sign in</html>" * 100)
    at = next(256 + 16 * i for i in range(7) if whole[4][256 + 16 * i :][:16].upper().startswith((b"ECG", b"EKG")))
    edfs[4].write_bytes(whole[4][:at] + b"Leg             " + whole[4][at + 16 :])  # no ECG
    execute(["preprocess_shhs.py", "--data_dir", out, "--cap", "1", "--workers", "1"], SHHS)
    return out


@pytest.fixture(scope="module")
def checkpoint(data, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("first")
    execute(["train.py", "--data_dir", data, "--store_root", root, *SMALL], SHHS)
    return next(root.iterdir()) / "ckpt.best.pth.tar"


def test_odd_files_are_read_and_broken_ones_skipped_with_the_reason(data):
    with (data / "skipped.csv").open() as file:
        skipped = {int(row["nsrrid"]): row["reason"] for row in csv.DictReader(file)}
    assert sorted(skipped) == [200003, 200004, 200005]
    assert "empty" in skipped[200003]
    assert "no readable EDF" in skipped[200004]
    assert "ecg is missing" in skipped[200005]
    with (data / "shhs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["nsrrid", "gh", "split"]
    assert {"200001", "200002"} <= {row["nsrrid"] for row in rows}
    assert any(float(row["gh"]) == 0 for row in rows)  # the table has no score 0, rawgh_s2 tells


def test_a_second_run_does_only_what_is_missing(data):
    nights = sorted((data / "nights").glob("*.npz"))
    before = {path: path.stat().st_mtime_ns for path in nights}
    table = (data / "shhs.csv").read_text()
    nights[-1].unlink()  # as if killed before it
    said = execute(["preprocess_shhs.py", "--data_dir", data, "--cap", "1", "--workers", "2"], SHHS)
    assert "4 to do" in said  # it and the three bad ones
    assert all(path.stat().st_mtime_ns == before[path] for path in nights[:-1])
    assert (data / "shhs.csv").read_text() == table


def test_padding_and_segments_change_no_prediction_and_no_gradient():
    run_program("shhs_padding", SHHS)


def test_scores_fall_into_their_own_bins():
    run_program("shhs_bins", SHHS)


def test_every_command_of_the_readme_runs(data, checkpoint, tmp_path):
    found = commands(SHHS / "README.md")
    assert len(found) > 10
    lines = []
    for number, command in enumerate(found):
        program, script, *flags = shlex.split(command.replace("<ckpt>", str(checkpoint)))
        assert program == "python", command
        if script == "train.py":
            lines.append([script, *flags, *SMALL, "--schedule", "--data_dir", data, "--store_root", tmp_path / str(number)])
        elif script == "make_sample.py":
            lines.append([script, *flags, *SAMPLE, "--minutes", "1", "1", "--out", tmp_path / "sample"])
        elif "--plot" in flags:
            execute([SHHS / script, *flags, "--data_dir", data], tmp_path, PYTHONPATH=str(ROOT))
            assert (tmp_path / "200001.png").stat().st_size > 10_000
        elif script == "preprocess_shhs.py":
            lines.append([script, *flags, "--data_dir", data, "--cap", "1", "--workers", "1"])
        elif script == "../benchmarks/night_speed.py":
            assert '"night_speed.py"' in (ROOT / "tests" / "test_benchmarks.py").read_text()  # it runs there
        elif script == "download_shhs.py":
            assert "sleepdata.org/datasets/shhs" in execute([script, *flags], SHHS, code=2, NSRR_TOKEN="")
        else:
            pytest.fail(f"no test runs {command!r}")
    together(lines, SHHS)


TOKEN = "7-sEcReT"
TABLE = "datasets/shhs2-dataset-0.21.0.csv"
FILES = {
    TABLE: b"nsrrid,gh_s2\n", "datasets/shhs2-dataset-0.9.0.csv": b"old",
    **{f"polysomnography/edfs/shhs2/shhs2-20000{i}.edf": bytes(range(256)) * (3000 + i) for i in range(1, 5)},
}


class Service(http.server.BaseHTTPRequestHandler):
    """Imitates the service; each EDF file's first answer breaks off half way, or falls silent there if `server.silent`."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        at, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
        known = query.get("auth_token") == [TOKEN]
        if at.path == "/api/v1/account/profile.json":
            return self.answer(json.dumps({"authenticated": known}).encode())
        if at.path == "/api/v1/datasets/shhs/files.json":
            entries = [
                {"full_path": path, "file_name": Path(path).name, "is_file": True, "file_size": len(body),
                 "file_checksum_md5": hashlib.md5(body).hexdigest()}
                for path, body in FILES.items() if str(Path(path).parent) == query["path"][0]
            ]
            return self.answer(json.dumps(entries).encode())
        path = at.path.removeprefix("/datasets/shhs/files/m/browser/")
        body = FILES[path] if known else b"<html>sign in</html>"
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        first = path not in self.server.seen or (self.server.silent and not start)
        self.server.seen.append(path)
        self.server.starts.append(start)
        return self.answer(body, start, cut=first and path.endswith(".edf"))

    def answer(self, body: bytes, start: int = 0, cut: bool = False):
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : len(body) // 2] if cut else body[start:])
        if cut and self.server.silent:
            self.wfile.flush()
            self.server.over.wait()

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.seen, server.starts, server.silent, server.over = [], [], False, threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_resumes_verifies_and_never_shows_the_token(service, tmp_path):
    words = ["download_shhs.py", "--url", f"http://127.0.0.1:{service.server_port}", "--data_dir", tmp_path / "data"]
    said = execute(words, SHHS, NSRR_TOKEN=TOKEN)
    have = {str(path.relative_to(tmp_path / "data")): path.read_bytes() for path in (tmp_path / "data").rglob("*.*")}
    assert have == {path: body for path, body in FILES.items() if "0.9.0" not in path}
    assert any(service.starts)  # went on where the connection broke
    assert TOKEN not in said
    asked = len(service.seen)
    execute(words, SHHS, NSRR_TOKEN=TOKEN)
    assert len(service.seen) == asked  # all is there already
    shutil.rmtree(tmp_path / "data")
    said = execute(words, SHHS, code=2, NSRR_TOKEN="7-wrong")
    assert "does not accept the token" in said
    assert "7-wrong" not in said


def test_a_service_that_falls_silent_is_asked_again(service, tmp_path):
    """With the limit on silence, a minute, set to two seconds."""
    service.silent = True
    words = [PROGRAMS / "shhs_silence.py", "--url", f"http://127.0.0.1:{service.server_port}", "--data_dir", tmp_path,
             "--limit", "2"]
    said = execute(words, SHHS, NSRR_TOKEN=TOKEN)
    assert "is complete" in said
    assert len(list(tmp_path.rglob("*.edf"))) == 2
    assert sum(start > 0 for start in service.starts) >= 2  # the other half, not all anew


def test_progress_is_shown_on_a_terminal(service, tmp_path):
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 100, 0, 0))
    words = [sys.executable, "download_shhs.py", "--url", f"http://127.0.0.1:{service.server_port}", "--data_dir", tmp_path]
    done = subprocess.run(
        words, cwd=SHHS, stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "NSRR_TOKEN": TOKEN}, check=True
    )
    os.close(terminal)
    shown = ""
    with contextlib.suppress(OSError):  # how the end of a terminal is told
        while part := os.read(main, 4096):
            shown += part.decode()
    os.close(main)
    assert "SHHS: 100%" in shown
    assert TOKEN not in shown + done.stdout.decode()
