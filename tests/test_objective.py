"""The objective: one door between a batch and the methods, whatever the number of processes, views and pixels."""

from __future__ import annotations

import os
import socket

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
import toy
from torch import nn

from imbalanced_regression import weighted_l1_loss, weighted_mse_loss
from imbalanced_regression.methods.balanced_mse import BMC
from imbalanced_regression.methods.ranksim import RankSim
from imbalanced_regression.methods.srl import SRL
from imbalanced_regression.methods.targets import TargetUnit
from imbalanced_regression.training import Objective, Plan, Splits, runtime
from imbalanced_regression.training.loaders import Batches, EpochDraws, Feed
from imbalanced_regression.training.objective import Moment
from imbalanced_regression.training.session import prepare


def pairs(features, targets, preds, weights):
    """A term over all pairs, which the part of one process cannot give; it also sees the order of the rows."""
    apart = (features[:, None] - features).square().sum(-1) * (targets - targets.T).abs()
    order = torch.arange(1, len(features) + 1).to(features)
    return (apart * weights).mean() + 0.1 * (order * preds[:, 0]).mean()


def whole(outputs, targets, weights):
    return ((outputs - targets.T).square() * weights).mean()


whole.whole_batch = True  # type: ignore[attr-defined]


class Annealed(nn.Module):
    """A criterion that learns, at a rate of its own, and is told the epoch."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def parameter_groups(self):
        return [{"params": [self.factor], "lr": 0.5}]

    def forward(self, outputs, targets, weights, epoch, epochs):
        assert 0 <= epoch < epochs
        return self.factor.square() * (1 + epoch) * weighted_mse_loss(outputs, targets, weights)


def vectors(count: int, seed: int = 0) -> list[torch.Tensor]:
    """features, targets, weights of a batch."""
    draw = torch.Generator().manual_seed(seed)
    features, targets, weights = torch.randn(count, 5, generator=draw), *torch.rand(2, count, 1, generator=draw)
    return [features, targets, 0.5 + weights]


def maps(count: int, seed: int = 0) -> list[torch.Tensor]:
    """The same for dense labels of 4 x 6 pixels, some of them unknown."""
    draw = torch.Generator().manual_seed(seed)
    features, targets, weights = (torch.randn(count, d, 4, 6, generator=draw) for d in (5, 1, 1))
    return [features, targets, torch.where(weights > 0, weights, 0)]


OBJECTIVES = {
    "term": lambda: Objective(weighted_l1_loss, [(0.7, pairs)], pixels=20),
    "whole batch": lambda: Objective(whole, pixels=20),
    "both": lambda: Objective(whole, [(0.7, pairs), (0.3, pairs)], pixels=20),
    "no criterion": lambda: Objective(None, [(0.7, pairs)], pixels=20),
    "ranksim and bmc": lambda: Objective(BMC(1.0, learn=True), [(0.7, RankSim(seed=1))], pixels=20),
}


def gradients(name: str, batch, ranks, moment: Moment) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients of a small model, the mean over processes, as DistributedDataParallel makes them."""
    torch.manual_seed(0)
    model, objective = (nn.Conv2d(5, 1, 1) if batch[0].dim() == 4 else nn.Linear(5, 1)), OBJECTIVES[name]()
    features = batch[0].clone().requires_grad_()
    loss = objective(model(features), 3 * features, batch[1], batch[2], runtime=ranks, moment=moment)
    loss.backward()
    objective.average_gradients(ranks)
    found = [ranks.mean(parameter.grad) for parameter in model.parameters()]
    return ranks.mean(loss.detach()), [*found, *(p.grad for p in objective.parameters())]


CASES = [(name, dense, count, views) for name in OBJECTIVES for dense in (False, True) for count, views in ((7, 1), (2, 2))]


def _rank(rank: int, world: int, port: int, folder) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    ranks = runtime.start("cpu")
    found = {}
    for name, dense, count, views in CASES:  # with 2 samples the third process has none
        mine = np.arange(count)[rank::world]
        share = len(mine) * world / count
        rows = np.concatenate([(mine if len(mine) else np.zeros(1, int)) + view * count for view in range(views)])
        batch = [part[rows] for part in (maps if dense else vectors)(count * views)]
        moment = Moment(share=share, seed=3, epoch=1, step=2, views=views)
        found[f"{name}, {dense}, {count}"] = gradients(name, batch, ranks, moment)
    torch.save(found, folder / f"rank{rank}")
    runtime.stop()


