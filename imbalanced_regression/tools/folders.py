"""A benchmark folder's modules and scripts, from anywhere in a checkout and without starting Python anew.

The one idea: every folder has modules of the same names (`utils`, `models`, `fds`), so whatever is imported from one is
forgotten by name when it has been taken, and the next folder's can be imported beside it.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Within, modules of the folder come first; afterwards none of them stays registered."""
    place, before = str(folder.resolve()), dict(sys.modules)
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
        for name in list(sys.modules):
            file = getattr(sys.modules[name], "__file__", None) or ""
            if sys.modules[name] is not before.get(name) and file.startswith(place):
                del sys.modules[name]
                if name in before:
                    sys.modules[name] = before[name]


def module_of(folder: Path, name: str) -> ModuleType:
    """The module `name` of a folder. Raises ImportError where there is none."""
    with importable(folder):
        return importlib.import_module(name)


def run_script(folder: Path, words: Sequence[object]) -> None:
    """Run a script of a folder as the main program: `words` are its name and its flags, paths given whole.

    Raises SystemExit where the script leaves by it, as it does with code 2 for what a user can mend.
    """
    before = sys.argv
    sys.argv = [str(word) for word in words]
    try:
        with importable(folder):
            runpy.run_path(str(folder / sys.argv[0]), run_name="__main__")
    finally:
        sys.argv = before
