"""Where a run happens: device, ranks, mixed precision, seeds, the order of the data, and the log.

The one idea: nothing outside this file knows whether one process runs or many. `--batch_size` is the global batch; every
rank takes its share of it, every draw depends only on (seed, epoch), and predictions are gathered before anyone measures.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, Sampler

from ..interrupt import SIGNALS, handled
from .model import Regressor

logger = logging.getLogger(__name__)

_FORMAT = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")

_SYNC = "forward_sync_buffers"  # its name since torch 2.14
_NO_BROADCAST: dict[str, Any] = {
    _SYNC if _SYNC in inspect.signature(DistributedDataParallel).parameters else "broadcast_buffers": False
}
_PATIENCE = 5.0  # seconds of waiting for other processes before a line says so
AMP = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """One process of a run: its device, its rank among `world`, the type of mixed precision, and whether to compile."""

    device: torch.device = torch.device("cpu")
    rank: int = 0
    world: int = 1
    amp: torch.dtype | None = None
    compile: bool = False
    channels_last: bool = False

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training: DistributedDataParallel under torchrun, DataParallel in one process that
        sees several GPUs and was not told which, the model itself otherwise. The model must be on `device`."""
        if self.compile:
            model.compile()
        if self.world > 1:
            if self.device.type == "cuda":
                model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
                return DistributedDataParallel(model, device_ids=[self.device.index], **_NO_BROADCAST)
            for module in model.modules():
                if isinstance(module, _BatchNorm):
                    module.__class__ = _SyncBatchNorm  # torch's own runs on GPUs only
            # every rank comes to the same statistics by itself, so none are sent around each step
            return DistributedDataParallel(model, **_NO_BROADCAST)
        if self.device == torch.device("cuda") and torch.cuda.device_count() > 1:
            return DataParallel(model)
        return model

    def move(self, batch):
        """Tensors in nested tuples, lists and dicts, on the device; images in channels-last order if asked for."""
        if isinstance(batch, Tensor):
            batch = batch.to(self.device, non_blocking=True)
            return batch.contiguous(memory_format=torch.channels_last) if self.channels_last and batch.dim() == 4 else batch
        if isinstance(batch, dict):
            return {key: self.move(value) for key, value in batch.items()}
        if isinstance(batch, (tuple, list)):
            return type(batch)(self.move(value) for value in batch)
        return batch

    def autocast(self) -> AbstractContextManager:
        return nullcontext() if self.amp is None else torch.autocast(self.device.type, self.amp)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over ranks of a tensor that every rank has."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world
        return values

    def highest(self, number: int) -> int:
        """The largest of the ranks' numbers, on every rank."""
        if self.world == 1:
            return number
        found = torch.tensor(number, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def gather(self, value) -> list:
        """Every rank's `value` (any picklable object), on every rank, in the order of the ranks."""
        if self.world == 1:
            return [value]
        values = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()


class _SumOverRanks(torch.autograd.Function):
    """The sum over ranks of a tensor; every rank's gradient reaches every rank's part."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class _SyncBatchNorm(_BatchNorm):
    """BatchNorm over the global batch, for processes on the CPU. `counts`: whether this rank's samples are of that batch."""

    counts = True

    def _check_input_dim(self, x: Tensor) -> None:
        pass  # checked by the class this one was

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        given, x = x.dtype, x.float()  # as torch's own does under autocast
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        here = float(self.counts)
        count = torch.tensor(here * (x.numel() // x.shape[1]))
        dist.all_reduce(count)
        mean = _SumOverRanks.apply(here * x.sum(dims)) / count
        centred = x - mean.view(shape)
        var = _SumOverRanks.apply(here * centred.square().sum(dims)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum  # type: ignore[arg-type]
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(var.detach() * count / (count - 1).clamp(min=1), share)
        out = centred * torch.rsqrt(var + self.eps).view(shape)
        return (out if self.weight is None else out * self.weight.view(shape) + self.bias.view(shape)).to(given)


@contextmanager
def counted(model: nn.Module, share: float) -> Iterator[None]:
    """Within, a rank with share 0 of the batch, which computes along with a sample of another's, leaves no trace of it.

    On GPUs torch's own synchronised BatchNorm still counts that sample.
    """
    absent = [module for module in model.modules() if isinstance(module, _SyncBatchNorm)] if share == 0 else []
    for module in absent:
        module.counts = False
    try:
        yield
    finally:
        for module in absent:
            module.counts = True


def start(device: str | None = None, amp: str = "none", *, compile: bool = False, channels_last: bool = False) -> Runtime:
    """Join the other processes if torchrun started this one, and choose the device.

    Args:
        device: "cpu", "cuda" (all visible GPUs), "cuda:1", "mps"; None takes CUDA where there is any, otherwise the CPU.
        amp: "none", "bf16" or "fp16".

    Raises:
        ValueError: a device that is not there, more processes than GPUs, what DataParallel cannot do, or RANK and
            WORLD_SIZE without the LOCAL_RANK that torchrun sets.
    """
    if amp not in AMP:
        raise ValueError(f"--amp: expected one of {', '.join(AMP)}, found {amp!r}")
    gpus = torch.cuda.device_count()
    try:
        chosen = torch.device(device or ("cuda" if gpus else "cpu"))
    except RuntimeError:
        chosen = torch.device("meta")
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"--device: expected cpu, cuda, cuda:0, ... or mps, found {device!r}")
    if chosen.type == "cuda" and (chosen.index or 0) >= gpus:
        raise ValueError(f"--device: {chosen} was asked for, but {gpus} GPUs are visible; pass another or --device cpu")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("--device: mps was asked for, but is not available here; pass --device cpu")
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys():
        if "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
            raise ValueError(
                f"RANK, WORLD_SIZE: the environment says process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}, but not "
                "LOCAL_RANK, so each would train alone; start train.py by torchrun, or unset RANK and WORLD_SIZE"
            )
        if chosen == torch.device("cuda") and gpus > 1:
            # torch: its threads take autocast's default type, and its replicas the compiled call of the first model
            for flag, found in (("--amp bf16", amp == "bf16"), ("--compile", compile)):
                if found:
                    raise ValueError(f"{flag}: does not work in DataParallel; use torchrun, or one GPU by --device cuda:0")
        return Runtime(chosen, amp=AMP[amp], compile=compile, channels_last=channels_last)

    rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if chosen.type == "cuda":
        if local >= gpus:
            wanted = os.environ.get("LOCAL_WORLD_SIZE", str(local + 1))
            raise ValueError(
                f"--nproc_per_node: {wanted} processes were asked for, but {gpus} GPUs are visible; "
                "lower it or pass --device cpu"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    if not dist.is_initialized():
        _join("nccl" if chosen.type == "cuda" else "gloo", timedelta(minutes=30))
    return Runtime(chosen, rank, world, AMP[amp], compile, channels_last)


def _join(backend: str, timeout: timedelta) -> None:
    """`init_process_group`, safe to repeat after a restart.

    torchrun keeps one store for all its restarts, so that a process can read there the address of one that is dead. On
    one node the number of restarts keeps them apart; the agents of several count theirs each for itself.
    """
    # torch waits in C++, where no handler of Python's is called: until all are there signals act as the system has it
    with _said_after(_PATIENCE, _waiting), handled(signal.SIG_DFL):
        store, rank, world = next(rendezvous("env://", timeout=timeout))
        if os.environ.get("LOCAL_WORLD_SIZE") == str(world):
            store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)


def _waiting() -> str:
    rank, world, address, port = (os.environ.get(name, "?") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    others = f"{int(world) - 1} other processes" if world.isdigit() else "other processes"
    return (
        f"rank {rank} is waiting for {others} at {address}:{port}, as RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say; "
        "start them, or unset these variables to train alone"
    )


@contextmanager
def _said_after(seconds: float, line: Callable[[], str]) -> Iterator[None]:
    """Warn with a line when what is within takes longer."""
    timer = threading.Timer(seconds, lambda: logger.warning("%s", line()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def stop() -> None:
    """Leave the other processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def unwrap(model: nn.Module) -> Regressor:
    """The model inside DistributedDataParallel or DataParallel."""
    inner = model.module if isinstance(model, (DistributedDataParallel, DataParallel)) else model
    assert isinstance(inner, Regressor)
    return inner


def for_inference(model: nn.Module) -> nn.Module:
    """What to call without gradients: DistributedDataParallel would wait for ranks that have fewer batches."""
    return model.module if isinstance(model, DistributedDataParallel) else model


# -- randomness --------------------------------------------------------------------------------------------------------


def mix(seed: int, *numbers: int) -> int:
    """One seed from several numbers, so that draws for (seed, epoch, rank) are unrelated to those of their neighbours."""
    return int(np.random.SeedSequence([seed, *numbers]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_all(seed: int) -> None:
    """Seed python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # libraries that draw from numpy's global state
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict:
    """The states of python's, numpy's and torch's generators, as plain values and tensors, for a checkpoint."""
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  # the one that `seed_all` seeds
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(gpu) for gpu in _gpus(device)],
    }


def set_random_state(state: dict) -> None:
    """Put the generators where `random_state` found them."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    for gpu, there in enumerate(state["cuda"]):
        torch.cuda.set_rng_state(there, torch.cuda.current_device() if len(state["cuda"]) == 1 else gpu)


def _gpus(device: torch.device) -> list[int]:
    if device.type != "cuda":
        return []
    return list(range(torch.cuda.device_count())) if device.index is None else [device.index]


@functools.cache
def _leaving():
    """Memory that the workers share: its value becomes 1 when this process comes to its end."""
    flag = multiprocessing.RawValue("b", 0)
    atexit.register(setattr, flag, "value", 1)  # runs before multiprocessing's own, registered earlier, terminates the workers
    return flag


def _start_worker(leaving, worker: int) -> None:
    """Seed a worker, and leave its end to the main process.

    A signal to a whole group of processes reaches the workers too, which must go on: the main process finishes its step
    first. But when that leaves, by whatever error, it terminates them and waits until they are gone.
    """

    def heard(number: int, frame) -> None:
        if leaving.value:
            os._exit(0)

    for number in SIGNALS:
        signal.signal(number, heard)
    seed_all(torch.initial_seed())


def epoch_for_workers() -> Tensor:
    """A whole number, () int64, for a data set to keep its epoch in: in memory shared with workers that live on.

    Where shared memory is full no worker can pass a batch, so the number then lies in this process's own.
    """
    epoch = torch.zeros((), dtype=torch.int64)
    with contextlib.suppress(RuntimeError):
        epoch.share_memory_()
    return epoch


# -- the order of the data ---------------------------------------------------------------------------------------------


class Batches(Sampler[list[int]]):
    """Batches of a training epoch as lists of indices: this rank's share of each global batch.

    Passes over the data are shuffled by (seed, pass) and follow one another; an epoch is one pass, or `steps` batches of
    the endless row of passes. Being a pure function of the epoch, the order after a resume is the uninterrupted one.
    With `order` (N,) passes are read in that order instead. Every rank has equally many batches, as layers that
    exchange statistics need.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int,
        steps: int | None = None,
        rank: int = 0,
        world: int = 1,
        order: np.ndarray | None = None,
    ):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"--batch_size: expected at least 1, found {batch_size}")
        self.count, self.batch_size, self.seed, self.rank, self.world = count, batch_size, seed, rank, world
        self.order = order
        self.per_pass = -(-count // batch_size)
        self.steps = self.per_pass if steps is None else steps
        self.epoch = 0

    def __len__(self) -> int:
        return self.steps

    def global_batches(self) -> Iterator[np.ndarray]:
        """The batches of the epoch before they are shared out: (B,) indices each, the last of a pass possibly smaller."""
        current, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            number, at = divmod(step, self.per_pass)
            if number != current:
                current = number
                order = np.random.default_rng([self.seed, number]).permutation(self.count) if self.order is None else self.order
            yield order[at * self.batch_size : (at + 1) * self.batch_size]

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.global_batches():
            mine = batch[self.rank :: self.world]
            # a rank without a sample still takes part in the gradient exchange, with one that counts 0 (see `shares`)
            yield (mine if len(mine) else batch[:1]).tolist()

    def shares(self) -> list[float]:
        """Per step, what this rank's mean loss counts: its number of samples over the average of all ranks.

        With it the average of the ranks' gradients is the gradient of the mean over the global batch.
        """
        return [len(b[self.rank :: self.world]) * self.world / len(b) for b in self.global_batches()]


class Shard(Sampler[list[int]]):
    """Every sample once, in a given order, this rank's part of them in batches; nothing is padded or repeated."""

    def __init__(self, order: Sequence[int] | np.ndarray, batch_size: int, *, rank: int = 0, world: int = 1):
        super().__init__()
        self.indices = np.asarray(order)[rank::world]
        # as many batches on every rank: synchronised normalisation, in training mode for FDS, waits for all of them
        count = -(-len(order) // (world * batch_size))
        self.batches = [part.tolist() for part in np.array_split(self.indices, count) if len(part)] if count else []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


@dataclass
class Splits:
    """The data of a run.

    Each data set gives `(inputs, target, weight)` per index; `collate` makes a batch of them (torch's default when None).
    `stats` is what FDS collects its second-pass statistics from (the training set when None). `length` says how long a
    sample of a data set is, where batches of like length save padding; it never changes a result, only the time.
    """

    train: Dataset
    val: Dataset
    test: Dataset
    stats: Dataset | None = None
    collate: Callable | None = None
    length: Callable[[Dataset, int], int] | None = None

    def order(self, dataset: Dataset) -> np.ndarray:
        """The order in which to read a data set when order does not matter: the longest first."""
        indices = np.arange(len(dataset))  # type: ignore[arg-type]
        if self.length is None:
            return indices
        return indices[np.argsort([-self.length(dataset, int(i)) for i in indices], kind="stable")]


def make_loader(
    dataset: Dataset, batches: Sampler, runtime: Runtime, *, workers: int, collate=None, keep_workers: bool = False
) -> DataLoader:
    """A DataLoader over ready-made batches of indices, with seeded workers and pinned memory for CUDA.

    Workers start anew each epoch unless `keep_workers`: living on, they would draw on where the last epoch left them.
    """
    if workers and collate is not None:
        collate = functools.partial(_into_shared_memory, collate)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=functools.partial(_start_worker, _leaving()) if workers else None,
        generator=torch.Generator(),
        pin_memory=runtime.device.type == "cuda",
        persistent_workers=workers > 0 and keep_workers,
    )


def _into_shared_memory(collate: Callable, samples: list):
    """A worker's batch, moved to where the main process reads it.

    It would be moved later anyway, but by a thread of the worker whose error (no room left) nobody hears: the main
    process would wait for the batch for ever.
    """
    def moved(value):
        if isinstance(value, Tensor):
            return value.share_memory_()
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items()}
        return type(value)(moved(item) for item in value) if isinstance(value, (tuple, list)) else value

    return moved(collate(samples))


# -- the log -----------------------------------------------------------------------------------------------------------


def start_log(runtime: Runtime) -> None:
    """Log to the terminal; only the main process speaks, others only of warnings. `log_to` adds the run's file."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.INFO if runtime.is_main else logging.WARNING)
    # what is said before the run has a folder waits here for it
    for handler in (_Terminal(), MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)):
        handler.setFormatter(_FORMAT)
        root.addHandler(handler)


def log_to(folder: Path) -> None:
    """From now on, and for what was said since `start_log`, also log to training.log in `folder`."""
    file = _LogFile(folder / "training.log", encoding="utf-8")
    file.setFormatter(_FORMAT)
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, MemoryHandler):
            handler.setTarget(file)
            handler.flush()
            root.removeHandler(handler)
            handler.close()
    root.addHandler(file)


class _LogFile(logging.FileHandler):
    """A log that cannot be written, on a full disk, ends the run instead of printing a traceback for every line."""

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
