"""The loop: resuming, ranks, precision, re-training, and what stops it. Each test carries the name of its claim."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
import toy
from torch import nn

from imbalanced_regression import Regressor, choices, images, weighted_mse_loss
from imbalanced_regression.methods import lds, losses, windows
from imbalanced_regression.training import Splits, checkpoint, checks, runtime
from imbalanced_regression.training.evaluation import predict
from imbalanced_regression.training.loaders import Batches, EpochDraws, Feed, Shard, make_loader


def same_state(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -- resuming ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fds_stats", ["second_pass", "streaming"])
@pytest.mark.parametrize("steps", [None, 4], ids=["epochs", "steps"])
def test_resume_equals_uninterrupted(tmp_path, fds_stats, steps):
    changes = {"fds_stats": fds_stats, "steps": steps, "epochs": 5}
    whole, model = toy.run(tmp_path / "whole", **changes)
    toy.run(tmp_path / "parts", **{**changes, "epochs": 2})
    toy.run(tmp_path / "parts", **{**changes, "epochs": 3}, resume="")
    parts, resumed = toy.run(tmp_path / "parts", **changes, resume="", model=toy.make_model(seed=9))
    assert same_state(model.state_dict(), resumed.state_dict())
    assert whole["test"]["overall"] == parts["test"]["overall"]
    np.testing.assert_array_equal(whole["predictions"]["test"][0], parts["predictions"]["test"][0])
    last = [checkpoint.load(tmp_path / name / checkpoint.LAST) for name in ("whole", "parts")]
    assert same_state(last[0]["state_dict"], last[1]["state_dict"])
    assert last[0]["epoch"] == last[1]["epoch"] == 5


class Noisy(toy.Toy):
    """Draws on every access, as random crops do."""

    def __getitem__(self, i):
        inputs, targets, weights = super().__getitem__(i)
        return inputs + torch.randn(4).numpy(), targets, weights


def test_resume_equals_uninterrupted_with_drawing_workers(tmp_path):
    """The second pass of FDS draws too, so its workers start anew each epoch as those of training do."""
    splits = Splits(train=Noisy(40, 0), val=toy.Toy(8, 1), test=toy.Toy(8, 2))
    _, model = toy.run(tmp_path / "whole", splits=splits, workers=1, epochs=3)
    toy.run(tmp_path / "parts", splits=splits, workers=1, epochs=2)
    _, resumed = toy.run(tmp_path / "parts", splits=splits, workers=1, epochs=3, resume="", model=toy.make_model(seed=9))
    assert same_state(model.state_dict(), resumed.state_dict())


class Told(toy.Toy):
    """Its targets are the process that reads them."""

    def __getitem__(self, i):
        inputs, _, weights = super().__getitem__(i % len(self))
        return inputs, np.float32([os.getpid()]), weights


class ToldByEpoch(EpochDraws, Told):
    """It draws by seed, epoch and index alone."""

    def __init__(self, count: int):
        Told.__init__(self, count, 0)
        EpochDraws.__init__(self, 0)

    def __getitem__(self, i):
        inputs, process, weights = super().__getitem__(i)
        return inputs + np.random.default_rng(self.draws(i)).normal(size=4).astype(np.float32), process, weights


def two_epochs(data, workers: int) -> tuple[set[float], torch.Tensor]:
    """The processes that have read the data in two epochs, and the second's inputs in their order."""
    feed = Feed(Splits(data, toy.Toy(4, 1), toy.Toy(4, 2)), toy.make_plan(batch_size=4, workers=workers), runtime.Runtime())
    readers = set()
    for epoch in (0, 1):
        feed.begin(epoch)
        batches = list(feed.train)
        readers |= set(torch.cat([process for _, process, _ in batches]).flatten().tolist())
    return readers, torch.cat([inputs for inputs, _, _ in batches])


