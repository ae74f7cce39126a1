"""The toy's training as a program, under what may befall it: the program of tests/test_full_disk.py.

    python toy_run.py FOLDER [--epochs N] [--workers N] [--resume] [--overwrite]
                             [--held | --raises ERROR | --longest_file BYTES | --folder_goes]
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from pathlib import Path

import torch
import toy

from imbalanced_regression import cli
from imbalanced_regression.training import checkpoint, runtime
from imbalanced_regression.training.log import start_log


class Broken(toy.Toy):
    """Training data whose sample 7 raises an error."""

    error: type[Exception] = ValueError

    def __getitem__(self, i):
        if i == 7:
            raise self.error("sample 7")
        return super().__getitem__(i)


def hold(folder: Path) -> None:
    """Let each step leave the file `stepping` in the run's folder, and not end before there is a file `go`."""
    step = torch.optim.Adam.step

    def held(*words, **more):
        (folder / "stepping").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
        return step(*words, **more)

    torch.optim.Adam.step = held


def lose_folder() -> None:
    """Let the run's folder be deleted before each checkpoint."""
    save = checkpoint.save
    checkpoint.save = lambda at, *words: (shutil.rmtree(at), save(at, *words))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--held", action="store_true")
    parser.add_argument("--raises", choices=["ValueError", "KeyError"])
    parser.add_argument("--longest_file", type=int)
    parser.add_argument("--folder_goes", action="store_true")
    args = parser.parse_args()
    flags = {"workers": args.workers, "epochs": args.epochs, **({"resume": ""} if args.resume else {}),
             **({"overwrite": True} if args.overwrite else {})}
    if args.held:
        hold(args.folder)
    if args.raises:
        Broken.error = {"ValueError": ValueError, "KeyError": KeyError}[args.raises]
        flags["splits"] = toy.make_splits()
        flags["splits"].train = Broken(90, 0)
    if args.longest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (args.longest_file, args.longest_file))
    if args.folder_goes:
        lose_folder()
    start_log(runtime.Runtime())
    toy.run(args.folder, **flags)


if __name__ == "__main__":
    cli.guard(main)
