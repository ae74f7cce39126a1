"""GPU paths, shown without a GPU: types by fake CUDA tensors, waiting by tensors without contents, devices by their calls.

A tensor on the device "meta" has no numbers, so whatever would look at one (`.item()`, `if tensor`, `nonzero`, a mask as an
index, a copy to the CPU) raises; on a GPU the same would wait for it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
import toy
from commands import ROOT, from_folder
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from imbalanced_regression import FDS, Bins, Regressor, shot_metrics, weighted_mse_loss
from imbalanced_regression.training import Objective, checks, epochs, precision, randomness, runtime
from imbalanced_regression.training.runtime import Runtime
from imbalanced_regression.training.session import Training, _check_same_file, prepare

sys.path.append(str(ROOT / "benchmarks"))
import gpu_check  # noqa: E402  # found through the path set above
import gpu_models  # noqa: E402
import gpu_runs  # noqa: E402
from fake_gpu import autocast_of_a_gpu, fake_gpu, kept_for_backward  # noqa: E402  # found through the path set above
from gpu_check import CHECKS, TOY, Skipped  # noqa: E402
from gpu_steps import STEPS, method_step, take_step  # noqa: E402

CPU = torch.device("cpu")

# -- mixed precision ---------------------------------------------------------------------------------------------------


def test_g_mean_of_whole_labels_does_not_fall_under_bf16():
    """Predictions between 32 and 64 lie on a grid of 0.25 in bf16, and hit whole ages exactly: errors of 0 count as 1e-10."""
    torch.manual_seed(0)
    model = Regressor(nn.Linear(8, 32), nn.Linear(32, 1)).eval()
    nn.init.constant_(model.head.bias, 45.0)
    nn.init.normal_(model.head.weight, std=0.8)
    inputs = torch.randn(4000, 8)
    with torch.no_grad():
        exact = model(inputs)[0]
        ages = (exact + 7 * torch.randn(4000, 1)).round()
        with torch.autocast("cpu", torch.bfloat16):
            preds, features = model(inputs)
    assert preds.dtype == features.dtype == torch.float32
    means = [shot_metrics(found, ages, ages)["overall"]["gmean"] for found in (exact, preds, preds.bfloat16())]
    assert means[1] == pytest.approx(means[0], rel=0.02)
    assert means[2] < 0.85 * means[0]  # as it was


def test_the_pool_of_a_resnet_keeps_float32_under_bf16():
    encoder = from_folder("agedb-dir", "resnet").make_model("resnet18").encoder.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert encoder(torch.randn(2, 3, 32, 32)).dtype == torch.float32


@pytest.mark.parametrize(("amp", "inner"), [(None, False), (torch.bfloat16, False), (torch.float16, True)])
def test_recurrent_layers_run_in_float32_under_bf16_and_under_autocast_where_there_is_a_scaler(amp, inner, monkeypatch):
    gru = nn.GRU(3, 4, batch_first=True, bidirectional=True)
    seen = []
    gru.register_forward_pre_hook(lambda module, inputs: seen.append((inputs[0].data.dtype, torch.is_autocast_enabled("cpu"))))
    x, lengths = torch.randn(2, 5, 3), torch.tensor([2, 5])
    # the CPU has no fp16 for these layers; that they are called under autocast is what is asked
    monkeypatch.setattr(gru, "forward", lambda packed: (packed, None))
    monkeypatch.setattr(precision, "fits", lambda *layer_and_input: False)  # a GPU has torch's own layers
    with torch.autocast("cpu", amp) if amp else nullcontext():
        states = precision.run_rnn(gru, x if amp is None else x.to(amp), lengths)
    assert seen == [(torch.float16 if inner else torch.float32, inner)]
    assert states.shape == x.shape


def test_lengths_that_are_here_already_are_not_fetched():
    gru = nn.GRU(3, 4, batch_first=True)
    x, lengths = torch.randn(2, 5, 3), torch.tensor([2, 5])
    plain = precision.run_rnn(gru, x, lengths)
    torch.testing.assert_close(plain, precision.run_rnn(gru, x, torch.empty(2, device="meta"), lengths), rtol=0, atol=0)
    assert (plain[0, 2:] == 0).all()


@pytest.mark.parametrize("folder", ["nyud2-dir", "shhs-dir"])
def test_bf16_takes_little_more_than_half_the_memory_of_float32_by_the_rules_of_a_gpu(folder):
    """Resizes and group norms are on CUDA's list of float32: SHHS took more memory in bf16 than without."""
    kept = {}
    for amp in (None, torch.bfloat16):
        with fake_gpu():
            if folder == "nyud2-dir":
                from_folder(folder, "loss")
                layer = from_folder(folder, "models.modules").UpProjection(64, 32)
                x, more = torch.randn(4, 64, 20, 20), ((40, 40),)
            else:
                layer, more = from_folder(folder, "models").Block(16, 32), ()
                x = torch.randn(64, 16, 512)
            with kept_for_backward(layer) as storages, autocast_of_a_gpu(amp):
                out = layer(x if amp is None else x.to(amp), *more)
            assert out.dtype == (torch.float32 if amp is None else amp)
        kept[amp] = sum(storages.values())
    assert kept[torch.bfloat16] < 0.6 * kept[None]


