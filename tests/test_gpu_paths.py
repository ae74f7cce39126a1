"""Compiled models, groups of processes and scripts on GPUs, shown without one: by what is compiled, asked, kept and read."""

from __future__ import annotations

import runpy
import signal
import sys
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import toy
from commands import ROOT, from_folder
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from imbalanced_regression import Regressor, cli, flags
from imbalanced_regression.interrupt import Interrupted
from imbalanced_regression.tools.folders import importable
from imbalanced_regression.training import Objective, Plan, checkpoint, epochs, precision, randomness, runtime
from imbalanced_regression.training.loaders import EpochDraws, Feed
from imbalanced_regression.training.runtime import Runtime
from imbalanced_regression.training.session import Training, prepare

sys.path.append(str(ROOT / "benchmarks"))
from fake_gpu import fake_gpu  # noqa: E402  # found through the path set above

CPU, NYU = torch.device("cpu"), ROOT / "nyud2-dir"

# -- compiled models ---------------------------------------------------------------------------------------------------


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that modules are compiled to; they run as they are."""
    found = []
    compile_ = nn.Module.compile

    def keep(graph, inputs):
        found.append(graph)
        return graph

    monkeypatch.setattr(nn.Module, "compile", lambda module, **how: compile_(module, backend=keep, **how))
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def nights(*lengths: int) -> dict:
    longest = max(lengths)
    inputs = {name: torch.randn(len(lengths), longest, channels, 64)
              for name, channels in (("eeg", 1), ("ecg", 1), ("breathing", 3))}
    return {**inputs, "lengths": torch.tensor(lengths)}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of tracing a GRU, where one is
def test_nights_of_ever_other_lengths_are_compiled_once(graphs, monkeypatch):
    """The number of segments changes from batch to batch; a graph that holds all of them would be compiled anew each time."""
    models = from_folder("shhs-dir", "models")
    monkeypatch.setattr(models, "CHANNELS", {"eeg": 1})  # one of three encoders alike: compiling takes seconds
    encoder = models.NightEncoder(width=4, d_hid=8, segment=4)
    model = Runtime(compile=True).wrap(Regressor(encoder, models.make_head(encoder.feature_dim, 50.0)))
    counts = []
    for lengths in ((4, 2), (5, 5), (9, 5), (15, 11)):  # 2, 3, 4 and 7 segments
        model(nights(*lengths))[0].sum().backward()
        counts.append(len(graphs))
    assert counts[0] > 0
    assert counts[1:] == counts[1:2] * 3, counts


def test_pictures_of_the_report_compile_nothing_and_are_predicted_as_in_training(graphs, monkeypatch):
    """A compiled model would be compiled whole once more, for batches of one image."""
    utils = from_folder("nyud2-dir", "utils")
    monkeypatch.setitem(sys.modules, "nyu_transform", from_folder("nyud2-dir", "nyu_transform"))
    model = Regressor(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 1, 1))
    seen = []
    model.encoder.register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
    ranks = Runtime(CPU, amp=torch.bfloat16, compile=True)
    ranks.wrap(model)
    data = [(torch.randn(3, 6, 8), torch.ones(1, 12, 16), torch.ones(1, 12, 16))] * 5
    shown = utils.examples(model, data, ranks)
    assert not graphs
    assert seen == [torch.bfloat16] * len(shown)
    assert all(image.shape == (6, 8, 3) and preds.shape == depth.shape == (12, 16) for image, depth, preds in shown)


# -- nothing is kept, copied or waited for without need ----------------------------------------------------------------


def test_segments_are_computed_again_without_a_generators_state(monkeypatch):
    """Nothing in them draws, and DataParallel's threads would read and restore the same generators at once."""
    models = from_folder("shhs-dir", "models")
    encoder = models.SignalEncoder(1, width=4, d_hid=8, segment=9)
    inputs = nights(5, 3)
    true = models.Epochs.of(inputs["lengths"], 5)
    read, gradients = [], []
    monkeypatch.setattr(torch, "get_rng_state", lambda: read.append(1) or torch.default_generator.get_state())
    again = encoder._again
    monkeypatch.setattr(encoder, "_again", lambda part: read.append("again") or again(part))
    for encoder.segment in (9, 3):
        encoder.zero_grad()
        encoder(inputs["eeg"], true).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters()])
    assert read == ["again"] * 3  # 8 true epochs in segments of 3, and of 9 none twice
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


class Looked(TorchDispatchMode):
    """The operations whose result has as many rows as numbers say, as those wait for a GPU: `nonzero`, a mask as an index."""

    def __init__(self):
        super().__init__()
        self.at: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if masks or name in ("nonzero", "masked_select"):
            self.at.append(name)
        return function(*args, **(kwargs or {}))


