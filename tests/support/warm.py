"""Runs scripts for `commands.execute`, each in a fork of this process: torch is imported once, not by every script.

Reads a line of JSON for each, {"words": [script or -m and module, ...], "folder": where it runs, "out": file,
"error": file, "program": bool, "env": [variables of each process]}, and answers with a line when all have ended: the first
exit code that is not 0. More than one process are the ranks of a run. Its children are as a shell would start them but for
what they need not import.
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
         "scipy.stats", "pandas", "nltk.tokenize", "requests", "tqdm", "PIL.Image", "PIL.JpegImagePlugin",
         "PIL.PngImagePlugin", "matplotlib.figure", "matplotlib.backends.backend_agg",
         "imbalanced_regression.training.engine", "imbalanced_regression.tools.report", "imbalanced_regression.faces.ages")


def child(words: list[str], folder: str, out: str, error: str, program: bool, env: dict[str, str]) -> int:
    """Run a script as the main program; its exit code. A `program` of the tests imports from the folder and the tests, and
    its warnings are errors."""
    os.setsid()
    os.environ.update(env)
    if "https_proxy" in env:  # a network that is shut: no try after the first finds another answer
        importlib.import_module("imbalanced_regression.download").BACKOFF = 0  # type: ignore[attr-defined]
    for number, path in ((0, os.devnull), (1, out), (2, error)):
        file = os.open(path, os.O_RDWR | os.O_APPEND)
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
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
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


def started(given: dict) -> int:
    """A fork that runs a script and ends; its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = child(**given)
        finally:
            os._exit(code)
    return pid


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import says is no answer
    for name in HEAVY:
        importlib.import_module(name)
    import torch

    from imbalanced_regression.tools.drawing import new_figure, png

    torch.set_num_threads(1)
    figure = new_figure(2, 2)  # finds the fonts, which every picture of a fork then has
    figure.subplots().set(title="a", xlabel="b")
    png(figure)
    for line in sys.stdin:
        given = json.loads(line)
        pids = [started({**given, "env": env}) for env in given["env"]]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(next((code for code in codes if code), 0), file=answers, flush=True)


if __name__ == "__main__":
    main()