def test_workers_live_on_where_all_draws_follow_from_seed_epoch_and_index():
    """As the faces' and NYUD2's do: no epoch waits for new processes. Of others none would know where its draws began."""
    readers, inputs = two_epochs(ToldByEpoch(8), workers=1)
    assert len(readers) == 1
    assert torch.equal(inputs, two_epochs(ToldByEpoch(8), workers=0)[1])
    assert len(two_epochs(Told(8, 0), workers=1)[0]) == 2


def test_a_file_that_is_no_training_is_named(tmp_path):
    toy.run(tmp_path / "a", epochs=1)
    content = checkpoint.load(tmp_path / "a" / checkpoint.LAST)
    for changed in ({"optimizer": None}, {"optimizer": {"state": 1}}, {"epoch": "one"}, {"best_loss": None}):
        torch.save({**content, **changed}, tmp_path / "odd.pt")
        with pytest.raises(ValueError, match="odd.pt holds no training to go on with"):
            toy.run(tmp_path / "b", resume=str(tmp_path / "odd.pt"))
        assert not (tmp_path / "b").exists()


def test_a_bare_resume_that_finds_nothing_names_the_way_to_another_folder(tmp_path, caplog):
    with caplog.at_level("INFO"):
        toy.run(tmp_path / "run", epochs=1, resume="")
    assert "to go on from another folder's, as after a change of flags that are in its name, pass --resume PATH" in caplog.text


def test_a_finished_run_resumes_to_its_test(tmp_path):
    first, _ = toy.run(tmp_path / "run")
    again, _ = toy.run(tmp_path / "run", resume="")
    assert first["test"]["overall"] == again["test"]["overall"]


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path):
    fresh, _ = toy.run(tmp_path / "a")
    resumed, _ = toy.run(tmp_path / "b", resume="")
    assert fresh["test"]["overall"] == resumed["test"]["overall"]


def test_resume_into_another_folder_keeps_the_best_so_far(tmp_path):
    toy.run(tmp_path / "a", epochs=3)
    result, _ = toy.run(tmp_path / "b", epochs=3, resume=str(tmp_path / "a" / checkpoint.LAST))
    assert (tmp_path / "b" / checkpoint.BEST).read_bytes() == (tmp_path / "a" / checkpoint.BEST).read_bytes()
    assert np.isfinite(result["test"]["overall"]["mse"])


def test_resume_says_which_flags_changed(tmp_path, caplog):
    toy.run(tmp_path / "run", epochs=1)
    with caplog.at_level("WARNING"):
        toy.run(tmp_path / "run", epochs=2, resume="", batch_size=8)
    assert [record.getMessage() for record in caplog.records] == ["--resume: --batch_size was 16 and is now 8"]


@pytest.mark.parametrize("other_folder", [False, True])
def test_a_best_chosen_by_another_metric_or_split_is_not_compared_with(tmp_path, caplog, other_folder):
    """From the MAE to the MSE the old best would never be beaten, the other way round always; two splits differ as well."""
    splits = toy.make_splits()
    on_test = Splits(train=splits.train, val=splits.test, test=splits.test)
    fewer = Splits(train=splits.train, val=toy.Toy(7, 1), test=splits.test)
    before = {"epochs": 2, "splits": splits, "select": "l1"}
    now = {"mse": {"select": "mse"}, "test": {"splits": on_test}, "fewer": {"splits": fewer}}
    for name, changes in now.items():
        toy.run(tmp_path / name, **before)
        caplog.clear()
        resume, folder = str(tmp_path / name / checkpoint.LAST), tmp_path / (f"{name} on" if other_folder else name)
        # a rate so large that nothing of the new epochs is better by the old measure
        with caplog.at_level("INFO"):
            result, _ = toy.run(folder, **{**before, **changes, "epochs": 3, "lr": 3.0, "resume": resume})
        assert result["best_epoch"] == 2
        (line,) = [r.getMessage() for r in caplog.records if "the search for the best starts anew" in r.getMessage()]
        assert "was chosen by val l1 of 31 samples, from now on by " in line
        split, metric = "test" if name == "test" else "val", changes.get("select", "l1")
        value = result["test" if name == "test" else "val"]["overall"][metric]
        assert f"testing the best checkpoint, of epoch 3 ({split} {metric} {value:.4g})" in caplog.text