# -- devices -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gpus(monkeypatch):
    """Four GPUs as far as their generators, and which of them is current, go."""
    states = {gpu: torch.full((4,), gpu, dtype=torch.uint8) for gpu in range(4)}
    current = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(device))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda gpu: states[gpu].clone())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, gpu: states.__setitem__(gpu, state))
    return states, current


def test_a_gpus_generator_is_restored_where_it_was_read(gpus):
    states, current = gpus
    device = runtime.start("cuda:2").device
    assert current == [device]  # or the thread that pins memory opens a context on GPU 0
    state = randomness.random_state(device)
    states[2] = torch.zeros(4, dtype=torch.uint8)
    randomness.set_random_state(state, device)
    assert [int(states[gpu][0]) for gpu in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(("begun", "now"), [("cuda", "cpu"), ("cuda", "cuda:3"), ("cuda:1", "cpu"), ("cpu", "cuda:0")])
def test_a_checkpoint_within_an_epoch_goes_on_on_other_devices(gpus, caplog, begun, now):
    """The state of generators that are not there is left alone, with a warning; the training in the file goes on."""
    states, _ = gpus
    state = randomness.random_state(torch.device(begun))
    drawn = torch.rand(3)
    training = Training(toy.make_model(), nn.Identity(), None, None, None, Runtime(torch.device(now)))
    training._resume_within({"step": 3, "total": 1.0, "ranks": [{"random": state, "sums": []}]})
    assert "the epoch was begun on other devices" in caplog.text
    assert training.progress.step == 3
    assert torch.equal(drawn, torch.rand(3))  # the CPU's generator is taken up
    assert [int(states[gpu][0]) for gpu in range(4)] == [0, 1, 2, 3]


def test_one_gpus_state_goes_to_another_gpu(gpus, caplog):
    states, _ = gpus
    state = randomness.random_state(torch.device("cuda:1"))
    randomness.set_random_state(state, torch.device("cuda:3"))
    assert [int(states[gpu][0]) for gpu in range(4)] == [0, 1, 2, 1]


def test_gpus_are_chosen_as_they_can_be(gpus, monkeypatch):
    assert runtime.start(None).device == torch.device("cuda")
    assert runtime.start(None, spread=False).device == torch.device("cuda:0")
    assert runtime.start("cpu", fixed_sizes=True).device == CPU
    assert torch.backends.cudnn.benchmark
    runtime.start("cpu")
    assert not torch.backends.cudnn.benchmark
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="--device: torchrun gives each process a GPU of its own, found cuda:1"):
        runtime.start("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--device: 4 GPUs are there, but torch .* cannot use them.*pass --device cpu"):
        runtime.start(None)


def test_nccl_is_told_the_gpu_of_its_process(gpus, monkeypatch):
    """So it connects at once, where a broken network shows, and no barrier has to guess a GPU and to warn of it."""
    joined = []
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(runtime, "rendezvous", lambda *words, **how: iter([(torch.distributed.HashStore(), 1, 2)]))
    monkeypatch.setattr(
        torch.distributed, "init_process_group",
        lambda backend, **how: joined.append((backend, how.get("device_id"), list(gpus[1]))),
    )
    own = torch.device("cuda", 1)
    assert runtime.start(None).device == own
    runtime.start("cpu")
    assert joined == [("nccl", own, [own]), ("gloo", None, [own])]  # and it is the current one before


