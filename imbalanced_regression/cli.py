"""What all command lines share: one-line errors, the flags of every benchmark, the run's name, and what the flags build.

Nothing heavy is imported before the arguments are parsed, so `train.py --help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from . import interrupt

if TYPE_CHECKING:
    from .methods.fds import FDS
    from .training.runtime import Runtime


class ArgumentParser(argparse.ArgumentParser):
    """argparse whose errors are one line and exit code 2, whose help shows defaults, and which takes no abbreviations."""

    def __init__(self, *args, **kwargs):
        kwargs = {"formatter_class": _HelpFormatter, "allow_abbrev": False, **kwargs}
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind each flag that has one; descriptions and examples keep their line breaks."""

    def _get_help_string(self, action):
        nothing = action.default is None or action.default is False or action.default == ""
        return action.help if nothing else super()._get_help_string(action)


# torch says these in RuntimeErrors
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory")
_WORKERS = {  # the first that fits
    ("shared memory", "killed by signal: Bus error", "</torch_"):
        "shared memory is full: it passes batches from the workers; pass fewer --workers (0 needs none) or a smaller "
        "--batch_size, or enlarge /dev/shm (docker run --shm-size 8g)",
    ("Too many open files", "ancdata"):
        "too many open files: each batch that waits for the workers takes some; pass fewer --workers, or raise the limit "
        "(ulimit -n 4096)",
    ("killed by signal", "exited unexpectedly"):
        "a process that loads data was killed from outside, most often because memory ran out; pass fewer --workers or a "
        "smaller --batch_size",
}


def guard(main: Callable[[], None]) -> None:
    """Run a script's `main()`; what a user can mend (ValueError, OSError) becomes one line on stderr and exit code 2.

    SIGTERM and SIGINT end it with a line too, and with exit codes 143 and 130, by convention 128 and the signal's number.
    """
    _open_streams()
    warnings.filterwarnings("error", message=".*decompression bomb")  # Pillow's: it would only warn, and unpack the image
    try:
        with interrupt.raised():
            main()
        sys.stdout.flush()  # here, where what fails is told as below
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(128 + 13)  # SIGPIPE's number, as other programs before `| head` end
        message = " ".join(str(error).split()) or type(error).__name__
        if getattr(error, "errno", None) == errno.EMFILE or _of_a_dead_worker(error):
            message = _way_out(error) or message
        elif isinstance(error, EOFError):
            raise
        print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        way_out = _way_out(error)
        if way_out is None:
            raise
        print(f"{Path(sys.argv[0]).name}: error: {way_out}", file=sys.stderr)
        sys.exit(2)
    except interrupt.Interrupted as signal:
        print(f"{Path(sys.argv[0]).name}: {signal}", file=sys.stderr)
        sys.exit(signal.exit_code)