@pytest.mark.parametrize("world", [2, 3])
def test_terms_and_losses_over_the_whole_batch_are_those_of_one_process(tmp_path, world):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(_rank, args=(world, port, tmp_path), nprocs=world)
    ranks = [torch.load(tmp_path / f"rank{rank}") for rank in range(world)]
    for name, dense, count, views in CASES:
        batch = (maps if dense else vectors)(count * views)
        loss, grads = gradients(name, batch, runtime.Runtime(), Moment(seed=3, epoch=1, step=2, views=views))
        assert loss.abs() > 0
        for rank in ranks:
            other, others = rank[f"{name}, {dense}, {count}"]
            torch.testing.assert_close(other, loss, rtol=1e-5, atol=1e-6)
            for mine, theirs in zip(grads, others):
                torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-6)


def test_dense_maps_reach_a_term_as_known_pixels_drawn_by_seed_epoch_and_step():
    seen = []

    def look(features, targets, preds, weights):
        seen.append((features, targets, preds, weights))
        return preds.sum() * 0

    batch, objective = maps(3), Objective(weighted_mse_loss, [(1.0, look)], pixels=20)
    known = int((batch[2] > 0).sum())
    for moment in (Moment(seed=1), Moment(seed=1), Moment(seed=1, step=1), Moment(seed=1, epoch=1), Moment(seed=2)):
        objective(batch[1] * 2, batch[0], batch[1], batch[2], moment=moment)
    features, targets, preds, weights = seen[0]
    assert known > 20
    assert features.shape == (20, 5)
    assert targets.shape == preds.shape == weights.shape == (20, 1)
    assert (weights > 0).all()
    torch.testing.assert_close(preds, 2 * targets)
    pixels = {tuple(row.tolist()) for row in torch.cat([batch[0].movedim(1, -1), batch[1].movedim(1, -1)], -1).reshape(-1, 6)}
    assert {tuple(row.tolist()) for row in torch.cat([features, targets], 1)} <= pixels
    assert torch.equal(seen[1][0], features)
    assert not any(torch.equal(other[0], features) for other in seen[2:])
    seen.clear()
    Objective(weighted_mse_loss, [(1.0, look)])(batch[1], batch[0], batch[1], batch[2])
    assert len(seen[0][0]) == known  # all there are, where they are fewer


def test_a_unit_divides_outputs_and_targets_for_the_criterion_alone():
    features, targets, weights = vectors(6)
    outputs = targets + 1
    seen = []
    objective = Objective(weighted_mse_loss, [(1.0, lambda f, t, p, w: seen.append((t, p)) or p.sum() * 0)], unit=5)
    loss = objective(outputs, features, targets, weights)
    torch.testing.assert_close(loss, weighted_mse_loss(outputs / 5, targets / 5, weights))
    assert seen[0][0] is targets
    assert seen[0][1] is outputs
    with pytest.raises(ValueError, match="unit: .* found 0"):
        Objective(weighted_mse_loss, unit=0)


def test_shapes_that_do_not_fit_are_named():
    features, targets, weights = vectors(6)
    with pytest.raises(ValueError, match=r"targets: expected the shape of the predictions, \(6, 1\), found \(6,\)"):
        Objective(weighted_mse_loss)(targets, features, targets[:, 0], weights)
    with pytest.raises(ValueError, match="criterion: expected a loss or at least one term"):
        Objective(None)


def test_what_learns_has_its_own_rate_which_falls_as_the_others_do(tmp_path):
    criterion = Annealed()
    plan = Plan(epochs=4, lr=1e-2, schedule=[1], batch_size=16)
    training = prepare(toy.make_model(fds=False), Objective(criterion), plan)
    assert training.set_rates(plan, 0) == 1e-2
    assert [group["lr"] for group in training.optimizer.param_groups] == [1e-2, 0.5]
    training.set_rates(plan, 1)
    assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([1e-3, 0.05])
    toy.run(tmp_path / "whole", criterion=criterion, epochs=3)
    parts = Annealed()
    toy.run(tmp_path / "parts", criterion=Annealed(), epochs=2)
    toy.run(tmp_path / "parts", criterion=parts, epochs=3, resume="")
    assert criterion.factor.item() == parts.factor.item() != 2.0


