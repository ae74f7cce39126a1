"""The contract that every method here passes, for a method of one's own: `check_method(make, slot)`.

The one idea: a method meets five kinds of batch (vectors, tokens, nights, depth maps, a table), a resumed run, a second
process, half precision and degenerate batches, each in a few tiny steps; it gives a finite result or a sentence.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .bins import Bins
from .choices import Labels
from .methods.losses import weighted_mse_loss
from .training.model import Regressor, ScaledLinear
from .training.objective import Moment, Objective
from .training.plan import Plan
from .training.runtime import Runtime
from .training.session import Training, prepare
from .training.step import train_step

KINDS = ("vector", "tokens", "night", "dense", "table")
SLOTS = ("loss", "terms", "head", "reweight", "pretrain", "ascent")
WIDTH = 6  # of the features


def check_method(make: Callable[[Labels, int], Any], slot: str, *, kinds: Sequence[str] = KINDS) -> None:
    """Put a method through the contract.

    Args:
        make: (labels, width of the features) -> the method, new at each call. Labels have `bins`, `counts`, and `values`.
        slot: "loss": (outputs, targets, weights) -> scalar. "terms" and "pretrain": (features, targets, preds, weights) ->
            scalar. "head": a module with `point` and `loss`. "reweight": the method is the weights themselves, (N,).
            "ascent": the length of the step up.
        kinds: of batches; all five by default. A kind that the method refuses with a ValueError counts as passed.

    Raises:
        AssertionError: the claim that does not hold, with the kind of batch.
        ValueError: an unknown slot or kind.
    """
    if slot not in SLOTS or not set(kinds) <= set(KINDS):
        raise ValueError(
            f"slot, kinds: expected one of {', '.join(SLOTS)} and some of {', '.join(KINDS)}, found {slot!r} and {kinds}"
        )
    for kind in kinds:
        problem = _Problem(kind, make, slot)
        if slot == "reweight":
            _check_weights(problem)
            continue
        try:
            problem.train(steps=1)
        except ValueError as error:
            _is_a_sentence(error, f"{kind}: what it refuses")
            continue
        _check_steps(problem)
        if slot == "terms":
            _check_strength_0(problem)
        _check_two_ranks(problem)
        _check_half_precision(problem)
        _check_degenerate(problem)


# -- the claims --------------------------------------------------------------------------------------------------------


def _check_steps(problem: _Problem) -> None:
    """Three steps are finite and deterministic, and go on from a state as if there had been no break."""
    first, again = problem.train(steps=3), problem.train(steps=3)
    assert _finite(first), f"{problem.kind}: three steps leave numbers that are not finite"
    assert _same(first, again), f"{problem.kind}: the same three steps end otherwise the second time"
    assert _same(first, problem.train(steps=3, break_after=2)), f"{problem.kind}: a resumed training ends otherwise"


def _check_strength_0(problem: _Problem) -> None:
    """With strength 0 a term changes no bit of what the model becomes."""
    vanilla = _Problem(problem.kind, problem.make, "vanilla").train(steps=3)
    without = problem.train(steps=3, strength=0.0)
    assert _same(vanilla, {name: without[name] for name in vanilla}), f"{problem.kind}: strength 0 differs from vanilla"


def _check_two_ranks(problem: _Problem) -> None:
    """Two processes have the gradients of one, to rounding; also where one of them has no sample."""
    for count in (problem.count - 1, 1):
        if count == 1 and problem.kind != "dense":
            continue  # a batch of one is a claim of its own
        one = problem.gradients(problem.training(), Runtime(), range(count))
        two = problem.of_two_ranks(count)
        rounding = 1e-4 * max(float(np.abs(gradient).max()) for gradient in one)
        for mine, theirs in zip(one, two):
            said = f"{problem.kind}: two processes differ from one"
            np.testing.assert_allclose(theirs, mine, rtol=1e-3, atol=rounding, err_msg=said)


def _check_half_precision(problem: _Problem) -> None:
    """Under bf16 autocast everything stays finite."""
    state = problem.train(steps=2, amp=torch.bfloat16)
    assert _finite(state), f"{problem.kind}: bf16 leaves numbers that are not finite"


def _check_degenerate(problem: _Problem) -> None:
    """A batch of one and a batch of equal labels give a finite result, or a sentence."""
    for what, rows, equal in (("a batch of one", [0], False), ("equal labels", None, True)):
        try:
            state = problem.train(steps=2, rows=rows, equal=equal)
        except ValueError as error:
            _is_a_sentence(error, f"{problem.kind}, {what}")
        else:
            assert _finite(state), f"{problem.kind}: {what} leaves numbers that are not finite"


def _check_weights(problem: _Problem) -> None:
    """Weights are (N,) float32, finite, none negative, with mean 1; equal labels weigh alike."""
    weights = np.asarray(problem.make(problem.labels, WIDTH))
    size = problem.labels.bins.count if problem.labels.values is None else len(problem.labels.values)
    assert weights.shape == (size,), f"{problem.kind}: expected {(size,)} weights, found {weights.shape}"
    assert np.isfinite(weights).all(), f"{problem.kind}: a weight is not finite"
    assert (weights >= 0).all(), f"{problem.kind}: a weight is negative"
    counts = np.ones(size) if problem.labels.values is not None else problem.labels.counts
    mean = weights @ counts / counts.sum()
    assert abs(mean - 1) < 1e-3, f"{problem.kind}: the mean weight is {mean}"
    if problem.labels.values is not None:
        equal = np.full(5, problem.labels.values[0])
        alike = np.asarray(problem.make(Labels(problem.labels.bins, problem.labels.bins.counts(equal), equal), WIDTH))
        assert np.allclose(alike, 1), f"{problem.kind}: equal labels do not weigh alike"


def _is_a_sentence(error: ValueError, what: str) -> None:
    said = str(error)
    assert ":" in said, f"{what}: the error names no argument: {said!r}"
    assert len(said.split()) >= 5, f"{what}: the error does not say what is expected: {said!r}"


def _finite(state: dict[str, Tensor]) -> bool:
    """No NaN, and no infinity but in what was infinite before training, such as the log of an empty bin's share."""
    return all(bool((value.isfinite() | (value == -torch.inf)).all()) for value in state.values())


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# -- tiny problems -----------------------------------------------------------------------------------------------------