def _open_streams() -> None:
    """Give every script a stdout and a stderr that take any text.

    Where the caller has closed one (`2>&-`, some schedulers) its number would go to the next file that is opened, a
    checkpoint say, and whatever is written to the stream would land there; so it leads nowhere instead.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif name != "stdin" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a character that the terminal cannot show ends no run


def _of_a_dead_worker(error: Exception) -> bool:
    """Whether an error came of asking a worker for a batch that it has promised: it died in between."""
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_globals.get("__name__") == "multiprocessing.resource_sharer":
            return True
        frame = frame.tb_next
    return False


def _way_out(error: Exception) -> str | None:
    """The sentence for an error that memory, workers or the system's limits are behind; None for any other."""
    said = "exited unexpectedly" if _of_a_dead_worker(error) else str(error)
    for words, sentence in _WORKERS.items():
        if any(word in said for word in words):
            return sentence
    if isinstance(error, MemoryError) or any(word in said for word in _OUT_OF_MEMORY):
        return "out of memory; a smaller batch or model may fit"
    return None


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that its reader has closed; then what is left for it goes nowhere, silently."""
    import select

    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


# -- the flags of train.py ---------------------------------------------------------------------------------------------

KERNELS = ("gaussian", "triang", "laplace")
REWEIGHTS = ("none", "sqrt_inv", "inverse")
FDS_KINDS = ("own", "released")
LOSSES = ("mse", "l1", "focal_l1", "focal_mse", "huber")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")  # all: the keys of the library's tables, without torch


def add_training_flags(
    parser: ArgumentParser,
    *,
    loss: str,
    lds_ks: int,
    lds_sigma: float,
    fds_ks: int,
    fds_sigma: float,
    bucket_num: int,
    bucket_start: int,
    lr: float,
    batch_size: int,
    print_freq: int = 10,
    workers: int = 4,
    data_dir: str = "./data",
    fds_stats: str = "streaming",
) -> None:
    """The flags that every benchmark has, with the defaults that are the benchmark's own."""
    group = parser.add_argument_group("imbalanced regression")
    group.add_argument("--reweight", choices=REWEIGHTS, default="none", help="weigh samples by the (smoothed) label density")
    group.add_argument("--lds", action="store_true", help="label distribution smoothing of that density")
    group.add_argument("--lds_kernel", choices=KERNELS, default="gaussian", help="LDS: the kernel")
    group.add_argument("--lds_ks", type=int, default=lds_ks, help="LDS: window length in bins, odd")
    group.add_argument("--lds_sigma", type=float, default=lds_sigma, help="LDS: kernel width in bins")
    group.add_argument("--fds", action="store_true", help="feature distribution smoothing")
    group.add_argument("--fds_kernel", choices=KERNELS, default="gaussian", help="FDS: the kernel")
    group.add_argument("--fds_ks", type=int, default=fds_ks, help="FDS: window length in bins, odd")
    group.add_argument("--fds_sigma", type=float, default=fds_sigma, help="FDS: kernel width in bins")
    group.add_argument("--start_update", type=int, default=0, help="FDS: first epoch whose features give statistics")
    group.add_argument("--start_smooth", type=int, default=1, help="FDS: first epoch that is smoothed")
    group.add_argument("--bucket_num", type=int, default=bucket_num, help="FDS: number of bins")
    group.add_argument("--bucket_start", type=int, default=bucket_start, help="FDS: first bin with statistics of its own")
    group.add_argument("--fds_mmt", type=float, default=0.9, help="FDS: share of the old statistics kept at each update")
    group.add_argument(
        "--fds_stats", choices=("second_pass", "streaming"), default=fds_stats,
        help="FDS: statistics from a pass over the training set after each epoch, as published, or without that from the "
             "epoch's own forward passes",
    )
    group.add_argument("--fds_kind", choices=FDS_KINDS, default="own",
                       help="FDS: ours, or the first release's with the feedback of its statistics")
    group.add_argument("--retrain_fc", action="store_true", help="RRT: re-train the head on a frozen encoder (--pretrained)")

    group = parser.add_argument_group("training")
    group.add_argument("--loss", choices=LOSSES, default=loss, help="the training loss")
    group.add_argument("--lr", type=float, default=lr, help="learning rate")
    group.add_argument("--batch_size", type=int, default=batch_size, help="samples per step, over all GPUs and processes")
    group.add_argument("--seed", type=int, default=0, help="seed of everything drawn at random")
    group.add_argument("--workers", type=int, default=workers, help="processes that load data, for each training process")
    group.add_argument("--device", default=None, help="cpu, cuda, cuda:1 or mps; default: all visible GPUs, else the CPU")
    group.add_argument("--amp", choices=("none", "bf16", "fp16"), default="none", help="mixed precision")
    group.add_argument("--compile", action="store_true", help="compile the model (torch.compile)")
    group.add_argument("--channels_last", action="store_true", help="images in channels-last order")

    group = parser.add_argument_group("files")
    group.add_argument("--data_dir", default=data_dir, help="where the data lies")
    group.add_argument("--store_root", default="checkpoint", help="where the folders of runs are made")
    group.add_argument("--store_name", default="", help="put into the name of the run's folder")
    group.add_argument(
        "--resume", nargs="?", const="", default=None, metavar="CKPT",
        help="go on from a checkpoint; without a path from the run's own last one, or from the start if it has none",
    )
    group.add_argument("--evaluate", action="store_true", help="only measure the checkpoint given by --resume")
    group.add_argument("--predictions", default="", metavar="CSV", help="--evaluate: write the test predictions to this file")
    group.add_argument("--pretrained", default="", metavar="CKPT", help="start from the encoder of a checkpoint")
    group.add_argument("--overwrite", action="store_true", help="delete the run's folder if it exists")
    group.add_argument("--print_freq", type=int, default=print_freq, help="steps between lines of the log")
    # what the loop reads and only some benchmarks have a flag for
    parser.set_defaults(steps=None, patience=None, max_grad_norm=None, schedule=[], weight_decay=0.0, momentum=0.9)


def check_training_flags(args) -> None:
    """Raise ValueError for flags that do not go together or are out of range, with the way out."""
    from .methods.windows import get_lds_kernel_window

    if args.lds and args.reweight == "none":
        raise ValueError("--lds: smooths the weights of --reweight, found 'none'; add --reweight sqrt_inv or inverse")
    for name in ("lds", "fds"):
        window = {part: getattr(args, f"{name}_{part}") for part in ("kernel", "ks", "sigma")}
        try:
            get_lds_kernel_window(**window)
        except ValueError as error:
            raise ValueError(f"--{name}_{error}") from None
    if args.fds and args.fds_kind == "released" and args.fds_stats != "second_pass":
        raise ValueError(f"--fds_stats: --fds_kind released takes its statistics from a second pass, found {args.fds_stats}; "
                         "add --fds_stats second_pass")
    if args.retrain_fc and not args.pretrained:
        raise ValueError("--retrain_fc: re-trains the head of a trained model; pass it by --pretrained CKPT")
    if args.retrain_fc and args.reweight == "none":
        raise ValueError("--retrain_fc: re-trains with weights, found --reweight none; add --reweight sqrt_inv or inverse")
    if args.evaluate and args.resume is None:
        raise ValueError("--evaluate: measures a checkpoint; pass it by --resume CKPT (--resume alone: the run's own best)")
    if args.predictions and not args.evaluate:
        raise ValueError("--predictions: goes with --evaluate; a run that trains writes predictions.csv into its folder")
    if args.predictions and not Path(args.predictions).parent.is_dir():
        raise ValueError(f"--predictions: there is no folder {Path(args.predictions).parent}; make it first")
    check_least(args, batch_size=1, print_freq=1, workers=0, epochs=1, steps=1, patience=1, seed=0, start_update=0,
                start_smooth=0, weight_decay=0)
    check_above_0(args, "lr", "max_grad_norm")
    if args.seed >= 2**63:
        raise ValueError(f"--seed: expected a number below 2^63, found {args.seed}")
    if not 0 <= args.bucket_start < args.bucket_num:
        raise ValueError(f"--bucket_start: expected 0 to --bucket_num - 1 = {args.bucket_num - 1}, found {args.bucket_start}")
    check_shares(args, "fds_mmt")


