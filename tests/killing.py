"""A folder's train.py, begun again and again and ended by signals: torch is imported once, then every start is a fork.

    python killing.py SPEC.json    # in the folder; SPEC: {"words": [...], "store": path, "attempts": [...], "seed": 0}

An attempt is {"signal": number, "when": "any" | "writing" | "step"}: at a random moment of about the first one and a half
epochs, while a checkpoint is being written, or at a random moment after training began. A last start runs to its end.
Prints JSON: of each start, what ended it and how many epochs the checkpoint then had.
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


def wait_for(condition, process, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.0005)
    return False


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    store, words = Path(spec["store"]), [*spec["words"], "--store_root", spec["store"], "--resume"]
    draw = random.Random(spec["seed"])
    preload()
    log = store.with_suffix(".log")
    epoch, limit = spec["epoch"], spec["epochs"] - 1
    ends = []
    for attempt in spec["attempts"]:
        before = epochs_done(store)
        size = log.stat().st_size if log.exists() else 0

        def said(text: str, size=size) -> bool:
            with open(log, "rb") as file:
                file.seek(size)
                return text.encode() in file.read()

        process = start(words, log)
        when = attempt["when"]
        # a run near its end is hit early in its epoch, so that it does not finish before all attempts were made
        if when == "writing" and before < limit:
            wait_for(lambda: list(store.glob("*/*.part")), process)
            time.sleep(draw.random() * 0.02)
        elif when == "step" or before >= limit:
            wait_for(lambda: said("resumed from") or said("training starts from the beginning"), process)
            time.sleep(draw.random() * epoch * (0.9 if before < limit else 0.3))
        else:
            time.sleep(draw.random() * (1.0 + 1.5 * epoch))
        part = bool(list(store.glob("*/*.part")))
        os.kill(process.pid, attempt["signal"])
        process.join(60)
        ends.append({"code": process.exitcode, "writing": part, "before": before, "after": epochs_done(store)})
    process = start(words, log)
    process.join(120)
    print(json.dumps({"ends": ends, "last": process.exitcode}))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
