"""One GPU, one command, under 8 minutes: what every model and method takes there, and that it does what a CPU does.

    python benchmarks/gpu_check.py --json benchmarks/gpu.json     # from the root of the checkout; needs torch and torchvision
    python benchmarks/gpu_check.py --toy --device cpu             # tiny sizes: that it runs; no number means anything

The data are random tensors of real size, so nothing is downloaded. A line for each check, with its numbers; "FAIL" for one
that raised or went beyond its stated distance, "skipped" for one that needs what is not there. The exit code is 1 where one
failed. Once `--seconds` are spent, what is left is skipped; so what matters most comes first.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from gpu_equal import (
    as_on_the_cpu,
    compiled,
    data_parallel,
    epochs_as_on_the_cpu,
    generators,
    grad_scaler,
    recurrent,
    resumed,
    resumed_elsewhere,
    too_large,
    whole_labels,
)
from gpu_models import (
    checkpoints,
    depth,
    each_method,
    loader,
    nights,
    no_waiting,
    observing,
    resnet,
    sentences,
    waits,
)
from gpu_runs import one_process, sample, terminated, torchrun, two_processes
from gpu_steps import FULL, TOY, Skipped

BF16, LAST = {"amp": "bf16"}, {"amp": "bf16", "channels_last": True}

CHECKS: dict[str, tuple[Callable[..., dict], dict]] = {
    "as on the CPU": (as_on_the_cpu, {}),
    "epochs and FDS as on the CPU": (epochs_as_on_the_cpu, {}),
    "G-Mean of whole labels under bf16": (whole_labels, {}),
    "recurrent layers under bf16": (recurrent, {}),
    "no waiting in a step": (no_waiting, {}),
    "generators": (generators, {}),
    "resume": (resumed, {}),
    "resume on the CPU and back": (resumed_elsewhere, {}),
    "GradScaler": (grad_scaler, {}),
    "DDP and SyncBatchNorm, one process": (one_process, {}),
    "two processes on one GPU": (two_processes, {}),
    "DataParallel": (data_parallel, {}),
    "a batch too large": (too_large, {}),
    "ResNet, fp32": (resnet, {"tf32": False}),
    "ResNet, tf32": (resnet, {}),
    "ResNet, tf32, channels_last": (resnet, {"channels_last": True}),
    "ResNet, bf16": (resnet, BF16),
    "ResNet, bf16, channels_last": (resnet, LAST),
    "ResNet, bf16, channels_last, no search": (resnet, {**LAST, "search": False}),
    "ResNet, fp16, channels_last": (resnet, {**LAST, "amp": "fp16"}),
    "ResNet, bf16, channels_last, LDS + FDS streaming": (resnet, {**LAST, "fds": "own"}),
    "ResNet, bf16, channels_last, LDS + FDS second pass": (resnet, {**LAST, "fds": "released", "second_pass": True}),
    "NYUD2, tf32": (depth, {}),
    "NYUD2, bf16": (depth, BF16),
    "NYUD2, bf16, resized in float32": (depth, {**BF16, "plain_resize": True}),
    "STS-B, tf32": (sentences, {}),
    "STS-B, bf16": (sentences, BF16),
    "STS-B, fp16": (sentences, {"amp": "fp16"}),
    "STS-B, tf32, flattened in each step": (sentences, {"flattened": True}),
    "SHHS, bf16": (nights, BF16),
    "SHHS, bf16, norms in float32": (nights, {**BF16, "plain_norms": True}),
    "SHHS, tf32": (nights, {}),
    "waits of a model's step": (waits, {}),
    "FDS beside the step (ms)": (observing, {}),
    "checkpoints of STS-B": (checkpoints, {}),
    "every method's step (ms)": (each_method, {}),
    "loading faces": (loader, {}),
    "torchrun, one process": (torchrun, {}),
    "SIGTERM within an epoch": (terminated, {}),
    "AgeDB-DIR's sample, trained and evaluated": (sample, {}),
    "compiled ResNet-18, three epochs": (compiled, {}),
    "compiled BiLSTM, three epochs": (compiled, {"pairs": True}),
    "ResNet, bf16, channels_last, compiled": (resnet, {**LAST, "compile": True}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="the GPU, or cpu")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, nothing compiled")
    parser.add_argument("--seconds", type=float, default=450, help="no check begins after so many")
    parser.add_argument("--only", nargs="*", default=None, help="parts of the names of checks")
    parser.add_argument("--json", default="", metavar="FILE", help="where to write the numbers")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    device = torch.device("cuda:0" if args.device == "cuda" else args.device)  # of one GPU: torch asks for its number
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    about = {"date": str(datetime.date.today()), "card": card, "torch": torch.__version__, "toy": args.toy,
             "cuda": torch.version.cuda, "cores": os.cpu_count()}
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    began, rows = time.perf_counter(), []
    for name, (check, how) in CHECKS.items():
        if args.only is not None and not any(part in name for part in args.only):
            continue
        start, found, said = time.perf_counter(), {}, "ok"
        try:
            if start - began > args.seconds:
                raise Skipped("no time is left")
            if args.toy and (how.get("compile") or how.get("amp") == "fp16" and device.type == "cpu"):
                raise Skipped("not at toy size")
            found = check(device, TOY if args.toy else FULL, **how)
        except Skipped as why:
            said = f"skipped: {why}"
        except Exception as error:  # the checks after it are worth as much
            said = f"FAIL: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        gc.collect()  # a model that only a cycle holds would be in the next check's memory
        if device.type == "cuda":
            torch.cuda.empty_cache()
        rows.append({"check": name, "said": said, "took": round(time.perf_counter() - start, 1), **found})
        numbers = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) and key == "apart" else f"{key} {value}"
                            for key, value in found.items())
        print(f"{name:<52} {rows[-1]['took']:>6.1f} s  {said}  {numbers}", flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps({**about, "checks": rows}, indent=1) + "\n")
    sys.exit(1 if any(row["said"].startswith("FAIL") for row in rows) else 0)


if __name__ == "__main__":
    main()