def test_three_encoders_of_a_night_look_at_its_lengths_once():
    models = from_folder("shhs-dir", "models")
    encoder = models.NightEncoder(width=4, d_hid=8)
    inputs, fetched = nights(4, 2, 3), []
    lengths = inputs["lengths"]
    lengths.cpu = lambda: fetched.append(1) or torch.Tensor.cpu(lengths)
    with Looked() as looked:
        encoder(inputs).sum().backward()
    assert fetched == [1]
    assert looked.at == ["nonzero"]


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_recurrent_layer_waits_for_nothing_once_the_lengths_are_here(kind):
    """Told to sort the sequences, torch would send their order to the device and fetch it again. On "meta" fetching raises."""
    rnn, x = kind(3, 4, batch_first=True, bidirectional=True), torch.randn(4, 5, 3)
    lengths, sent = torch.tensor([2, 5, 4, 5]), []

    class Sent(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default:
                sent.append((kwargs or {}).get("non_blocking"))
            return function(*args, **(kwargs or {}))

    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    torchs_own = nn.utils.rnn.pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=5)[0]
    torch.testing.assert_close(precision.run_rnn(rnn, x, lengths), torchs_own)
    rnn, x = rnn.to("meta"), x.to("meta").requires_grad_()
    with Sent():
        precision.run_rnn(rnn, x, torch.empty(4, device="meta"), lengths).sum().backward()
    assert sent == [True, True]


def test_a_recurrent_layers_weights_are_flattened_for_replicas_only(monkeypatch):
    """They are copied whole by it, 302 MB for the BiLSTM of STS-B-DIR in each step."""
    gru, flattened = nn.GRU(3, 4, batch_first=True), []
    monkeypatch.setattr(gru, "flatten_parameters", lambda: flattened.append(1))
    monkeypatch.setattr(gru, "forward", lambda x: (x,))
    monkeypatch.setattr(precision, "pack_padded_sequence", lambda x, *lengths, **how: x)
    monkeypatch.setattr(precision, "pad_packed_sequence", lambda x, **how: (x,))
    with fake_gpu():
        x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2], device="cpu")
        precision.run_rnn(gru, x, lengths)
        assert not flattened
        gru._is_replica = True
        precision.run_rnn(gru, x, lengths)
    assert flattened == [1]


class Still(Runtime):
    """A device that is not there: whatever is meant for it stays where it is."""

    def place(self, module):
        return module

    def wrap(self, model):
        return model


@pytest.mark.parametrize(
    ("device", "amp", "fused"),
    [("cuda", torch.float16, True), ("cuda", torch.bfloat16, False), ("cuda", None, False), ("cpu", torch.float16, True),
     ("cpu", torch.bfloat16, True), ("cpu", None, True), ("mps", None, False)],
)
def test_a_step_is_fused_on_the_cpu_and_where_it_is_scaled(monkeypatch, device, amp, fused):
    """On the CPU it is then one call; a scaled one otherwise asks whether a gradient has overflowed, and waits for that."""
    asked, make = [], Plan.make_optimizer
    monkeypatch.setattr(Plan, "make_optimizer", lambda plan, groups, fused: asked.append(fused) or make(plan, groups))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*GradScaler is enabled, but CUDA is not available")
        prepare(toy.make_model(), Objective(nn.Identity()), toy.make_plan(), Still(torch.device(device), amp=amp))
    assert asked == [fused]


def test_the_generator_of_mps_goes_with_a_checkpoint(monkeypatch):
    states = [torch.tensor([7], dtype=torch.uint8)]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states[-1])
    monkeypatch.setattr(torch.mps, "set_rng_state", states.append)
    state = randomness.random_state(torch.device("mps"))
    states.append(torch.tensor([9], dtype=torch.uint8))
    randomness.set_random_state(state, torch.device("mps"))
    assert states[-1] == 7
    assert "mps" not in randomness.random_state(CPU)


# -- groups of processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def group(tmp_path):
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    runtime.stop()


def test_gradients_lie_in_the_buckets_that_are_sent(group):
    """No copy of them is kept, and none is made where `--channels_last` orders a gradient otherwise than its bucket."""
    model = toy.make_model()
    wrapped = Runtime(CPU, 0, 2).wrap(model)
    wrapped(torch.randn(3, 4))[0].sum().backward()
    gradients = [p.grad for p in model.parameters()]
    assert len(gradients) == 6
    assert len({gradient.untyped_storage().data_ptr() for gradient in gradients}) == 1


class Asked(Runtime):
    """One of two processes, which writes down how often all are asked for their largest number."""

    times: list[int] = []

    def max_over_ranks(self, number: int) -> int:
        self.times.append(number)
        return number


@pytest.mark.parametrize(("device", "world", "asked"), [("meta", 2, 3), ("cpu", 2, 6), ("meta", 1, 6)])
def test_the_second_pass_asks_processes_on_gpus_every_print_freq_batches_only(monkeypatch, device, world, asked):
    """Six batches, asked after the third and after the last; `meta` stands for an accelerator."""
    monkeypatch.setattr(Asked, "times", [])
    ranks = Asked(torch.device(device), 0, world)
    model = toy.make_model().to(device)
    data = toy.Toy(84, 0)
    feed = Feed(toy.Splits(data, data, data), toy.make_plan(), ranks)
    training = Training(model, model, None, None, None, ranks)
    epochs.observe_pass(training, feed, 0, SimpleNamespace(heard=0), print_freq=2)
    assert len(feed.stats) == 6
    assert len(Asked.times) == asked