class Meets(nn.Module):
    """A criterion and a term that only hold a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, *values):
        return (self.scale * values[0]).sum()


def test_criteria_and_terms_that_learn_nothing_are_moved_too():
    criterion, term = Meets(), Meets()
    prepare(toy.make_model(), Objective(criterion, [(1.0, term)]), toy.make_plan(), Runtime(torch.device("meta")))
    assert criterion.scale.device.type == term.scale.device.type == "meta"


def test_namedtuples_move_as_what_they_are():
    pair = namedtuple("pair", "left right")(torch.ones(2), [torch.zeros(1)])
    moved = Runtime(torch.device("meta")).move({"x": pair})["x"]
    assert type(moved) is type(pair)
    assert moved.right[0].device.type == "meta"


# -- several processes -------------------------------------------------------------------------------------------------


class Beside(Runtime):
    """One of two processes; the other's numbers are 3 wherever they are averaged, and its place is the epoch's beginning."""

    def mean(self, values):
        return (values + 3) / 2

    def gather(self, value):
        return [value, (0, 0, -1)]


def test_ranks_that_would_go_on_from_different_checkpoints_are_told(tmp_path):
    training = Training(toy.make_model(), nn.Identity(), None, None, None, Beside(CPU, 0, 2), epoch=2)
    with pytest.raises(ValueError, match=r"--store_root: .*\(rank 0: epoch 2, step 0, rank 1: epoch 0, step 0\); put it on a"):
        _check_same_file(training)
    training.epoch = 0
    _check_same_file(training)


def test_bins_that_need_float64_are_named_where_there_is_none():
    edges = 1e6 + np.arange(9) * 0.01  # float32 cannot tell them apart
    model = Regressor(nn.Linear(4, 6), nn.Linear(6, 1), FDS(6, bins=Bins(edges), ks=3))
    with pytest.raises(ValueError, match=r"--device mps: it has no float64, and fds\._edges needs it \(.*1e\+06.*\); use bins"):
        Runtime(torch.device("mps")).place(model)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_fused_optimizer_goes_on_from_a_plain_ones_state_and_back(optimizer):
    """Under fp16 on CUDA the step is fused, so that it need not ask the host whether a gradient has overflowed."""
    plan, states = toy.make_plan(optimizer=optimizer, momentum=0.9), []
    for kinds in ((False, False), (True, False), (False, True)):
        torch.manual_seed(0)
        layer, inputs = nn.Linear(4, 1), torch.randn(2, 8, 4)
        state = None
        for fused, x in zip(kinds, inputs):
            one = plan.make_optimizer([{"params": list(layer.parameters())}], fused)
            if state:
                one.load_state_dict(state)
            one.zero_grad()
            layer(x).square().mean().backward()
            one.step()
            state = one.state_dict()
        states.append(torch.cat([p.detach().flatten() for p in layer.parameters()]))
    for other in states[1:]:
        torch.testing.assert_close(other, states[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("now", [False, True], ids=["plain now", "fused now"])
@pytest.mark.parametrize("begun", [False, True], ids=["begun plain", "begun fused"])
def test_adams_steps_are_counted_where_the_optimizer_that_goes_on_wants_them(begun, now):
    """Fused, on the device; otherwise on the CPU, as it would be waited for once for each parameter. The file may say other."""
    plan, layer = toy.make_plan(optimizer="adam"), nn.Linear(4, 1)
    before = plan.make_optimizer([{"params": list(layer.parameters())}], begun)
    layer(torch.randn(2, 4)).sum().backward()
    before.step()
    content = {"optimizer": before.state_dict()}
    with fake_gpu():
        model = nn.Linear(4, 1)
        optimizer = plan.make_optimizer([{"params": list(model.parameters())}], now)
        training = Training(model, model, optimizer, None, None, Runtime())
        training._resume_optimizer(content, Path("ckpt.pth.tar"))
        steps = [state["step"].device.type for state in optimizer.state.values()]
    assert steps == ["cuda" if now else "cpu"] * 2


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_an_overflow_in_the_first_scaled_step_leaves_no_trace(monkeypatch, optimizer):
    """torch's fused SGD makes its momentum by empty_like, and a step that is skipped leaves it so: here that is NaN."""
    monkeypatch.setattr(torch, "empty_like", lambda like, **_: torch.full_like(like, torch.nan))
    plan = toy.make_plan(optimizer=optimizer, momentum=0.9)
    training = prepare(toy.make_model(dropout=0), Objective(nn.Identity()), plan, Runtime(amp=torch.float16))
    plain = toy.make_model(dropout=0)
    other = plan.make_optimizer([{"params": list(plain.parameters())}])
    scaler = training.scaler
    for slope in (torch.inf, 1.0, torch.inf, 1.0):  # of the loss in every parameter
        training.optimizer.zero_grad()
        scaler.scale(slope * sum(p.sum() for p in training.model.parameters())).backward()
        scaler.unscale_(training.optimizer)
        scaler.step(training.optimizer)
        scaler.update()
        if slope == 1.0:
            other.zero_grad()
            sum(p.sum() for p in plain.parameters()).backward()
            other.step()
    for ours, theirs in zip(training.model.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_compiling_with_synchronised_batchnorm_on_gpus_is_refused():
    ranks = Runtime(torch.device("cuda", 0), 0, 2, compile=True)
    with pytest.raises(ValueError, match="--compile: .*add --local_bn"):
        ranks.wrap(toy.make_model(norm=True))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 8, 9, 13, 16, 90])
