"""A folder's train.py, begun again and again and ended by signals: torch is imported once, then every start is a fork.

    python killing.py SPEC.json    # in the folder; SPEC: {"words": [...], "epochs": 8, "attempts": [...], "seed": 0}

First an uninterrupted run, into whole/ beside SPEC. Then one into parts/ that is ended again and again. An attempt is
{"signal": number, "when": "any" | "writing" | "step"}: at a random moment until the first epoch's end, while a checkpoint
is being written, or at a random step. A last start runs to its end. Prints JSON: what ended each start.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import runpy
import signal
import sys
import time
from pathlib import Path

FORK = multiprocessing.get_context("fork")


def preload() -> None:
    """What train.py imports, short of the folder's own modules."""
    import matplotlib.backends.backend_agg  # noqa: F401
    import nltk.tokenize  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401
    import torchvision.models  # noqa: F401

    from imbalanced_regression import age, engine, report  # noqa: F401

    torch.set_num_threads(1)


def child(words: list[str], log: str, env: dict[str, str]) -> None:
    os.environ.update(env)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["train.py", *words]
    sys.path.insert(0, os.getcwd())
    runpy.run_path("train.py", run_name="__main__")


def start(words: list[str], log: Path, **env: str):
    process = FORK.Process(target=child, args=(words, str(log), env))
    process.start()
    return process


def epochs_done(store: Path) -> int:
    """Epochs that the run's checkpoint has finished, without reading 100 MB for it."""
    import torch

    found = sorted(store.glob("*/ckpt.pth.tar"))
    return torch.load(found[0], mmap=True, weights_only=True)["epoch"] if found else 0


def wait_for(condition, process, seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.0005)
    return False


def says(log: Path, text: str, beyond: int = 0):
    """Whether the log has `text` after its byte `beyond`, as a condition to wait for."""
    return lambda: log.exists() and text.encode() in log.read_bytes()[beyond:]


def uninterrupted(words: list[str], store: Path, epochs: int) -> tuple[float, float]:
    """A run to its end; seconds to its first step, and of an epoch."""
    log, times = store.with_suffix(".log"), [time.monotonic()]
    process = start([*words, "--store_root", str(store)], log)
    for text in ("epoch 1, step 1/", f"epoch {epochs}/{epochs}: "):
        wait_for(says(log, text), process)
        times.append(time.monotonic())
    process.join(120)
    assert process.exitcode == 0, log.read_text()
    return times[1] - times[0], (times[2] - times[1]) / epochs


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    root, words, epochs = Path(sys.argv[1]).parent, spec["words"], spec["epochs"]
    draw = random.Random(spec["seed"])
    preload()
    setup, epoch = uninterrupted(words, root / "whole", epochs)
    store, log = root / "parts", root / "parts.log"
    words = [*words, "--store_root", str(store), "--resume"]
    ends = []
    for attempt in spec["attempts"]:
        before = epochs_done(store)
        size = log.stat().st_size if log.exists() else 0
        process = start(words, log)
        near = before >= epochs - 1  # hit early, so that the run does not end before all attempts were made
        if attempt["when"] == "writing" and before < epochs:
            wait_for(lambda: list(store.glob("*/*.part")), process)
            time.sleep(0 if near else draw.random() * 0.02)
        elif attempt["when"] == "step":
            wait_for(says(log, f"epoch {before + 1}, step ", size), process)
            time.sleep(draw.random() * epoch * 0.5)
        else:
            time.sleep(draw.random() * (setup / 2 if near else setup + epoch))
        part = bool(list(store.glob("*/*.part")))
        os.kill(process.pid, attempt["signal"])
        process.join(120)
        ends.append({"code": process.exitcode, "writing": part, "before": before, "after": epochs_done(store)})
    process = start(words, log)
    process.join(120)
    print(json.dumps({"ends": ends, "last": process.exitcode}))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
