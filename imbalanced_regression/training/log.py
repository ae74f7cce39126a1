"""What a run says: the terminal, training.log, progress bars, and TensorBoard's events."""

from __future__ import annotations

import logging
import sys
import threading
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .runtime import Runtime

_FORMAT = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
SHOWN = ("mse", "l1", "gmean")  # the validation metrics in the log and in TensorBoard


def start_log(runtime: Runtime) -> None:
    """Log to the terminal; only the main process speaks, others only of warnings. `log_to` adds the run's file."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.INFO if runtime.is_main else logging.WARNING)
    # buffers the log until the run's folder exists
    for handler in (_Terminal(), MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)):
        handler.setFormatter(_FORMAT)
        root.addHandler(handler)


def log_to(folder: Path) -> None:
    """From now on, and for what was said since `start_log`, also log to training.log in `folder`.

    The logs of earlier runs end, but for one in a folder around this: a stage's lines stand in its run's log too.
    """
    root, path = logging.getLogger(), folder / "training.log"
    for other in [Path(handler.baseFilename).parent for handler in root.handlers if isinstance(handler, _LogFile)]:
        if other not in path.absolute().parents:
            end_log(other)
    if any(handler.baseFilename == str(path.absolute()) for handler in root.handlers if isinstance(handler, _LogFile)):
        return
    file = _LogFile(path, encoding="utf-8")
    file.setFormatter(_FORMAT)
    for handler in list(root.handlers):
        if isinstance(handler, MemoryHandler):
            handler.setTarget(file)
            handler.flush()
            root.removeHandler(handler)
            handler.close()
    root.addHandler(file)


def end_log(folder: Path) -> None:
    """No longer log to training.log in `folder`."""
    root, name = logging.getLogger(), str((folder / "training.log").absolute())
    for handler in [handler for handler in root.handlers if isinstance(handler, _LogFile) and handler.baseFilename == name]:
        root.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    """A log that cannot be written, on a full disk, ends the run instead of printing a traceback for every line."""

    def emit(self, record: logging.LogRecord) -> None:
        # closed by somebody else, it would be opened anew, which a run that is over and deleted has no folder for
        if self.stream is None and not Path(self.baseFilename).parent.is_dir():
            logging.getLogger().removeHandler(self)
            return
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            logging.getLogger().removeHandler(self)
            raise OSError(error.errno, f"cannot write {self.baseFilename}: {error.strerror}") from None
        super().handleError(record)


class _Terminal(logging.StreamHandler):
    """Writes around a progress bar instead of through it."""

    def __init__(self):
        super().__init__(sys.stdout)

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stdout)


def progress(iterable, total: int, title: str, runtime: Runtime):
    """`iterable` with a progress bar, on a terminal and in the main process only."""
    from tqdm import tqdm

    shown = runtime.is_main and sys.stderr is not None and sys.stderr.isatty()
    return tqdm(iterable, total=total, desc=title, leave=False, disable=not shown)


def shown(metrics: dict[str, float]) -> str:
    """The metrics of an epoch that its line in the log shows."""
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in SHOWN if name in metrics)


class Events:
    """TensorBoard events of a run, under the published tags; after a resume those of lost epochs are dropped."""

    def __init__(self, folder: Path, first_epoch: int, *, enabled: bool):
        self.folder, self.writer = folder, None
        if enabled:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(folder, purge_step=first_epoch)
            # the writer's thread re-raises an OSError at the next call; without this hook it also prints a traceback
            self.hook, threading.excepthook = threading.excepthook, self._of_thread

    def _of_thread(self, failure) -> None:
        if not isinstance(failure.exc_value, OSError):
            self.hook(failure)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, kind, *rest) -> None:
        if self.writer is None:
            return
        try:
            self.writer.close()
        except OSError as error:
            if kind is None:  # while another error is on its way, report that one
                raise self._failed(error) from None
        finally:
            threading.excepthook = self.hook

    def _failed(self, error: OSError) -> OSError:
        return OSError(error.errno, f"cannot write the events in {self.folder}: {error.strerror}")

    def add(self, epoch: int, training: dict[str, float], validation: dict[str, float]) -> None:
        if self.writer is None:
            return
        values = {**training, **{f"val_loss_{name}": validation[name] for name in SHOWN if name in validation}}
        try:
            for tag, value in values.items():
                self.writer.add_scalar(tag, value, epoch)
            self.writer.flush()
        except OSError as error:
            raise self._failed(error) from None