class _Tokens(nn.Module):
    """(indices (B, 2, T), lengths (B, 2)) -> (B, WIDTH)."""

    def __init__(self):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(9, 4), nn.Linear(8, WIDTH)

    def forward(self, inputs):
        tokens, lengths = inputs
        true = (torch.arange(tokens.shape[2]) < lengths[..., None]).float()[..., None]
        return self.layer(((self.embedding(tokens) * true).sum(2) / true.sum(2)).flatten(1)).tanh()


class _Night(nn.Module):
    """{"eeg" (B, T, 1, 8) float16, "lengths" (B,)} -> (B, WIDTH)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, WIDTH)

    def forward(self, inputs):
        true = (torch.arange(inputs["eeg"].shape[1]) < inputs["lengths"][:, None]).float()[..., None]
        return self.layer((inputs["eeg"][:, :, 0].float() * true).sum(1) / true.sum(1)).tanh()


def _inputs(kind: str, count: int, draw: torch.Generator):
    if kind == "tokens":
        return torch.randint(1, 9, (count, 2, 5), generator=draw), torch.randint(1, 6, (count, 2), generator=draw)
    if kind == "night":
        eeg = torch.randn(count, 7, 1, 8, generator=draw).half()
        return {"eeg": eeg, "lengths": torch.randint(1, 8, (count,), generator=draw)}
    return torch.randn(count, *((3, 8, 8) if kind == "dense" else (5,)), generator=draw)


def _encoder(kind: str) -> nn.Module:
    if kind == "tokens":
        return _Tokens()
    if kind == "night":
        return _Night()
    if kind == "dense":
        return nn.Sequential(nn.Conv2d(3, WIDTH, 3, stride=2, padding=1), nn.Tanh())
    return nn.Sequential(nn.Linear(5, WIDTH), nn.Tanh(), nn.Dropout(0.2 if kind == "vector" else 0.0))


@dataclass
class _Problem:
    """Twelve samples of one kind with skewed labels 0..100 (prices in thousands for the table), and training on them."""

    kind: str
    make: Callable[[Labels, int], Any]
    slot: str
    count: int = 12
    labels: Labels = field(init=False)
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        draw = torch.Generator().manual_seed(KINDS.index(self.kind))
        self.inputs = _inputs(self.kind, self.count, draw)
        shape = (self.count, 1, 4, 4) if self.kind == "dense" else (self.count, 1)
        unit = 1000.0 if self.kind == "table" else 1.0
        self.targets = (100 * torch.rand(shape, generator=draw) ** 3).round() * unit
        self.weights = 0.5 + torch.rand(shape, generator=draw)
        if self.kind == "dense":
            self.weights[torch.rand(shape, generator=draw) < 0.3] = 0.0
        bins = Bins.uniform(0, 110 * unit, 22)  # the last two are empty
        values = self.targets.flatten().double().numpy()
        dense = self.kind == "dense"
        self.labels = Labels(bins, bins.counts(values), None if dense else values, dense=dense)
        self.plan = Plan(epochs=4, lr=1e-3, batch_size=self.count, ascent=self._made() if self.slot == "ascent" else 0.0)

    def _made(self):
        return self.make(self.labels, WIDTH)

    def training(self, *, strength: float = 1.0, ranks: Runtime | None = None) -> Training:
        """A training at its beginning: always the same model."""
        torch.manual_seed(0)
        encoder = _encoder(self.kind)
        linear: nn.Module = nn.Conv2d(WIDTH, 1, 1) if self.kind == "dense" else nn.Linear(WIDTH, 1)
        if self.kind != "dense":
            linear = ScaledLinear(WIDTH, center=self.labels.center, scale=self.labels.scale)
        head = self._made() if self.slot == "head" else linear
        if self.slot == "head" and self.kind == "dense":
            raise ValueError("head: predicts one label from one vector, not a map of pixels")
        criterion: Callable | None = weighted_mse_loss
        terms = []
        if self.slot == "loss":
            criterion = self._made()
        elif self.slot == "head":
            criterion = head.loss  # type: ignore[assignment]
        elif self.slot in ("terms", "pretrain"):
            terms = [(strength, self._made())]
            criterion = None if self.slot == "pretrain" else criterion
        return prepare(Regressor(encoder, head), Objective(criterion, terms, pixels=40), self.plan, ranks)

    def batch(self, rows=None, *, equal: bool = False) -> tuple:
        """(inputs, targets, weights) of some samples, or of all."""
        rows = list(range(self.count) if rows is None else rows)

        def chosen(value):
            if isinstance(value, Tensor):
                return value[rows]
            return {k: chosen(v) for k, v in value.items()} if isinstance(value, dict) else tuple(chosen(v) for v in value)

        targets = self.targets[rows]
        targets = torch.full_like(targets, float(self.targets.flatten()[0])) if equal else targets
        return chosen(self.inputs), targets, self.weights[rows]

    def train(self, *, steps: int, strength: float = 1.0, break_after: int = 0, amp=None, rows=None, equal: bool = False):
        """The state after some steps; with `break_after` they go on in a new training from what was saved then."""
        ranks = Runtime(amp=amp)
        training = self.training(strength=strength, ranks=ranks)
        torch.manual_seed(1)
        for step in range(steps):
            moment = Moment(seed=1, epoch=1, epochs=4, step=step)
            train_step(training, self.batch(rows, equal=equal), moment, self.plan, fds_epoch=0)
            if step + 1 == break_after:
                training.objective.finish_epoch(0)
                parts = (training.model, training.objective, training.optimizer)
                saved, drawn = copy.deepcopy([part.state_dict() for part in parts]), torch.get_rng_state()
                training = self.training(strength=strength, ranks=ranks)
                torch.set_rng_state(drawn)
                training.model.load_state_dict(saved[0])
                training.objective.load_state_dict(saved[1])
                training.optimizer.load_state_dict(saved[2])
            elif step == 1:  # a second epoch, for what is kept over the first
                training.objective.finish_epoch(0)
        state = {**training.model.state_dict(), **{f"objective.{k}": v for k, v in training.objective.state_dict().items()}}
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}

    def gradients(self, training: Training, ranks: Runtime, rows, share: float = 1.0) -> list[np.ndarray]:
        """Of one step, without dropout: the mean over processes, as DistributedDataParallel makes it."""
        training.model.eval()
        inputs, targets, weights = self.batch(rows)
        moment = Moment(share=share, seed=1, epoch=1, epochs=4)
        outputs, features = training.model(inputs)
        loss = training.objective(outputs, features, targets, weights, point=training.model.point, runtime=ranks, moment=moment)
        loss.backward()
        training.objective.average_gradients(ranks)
        own = [p.grad for p in training.model.parameters() if p.grad is not None]
        learnt = [p.grad for p in training.objective.parameters() if p.grad is not None]
        return [grad.numpy() for grad in (*map(ranks.mean, own), *learnt)]

    def of_two_ranks(self, count: int) -> list[np.ndarray]:
        """The same by two processes, which share the samples out; threads stand for them."""
        exchange = _Exchange(2)
        trainings = [self.training(), self.training()]  # one after the other: they draw from the same generator
        found: list = [None, None]

        def work(rank: int) -> None:
            mine = list(range(count))[rank::2]
            try:
                ranks = _Thread(rank=rank, world=2, exchange=exchange)
                found[rank] = self.gradients(trainings[rank], ranks, mine or [0], len(mine) * 2 / count)
            except BaseException as error:
                found[rank] = error
                exchange.barrier.abort()

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        errors = [error for error in found if isinstance(error, BaseException)]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):  # the cause comes first
            raise error
        return found[0]


class _Exchange:
    """Where the threads lay down what they send to one another."""

    def __init__(self, world: int):
        self.barrier, self.parts = threading.Barrier(world, timeout=60), [None] * world


@dataclass(frozen=True)
class _Thread(Runtime):
    """A rank that is a thread of this process."""

    exchange: Any = None

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def gather_tensors(self, values: Tensor) -> list[Tensor]:
        self.exchange.parts[self.rank] = values.detach().clone()
        self.exchange.barrier.wait()
        found = [part.clone() for part in self.exchange.parts]
        self.exchange.barrier.wait()
        return found

    def sum(self, values: Tensor) -> Tensor:
        return torch.stack(self.gather_tensors(values)).sum(0)
