"""What a run reads: the data sets, the order of their samples, each rank's share, and the loaders of an epoch.

The one idea: the order is a pure function of (seed, epoch, rank), so a resumed run and one on other processes read what an
uninterrupted one on one process reads. Whatever draws at random in the data is tied to the same numbers.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..interrupt import SIGNALS
from .log import progress
from .plan import Plan
from .randomness import derive_seed, seed_all

if TYPE_CHECKING:
    from .runtime import Runtime


@functools.cache
def _shutting_down_flag():
    """Memory that the workers share: its value becomes 1 when this process comes to its end."""
    flag = multiprocessing.RawValue("b", 0)
    atexit.register(setattr, flag, "value", 1)  # runs before multiprocessing's own, registered earlier, terminates the workers
    return flag


def _start_worker(shutting_down, worker: int) -> None:
    """Seed a worker, and leave its end to the main process.

    A signal to a whole group of processes reaches the workers too, which must go on: the main process finishes its step
    first. But when that leaves, by whatever error, it terminates them and waits until they are gone.
    """

    def heard(number: int, frame) -> None:
        if shutting_down.value:
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


class Batches(Sampler[list[int]]):
    """Batches of a training epoch as lists of indices: this rank's share of each global batch.

    Passes over the data are shuffled by (seed, pass) and follow one another; an epoch is one pass, or `steps` batches of
    the endless row of passes. Being a pure function of the epoch, the order after a resume is the uninterrupted one.
    With `order` (N,) passes are read in that order instead. Every rank has equally many batches, as layers that
    exchange statistics need. With `views` above 1 a batch holds the indices i, then i + N, i + 2 N ...: further views of the
    same N samples.

    With `probabilities` (N,), of any sum, a pass is N draws with replacement by (seed, pass). A sample's second draw in a pass
    is index i + views N, its third i + 2 views N: other views of it, as augmentation draws by the index.
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
        views: int = 1,
        probabilities: np.ndarray | None = None,
    ):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"--batch_size: expected at least 1, found {batch_size}")
        self.count, self.batch_size, self.seed, self.rank, self.world = count, batch_size, seed, rank, world
        self.order, self.views = order, views
        self.reached = None if probabilities is None else _cumulated(probabilities, count)
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
                order = self._pass(number)
            yield order[at * self.batch_size : (at + 1) * self.batch_size]

    def _pass(self, number: int) -> np.ndarray:
        """The indices (N,) of a pass over the data, in their order."""
        if self.order is not None:
            return self.order
        draw = np.random.default_rng([self.seed, number])
        if self.reached is None:
            return draw.permutation(self.count)
        drawn = np.searchsorted(self.reached, draw.random(self.count), side="right")
        return drawn + _repetition(drawn) * self.views * self.count

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.global_batches():
            mine = batch[self.rank :: self.world]
            # an empty rank still runs a sample (share 0), so that all ranks exchange gradients
            mine = mine if len(mine) else batch[:1]
            yield np.concatenate([mine + view * self.count for view in range(self.views)]).tolist()

    def shares(self) -> list[float]:
        """Per step, what this rank's mean loss counts: its number of samples over the average of all ranks.

        With it the average of the ranks' gradients is the gradient of the mean over the global batch.
        """
        return [len(b[self.rank :: self.world]) * self.world / len(b) for b in self.global_batches()]


def _cumulated(probabilities: np.ndarray, count: int) -> np.ndarray:
    """(N,) probabilities of any sum, added up to 1."""
    values = np.asarray(probabilities, dtype=np.float64)
    if values.shape != (count,) or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise ValueError(f"probabilities: expected {count} finite numbers of at least 0, not all 0, found shape {values.shape}")
    reached = np.cumsum(values)
    reached /= reached[-1]
    reached[np.flatnonzero(values)[-1] :] = 1.0  # no draw below 1 ends behind the last sample that can be drawn
    return reached