def test_a_finished_run_names_the_metric_that_chose_its_best(tmp_path, caplog):
    result, _ = toy.run(tmp_path / "run", epochs=2, select="l1")
    with caplog.at_level("INFO"):
        toy.run(tmp_path / "run", epochs=2, select="mse", resume="")
    assert f"(val l1 {result['val']['overall']['l1']:.4g})" in caplog.text
    assert "starts anew" not in caplog.text


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_resume_takes_the_options_of_the_optimizer_from_the_flags(tmp_path, optimizer):
    before = {"optimizer": optimizer, "weight_decay": 1e-5, "momentum": 0.5, "lr": 1e-3}
    toy.run(tmp_path / "run", epochs=1, **before)
    toy.run(tmp_path / "run", epochs=2, resume="", **{**before, "weight_decay": 0.3, "momentum": 0.9})
    content = checkpoint.load(tmp_path / "run" / checkpoint.LAST)
    (group,) = content["optimizer"]["param_groups"]
    assert group["weight_decay"] == content["settings"]["weight_decay"] == 0.3
    assert optimizer == "adam" or group["momentum"] == content["settings"]["momentum"] == 0.9


@pytest.mark.parametrize(("before", "now"), [("adam", "sgd"), ("sgd", "adam")])
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "first release"])
def test_another_optimizer_is_named(tmp_path, before, now, ours):
    toy.run(tmp_path / "run", epochs=1, optimizer=before, lr=1e-3)
    content = checkpoint.load(tmp_path / "run" / checkpoint.LAST)
    torch.save({name: value for name, value in content.items() if ours or name != "settings"}, tmp_path / "file")
    said = f"--optimizer: .*file was trained with {before}, found {now}; pass --optimizer {before} to go on"
    with pytest.raises(ValueError, match=said):
        toy.run(tmp_path / "other", epochs=2, optimizer=now, resume=str(tmp_path / "file"))
    assert not (tmp_path / "other").exists()


def test_what_a_killed_process_left_is_cleared(tmp_path):
    toy.run(tmp_path / "run", epochs=1)
    (tmp_path / "run" / "ckpt.pth.tar.99999.part").touch()
    toy.run(tmp_path / "run", epochs=2, resume="")
    assert not list((tmp_path / "run").glob("*.part"))


def test_evaluate_measures_the_best_and_writes_nothing(tmp_path):
    trained, _ = toy.run(tmp_path / "run")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    measured, _ = toy.run(tmp_path / "run", evaluate=True, resume="", model=toy.make_model(seed=5))
    assert measured["test"]["overall"] == trained["test"]["overall"]
    assert measured["best_epoch"] == trained["best_epoch"]
    assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}


def test_overwrite_clears_the_folder_only_when_training_begins(tmp_path):
    folder = tmp_path / "run"
    toy.run(folder, epochs=1)
    with pytest.raises(ValueError, match="--pretrained: there is no checkpoint"):
        toy.run(folder, overwrite=True, pretrained=str(tmp_path / "absent"))
    assert (folder / checkpoint.BEST).is_file()
    (folder / "old").touch()
    toy.run(folder, epochs=1, overwrite=True)
    assert not (folder / "old").exists()


# -- ranks -------------------------------------------------------------------------------------------------------------


class LearntNoise(nn.Module):
    """A criterion with a parameter: the noise of the labels."""

    def __init__(self):
        super().__init__()
        self.log_noise = nn.Parameter(torch.zeros(()))

    def forward(self, preds, targets, weights):
        return weighted_mse_loss(preds, targets, weights) * torch.exp(-self.log_noise) + self.log_noise


