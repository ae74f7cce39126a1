"""Shows the help of programs, each in a fork of this bare process, and fails for one that has loaded anything heavy.

    python light_help.py '[["uci-dir", "train.py"], [".", "-m", "imbalanced_regression", "inspect"]]'    # folder, words
"""

from __future__ import annotations

import json
import os
import runpy
import sys

HEAVY = {"numpy", "torch", "pandas", "matplotlib", "scipy"}


def show(folder: str, *words: str) -> int:
    """The exit code of a program's --help, or 1 where it has loaded anything heavy."""
    os.chdir(folder)
    sys.path[0] = os.getcwd()
    module = words[0] == "-m"
    name, *rest = words[1:] if module else words
    sys.argv = [name, *rest, "--help"]
    try:
        if module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        if end.code:
            return 1
    if loaded := HEAVY & set(sys.modules):
        print(f"{folder}: {words} has loaded {loaded}", file=sys.stderr)
    return 1 if loaded else 0


for given in json.loads(sys.argv[1]):
    print("$", *given, flush=True)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = show(*given)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        sys.exit(f"{given}: its help failed")