def test_the_fewest_samples_that_a_batchnorm_sees_together(gpus, count):
    """As torch's own DataParallel parts a batch, and as `Batches` shares it out."""
    batch = torch.arange(count)
    assert Runtime(torch.device("cuda")).fewest_together(count) == min(len(part) for part in batch.chunk(4))
    for rank in range(3):
        shares = [len(batch[other::3]) or 1 for other in range(3)]
        assert Runtime(CPU, rank, 3, local_bn=True).fewest_together(count) == min(shares)
        assert Runtime(CPU, rank, 3).fewest_together(count) == count
    assert Runtime(torch.device("cuda", 0)).fewest_together(count) == count


def test_a_sample_alone_in_a_process_with_a_batchnorm_of_its_own_is_refused_before_the_epoch():
    """90 samples in batches of 22 end with two, of which each of four processes would get one at the most."""
    ranks, model = Runtime(CPU, 0, 4, local_bn=True), toy.make_model(norm=True)
    said = "--batch_size: 22 leaves one of 90 samples alone on a GPU or in a process, .*pass --batch_size 23"
    with pytest.raises(ValueError, match=said):
        checks.check_last_batch(model, toy.Toy(90, 0), 90, 22, None, ranks)
    checks.check_last_batch(model, toy.Toy(90, 0), 90, 23, None, ranks)
    checks.check_last_batch(model, toy.Toy(90, 0), 90, 22, None, Runtime(CPU, 0, 4))


def test_local_batchnorms_end_with_the_mean_of_all_processes():
    model = toy.make_model(norm=True)
    norm = model.encoder[1]
    Beside(CPU, 0, 2).average_norms(model)
    assert (norm.running_mean == 0).all()  # not asked for
    Beside(CPU, 0, 2, local_bn=True).average_norms(model)
    assert (norm.running_mean == 1.5).all()
    assert (norm.running_var == 2).all()


def test_an_epochs_short_last_batch_leaves_the_graphs_of_full_batches_static(tmp_path):
    """Ten samples in batches of four: from the second epoch on as in the first, full batches have a graph of their own."""
    sizes = []

    def count(graph, inputs):
        first = next(x for x in inputs if not isinstance(x, nn.Parameter))
        sizes.append(str(first.shape[0] if isinstance(first, torch.Tensor) else first))  # a symbol where it may be any
        return graph

    torch._dynamo.reset()
    model = toy.make_model(dropout=0.0)
    model.compile = lambda: nn.Module.compile(model, backend=count)
    data = toy.Toy(10, 0)
    splits = toy.Splits(data, toy.Toy(5, 1), toy.Toy(5, 2))
    changes = {"batch_size": 4, "epochs": 3, "schedule": [], "fds_stats": "streaming"}
    toy.run(tmp_path, model=model, splits=splits, ranks=Runtime(compile=True), **changes)
    assert sizes.count("4") == 2, sizes  # of epoch 0, in which FDS does not act, and of all others


# -- nothing waits for the device --------------------------------------------------------------------------------------


