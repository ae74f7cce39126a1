"""SHHS-DIR's download against a server that imitates the provider's, and every command of its README on a small sample."""

from __future__ import annotations

import hashlib
import http.server
import json
import shlex
import threading
import time
import urllib.parse
from pathlib import Path

import pytest
from commands import ROOT, commands, execute

SHHS = ROOT / "shhs-dir"
SMALL = ["--width", "4", "--d_hid", "8", "--batch_size", "16", "--epochs", "1", "--workers", "0", "--device", "cpu"]
TOKEN = "123-Secret_Token"
FILES = {
    "datasets/shhs2-dataset-0.20.0.csv": b"older",
    "datasets/shhs2-dataset-0.21.0.csv": b"nsrrid,gh_s2,rawgh_s2\n200077,50,15\n",
    "datasets/shhs1-dataset-0.21.0.csv": b"of the first visit",
    **{f"polysomnography/edfs/shhs2/shhs2-{200077 + i}.edf": bytes([i]) * 300_000 for i in range(4)},
}


class Provider(http.server.BaseHTTPRequestHandler):
    """Lists and serves FILES to who has the token; breaks off once in the middle of each file, and is slow or busy at first."""

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        self.server.turn += 1
        if url.path == "/api/v1/datasets/shhs/files.json":
            if self.server.turn == 1:
                return self.answer(503, b"busy")
            time.sleep(0.3)
            if query.get("auth_token") != [TOKEN]:
                return self.answer(401, b"{}")
            folder = query["path"][0]
            entries = [
                {"full_path": path, "file_name": Path(path).name, "is_file": True, "file_size": len(data),
                 "file_checksum_md5": hashlib.md5(data).hexdigest()}
                for path, data in FILES.items() if str(Path(path).parent) == folder
            ]
            entries.append({"full_path": f"{folder}/old", "is_file": False})
            return self.answer(200, json.dumps(entries).encode())
        parts = url.path.split("/", 8)
        assert parts[:5] == ["", "datasets", "shhs", "files", "a"], parts
        if parts[5] != TOKEN:
            return self.answer(403, b"")
        path = parts[8]
        data, start = FILES[path], 0
        if "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", '"1"')
        self.end_headers()
        broken = len(data) > 1000 and path not in self.server.broken
        self.server.broken.add(path)
        self.server.sent += len(body := data[start : 100_000 if broken else None])
        self.wfile.write(body)
        return None

    def answer(self, status: int, body: bytes):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def provider():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        server.broken, server.turn, server.sent = set(), 0, 0
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_files_arrive_whole_over_a_bad_line_and_the_token_stays_secret(provider, tmp_path):
    flags = ["--data_dir", tmp_path, "--url", provider.url]
    said = execute(["download_shhs.py", *flags], SHHS, NSRR_TOKEN=TOKEN)
    wanted = {path: data for path, data in FILES.items() if "0.21.0" in path and "shhs2" in path or path.endswith(".edf")}
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == wanted
    assert provider.sent == sum(map(len, wanted.values()))  # after a break it went on, and fetched no byte twice
    assert "4 recordings; now python preprocess_shhs.py" in said
    assert TOKEN not in said
    provider.sent = 0
    execute(["download_shhs.py", *flags, "--token", TOKEN], SHHS)
    assert provider.sent == 0  # all there


def test_a_wrong_or_missing_token_says_how_to_get_one(provider, tmp_path):
    provider.turn = 1
    flags = ["--data_dir", tmp_path, "--url", provider.url]
    said = execute(["download_shhs.py", *flags, "--token", "wrong-token"], SHHS, code=2)
    assert "sleepdata.org/dashboard" in said
    assert "wrong-token" not in said
    said = execute(["download_shhs.py", *flags], SHHS, code=2, NSRR_TOKEN="")
    assert said.startswith("download_shhs.py: error: --token: none was given. 1. ")
    assert len(said.splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_every_command_of_the_shhs_readme_runs(provider, tmp_path):
    """In the order of the README: the sample is made, preprocessed, trained on; a checkpoint for what needs one comes first."""
    data = tmp_path / "data"
    small = ["--train", "21", "--per_score", "1", "--minutes", "1", "2", "--workers", "1"]
    execute(["make_sample.py", *small, "--out", data], SHHS)
    execute(["preprocess_shhs.py", "--data_dir", data, "--cap", "1", "--workers", "1"], SHHS)
    first = tmp_path / "first"
    execute(["train.py", "--fds", "--data_dir", data, "--store_root", first, *SMALL], SHHS)
    run = next(first.iterdir())
    assert {"metrics.json", "predictions.csv", "report.png"} <= {path.name for path in run.iterdir()}
    checkpoint = run / "ckpt.best.pth.tar"
    found = commands(SHHS / "README.md")
    assert len(found) > 10
    for number, command in enumerate(found):
        own = tmp_path / str(number)
        words = shlex.split(command.replace("<ckpt>", str(checkpoint)))
        env = {"NSRR_TOKEN": TOKEN} if words[0].startswith("NSRR_TOKEN=") else {}
        program, *words = words[1:] if env else words
        launcher = []
        if program == "torchrun":
            at = words.index("train.py")
            launcher, words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"], words[at:]
        script, *flags = words
        if script == "train.py":
            execute([*launcher, script, *flags, *SMALL, "--amp", "none", "--data_dir", data, "--store_root", own], SHHS)
        elif script == "make_sample.py":
            execute([script, *flags, "--train", "1", "--per_score", "1", "--minutes", "1", "1", "--out", own], SHHS)
        elif script == "preprocess_shhs.py" and "--plot" in flags:
            night = next((data / "polysomnography/edfs/shhs2").iterdir())
            own.mkdir()
            execute([SHHS / script, "--plot", night], own)
            assert (own / f"{night.stem}.png").stat().st_size > 10_000
        elif script == "preprocess_shhs.py":
            execute([script, *flags, "--data_dir", data], SHHS)
        elif script == "download_shhs.py":
            token = [TOKEN if flag == "TOKEN" else flag for flag in flags]
            token = token if "--token" in token or env else [*token, "--token", TOKEN]
            provider.turn = 1
            execute([script, *token, "--data_dir", own, "--url", provider.url], SHHS, **env)
        elif script == "../benchmarks/night_speed.py":
            execute([script, "--quick"], SHHS)
        else:
            pytest.fail(f"no test runs {command!r}")
