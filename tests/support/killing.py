"""A folder's train.py, begun again and again and ended by signals: torch is imported once, then every start is a fork.

    python killing.py SPEC.json    # in the folder; SPEC: {"words": [...], "epochs": 8, "attempts": [...], "seed": 0}

First an uninterrupted run, into whole/ beside SPEC. Then one into parts/ that is ended again and again. An attempt is
{"signal": number, "when": "any" | "writing" | "step"}: while it sets up or within two epochs, while a
checkpoint is being written, or at a step of an epoch. The moments are drawn as events of the run (its n-th step, or file
opened, so many bytes of a file), not as times, so that they fall where they should on any machine. A last start runs to its
end. Prints JSON: what ended each start.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import runpy
import signal
import sys
from pathlib import Path

FORK = multiprocessing.get_context("fork")
SETUP = 0.2  # share of the moments "any" that come before the first step
OPENED = 15  # files; a run opens more than that: modules, data, its lock, log and settings


def preload() -> None:
    """What train.py imports, short of the folder's own modules."""
    import matplotlib.backends.backend_agg  # noqa: F401
    import nltk.tokenize  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401
    import torchvision.models  # noqa: F401

    from imbalanced_regression.training import engine  # noqa: F401

    torch.set_num_threads(1)


def in_step(number: int, of: int, place: str) -> None:
    """Send this process a signal in its step `of`: before the optimizer moves the weights, or after."""
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    done = [0]

    def stepped(*_) -> None:
        done[0] += 1
        if done[0] == of:
            os.kill(os.getpid(), number)

    {"before": register_optimizer_step_pre_hook, "after": register_optimizer_step_post_hook}[place](stepped)


def at_open(number: int, of: int) -> None:
    """Send this process a signal when it opens its file `of`: one of the data, a module, the log."""
    done = [0]

    def audited(event: str, _) -> None:
        if event == "open":
            done[0] += 1
            if done[0] == of:
                os.kill(os.getpid(), number)

    sys.addaudithook(audited)


def in_write(number: int, of: int, place: str, share: float) -> None:
    """Send this process a signal in its checkpoint file `of`: after a share of its bytes, before or after the rename."""
    from imbalanced_regression import files

    done = [0]
    replace = os.replace

    class Cut:
        """A file in whose middle the process ends: after a share of the bytes of the checkpoint before it, or of a few."""

        def __init__(self, file, left):
            self.file, self.left = file, left

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.end()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data) -> int:
            if len(data) < self.left:
                self.left -= len(data)
                return self.file.write(data)
            self.file.write(data[: self.left])
            return self.end()

        def end(self):
            self.file.flush()
            os.kill(os.getpid(), number)

    def opened(path, mode):
        file = open(path, mode)  # noqa: SIM115
        if ".pth.tar." not in path.name:
            return file
        done[0] += 1
        if place != "bytes" or done[0] != of:
            return file
        sizes = [other.stat().st_size for other in path.parent.glob("*.pth.tar")]
        return Cut(file, int(share * max(sizes, default=1000)))

    def replaced(part, path) -> None:
        hit = ".pth.tar." in part.name and done[0] == of
        if hit and place == "before":
            os.kill(os.getpid(), number)
        replace(part, path)
        if hit:
            os.kill(os.getpid(), number)

    files.open = opened
    files.os = type("os", (), {"replace": staticmethod(replaced), "fsync": os.fsync, "getpid": os.getpid})


def child(words: list[str], log: str, arm, arguments: tuple) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["train.py", *words]
    sys.path.insert(0, os.getcwd())
    if arm:
        arm(*arguments)
    runpy.run_path("train.py", run_name="__main__")


def run(words: list[str], log: Path, arm=None, *arguments) -> int | None:
    """Run train.py to its end, natural or not; its exit code."""
    process = FORK.Process(target=child, args=(words, str(log), arm, arguments))
    process.start()
    process.join()
    return process.exitcode


def epochs_done(store: Path) -> int:
    """Epochs that the run's checkpoint has finished, without reading 100 MB for it."""
    import torch

    found = sorted(store.glob("*/ckpt.pth.tar"))
    return torch.load(found[0], mmap=True, weights_only=True)["epoch"] if found else 0


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    root, words, epochs = Path(sys.argv[1]).parent, spec["words"], spec["epochs"]
    draw = random.Random(spec["seed"])
    preload()
    assert run([*words, "--store_root", str(root / "whole")], root / "whole.log") == 0, (root / "whole.log").read_text()
    steps = int(re.search(r"step 1/(\d+)", (root / "whole.log").read_text())[1])
    store, log = root / "parts", root / "parts.log"
    words = [*words, "--store_root", str(store), "--resume"]
    ends = []
    for attempt in spec["attempts"]:
        before, when = epochs_done(store), attempt["when"]
        last = before >= epochs - 2  # hit early: the run must not end before all attempts were made
        if when == "writing":
            place = draw.choice(["bytes", "before"] if last else ["bytes", "bytes", "before", "after"])
            moment = (in_write, attempt["signal"], 1 if last else draw.choice([1, 2]), place, draw.random())
        elif when == "step":
            moment = (in_step, attempt["signal"], draw.randrange(1, steps // 2 + 1), draw.choice(["before", "after"]))
        elif draw.random() < SETUP:
            moment = (at_open, attempt["signal"], draw.randrange(1, OPENED))
        else:
            step = draw.randrange(1, steps if last else 2 * steps)
            moment = (in_step, attempt["signal"], step, draw.choice(["before", "after"]))
        code = run(words, log, *moment)
        part = bool(list(store.glob("*/*.part")))
        ends.append({"code": code, "when": when, "part": part, "before": before, "after": epochs_done(store)})
    print(json.dumps({"ends": ends, "last": run(words, log)}))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