def _rank(rank: int, world: int, port: int, folder, norm: bool, changes: dict) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    ranks = runtime.start("cpu")
    criterion = LearntNoise()
    result, model = toy.run(
        folder, ranks=ranks, model=toy.make_model(dropout=0.0, norm=norm), criterion=criterion, **changes
    )
    torch.save(
        {"state": {**model.state_dict(), **criterion.state_dict()}, "test": torch.tensor(result["predictions"]["test"][0]),
         "metrics": json.dumps(result["test"]["overall"])},
        folder / f"rank{rank}",
    )
    runtime.stop()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize(
    ("world", "fds_stats", "norm", "batch"),
    [(2, "second_pass", True, 16), (3, "second_pass", False, 16), (3, "streaming", True, 16), (3, "second_pass", True, 22)],
)
def test_several_processes_equal_one(tmp_path, world, fds_stats, norm, batch):
    """The last of the global batches of 16 of 90 samples has 10, so the ranks' shares are uneven. With BatchNorm too.

    Of the batches of 22 it has 2: one rank has none, and what it computes along with the others counts in no statistic.
    """
    changes = {"fds_stats": fds_stats, "epochs": 3, "max_grad_norm": 1.0, "batch_size": batch}
    criterion = LearntNoise()
    one, model = toy.run(tmp_path / "one", model=toy.make_model(dropout=0.0, norm=norm), criterion=criterion, **changes)
    (tmp_path / "many").mkdir()
    mp.spawn(_rank, args=(world, free_port(), tmp_path / "many", norm, changes), nprocs=world)
    ranks = [torch.load(tmp_path / "many" / f"rank{rank}", weights_only=True) for rank in range(world)]
    for rank in ranks:
        assert same_state(rank["state"], ranks[0]["state"])
        np.testing.assert_allclose(rank["test"], one["predictions"]["test"][0], rtol=2e-4, atol=1e-5)
        metrics = json.loads(rank["metrics"])
        for name in ("mse", "l1", "gmean"):
            assert metrics[name] == pytest.approx(one["test"]["overall"][name], rel=1e-3)
    for name, value in {**model.state_dict(), **criterion.state_dict()}.items():
        torch.testing.assert_close(ranks[0]["state"][name], value, rtol=1e-3, atol=1e-4)


def test_a_rank_without_a_sample_still_takes_part(tmp_path):
    """33 samples in batches of 16: the last batch has one sample for three ranks."""
    batches = [Batches(33, 16, seed=0, rank=rank, world=3) for rank in range(3)]
    assert [batch.shares()[-1] for batch in batches] == [3.0, 0.0, 0.0]
    assert all(len(list(batch)[-1]) == 1 for batch in batches)


@pytest.mark.parametrize(("flags", "named"), [({"amp": "bf16"}, "--amp bf16"), ({"compile": True}, "--compile")])
def test_what_data_parallel_cannot_do_is_an_error(monkeypatch, flags, named):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    with pytest.raises(ValueError, match=f"{named}: does not work in DataParallel; use torchrun, or one GPU"):
        runtime.start(None, **flags)
    assert runtime.start("cuda:1", **flags).device == torch.device("cuda:1")
    assert runtime.start(None, "fp16").device == torch.device("cuda")