class Fetched(TorchDispatchMode):
    """Copies of more than one number from the CPU to the device that wait for it."""

    def __init__(self):
        super().__init__()
        self.copies: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        devices = {x.device.type for x in tree_leaves(out) if isinstance(x, torch.Tensor)}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        waits = "meta" in devices and not (kwargs or {}).get("non_blocking")
        if waits and any(x.device.type == "cpu" and x.numel() > 1 for x in given):
            self.copies.append(str(function))
        return out


@pytest.mark.parametrize("name", STEPS)
def test_no_method_waits_for_the_device_in_a_step(name, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *args, **how: nullcontext())  # the device without contents has none
    prepared = method_step(torch.device("meta"), **STEPS[name])
    take_step(prepared)  # what is set up once is set up here
    with Fetched() as fetched:
        take_step(prepared)
    assert not fetched.copies


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("check", ["no waiting in a step", "as on the CPU", "generators", "resume", "GradScaler"])
def test_a_gpu_does_what_the_check_asks(check):
    """`no waiting in a step` runs every method under torch.cuda.set_sync_debug_mode("error")."""
    function, how = CHECKS[check]
    function(torch.device("cuda", 0), TOY, **how)


class Forked:
    """What the checks need of `subprocess.Popen`, as a fork of the tests' warm process; of torchrun's words the train.py."""

    def __init__(self, words, folder):
        self.ends = []
        given = words[words.index("train.py"):], folder
        self.thread = threading.Thread(target=lambda: self.ends.append(commands.warm(*given)))
        self.thread.start()

    def poll(self):
        return self.ends[0][0] if self.ends else None

    returncode = property(poll)

    def send_signal(self, number):
        os.kill(commands.children(commands._warm().pid)[-1], number)

    def communicate(self, timeout):
        self.thread.join()
        return self.ends[0][1] + self.ends[0][2], None

    def kill(self):
        if self.thread.is_alive():
            self.send_signal(signal.SIGKILL)

    def wait(self):
        self.thread.join()


# of ResNet's and NYUD2's rows, which differ in flags alone, some
TOYS = [name for name in CHECKS if not name.startswith(("ResNet", "NYUD2, bf16")) or "second pass" in name or "resized" in name]


@pytest.mark.parametrize("check", TOYS)
def test_the_gpu_check_runs_at_toy_size_on_a_cpu(check, monkeypatch):
    function, how = CHECKS[check]
    monkeypatch.setattr(gpu_runs, "started", Forked)  # torch is imported once, not by every program
    monkeypatch.setattr(gpu_runs, "two_at_once", lambda words: commands.execute_ranks(words, ROOT))
    monkeypatch.setattr(gpu_runs, "run_script", lambda folder, words: commands.execute([str(word) for word in words], folder))
    try:
        found = function(CPU, TOY, **{**how, **({"amp": "bf16"} if how.get("amp") == "fp16" else {})})
    except Skipped:
        assert check in ("no waiting in a step", "waits of a model's step", "DataParallel")
    else:
        assert found.get("apart", 0) == 0
        assert all(value > 0 for name, value in found.items() if name.endswith("/s"))


@pytest.mark.parametrize("check", ["as on the CPU", "epochs and FDS as on the CPU", "resume"])
def test_a_device_that_rounds_otherwise_stays_within_the_stated_distance(check, monkeypatch):
    """A GPU adds in another order. A parameter whose gradient is rounding alone would end anywhere under Adam."""
    plain, draw = nn.functional.linear, np.random.default_rng(0)

    def linear(x, weight, bias=None):
        if draw.random() < 0.5:
            return plain(x, weight, bias)
        return plain(x.double(), weight.double(), None if bias is None else bias.double()).to(x.dtype)

    monkeypatch.setattr(nn.functional, "linear", linear)
    function, how = CHECKS[check]
    assert 0 < function(CPU, TOY, **how)["apart"] < 1e-4


def test_a_second_pass_is_timed_as_the_loop_makes_it(monkeypatch):
    """Under autocast and on smoothed features where FDS asks for them, and not while the first call sets things up."""
    prepared = gpu_models.a_resnet(CPU, TOY, amp="bf16", fds="released")
    model, calls = prepared[0].model, []
    model.register_forward_pre_hook(lambda module, inputs: calls.append((torch.is_autocast_enabled("cpu"), len(inputs))))
    clocked = gpu_models.clocked
    monkeypatch.setattr(gpu_models, "clocked", lambda *given: calls.append("clocked") or clocked(*given))
    gpu_models.passing(prepared, 2)
    assert calls == [(True, 3)] * 2 + ["clocked"] + [(True, 3)] * 2


