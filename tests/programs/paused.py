"""A script that does not train: it says that it is on, then waits for a signal."""

from __future__ import annotations

import signal

from imbalanced_regression import cli


def main() -> None:
    print("on", flush=True)
    signal.pause()


cli.guard(main)
