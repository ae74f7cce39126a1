"""SIGTERM and SIGINT: a script leaves at once with the conventional exit code, a training loop saves before it does.

The one idea: while there is something to save, a signal is only noted, and the loop asks between two steps. A second
signal does not wait for it. Nothing heavy is imported, so `cli.guard` can use this before the flags are parsed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ECHO = 1.0  # seconds in which torchrun passes on a signal that this process has received itself


class Interrupted(BaseException):
    """A signal ends this program. Not an Exception, so that no `except Exception` on the way takes it for a fault."""

    def __init__(self, number: int, said: str = ""):
        super().__init__(f"interrupted by {signal.Signals(number).name}" + (f"; {said}" if said else ""))
        self.number, self.said = number, said

    @property
    def exit_code(self) -> int:
        return 128 + self.number


def _raise(number: int, frame) -> None:
    raise Interrupted(number)


@contextlib.contextmanager
def handled(handler) -> Iterator[None]:
    """Within, `handler` is called with SIGTERM and SIGINT; only the main thread can do so, in others nothing changes."""
    before = {}
    try:
        for number in SIGNALS:
            with contextlib.suppress(ValueError):
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)


def raised() -> contextlib.AbstractContextManager[None]:
    """Within, SIGTERM and SIGINT raise `Interrupted` wherever the program is."""
    return handled(_raise)


class Listener:
    """Within `with Listener() as stop`, the first signal is only noted in `stop.heard` (its number, 0 for none).

    A second one leaves at once, without clean-up. `speaks`: say so on stderr.
    """

    def __init__(self, *, speaks: bool = True):
        self.heard = 0
        self.speaks = speaks
        self._at = 0.0
        self._handled = handled(self._hear)

    def __enter__(self) -> Listener:
        self._handled.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._handled.__exit__(*error)

    def _hear(self, number: int, frame) -> None:
        name = signal.Signals(number).name
        if not self.heard:
            self.heard, self._at = number, time.monotonic()
            self._say(f"{name}: saving, then leaving; a second signal leaves at once")
        elif "TORCHELASTIC_RUN_ID" not in os.environ or time.monotonic() - self._at > _ECHO:
            self._say(f"{name}: leaving at once; the last checkpoint is whole")
            os._exit(128 + number)

    def _say(self, line: str) -> None:
        if self.speaks:  # not by a stream, which may be in the middle of a write
            with contextlib.suppress(OSError):
                os.write(2, f"\n{line}\n".encode())