def test_a_scheduler_that_sets_rank_without_torchrun_is_one_process(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert runtime.start("cpu").world == 1


# -- the log -----------------------------------------------------------------------------------------------------------


def test_runs_one_after_the_other_have_a_log_each_and_outlive_deleted_folders(tmp_path, caplog):
    caplog.set_level("INFO")  # own code has no start_log
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    toy.run(one, epochs=1, seed=1)
    before = (one / "training.log").read_text()
    toy.run(two, epochs=1, seed=2)
    assert "epoch 1/1" in before
    assert (one / "training.log").read_text() == before
    for handler in logging.getLogger().handlers:
        if getattr(handler, "baseFilename", "").endswith("training.log"):
            handler.close()  # as logging.shutdown does
    shutil.rmtree(two)
    logging.getLogger("somebody").info("between two runs")
    toy.run(three, epochs=1, seed=3)
    assert "epoch 1/1" in (three / "training.log").read_text()
    assert not two.exists()


# -- a last batch of one -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fds_stats", ["second_pass", "streaming"])
def test_a_last_batch_of_one_that_batchnorm_cannot_take_is_refused_before_the_epoch(tmp_path, fds_stats):
    """90 samples in batches of 89, and FDS's 31 in batches of 30; the size that the error names trains."""
    splits = toy.make_splits()
    with pytest.raises(ValueError, match="--batch_size: 89 leaves one of 90 samples alone in a batch, .*pass --batch_size 90"):
        toy.run(tmp_path / "run", model=toy.make_model(norm=True), splits=splits, batch_size=89, fds_stats=fds_stats)
    assert not (tmp_path / "run").exists()
    toy.run(tmp_path / "run", model=toy.make_model(norm=True), splits=splits, batch_size=90, fds_stats=fds_stats, epochs=1)
    splits.stats = toy.Toy(31, 3)
    changes = {"model": toy.make_model(norm=True), "splits": splits, "batch_size": 30, "fds_stats": fds_stats, "epochs": 1}
    if fds_stats == "second_pass":
        with pytest.raises(ValueError, match="--batch_size: 30 leaves one of 31 samples alone"):
            toy.run(tmp_path / "other", **changes)
    else:
        toy.run(tmp_path / "other", **changes)


def test_asking_whether_a_last_batch_of_one_trains_changes_nothing(tmp_path, monkeypatch):
    """In a model whose maps keep several values: as if nobody had asked, statistics and draws included."""

    class Map(nn.Module):
        def forward(self, inputs):
            return inputs[:, :, None].expand(-1, -1, 3)

    def model():
        torch.manual_seed(0)
        parts = [Map(), nn.Conv1d(4, 6, 1), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.AdaptiveAvgPool1d(1), nn.Flatten()]
        return Regressor(nn.Sequential(*parts), nn.Linear(6, 1))

    asked, _ = toy.run(tmp_path / "asked", model=(one := model()), batch_size=89, epochs=2)
    monkeypatch.setattr(checks, "check_last_batch", lambda *_: None)
    silent, _ = toy.run(tmp_path / "silent", model=(other := model()), batch_size=89, epochs=2)
    assert same_state(one.state_dict(), other.state_dict())
    assert asked["test"]["overall"] == silent["test"]["overall"]
    before, random = {name: value.clone() for name, value in one.state_dict().items()}, torch.get_rng_state()
    monkeypatch.undo()
    checks.check_last_batch(one, toy.Toy(90, 0), 90, 89, None, runtime.Runtime())
    assert same_state(before, one.state_dict())
    assert torch.equal(random, torch.get_rng_state())
    assert one.encoder[2].track_running_stats


# -- the order of the data ---------------------------------------------------------------------------------------------


def test_an_epoch_of_one_pass_holds_every_sample_once():
    batches = Batches(90, 16, seed=1)
    assert len(batches) == 6
    assert sorted(i for batch in batches for i in batch) == list(range(90))


@pytest.mark.parametrize("count", [1, 16, 33, 90, 129])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shards_hold_every_sample_once_in_as_many_batches_per_rank(count, world):
    shards = [Shard(range(count), 8, rank=rank, world=world) for rank in range(world)]
    assert sorted(i for shard in shards for batch in shard for i in batch) == list(range(count))
    assert max(len(batch) for shard in shards for batch in shard) <= 8
    assert count < world or len({len(shard) for shard in shards}) == 1


def test_epochs_of_steps_follow_one_another_through_the_passes():
    """Six batches a pass; epochs of four steps: twelve steps are exactly two passes."""
    batches = Batches(90, 16, seed=1, steps=4)
    seen = []
    for epoch in range(3):
        batches.epoch = epoch
        seen += [i for batch in batches for i in batch]
    assert sorted(seen[:90]) == sorted(seen[90:]) == list(range(90))
    assert seen[:90] != seen[90:]


@pytest.mark.parametrize("world", [1, 2, 5])
def test_predictions_come_in_the_order_of_the_data(world):
    """Read longest first, sharded over ranks, predictions return to the data's order (here by merging the shards by hand)."""
    data = toy.Toy(23, 0)
    splits = Splits(data, data, data, length=lambda d, i: int(1000 * d.targets[i, 0]))
    order = splits.longest_first(data)
    assert (np.diff(data.targets[order, 0]) <= 1e-3).all()
    model = toy.make_model(dropout=0.0)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(data.inputs))[0].numpy()
    got = np.full_like(expected, np.nan)
    for rank in range(world):
        shard = Shard(order, 4, rank=rank, world=world)
        loader = make_loader(data, shard, runtime.Runtime(), workers=0)
        preds, targets, weights = predict(model, loader, runtime.Runtime())
        mine = np.sort(shard.indices)
        got[mine] = preds
        np.testing.assert_array_equal(targets, data.targets[mine])
        np.testing.assert_array_equal(weights, data.weights[mine])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


