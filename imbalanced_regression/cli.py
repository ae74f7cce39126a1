"""What all command lines share: a parser, one-line errors with exit codes, and checks of numbers.

Nothing heavy is imported before the arguments are parsed, so `train.py --help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal as signals
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from . import interrupt


class ArgumentParser(argparse.ArgumentParser):
    """argparse whose errors are one line and exit code 2, whose help shows defaults, and which takes no abbreviations."""

    # (parser, words, what they were parsed to) -> what `parse_args` returns, for what depends on several flags
    on_parsed: Callable[[ArgumentParser, Sequence[str] | None, argparse.Namespace], argparse.Namespace] | None = None

    def __init__(self, *args, **kwargs):
        kwargs = {"formatter_class": _HelpFormatter, "allow_abbrev": False, **kwargs}
        super().__init__(*args, **kwargs)

    def parse_args(self, args=None, namespace=None):
        found = super().parse_args(args, namespace)
        return found if self.on_parsed is None else self.on_parsed(self, args, found)

    def parse_plainly(self, args: Sequence[str] | None, namespace: argparse.Namespace | None = None) -> argparse.Namespace:
        """`parse_args` without `on_parsed`."""
        return super().parse_args(args, namespace)

    def given(self, words: Sequence[str] | None) -> set[str]:
        """The names of the flags that the words hold, whatever their values."""
        untouched = object()
        names = {action.dest for action in self._actions}
        found = vars(self.parse_plainly(words, argparse.Namespace(**dict.fromkeys(names, untouched))))
        return {name for name in names if found.get(name) is not untouched}

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind each flag that has one; descriptions and examples keep their line breaks."""

    def _get_help_string(self, action):
        nothing = action.default is None or action.default is False or action.default == ""
        return action.help if nothing else super()._get_help_string(action)


# torch says these in RuntimeErrors
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory")
_WORKERS = {  # the first that fits
    ("shared memory", "killed by signal: Bus error", "</torch_"):
        "shared memory is full: it passes batches from the workers; pass fewer --workers (0 needs none) or a smaller "
        "--batch_size, or enlarge /dev/shm (docker run --shm-size 8g)",
    ("Too many open files", "ancdata"):
        "too many open files: each batch that waits for the workers takes some; pass fewer --workers, or raise the limit "
        "(ulimit -n 4096)",
    ("killed by signal", "exited unexpectedly"):
        "a process that loads data was killed from outside, most often because memory ran out; pass fewer --workers or a "
        "smaller --batch_size",
}


def guard(main: Callable[[], None]) -> None:
    """Run a script's `main()`; what a user can mend (ValueError, OSError) becomes one line on stderr and exit code 2.

    SIGTERM and SIGINT end it with a line too, and with exit codes 143 and 130, by convention 128 and the signal's number.
    """
    _open_streams()
    warnings.filterwarnings("error", message=".*decompression bomb")  # Pillow's: it would only warn, and unpack the image
    try:
        with interrupt.raised():
            main()
        sys.stdout.flush()  # inside the try, so that a closed pipe is reported like other errors
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(128 + 13)  # SIGPIPE's number, as other programs before `| head` end
        message = " ".join(str(error).split()) or type(error).__name__
        if getattr(error, "errno", None) == errno.EMFILE or _of_a_dead_worker(error):
            message = _way_out(error) or message
        elif isinstance(error, EOFError):
            raise
        _ended(message)
    except (MemoryError, RuntimeError) as error:
        way_out = _way_out(error)
        if way_out is None:
            raise
        _ended(way_out)
    except interrupt.Interrupted as signal:
        print(f"{Path(sys.argv[0]).name}: {signal}", file=sys.stderr)
        sys.exit(signal.exit_code)


def _ended(message: str) -> NoReturn:
    """One line and exit code 2. From here on nobody hears of dead workers: torch would add a traceback to the line."""
    if hasattr(signals, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signals.signal(signals.SIGCHLD, signals.SIG_DFL)
    print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    sys.exit(2)


def _open_streams() -> None:
    """Give every script a stdout and a stderr that take any text.

    Where the caller has closed one (`2>&-`, some schedulers) its number would go to the next file that is opened, a
    checkpoint say, and whatever is written to the stream would land there; so it leads nowhere instead.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif name != "stdin" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a character that the terminal cannot show ends no run


def _of_a_dead_worker(error: Exception) -> bool:
    """Whether an error came of asking a worker for a batch that it has promised: it died in between."""
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_globals.get("__name__") == "multiprocessing.resource_sharer":
            return True
        frame = frame.tb_next
    return False


def _way_out(error: Exception) -> str | None:
    """The sentence for an error that memory, workers or the system's limits are behind; None for any other."""
    said = "exited unexpectedly" if _of_a_dead_worker(error) else str(error)
    for words, sentence in _WORKERS.items():
        if any(word in said for word in words):
            return sentence
    if isinstance(error, MemoryError) or any(word in said for word in _OUT_OF_MEMORY):
        return "out of memory; a smaller batch or model may fit"
    return None


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that its reader has closed; then what is left for it goes nowhere, silently."""
    import select

    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def check_least(args, **least: float) -> None:
    """Raise ValueError for a flag below the least value given for it."""
    for name, bound in least.items():
        value = getattr(args, name)
        if value is not None and not value >= bound:  # nan is refused too
            raise ValueError(f"--{name}: expected at least {bound}, found {value}")


def check_above_0(args, *names: str) -> None:
    """Raise ValueError for a flag that is not a number above 0."""
    for name in names:
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name}: expected a number above 0, found {value}")


def check_shares(args, *names: str) -> None:
    """Raise ValueError for a flag that is not a share: at least 0 and below 1."""
    for name in names:
        if not 0 <= getattr(args, name) < 1:
            raise ValueError(f"--{name}: expected at least 0 and below 1, found {getattr(args, name)}")