def test_a_process_whose_peer_has_failed_is_ended(monkeypatch):
    programs, start = [], gpu_runs.started
    monkeypatch.setattr(gpu_runs, "started", lambda *words, **env: programs.append(start(*words, **env)) or programs[-1])
    code = "import os, sys, time; sys.exit(3) if os.environ['RANK'] == '0' else time.sleep(60)"
    with pytest.raises(ValueError, match="exit code 3, not 0"):
        gpu_runs.two_at_once(["-c", code])
    assert [program.returncode for program in programs] == [3, -signal.SIGKILL]


def test_the_gpu_check_says_of_each_check_what_became_of_it(monkeypatch, tmp_path, capsys):
    def fails(device, size):
        raise ValueError("0.5 apart")

    def lacks(device, size):
        raise Skipped("needs a GPU")

    checks = {"fine": (lambda device, size, **how: {"rows": size["rows"], **how}, {"amp": "none"}), "bad": (fails, {}),
              "absent": (lacks, {}), "in fp16": (fails, {"amp": "fp16"}), "not asked for": (fails, {})}
    monkeypatch.setattr(gpu_check, "CHECKS", checks)
    monkeypatch.setattr(gpu_check.logging, "disable", lambda level: None)
    out = tmp_path / "gpu.json"
    words = ["--toy", "--device", "cpu", "--json", str(out), "--only", "fine", "bad", "absent", "in fp16"]
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *words])
    with pytest.raises(SystemExit) as end:
        gpu_check.main()
    assert end.value.code == 1
    rows = {row["check"]: row for row in json.loads(out.read_text())["checks"]}
    assert {name: row["said"] for name, row in rows.items()} == {
        "fine": "ok", "bad": "FAIL: ValueError: 0.5 apart", "absent": "skipped: needs a GPU",
        "in fp16": "skipped: not at toy size",
    }
    assert (rows["fine"]["rows"], rows["fine"]["amp"]) == (TOY["rows"], "none")
    assert capsys.readouterr().out.count("\n") == 5


def test_dense_maps_are_observed_without_waiting_and_unknown_pixels_left_out(monkeypatch):
    """The way of an accelerator, taken on the CPU: the same statistics as when the values may be looked at."""
    torch.manual_seed(0)
    features, depth = 1e3 + torch.randn(2, 5, 6, 7), 5 * torch.rand(2, 1, 6, 7)
    known = torch.rand(2, 1, 6, 7) > 0.4
    plain, quiet, gone = (FDS(5, bins=toy.BINS, ks=3) for _ in range(3))
    plain.observe(features, depth, known)
    for module in (FDS.__module__,):
        monkeypatch.setattr(sys.modules[module], "may_look", lambda values: False)
    monkeypatch.setattr("imbalanced_regression.methods.bin_statistics._DEVICE_BLOCK", 64)
    quiet.observe(features, depth, known)
    for fds in (plain, quiet):
        fds.finish_epoch(0)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(quiet.state_dict()[name], value, rtol=1e-6, atol=0)
    depth[0, 0, 0, 0] = np.nan
    gone.observe(features, depth)
    with pytest.raises(ValueError, match="labels: 1 of epoch 0 are NaN or infinite"):
        gone.finish_epoch(0)
    meta = torch.device("meta")
    FDS(5, bins=toy.BINS, ks=3).to(meta).observe(*(part.to(meta) for part in (features, depth, known)))


def test_the_loss_is_looked_at_every_print_freq_steps_only(monkeypatch):
    looked = []
    check = epochs._check
    monkeypatch.setattr(epochs, "_check", lambda pending, *rest: (looked.append(len(pending)), check(pending, *rest)))
    toy.one_epoch(toy.make_model(), criterion=weighted_mse_loss, print_freq=3)
    assert looked == [1, 1, 1, 1]  # on the CPU looking costs nothing
    looked.clear()
    monkeypatch.setattr(epochs, "LOOKS_AT_ONCE", ())
    toy.one_epoch(toy.make_model(), criterion=weighted_mse_loss, print_freq=3)
    assert looked == [3, 1]
