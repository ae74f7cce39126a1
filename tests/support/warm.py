"""Runs scripts for `commands.execute`, each in a fork of this process: torch is imported once, not by every script.

Reads a line of JSON for each, {"words": [script, ...], "folder": where it runs, "out": file, "error": file, "program": bool},
and answers with a line when it has ended, its exit code. Its children are as a shell would start them but for what they
need not import.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import sys
import threading
import traceback
import warnings

HEAVY = ("torch.utils.data", "torch.utils.tensorboard", "torchvision.models", "torchvision.transforms.v2", "scipy.ndimage",
         "scipy.stats", "pandas", "matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.Image", "tqdm",
         "imbalanced_regression.training.engine", "imbalanced_regression.tools.report", "imbalanced_regression.faces.ages")


def child(words: list[str], folder: str, out: str, error: str, program: bool) -> int:
    """Run a script as the main program; its exit code. A `program` of the tests imports from the folder and the tests, and
    its warnings are errors."""
    os.setsid()
    for number, path in ((0, os.devnull), (1, out), (2, error)):
        file = os.open(path, os.O_RDWR)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    sys.argv, sys.path[0] = words, os.path.dirname(os.path.abspath(words[0]))
    if program:
        tests = os.path.dirname(sys.path[0])
        sys.path[1:1] = [folder, tests, os.path.join(tests, "support")]
        warnings.simplefilter("error")
    code: object = 0
    try:
        runpy.run_path(os.path.abspath(words[0]), run_name="__main__")
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    # the end of an interpreter, which a fork does not come to by itself
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    return (0 if code is None else code) if isinstance(code, int | None) else 1


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import says is no answer
    for name in HEAVY:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        given = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = child(**given)
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    main()