def test_a_checkpoint_from_before_there_were_terms_in_it_goes_on(tmp_path):
    whole_run = Annealed()
    toy.run(tmp_path / "whole", criterion=whole_run, epochs=3)
    toy.run(tmp_path / "parts", criterion=Annealed(), epochs=2)
    path = tmp_path / "parts" / "ckpt.pth.tar"
    content = torch.load(path, weights_only=True)
    content["criterion"] = {name.removeprefix("criterion."): value for name, value in content.pop("objective").items()}
    torch.save(content, path)
    parts = Annealed()
    toy.run(tmp_path / "parts", criterion=parts, epochs=3, resume="")
    assert whole_run.factor.item() == parts.factor.item()


class Drawn(EpochDraws, toy.Toy):
    """Its inputs carry the index and the draws that an item may depend on."""

    def __init__(self, count: int):
        EpochDraws.__init__(self, seed=5)
        toy.Toy.__init__(self, count, 0)

    def __getitem__(self, index):
        draws, sample = self.draws(index), index % len(self)
        return np.array([sample, *draws[1:], 0], np.float32), self.targets[sample], self.weights[sample]


@pytest.mark.parametrize("workers", [0, 1])
def test_two_views_of_a_sample_follow_its_batch_with_draws_of_their_own(workers):
    data = Drawn(10)
    plan = Plan(batch_size=4, views=2, seed=1, workers=workers)
    feed = Feed(Splits(data, data, data), plan, runtime.Runtime())
    plain = list(Batches(10, 4, seed=1))
    feed.begin(0)
    assert feed.shares() == [1.0, 1.0, 1.0]
    for (inputs, targets, _), batch in zip(feed.batches_from(0, ""), plain, strict=True):
        first, second = inputs.chunk(2)
        assert first[:, 0].tolist() == second[:, 0].tolist() == batch
        assert second[:, 2].tolist() == [index + 10 for index in batch]
        assert torch.equal(*targets.chunk(2))


def test_a_data_set_without_draws_gives_the_same_sample_again():
    data = toy.Toy(10, 0)
    feed = Feed(Splits(data, data, data), Plan(batch_size=4, views=2, seed=1), runtime.Runtime())
    feed.begin(0)
    for inputs, _, _ in feed.batches_from(0, ""):
        assert torch.equal(*inputs.chunk(2))


class Rows(toy.Toy):
    """Reads whole batches at once, as data sets in memory do."""

    def __getitems__(self, indices):
        return tuple(torch.from_numpy(part[indices]) for part in (self.inputs, self.targets, self.weights))


def as_it_is(batch):
    return batch


def test_a_sample_alone_in_the_last_batch_gives_a_loss_over_the_whole_batch_nothing():
    """5,249 pairs of STS-B-DIR in the published batches of 128 leave one alone; BMC itself refuses a single row."""
    features, targets, weights = vectors(1)
    outputs = torch.ones(1, 1, requires_grad=True)
    objective = Objective(BMC(1.0), [(2.0, lambda features, targets, preds, weights: preds.square().sum())])
    loss = objective(outputs, features, targets, weights)
    loss.backward()
    assert loss == 2  # the term's alone
    assert outputs.grad == 4


def test_a_run_whose_last_batch_is_one_sample_trains_with_a_loss_over_the_whole_batch(tmp_path):
    result, _ = toy.run(tmp_path / "run", model=toy.make_model(fds=False), criterion=BMC(1.0), batch_size=89, epochs=2)
    assert np.isfinite(result["test"]["overall"]["mse"])
    for size, count in [(1, 90), (16, 1)]:
        with pytest.raises(ValueError, match=f"--batch_size: the loss compares .*, found {size} and {count} training samples"):
            toy.run(tmp_path / "no", model=toy.make_model(fds=False), splits=toy.make_splits(count), criterion=BMC(1.0),
                    batch_size=size)