def run_name(args, dataset: str, model: str, *, optimizer: str, default_seed: int = 0) -> str:
    """The published name of a run: data set, model, the methods with their settings, optimizer, loss, rate and batch.

    A seed other than the default comes last, so that runs of several seeds lie beside one another.
    """
    parts = [dataset, model]
    if args.store_name:
        parts.append(args.store_name)
    if args.lds:
        parts.append(_window_name("lds", args.lds_kernel, args.lds_ks, args.lds_sigma))
    elif args.reweight != "none":
        parts.append(args.reweight)
    if args.fds:
        window = _window_name("fds", args.fds_kernel, args.fds_ks, args.fds_sigma)
        parts.append(f"{window}_{args.start_update}_{args.start_smooth}_{args.fds_mmt:g}" + ("" if args.fds_kind == "own" else f"_{args.fds_kind}"))
    if args.retrain_fc:
        parts.append("retrain_fc")
    parts += [optimizer, args.loss, f"{args.lr:g}", str(args.batch_size)]
    if args.seed != default_seed:
        parts.append(f"seed{args.seed}")
    return "_".join(parts)


def _window_name(method: str, kernel: str, ks: int, sigma: float) -> str:
    return f"{method}_{kernel[:3]}_{ks}" + (f"_{sigma:g}" if kernel in ("gaussian", "laplace") else "")


# -- what the flags build ----------------------------------------------------------------------------------------------


def run_folder(args, name: str, runtime: Runtime) -> Path:
    """The run's folder under --store_root. It is made, or cleared for --overwrite, only once training can begin.

    Raises ValueError where the folder exists and no flag says what to do with it.
    """
    folder = Path(args.store_root) / name
    if (length := len(os.fsencode(name))) > 255:
        raise ValueError(
            f"--store_name: the run's folder would have a name of {length} bytes, above the 255 that systems allow; pass a "
            f"shorter one ({name[:40]}...)"
        )
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"--store_name, --store_root: {os.fsencode(folder)!r} holds letters that this locale lacks; set PYTHONUTF8=1, or "
            "pass plain ones"
        ) from None
    if runtime.is_main and folder.exists() and args.resume is None and not args.overwrite:
        raise ValueError(f"{folder} exists; --resume goes on with it, --overwrite replaces it, --store_name names another")
    return folder


def fds_settings(args) -> dict:
    """The flags as arguments of a benchmark's `FDS`."""
    return {
        "bucket_num": args.bucket_num, "bucket_start": args.bucket_start, "start_update": args.start_update,
        "start_smooth": args.start_smooth, "kernel": args.fds_kernel, "ks": args.fds_ks, "sigma": args.fds_sigma,
        "momentum": args.fds_mmt, "kind": args.fds_kind,
    }


def build_fds(args, fds: Callable[..., FDS], feature_dim: int) -> FDS | None:
    """The benchmark's FDS as the flags describe it, or None without --fds."""
    if not args.fds:
        return None
    try:
        return fds(feature_dim, **fds_settings(args))
    except ValueError as error:
        raise ValueError(f"--fds_{error}") from None


def lds_window(args) -> dict:
    """The flags as arguments of `lds.label_density`."""
    return {"kernel": args.lds_kernel, "ks": args.lds_ks, "sigma": args.lds_sigma}


def check_least(args, **least: float) -> None:
    """Raise ValueError for a flag below the least value given for it."""
    for name, bound in least.items():
        value = getattr(args, name)
        if value is not None and value < bound:
            raise ValueError(f"--{name}: expected at least {bound}, found {value}")


def check_above_0(args, *names: str) -> None:
    """Raise ValueError for a flag that is not a number above 0."""
    for name in names:
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name}: expected a number above 0, found {value}")


def check_shares(args, *names: str) -> None:
    """Raise ValueError for a flag that is not a share: at least 0 and below 1."""
    for name in names:
        if not 0 <= getattr(args, name) < 1:
            raise ValueError(f"--{name}: expected at least 0 and below 1, found {getattr(args, name)}")