def parsed(store):
    """The flags of a run on the CPU, checked."""
    parser = cli.ArgumentParser()
    flags.add(parser, {"loss": "l1", "lr": 1e-3, "batch_size": 4, "lds_ks": 5, "lds_sigma": 2, "fds_ks": 5, "fds_sigma": 2,
                       "bucket_num": 10, "bucket_start": 0})
    args = parser.parse_args(["--store_root", str(store), "--device", "cpu"])
    flags.plan(args)
    return args


@pytest.mark.parametrize("images", [True, False])
def test_images_search_for_convolutions_and_take_all_gpus_and_others_do_neither(monkeypatch, tmp_path, images):
    """Lengths change from step to step, and copies of a recurrent layer for each GPU would take longer than the step."""
    asked = []
    monkeypatch.setattr(runtime, "start", lambda *words, **how: asked.append(how) or Runtime())
    monkeypatch.setattr("imbalanced_regression.training.log.start_log", lambda ranks: None)
    with flags.started(parsed(tmp_path), "agedb", "resnet18", images=images):
        pass
    assert [(how["fixed_sizes"], how["spread"]) for how in asked] == [(images, images)]


class Draws(EpochDraws, toy.Toy):
    """The toy with draws by (seed, epoch, index)."""

    def __init__(self):
        EpochDraws.__init__(self, 0)
        toy.Toy.__init__(self, 8, 0)


@pytest.mark.parametrize("draws", [True, False])
def test_workers_live_on_where_draws_are_by_epoch_and_index(draws):
    """New ones every epoch would leave a GPU waiting for a first batch; others would draw on where the last epoch left them."""
    data = Draws() if draws else toy.Toy(8, 0)
    feed = Feed(toy.Splits(data, data, data), toy.make_plan(workers=1), Runtime())
    assert feed.train.persistent_workers == draws
    assert feed.val.persistent_workers


@pytest.mark.parametrize(
    ("error", "left"),
    [(None, 1), (Interrupted(signal.SIGTERM, "epoch 1 is saved"), 1), (Interrupted(signal.SIGTERM), 0), (ValueError("x"), 0)],
)
def test_processes_part_after_a_signal_that_all_have_come_to_and_after_no_error(monkeypatch, tmp_path, error, left):
    """NCCL warns of a group that is left standing; after an error others may still wait in it."""
    calls = []
    monkeypatch.setattr(runtime, "stop", lambda: calls.append(1))
    monkeypatch.setattr("imbalanced_regression.training.log.start_log", lambda ranks: None)
    args = parsed(tmp_path)
    with pytest.raises(type(error)) if error else nullcontext(), flags.started(args, "agedb", "resnet18"):
        if error:
            raise error
    assert len(calls) == left


# -- test.py of NYUD2-DIR ----------------------------------------------------------------------------------------------


class Rooms(torch.utils.data.Dataset):
    """Five rooms, each with a depth of its own."""

    def __init__(self, *given, mask=None):
        pass

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return torch.full((3, 32, 44), i / 5), torch.full((1, 16, 22), 1.0 + i), torch.ones(1, 16, 22)


class Third(Runtime):
    """One of three processes that measure one after the other; the last to come gathers what all have found."""

    found: dict[int, object] = {}

    def gather(self, value):
        self.found[self.rank] = value
        return [self.found[rank] for rank in sorted(self.found)]


def test_test_py_takes_one_gpu_and_reads_each_image_once_over_all_processes(monkeypatch, tmp_path, capsys):
    asked, turn = [], []
    monkeypatch.setattr(runtime, "start", lambda *words, **how: asked.append(how) or turn.pop())
    monkeypatch.setattr(Third, "found", {})
    data = {"TEST": "test", "DepthDataset": Rooms, "check_test": lambda *words: None, "read_mask": lambda *words: None,
            "read_pairs": lambda *words: range(5)}
    monkeypatch.setitem(sys.modules, "loaddata", SimpleNamespace(**data))
    torch.manual_seed(0)
    net = from_folder("nyud2-dir", "models.net")
    state = checkpoint.published_names(net.make_model("resnet18").state_dict(), net.PUBLISHED_TO_OURS)
    torch.save({"state_dict": state}, tmp_path / "model.pth")
    monkeypatch.setattr(sys, "argv", ["test.py", "--eval_model", str(tmp_path / "model.pth"), "--model", "resnet18",
                                      "--height", "32", "--width", "44", "--batch_size", "1", "--workers", "0"])
    said = []
    with importable(NYU):
        main = runpy.run_path(str(NYU / "test.py"))["main"]
        for ranks in (Runtime(), *(Third(CPU, rank, 3) for rank in (1, 2, 0))):
            turn.append(ranks)
            main()
            said.append(capsys.readouterr().out)
    alone, *others, first = said
    assert "RMSE" in alone
    assert others == ["", ""]  # one process speaks
    assert first == alone
    assert all(how == {"spread": False} for how in asked)  # DataParallel, which it never uses, refuses bf16
