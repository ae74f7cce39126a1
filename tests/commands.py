"""Reading the READMEs' commands and blocks, and running a folder's scripts as a user does."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
# made by every fresh machine's set-up, not by a test: the environment that runs these tests is what they make
SETUP = {"pip install -e .", 'pip install -e ".[train]"', "make demo", "make test", "make docs"}


def blocks(readme: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", readme.read_text(), re.DOTALL | re.MULTILINE)


def commands(readme: Path) -> list[str]:
    lines = [line.split(" #")[0].strip() for block in blocks(readme, "bash") for line in block.splitlines()]
    return sorted({line for line in lines if line and line not in SETUP})


def execute(words: list[str], folder: Path, code: int = 0, timeout: float = 300, **env) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def from_folder(folder: str, name: str) -> ModuleType:
    """A benchmark folder's module; other folders have modules of the same names, so nothing of it stays registered."""
    before = set(sys.modules)
    sys.path.insert(0, str(ROOT / folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / folder))
        for added in set(sys.modules) - before:
            if str(getattr(sys.modules[added], "__file__", "")).startswith(str(ROOT / folder)):
                del sys.modules[added]


ONE_BY_ONE = """
import runpy, sys, json
for words in json.loads(sys.argv[1]):
    print("$", *words, flush=True)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
"""


def together(scripts: list[list], folder: Path, *options: str) -> str:
    """Run scripts of a folder one after the other in one process: starting Python anew takes longer than training.

    `options` are Python's own. Each script must end with exit code 0.
    """
    words = [[str(word) for word in script] for script in scripts]
    said = execute([*options, "-c", ONE_BY_ONE, json.dumps(words)], folder, timeout=600)
    assert said.count("$ ") >= len(words), said
    return said