def _repetition(drawn: np.ndarray) -> np.ndarray:
    """(N,) how often each number has stood before in (N,)."""
    order = np.argsort(drawn, kind="stable")
    ordered, place = drawn[order], np.arange(len(drawn))
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    repetition = np.empty(len(drawn), dtype=np.int64)
    repetition[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return repetition


class Shard(Sampler[list[int]]):
    """Every sample once, in a given order, this rank's part of them in batches; nothing is padded or repeated."""

    def __init__(self, order: Sequence[int] | np.ndarray, batch_size: int, *, rank: int = 0, world: int = 1):
        super().__init__()
        self.indices = np.asarray(order)[rank::world]
        # equal batch counts, or SyncBatchNorm, in training mode for FDS, would wait forever for the rank that is done
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
    `probabilities` (N,), of any sum, draw the training samples with replacement; None reads each once in a pass.
    """

    train: Dataset
    val: Dataset
    test: Dataset
    stats: Dataset | None = None
    collate: Callable | None = None
    length: Callable[[Dataset, int], int] | None = None
    probabilities: np.ndarray | None = None

    def longest_first(self, dataset: Dataset) -> np.ndarray:
        """The order in which to read a data set where order changes no result: the longest samples first."""
        indices = np.arange(len(dataset))  # type: ignore[arg-type]
        if self.length is None:
            return indices
        return indices[np.argsort([-self.length(dataset, int(i)) for i in indices], kind="stable")]


class EpochDraws:
    """For a data set whose items draw at random: every draw is a function of (seed, epoch, index).

    The epoch lies in shared memory, so it reaches workers that live on between epochs. Index i + N is another view of
    sample i: `sample(index)` tells both apart.
    """

    draws_views = True

    def __init__(self, seed: int):
        self.seed = seed
        self._epoch = epoch_for_workers()

    def set_epoch(self, epoch: int) -> None:
        """Draw for this epoch from now on; call it before `iter(loader)`."""
        self._epoch.fill_(epoch)

    def draws(self, index: int) -> tuple[int, int, int]:
        """(seed, epoch, index): all that an item's draws may depend on."""
        return self.seed, int(self._epoch), index


class _Views(Dataset):
    """A data set without draws of its own, read at i + N too: the same sample again."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        if hasattr(dataset, "__getitems__"):  # a data set that reads whole batches goes on doing so
            self.__getitems__ = functools.partial(_read_again, dataset)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int):
        return self.dataset[index % len(self)]


def _read_again(dataset, indices: list[int]):
    return dataset.__getitems__([index % len(dataset) for index in indices])


class Feed:
    """All that a run reads: the loaders of training, validation, test and FDS's second pass, and this rank's share of each.

    `begin` ties everything random in the data to (seed, epoch): the order, the workers' draws, the data set's own.
    """

    def __init__(self, splits: Splits, plan: Plan, runtime: Runtime):
        self.seed, self.runtime = plan.seed, runtime
        shard: dict[str, Any] = {"rank": runtime.rank, "world": runtime.world}
        load = functools.partial(make_loader, runtime=runtime, workers=plan.workers, collate=splits.collate)
        per_rank = max(1, plan.batch_size // runtime.world)

        def whole(data: Dataset) -> DataLoader:
            return load(data, Shard(splits.longest_first(data), per_rank, **shard), keep_workers=True)

        self.val, self.test = whole(splits.val), whole(splits.test)
        data = splits.train
        if (plan.views > 1 or splits.probabilities is not None) and not getattr(data, "draws_views", False):
            data = _Views(data)
        count, size = len(splits.train), plan.batch_size  # type: ignore[arg-type]
        drawn: dict[str, Any] = {"views": plan.views, "probabilities": splits.probabilities}
        self.batches = Batches(count, size, seed=plan.seed, steps=plan.steps, **drawn, **shard)
        # these draw by seed, epoch and index alone, so that workers which live on draw what new ones would
        self.train = load(data, self.batches, keep_workers=isinstance(data, EpochDraws))
        stats = splits.train if splits.stats is None else splits.stats
        order = splits.longest_first(stats) if splits.length else None
        self.stats_batches = Batches(len(stats), size, seed=derive_seed(plan.seed, 1), order=order, **shard)  # type: ignore[arg-type]
        self.stats = load(stats, self.stats_batches)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return len(self.batches)

    @property
    def per_pass(self) -> int:
        """Batches of a pass over the training data."""
        return self.batches.per_pass

    def begin(self, epoch: int) -> None:
        """What training reads from now on is of this epoch."""
        self.batches.epoch = epoch
        self.train.generator.manual_seed(derive_seed(self.seed, epoch))
        if hasattr(self.train.dataset, "set_epoch"):
            self.train.dataset.set_epoch(epoch)

    def begin_stats(self, number: int) -> None:
        """What FDS's second pass reads from now on is of the pass with this number."""
        self.stats_batches.epoch = number
        self.stats.generator.manual_seed(derive_seed(self.seed, number, 1))

    def shares(self) -> list[float]:
        """What this rank's part of each batch of the epoch counts."""
        return self.batches.shares()

    def batches_from(self, done: int, title: str) -> Iterator:
        """The epoch's batches after the first `done`, which are read and let go, so that whatever draws goes on as it would."""
        if done >= self.steps:
            return iter(())
        batches = iter(progress(self.train, self.steps, title, self.runtime))
        for _ in islice(batches, done):
            pass
        return batches


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
        worker_init_fn=functools.partial(_start_worker, _shutting_down_flag()) if workers else None,
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
        if not isinstance(value, (tuple, list)):
            return value
        items = [moved(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)

    return moved(collate(samples))