# -- the step ----------------------------------------------------------------------------------------------------------


def one_epoch(model, **options):
    return toy.one_epoch(model, **options)[0]


def test_one_epoch_equals_the_loop_written_out():
    model, twin = toy.make_model(dropout=0.0), toy.make_model(dropout=0.0)
    loss = one_epoch(model)
    data, losses = toy.Toy(64, 0), []
    optimizer = torch.optim.SGD(twin.parameters(), lr=1e-2)
    for batch in Batches(64, 16, seed=0):
        preds = twin.head(twin.encoder(torch.from_numpy(data.inputs[batch])))
        step = (torch.from_numpy(data.weights[batch]) * (preds - torch.from_numpy(data.targets[batch])) ** 2).mean()
        optimizer.zero_grad()
        step.backward()
        optimizer.step()
        losses.append(step.item())
    assert same_state(model.state_dict(), twin.state_dict())
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)


def test_terms_are_added_with_their_strength():
    def size(features, targets, preds, weights):
        assert len(features) == len(targets) == len(preds) == len(weights)
        return features.square().mean()

    plain, weak, strong = (toy.make_model(dropout=0.0) for _ in range(3))
    one_epoch(plain)
    one_epoch(weak, terms=[(0.0, size)])
    one_epoch(strong, terms=[(5.0, size)])
    assert same_state(plain.state_dict(), weak.state_dict())
    inputs = torch.from_numpy(toy.Toy(64, 0).inputs)
    assert strong.encoder(inputs).square().mean() < 0.9 * plain.encoder(inputs).square().mean()


def test_gradients_are_clipped_to_the_norm_given():
    model = toy.make_model(dropout=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    one_epoch(model, lr=1.0, max_grad_norm=1e-3)
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(model.parameters(), before)]).norm()
    assert 0 < moved <= 4 * 1e-3 * 1.001  # four steps of at most the norm


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_an_epoch_in_mixed_precision_is_close_to_a_plain_one(amp):
    plain, mixed = toy.make_model(dropout=0.0), toy.make_model(dropout=0.0)
    ranks = runtime.start("cpu", amp)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0) if amp == "fp16" else None
    loss = one_epoch(plain, observe=True)
    mixed_loss = one_epoch(mixed, ranks=ranks, scaler=scaler, observe=True)
    assert mixed_loss == pytest.approx(loss, rel=0.02)
    for a, b in zip(plain.parameters(), mixed.parameters()):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.01)
    assert mixed.fds.running_mean.dtype == torch.float32


@pytest.mark.parametrize("bad", [float("nan"), 2e6])
def test_a_loss_out_of_bounds_stops_with_epoch_step_and_rate(bad):
    calls = []

    def criterion(preds, targets, weights):
        calls.append(1)
        return weighted_mse_loss(preds, targets, weights) * (bad if len(calls) == 3 else 1)

    with pytest.raises(ValueError, match=r"the loss is .* in epoch 1, step 3 of 4, at learning rate 0.01; try a lower --lr"):
        one_epoch(toy.make_model(), criterion=criterion)
    assert len(calls) == 3


