"""Where a run happens: device, processes and mixed precision.

The one idea: nothing outside this file, but for the objective that gathers rows, knows whether one process runs or many.
`--batch_size` is the global batch; every rank takes its share of it, and predictions are gathered before anyone measures.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ..interrupt import handled

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
    local_bn: bool = False  # BatchNorm by each process's own samples

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training: DistributedDataParallel under torchrun, DataParallel in one process that
        sees several GPUs and was not told which, the model itself otherwise. The model must be on `device`.

        Raises ValueError for a model to be compiled whose BatchNorm would be synchronised over GPUs.
        """
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        gpus = self.world > 1 and self.device.type == "cuda"
        if self.compile and gpus and norms and not self.local_bn:
            raise ValueError(
                "--compile: several processes share the statistics of BatchNorm, and each such layer breaks the compiled "
                "graph; add --local_bn, with which each normalises its own samples"
            )
        if self.compile:
            # an encoder may know better what to compile
            getattr(getattr(model, "encoder", None), "compile_parts", model.compile)()
        if self.world > 1:
            if not self.local_bn and gpus:
                model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            elif not self.local_bn:
                for module in norms:
                    # torch's own runs on GPUs only; the class alone changes, so that whoever holds the module keeps it
                    module.__class__ = _SyncBatchNorm
            # every rank comes to the same statistics by itself, or they are averaged in the end; none are sent around each step
            return DistributedDataParallel(
                model, device_ids=[self.device.index] if gpus else None, gradient_as_bucket_view=True, **_NO_BROADCAST
            )
        if self._spreads():
            return DataParallel(model)
        return model

    def place(self, module: nn.Module) -> nn.Module:
        """The module itself, moved to the device.

        Raises ValueError for float64 on MPS, which has none: bins whose edges float32 cannot tell apart are kept so.
        """
        if self.device.type == "mps":
            for name, value in (*module.named_parameters(), *module.named_buffers()):
                if value.dtype == torch.float64:
                    what = getattr(module.get_submodule(name.rpartition(".")[0]), "bins", None) or tuple(value.shape)
                    raise ValueError(
                        f"--device mps: it has no float64, and {name} needs it ({what}); use bins that float32 can tell apart, "
                        "or another device"
                    )
        return module.to(self.device)

    def move(self, batch):
        """Tensors in nested tuples, lists and dicts, on the device; images in channels-last order if asked for."""
        if isinstance(batch, Tensor):
            batch = batch.to(self.device, non_blocking=True)
            return batch.contiguous(memory_format=torch.channels_last) if self.channels_last and batch.dim() == 4 else batch
        if isinstance(batch, dict):
            return {key: self.move(value) for key, value in batch.items()}
        if isinstance(batch, (tuple, list)):
            moved = [self.move(value) for value in batch]
            named = hasattr(batch, "_fields")  # a namedtuple takes its values one by one
            return type(batch)(*moved) if named else type(batch)(moved)
        return batch

    def fewest_together(self, count: int) -> int:
        """Of a batch of `count` samples over all ranks, the fewest that a BatchNorm sees together."""
        if self.world > 1:
            return max(1, count // self.world) if self.local_bn else count  # a rank without a sample borrows one
        if self._spreads():
            part = -(-count // torch.cuda.device_count())  # DataParallel's parts, the last of them smaller
            return count - part * (-(-count // part) - 1)
        return count

    def _spreads(self) -> bool:
        """Whether the model is called by DataParallel."""
        return self.world == 1 and self.device == torch.device("cuda") and torch.cuda.device_count() > 1

    def as_full(self, batch: tuple, size: int) -> tuple:
        """A batch (inputs, targets, weights), of which the compiler is told that `size` samples over all ranks are the rule.

        Otherwise an epoch's short last batch would have it compile for any number of samples, which is slower.
        """
        if self.compile:
            for part in batch[:2]:
                if isinstance(part, Tensor) and len(part) * self.world == size:
                    torch._dynamo.mark_static(part, 0)
        return batch

    def autocast(self) -> AbstractContextManager:
        return nullcontext() if self.amp is None else torch.autocast(self.device.type, self.amp)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks of a tensor that every rank has."""
        if self.world > 1:
            values = values.clone(memory_format=torch.contiguous_format)
            dist.all_reduce(values)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """The mean over ranks of a tensor that every rank has."""
        return self.sum(values) / self.world if self.world > 1 else values

    def average_norms(self, model: nn.Module) -> None:
        """With `local_bn`, put the mean over ranks in the place of BatchNorm's running statistics.

        They are running means themselves, so when and how often this is done makes no difference to where they end.
        """
        if self.world > 1 and self.local_bn:
            for module in model.modules():
                if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
                    for statistics in (module.running_mean, module.running_var):
                        statistics.copy_(self.mean(statistics))

    def gather_tensors(self, values: Tensor) -> list[Tensor]:
        """Every rank's tensor, equally shaped on each, in the order of the ranks; without a gradient."""
        if self.world == 1:
            return [values]
        found = [torch.empty_like(values) for _ in range(self.world)]
        dist.all_gather(found, values.contiguous())
        return found

    def max_over_ranks(self, number: int) -> int:
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
        pass  # the replaced class has checked its input

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
def absent_rank_ignored(model: nn.Module, share: float) -> Iterator[None]:
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


def start(
    device: str | None = None, amp: str = "none", *, compile: bool = False, channels_last: bool = False,
    local_bn: bool = False, fixed_sizes: bool = False, spread: bool = True,
) -> Runtime:
    """Join the other processes if torchrun started this one, and choose the device.

    Args:
        device: "cpu", "cuda" (all visible GPUs), "cuda:1", "mps"; None takes CUDA where there is any, otherwise the CPU.
        amp: "none", "bf16" or "fp16".
        compile, channels_last, local_bn: see `Runtime`.
        fixed_sizes: inputs are of one size, so that cuDNN may search for its fastest convolutions.
        spread: one process that sees several GPUs and is not told which takes all of them; otherwise the first.

    Raises:
        ValueError: a device that is not there or that torch cannot use, more processes than GPUs, the number of a GPU under
            torchrun, what DataParallel cannot do, or RANK and WORLD_SIZE without the LOCAL_RANK that torchrun sets.
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
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"--device: {gpus} GPUs are there, but torch {torch.__version__} cannot use them, as where their driver is too old "
            "for it; pass --device cpu, or install a torch that fits"
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("--device: mps was asked for, but is not available here; pass --device cpu")
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys():
        if "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
            raise ValueError(
                f"RANK, WORLD_SIZE: the environment says process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}, but not "
                "LOCAL_RANK, so each would train alone; start train.py by torchrun, or unset RANK and WORLD_SIZE"
            )
        if chosen == torch.device("cuda") and gpus > 1 and not spread:
            chosen = torch.device("cuda", 0)
        if chosen == torch.device("cuda") and gpus > 1:
            # torch: its threads take autocast's default type, and its replicas the compiled call of the first model
            for flag, found in (("--amp bf16", amp == "bf16"), ("--compile", compile)):
                if found:
                    raise ValueError(f"{flag}: does not work in DataParallel; use torchrun, or one GPU by --device cuda:0")
        if chosen.index is not None:
            torch.cuda.set_device(chosen)  # or the thread that pins memory, and generators, would go by GPU 0
        torch.backends.cudnn.benchmark = fixed_sizes
        return Runtime(chosen, amp=AMP[amp], compile=compile, channels_last=channels_last, local_bn=local_bn)

    rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if chosen.type == "cuda":
        if chosen.index is not None:
            raise ValueError(
                f"--device: torchrun gives each process a GPU of its own, found {chosen}; pass --device cuda, and choose GPUs "
                "by CUDA_VISIBLE_DEVICES"
            )
        if local >= gpus:
            wanted = os.environ.get("LOCAL_WORLD_SIZE", str(local + 1))
            raise ValueError(
                f"--nproc_per_node: {wanted} processes were asked for, but {gpus} GPUs are visible; "
                "lower it or pass --device cpu"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    if not dist.is_initialized():
        _join("nccl" if chosen.type == "cuda" else "gloo", timedelta(minutes=30), chosen)
    torch.backends.cudnn.benchmark = fixed_sizes
    return Runtime(chosen, rank, world, AMP[amp], compile, channels_last, local_bn)


def _join(backend: str, timeout: timedelta, device: torch.device | None = None) -> None:
    """`init_process_group`, safe to repeat after a restart.

    torchrun keeps one store for all its restarts, so that a process can read there the address of one that is dead. On
    one node the number of restarts keeps them apart; the agents of several count theirs each for itself.
    """
    # torch waits in C++, where no handler of Python's is called: until all are there signals act as the system has it,
    # from before the line that says so
    with handled(signal.SIG_DFL), _said_after(_PATIENCE, _waiting):
        store, rank, world = next(rendezvous("env://", timeout=timeout))
        if os.environ.get("LOCAL_WORLD_SIZE") == str(world):
            store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        # told its GPU, NCCL connects now, so that a broken network shows here and no barrier has to guess
        bound: dict[str, Any] = {"device_id": device} if backend == "nccl" else {}
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout, **bound)


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


def for_inference(model: nn.Module) -> nn.Module:
    """What to call without gradients: DistributedDataParallel would wait for ranks that have fewer batches."""
    return model.module if isinstance(model, DistributedDataParallel) else model
