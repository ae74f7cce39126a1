"""Several processes, and scripts as a user runs them, on one GPU: the checks of gpu_check.py that go through torch's groups,
signals and a benchmark folder's own commands.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from gpu_equal import rows, small_model, small_run
from gpu_steps import ROOT, Skipped, clocked, close, expect, method_step, nn_mse, tf32_set
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from imbalanced_regression.tools.folders import run_script
from imbalanced_regression.training import Objective, Plan, Runtime
from imbalanced_regression.training.log import end_log
from imbalanced_regression.training.objective import Moment
from imbalanced_regression.training.session import prepare
from imbalanced_regression.training.step import train_step

LONGEST = 120.0  # seconds after which a program that a check has started has hung

# -- groups of processes -----------------------------------------------------------------------------------------------


def one_process(device: torch.device, size: dict) -> dict:
    """DistributedDataParallel and SyncBatchNorm over NCCL in a group of one equal the plain model."""
    with tempfile.TemporaryDirectory() as folder, tf32_set(False):
        bound = {"device_id": device} if device.type == "cuda" else {}
        dist.init_process_group("nccl" if bound else "gloo", store=dist.FileStore(f"{folder}/store", 1), rank=0, world_size=1,
                                **bound)
        try:
            ends = []
            for wraps in (False, True):
                training, batch, moment, plan = method_step(device)
                training.model.encoder[3].p = 0.0
                if wraps:
                    if device.type == "cuda":
                        nn.SyncBatchNorm.convert_sync_batchnorm(training.model)
                    training.wrapped = DistributedDataParallel(
                        training.model, device_ids=[device.index] if bound else None, gradient_as_bucket_view=True)
                for _ in range(3):
                    train_step(training, batch, moment, plan, fds_epoch=0)
                ends.append({name: value.cpu() for name, value in training.model.state_dict().items()})
            dist.barrier()
        finally:
            dist.destroy_process_group()
    return {"apart": close(*ends)}


def two_processes(device: torch.device, size: dict) -> dict:
    """Two processes on the one device, over gloo, end where one ends: with BatchNorm over both, and where in the last batch
    one of them has no sample. Milliseconds of a step with BatchNorm over both, and over each process's own.
    """
    kinds = {"norm": (True, 34), "absent": (False, 33)}  # of 33 rows in batches of 16 the last has one
    with tempfile.TemporaryDirectory() as folder, tf32_set(False):
        two_at_once([str(Path(__file__).resolve()), folder, str(device), json.dumps(kinds), str(size["steps"])])
        apart = 0.0
        for kind, (norm, count) in kinds.items():
            one = small_run(Path(folder) / f"{kind} alone", Runtime(device), small_model(dropout=0.0, norm=norm), rows(count),
                            batch_size=16, fds_stats="streaming")
            both = torch.load(Path(folder) / f"{kind}.pt", weights_only=True)
            apart = max(apart, close(one, both))
        times = json.loads((Path(folder) / "times.json").read_text())
    return {"ranks apart": apart, **times}


def _one_of_two(rank: int, folder: str, name: str, kinds: dict[str, tuple[bool, int]], steps: int) -> None:
    """What a process of `two_processes` does; the first writes down what both have come to."""
    device = torch.device(name)
    torch.set_num_threads(1)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", 2), rank=rank, world_size=2,
                            timeout=timedelta(seconds=LONGEST))
    try:
        with tf32_set(False):
            for kind, (norm, count) in kinds.items():
                end = small_run(Path(folder) / kind, Runtime(device, rank, 2), small_model(dropout=0.0, norm=norm), rows(count),
                                batch_size=16, fds_stats="streaming")
                if rank == 0:
                    torch.save(end, f"{folder}/{kind}.pt")
            times = {}
            for kind, local in (("synchronised", False), ("local", True)):
                plan = Plan(lr=1e-3, batch_size=16)
                training = prepare(small_model(norm=True), Objective(nn_mse), plan, Runtime(device, rank, 2, local_bn=local))
                training.wrapped.train()
                batch = tuple(part[rank::2].to(device) for part in rows(16).tensors)

                def step(training=training, batch=batch, plan=plan) -> Tensor:
                    return train_step(training, batch, Moment(epochs=4), plan, fds_epoch=0)

                clocked(step, device, 3)  # the first ones, between which torch orders the gradients that it sends anew
                times[f"{kind} (ms)"] = float(f"{1000 * clocked(step, device, steps):.3g}")
        if rank == 0:
            Path(folder, "times.json").write_text(json.dumps(times))
    finally:
        dist.destroy_process_group()


# -- scripts -----------------------------------------------------------------------------------------------------------

TABLE = ROOT / "uci-dir"  # its sample is in the checkout
TABLES_FLAGS = ("--data_dir", "sample", "--fds", "--fds_kind", "own", "--fds_stats", "streaming", "--print_freq", "1",
                "--batch_size", "64")


def two_at_once(words: list[str]) -> None:
    """Python on `words` in two processes that know their RANK."""
    with started(words, ROOT, RANK="0") as first, started(words, ROOT, RANK="1") as second:
        try:
            for program in (first, second):
                ended(program, 0)
        finally:
            for program in (first, second):  # where one has failed the other waits for it, and holds its part of the GPU
                program.kill()


def started(words: list[str], folder: Path, **more: str) -> subprocess.Popen[str]:
    """Python on `words` in a folder, what it says in one pipe; `more` are variables of its environment."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **more}
    return subprocess.Popen([sys.executable, *words], cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ended(program: subprocess.Popen[str], code: int) -> str:
    """What a program has said, which must end with `code`. Raises Skipped for one that lacks a package."""
    try:
        said = program.communicate(timeout=LONGEST)[0]
    except subprocess.TimeoutExpired:
        program.kill()
        raise ValueError(f"not ended after {LONGEST:g} s: {program.communicate()[0][-500:]}") from None
    if "No module named" in said:
        raise Skipped("needs " + said.rpartition("No module named ")[2].splitlines()[0])
    expect(program.returncode == code, f"exit code {program.returncode}, not {code}: {said[-500:]}")
    return said


def torchrun(device: torch.device, size: dict) -> dict:
    """A train.py under torchrun with one process, over NCCL on a GPU: it starts, gathers, saves and leaves, with no warning."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1", "train.py", *TABLES_FLAGS,
                 "--epochs", "2", "--store_root", folder, "--device", device.type]
        said = ended(started(words, TABLE), 0)
        expect(len(list(Path(folder).glob("*/metrics.json"))) == 1, f"no metrics were written: {said[-300:]}")
    warnings = [line for line in said.splitlines() if "warn" in line.lower() or "NCCL" in line]
    return {"warnings": len(warnings), **({"the first": warnings[0][:120]} if warnings else {})}


def terminated(device: torch.device, size: dict) -> dict:
    """SIGTERM in the midst of an epoch: exit code 143, a checkpoint within `print_freq` steps, and no word of a group."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["train.py", *TABLES_FLAGS, "--epochs", "100000", "--store_root", folder, "--device", str(device)]
        program = started(words, TABLE)
        try:
            end = time.monotonic() + LONGEST
            while program.poll() is None and not list(Path(folder).glob("*/ckpt.pth.tar")):
                expect(time.monotonic() < end, f"no checkpoint after {LONGEST:g} s")
                time.sleep(0.05)
            program.send_signal(signal.SIGTERM)
            said = ended(program, 143)
        finally:
            program.kill()
            program.wait()
    expect("is saved, --resume goes on from there" in said, f"said: {said[-300:]}")
    expect("NCCL" not in said and "Traceback" not in said, f"said: {said[-300:]}")
    return {}


def sample(device: torch.device, size: dict) -> dict:
    """AgeDB-DIR's drawn sample by its own scripts: made, trained with FDS, bf16 and channels_last, and its test again.

    The predictions of --evaluate are those of the run's own test.
    """
    folder = ROOT / "agedb-dir"
    with tempfile.TemporaryDirectory() as place:
        data, store, again = f"{place}/data", f"{place}/runs", f"{place}/again.csv"
        side = str(max(32, size["compiled_pixels"]))
        flags = ["--data_dir", data, "--store_root", store, "--model", "resnet18", "--img_size", side, "--batch_size", "32",
                 "--workers", "0", "--device", str(device), "--channels_last", "--fds",
                 "--amp", "bf16" if device.type == "cuda" else "none"]  # a CPU without units for bf16 takes 20 times as long
        began = time.perf_counter()
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level  # which a script puts its own in the place of
        try:
            run_script(folder, ["make_sample.py", "--train", 8 * size["drawn"] + 34, "--per_age", 1, "--size", side,
                                "--workers", 1, "--out", data])
            few(Path(data, "agedb.csv"), size["drawn"])
            run_script(folder, ["train.py", *flags, "--epoch", 1])
            (run,) = Path(store).iterdir()
            end_log(run)
            best = ["--resume", run / "ckpt.best.pth.tar"]
            run_script(folder, ["train.py", *flags, "--evaluate", *best, "--predictions", again])
        except ModuleNotFoundError as error:
            raise Skipped(f"needs {error.name}") from None
        except SystemExit as end:
            raise ValueError(f"a script ended with exit code {end.code}") from None
        finally:
            root.handlers[:], root.level = handlers, level
        trained, evaluated = (numbers(Path(path)) for path in (run / "predictions.csv", again))
    apart = float((trained - evaluated).abs().max() / trained.abs().max())
    expect(apart < 1e-3, f"--evaluate predicts {apart:.2g} apart")
    return {"seconds": round(time.perf_counter() - began, 1), "images": len(trained)}


def few(table: Path, count: int) -> None:
    """Keep a part of the rows of validation and test, of which one of each age is the least that is drawn."""
    header, *lines = table.read_text().splitlines()
    every = max(1, 10 // count)
    kept = [line for number, line in enumerate(lines) if line.endswith("train") or number % every == 0]
    table.write_text("\n".join([header, *kept, ""]))


def numbers(table: Path) -> Tensor:
    """The column `prediction` of a predictions.csv."""
    header, *lines = table.read_text().splitlines()
    column = header.split(",").index("prediction")
    return torch.tensor([float(line.split(",")[column]) for line in lines])


if __name__ == "__main__":  # a process of `two_processes`
    _one_of_two(int(os.environ["RANK"]), *sys.argv[1:3], json.loads(sys.argv[3]), int(sys.argv[4]))
