"""What all command lines share: one-line errors, the flags of every benchmark, the run's name, and what the flags build.

Nothing heavy is imported before the arguments are parsed, so `train.py --help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """argparse whose errors are one line and exit code 2, whose defaults show in `--help`, and which takes no abbreviations."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("formatter_class", _HelpFormatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind each flag; descriptions and examples keep their line breaks."""


def guard(main: Callable[[], None]) -> None:
    """Run a script's `main()`; what a user can mend (ValueError, OSError) becomes one line on stderr and exit code 2."""
    try:
        main()
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        sys.exit(_one_line(message))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _one_line(message: str) -> int:
    print(f"{sys.argv[0].rsplit('/', 1)[-1]}: error: {message}", file=sys.stderr)
    return 2