# -- choosing and stopping ---------------------------------------------------------------------------------------------


def test_training_stops_after_patience_checks_without_improvement(tmp_path):
    toy.run(tmp_path / "run", epochs=50, patience=2, lr=1e-9)  # learns nothing, so checks do not improve for long
    last = checkpoint.load(tmp_path / "run" / checkpoint.LAST)
    assert last["epoch"] < 50
    assert last["bad_checks"] == 2


def test_the_best_checkpoint_is_tested_not_the_last(tmp_path):
    result, model = toy.run(tmp_path / "run", epochs=6, lr=0.2, schedule=[])
    best, last = (checkpoint.load(tmp_path / "run" / name) for name in (checkpoint.BEST, checkpoint.LAST))
    assert best["best_epoch"] == result["best_epoch"] == last["best_epoch"]
    assert result["val"]["overall"]["mse"] == pytest.approx(best["best_loss"], rel=1e-6)
    assert same_state(model.state_dict(), checkpoint.state_dict_of(best))


def test_the_rate_falls_at_the_milestones(tmp_path):
    toy.run(tmp_path / "run", epochs=4, schedule=[1, 3])
    assert checkpoint.load(tmp_path / "run" / checkpoint.LAST)["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-4)


def test_a_learning_criterion_gets_a_parameter_group(tmp_path):
    whole = LearntNoise()
    toy.run(tmp_path / "a", criterion=whole)
    assert whole.log_noise.item() != 0
    parts = LearntNoise()
    toy.run(tmp_path / "b", criterion=parts, epochs=2)
    parts = LearntNoise()
    toy.run(tmp_path / "b", criterion=parts, resume="")
    assert whole.log_noise.item() == parts.log_noise.item()


# -- RRT and FDS -------------------------------------------------------------------------------------------------------


def test_rrt_leaves_the_encoder_and_its_batchnorm_unchanged(tmp_path):
    _, trained = toy.run(tmp_path / "first", model=toy.make_model(norm=True))
    fresh = toy.make_model(norm=True, seed=7)
    head = fresh.head.weight.detach().clone()
    path = str(tmp_path / "first" / checkpoint.BEST)
    _, retrained = toy.run(tmp_path / "rrt", model=fresh, retrain_fc=True, pretrained=path)
    assert same_state(trained.encoder.state_dict(), retrained.encoder.state_dict())
    assert not torch.equal(retrained.head.weight, head)
    assert not torch.equal(retrained.head.weight, trained.head.weight)
    assert not any(p.requires_grad for p in retrained.encoder.parameters())


def test_pretrained_alone_loads_the_encoder_and_goes_on_learning_it(tmp_path):
    _, trained = toy.run(tmp_path / "first")
    _, tuned = toy.run(tmp_path / "next", model=toy.make_model(seed=7), pretrained=str(tmp_path / "first" / checkpoint.BEST))
    assert not same_state(trained.encoder.state_dict(), tuned.encoder.state_dict())


def test_the_second_pass_leaves_batchnorm_and_gradients_alone():
    model = toy.make_model(norm=True)
    _, training, feed = toy.one_epoch(model)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    toy.end_pass(training, feed)
    assert same_state(before, model.encoder.state_dict())
    assert model.fds.num_samples_tracked.sum() == 64
    assert model.encoder[1].track_running_stats


def test_second_pass_statistics_are_those_of_the_features_after_the_epoch():
    model = toy.make_model(dropout=0.0)
    _, training, feed = toy.one_epoch(model)
    toy.end_pass(training, feed)
    data = toy.Toy(64, 0)
    with torch.no_grad():
        features = model.encoder(torch.from_numpy(data.inputs))
    rows = toy.BINS.index(data.targets)
    for row in np.unique(rows):
        torch.testing.assert_close(model.fds.running_mean[row], features[rows == row].mean(0), rtol=1e-4, atol=1e-6)


def test_streaming_statistics_are_those_of_the_epochs_own_forward_passes():
    model = toy.make_model(dropout=0.0)
    seen = []
    handle = model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    one_epoch(model, observe=True)
    handle.remove()
    order = [i for batch in Batches(64, 16, seed=0) for i in batch]
    rows = toy.BINS.index(toy.Toy(64, 0).targets[order])
    features = torch.cat(seen)
    for row in np.unique(rows):
        torch.testing.assert_close(model.fds.running_mean[row], features[rows == row].mean(0), rtol=1e-4, atol=1e-6)


def test_streaming_leaves_out_the_epochs_before_start_update(tmp_path):
    model = toy.make_model()
    model.fds.start_update = 2
    toy.run(tmp_path / "run", model=model, fds_stats="streaming", epochs=3)
    assert model.fds.num_samples_tracked.sum() == 90


@pytest.mark.parametrize("fds_stats", ["second_pass", "streaming"])
@pytest.mark.parametrize("steps", [4, 12, 9], ids=["less than a pass", "two passes", "a pass and a half"])
def test_the_epoch_of_fds_is_a_pass_wherever_the_validations_lie(tmp_path, fds_stats, steps):
    """Six batches are a pass. Without dropout nothing but FDS knows where an epoch ends, so 36 steps are 36 steps."""
    changes = {"fds_stats": fds_stats, "schedule": []}
    toy.run(tmp_path / "passes", model=toy.make_model(dropout=0.0), epochs=6, **changes)
    epochs = 36 // steps
    toy.run(tmp_path / "steps", model=toy.make_model(dropout=0.0), steps=steps, epochs=epochs - 1, **changes)
    again = toy.make_model(dropout=0.0, seed=9)
    toy.run(tmp_path / "steps", model=again, steps=steps, epochs=epochs, resume="", **changes)
    last = [checkpoint.load(tmp_path / name / checkpoint.LAST)["state_dict"] for name in ("passes", "steps")]
    assert same_state(last[0], last[1])
    assert int(last[0]["fds.epoch"]) == 5


def test_fds_starts_smoothing_in_its_epoch(tmp_path):
    """With start_smooth beyond the last epoch, FDS changes nothing; from epoch 1 on it does."""
    without, _ = toy.run(tmp_path / "a", model=toy.make_model(fds=False))
    model = toy.make_model()
    model.fds.start_smooth = 99
    late, _ = toy.run(tmp_path / "b", model=model, fds_stats="streaming")
    used, _ = toy.run(tmp_path / "c", fds_stats="streaming")
    assert without["test"]["overall"] == late["test"]["overall"]
    assert without["test"]["overall"] != used["test"]["overall"]


# -- what a run leaves behind ------------------------------------------------------------------------------------------


def test_a_run_writes_its_files(tmp_path):
    toy.run(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {checkpoint.LAST, checkpoint.BEST, "training.log", "args.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert json.loads((tmp_path / "run" / "args.json").read_text())["batch_size"] == 16


def test_tensorboard_has_the_published_tags(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    toy.run(tmp_path / "run", epochs=3)
    toy.run(tmp_path / "run", epochs=4, resume="")
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"train_loss", "val_loss_mse", "val_loss_l1", "val_loss_gmean"} <= set(tags)
    assert [event.step for event in events.Scalars("train_loss")] == [0, 1, 2, 3]


def test_the_flags_offer_what_the_library_has():
    """choices spells the names out, to answer --help without importing torch."""
    assert set(choices.KERNELS) == set(windows.KERNELS)
    assert tuple(choices.RESNETS) == tuple(images.RESNETS)
    assert set(lds.REWEIGHTS) <= set(choices.REWEIGHTS)
    assert set(choices.PUBLISHED_LOSSES) == set(losses.LOSSES)