def test_a_data_set_that_reads_whole_batches_gives_views_too():
    data = Rows(10, 0)
    splits = Splits(data, data, data, collate=as_it_is)
    feed = Feed(splits, Plan(batch_size=4, views=2, seed=1), runtime.Runtime())
    feed.begin(0)
    for (inputs, _, _), batch in zip(feed.batches_from(0, ""), Batches(10, 4, seed=1), strict=True):
        first, second = inputs.chunk(2)
        assert torch.equal(first, second)
        assert torch.equal(first, torch.from_numpy(data.inputs[batch]))


def test_ascent_is_the_step_written_out(tmp_path):
    """The gradient is taken a step of length rho uphill, with the same dropout; the statistics of BatchNorm count once."""
    rho = 0.3
    model, twin = toy.make_model(norm=True, fds=False), toy.make_model(norm=True, fds=False)
    data = toy.Toy(16, 0)
    toy.one_epoch(model, data=data, ascent=rho)
    (batch,) = Batches(16, 16, seed=0)
    inputs, targets, weights = (torch.from_numpy(part[batch]) for part in (data.inputs, data.targets, data.weights))
    from imbalanced_regression.training.randomness import derive_seed, seed_all

    def grads():
        seed_all(derive_seed(0, 0, 0))
        twin.zero_grad()
        weighted_mse_loss(twin(inputs)[0], targets, weights).backward()
        return [p.grad.clone() for p in twin.parameters()]

    before = [p.detach().clone() for p in twin.parameters()]
    first = grads()
    running = twin.encoder[1].running_mean.clone()
    length = torch.sqrt(sum(g.square().sum() for g in first))
    with torch.no_grad():
        for p, g in zip(twin.parameters(), first):
            p += rho * g / length
    second = grads()
    for p, old, g in zip(model.parameters(), before, second):
        torch.testing.assert_close(p.detach(), old - 1e-2 * g, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(model.encoder[1].running_mean, running)


def test_the_second_pass_of_ascent_repeats_every_draw_and_counts_nothing_twice():
    """RankSim's rows, dropout, and what SRL, FDS and BatchNorm keep: two passes at radius 0 leave what one leaves."""
    states = []
    for ascent in (0.0, 1e-12):
        terms = [(1.0, RankSim(seed=4)), (1.0, SRL(toy.BINS, 6, points=8))]
        data = toy.Toy(64, 0)
        data.targets[:] = np.round(data.targets)  # equal labels, of which RankSim draws one each
        model = toy.make_model(norm=True, dropout=0.5)
        training = toy.one_epoch(model, terms=terms, data=data, observe=True, ascent=ascent)[1]
        states.append({**model.state_dict(), **training.objective.state_dict()})
    assert states[0].keys() == states[1].keys()
    assert states[0]["term0._extra_state"] == states[1]["term0._extra_state"] == {"calls": 4}
    for name, value in states[0].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, states[1][name], msg=name)


def test_a_scaled_loss_means_the_same_to_ranksim_in_the_loop():
    """Its gradient depends on the size of the loss's: under a GradScaler of 2^10 the step is that without one."""
    models = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        model = toy.make_model(fds=False, dropout=0.0)
        toy.one_epoch(model, terms=[(5.0, RankSim())], scaler=scaler)
        models.append(model.state_dict())
    for name, value in models[0].items():
        torch.testing.assert_close(value, models[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_the_criterion_learns_in_the_unit_of_the_target_and_terms_see_the_labels():
    unit = TargetUnit.fit("log", [1.0, 10.0, 100.0])
    seen = {}

    def term(features, targets, preds, weights):
        seen.update(targets=targets, preds=preds)
        return preds.sum() * 0

    targets = torch.tensor([[1.0], [10.0], [100.0]])
    outputs = unit(targets).requires_grad_()
    goal = Objective(weighted_mse_loss, [(1.0, term)], to_unit=unit.forward)
    loss = goal(outputs, torch.ones(3, 2), targets, torch.ones(3, 1), point=unit.inverse)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(seen["preds"], targets, rtol=1e-4, atol=1e-4)
    assert torch.equal(seen["targets"], targets)
