"""The flags that every benchmark has, and the only place where parsed flags become a plan, a run's name and its parts.

The one idea: a benchmark hands over its own defaults by name, `flags.add(parser, DEFAULTS)`, and nothing below this file knows
that flags exist. Nothing heavy is imported before they are parsed, so `train.py --help` answers at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import choices, presets
from .cli import ArgumentParser, check_above_0, check_least, check_shares
from .interrupt import Interrupted
from .training.plan import Plan, plain

if TYPE_CHECKING:
    import numpy as np

    from .methods.fds import FDS
    from .training.runtime import Runtime

PRETRAIN_COSINE = 1e-3  # the share of itself to which the rate of a pre-training falls, as published


def add(parser: ArgumentParser, defaults: Mapping[str, Any], benchmark: str = "") -> None:
    """The flags of training, methods and files, with the defaults that are the benchmark's own, and its presets.

    Raises ValueError for a default of a flag that does not exist.
    """
    group = parser.add_argument_group("imbalanced regression")
    group.add_argument("--reweight", choices=tuple(choices.REWEIGHTS), default="none", help="weigh samples by label density")
    group.add_argument("--lds", action="store_true", help="label distribution smoothing of that density")
    group.add_argument("--fds", action="store_true", help="feature distribution smoothing")
    group.add_argument("--loss", choices=tuple(choices.LOSSES), default="l1", help="the training loss")
    group.add_argument("--terms", nargs="*", choices=tuple(choices.TERMS), default=[], help="what is added to the loss")
    group.add_argument("--head", choices=tuple(choices.HEADS), default="linear",
                       help="what predicts from the features; all but linear bring their own loss")
    group.add_argument("--pretrain", choices=tuple(choices.PRETRAINS), default="none",
                       help="train the encoder alone; the run's last checkpoint goes to --pretrained --retrain_fc")
    group.add_argument("--then", choices=("none", "linear"), default="none",
                       help="--pretrain: go on with a linear head on the frozen encoder, in the same run")
    for name, told in (("epochs", "how many"), ("lr", "its learning rate"), ("batch_size", "its batch size")):
        group.add_argument(f"--then_{name}", type=float if name == "lr" else int, default=None,
                           help=f"--then: {told}; default: as in the pre-training")
    group.add_argument("--sampler", choices=tuple(choices.SAMPLERS), default="none",
                       help="how training samples are drawn: balanced is by the inverse of the density that LDS smooths")
    group.add_argument("--resample", choices=tuple(choices.RESAMPLES), default="none", help="make training rows of a table")
    group.add_argument("--target", choices=tuple(choices.TARGETS), default="none",
                       help="what the model learns in place of the label; predictions and errors are the label's")
    group.add_argument("--constant", choices=tuple(choices.CONSTANTS), default="none",
                       help="train nothing and predict this of the training labels for every sample")
    group.add_argument("--preset", metavar="METHOD", default="",
                       help="the published schedule and knobs of a method on this benchmark; other flags overrule it")
    group.add_argument("--ascent", type=float, default=0.0, metavar="RHO",
                       help="step up by so much before each step down, to where the loss is flat (BSAM)")
    group.add_argument("--views", type=int, default=None, help="views of each sample in a batch; default: as methods need")
    group.add_argument("--retrain_fc", action="store_true", help="RRT: re-train the head on a frozen encoder (--pretrained)")
    _add_knobs(parser)

    group = parser.add_argument_group("training")
    group.add_argument("--lr", type=float, default=1e-3, help="learning rate")
    group.add_argument("--cosine", type=float, nargs="?", const=1e-3, default=None, metavar="SHARE",
                       help="the rate falls along a cosine to this share of itself, by default 0.001, as in every pre-training")
    group.add_argument("--batch_size", type=int, default=64, help="samples per step, over all GPUs and processes")
    group.add_argument("--seed", type=int, default=0, help="seed of everything drawn at random")
    group.add_argument("--workers", type=int, default=4, help="processes that load data, for each training process")
    group.add_argument("--device", default=None, help="cpu, cuda, cuda:1 or mps; default: all visible GPUs, else the CPU")
    group.add_argument("--amp", choices=("none", "bf16", "fp16"), default="none", help="mixed precision")
    group.add_argument("--compile", action="store_true", help="compile the model (torch.compile)")
    group.add_argument("--channels_last", action="store_true", help="images in channels-last order")
    group.add_argument("--local_bn", action="store_true",
                       help="torchrun: BatchNorm by each process's own samples, as DataParallel's; --compile needs it there")

    group = parser.add_argument_group("files")
    group.add_argument("--data_dir", default="./data", help="where the data lies")
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
    group.add_argument("--print_freq", type=int, default=10, help="steps between lines of the log")
    # some benchmarks alone have flags for these
    parser.set_defaults(steps=None, patience=None, max_grad_norm=None, schedule=[], weight_decay=0.0, momentum=0.9,
                        optimizer="adam", model="", resamples=False)
    known = {action.dest for action in parser._actions} | parser._defaults.keys()
    if unknown := sorted(set(defaults) - known):
        raise ValueError(f"defaults: expected the names of flags, found {unknown[0]!r}")
    parser.set_defaults(**defaults)
    parser.on_parsed = functools.partial(_with_preset, benchmark=benchmark)


def _with_preset(parser: ArgumentParser, words: Sequence[str] | None, args: Namespace, *, benchmark: str) -> Namespace:
    """The flags over those of --preset over the benchmark's defaults. Refuses a --loss that nothing would use."""
    given = parser.given(words)
    if args.preset:
        found = presets.find(benchmark, args.preset)
        parser.set_defaults(**found.flags, preset_says=str(found))
        args = parser.parse_plainly(words)
    for name in ("then_epochs", "then_lr", "then_batch_size"):
        if name in given and args.then == "none":
            raise ValueError(f"--{name}: is of the second stage, found --then none; add --pretrain rnc --then linear")
    if "loss" in given and args.head != "linear":
        raise ValueError(f"--loss {args.loss}: --head {args.head} is trained by a loss of its own; leave --loss out")
    if "loss" in given and args.pretrain != "none" and args.then == "none":
        raise ValueError(f"--loss {args.loss}: --pretrain {args.pretrain} is trained by a loss of its own; leave --loss out, "
                         "or add --then linear, which it trains")
    return args


def _add_knobs(parser: ArgumentParser) -> None:
    """A group of flags for each method, or family of methods, that has knobs."""
    groups: dict[tuple, Any] = {}
    for name, (default, told, *rest) in choices.KNOBS.items():
        owners = tuple(choices.owners(name))
        if owners not in groups:
            builder = next(slot[owners[0]] for slot in choices.SLOTS.values() if owners[0] in slot)
            groups[owners] = parser.add_argument_group(" and ".join(owners), choices.says(builder))
        flag = f"--{choices.PUBLISHED.get(name, name)}"
        if default is False:
            groups[owners].add_argument(flag, action="store_true", help=told)
        else:
            kind = str if default is None else type(default)
            groups[owners].add_argument(flag, type=kind, default=default, help=told, choices=rest[0] if rest else None)


# -- checks ------------------------------------------------------------------------------------------------------------


def plan(args: Namespace) -> Plan:
    """The plan that the flags describe.

    Raises ValueError for flags that do not go together or are out of range, with the way out.
    """
    from .methods.windows import get_lds_kernel_window

    if args.lds and args.sampler != "none":
        raise ValueError(f"--lds: --sampler {args.sampler} draws by the smoothed density anyway; leave out --lds")
    if args.lds and args.reweight not in ("sqrt_inv", "inverse") and args.loss != "bni":
        raise ValueError(
            f"--lds: smooths the weights of --reweight, found {args.reweight!r}; add --reweight sqrt_inv or inverse"
        )
    for name in ("lds", "fds"):
        window = {part: getattr(args, f"{name}_{part}") for part in ("kernel", "ks", "sigma")}
        try:
            get_lds_kernel_window(**window)
        except ValueError as error:
            raise ValueError(f"--{name}_{error}") from None
    if args.fds_kind == "auto":
        args.fds_kind = "own" if args.fds_stats == "streaming" else "released"
    if args.fds and args.fds_kind == "released" and args.fds_stats != "second_pass":
        raise ValueError(
            f"--fds_stats: --fds_kind released takes its statistics from a second pass, found {args.fds_stats}; "
            "leave it out, or add --fds_kind own"
        )
    check_least(args, start_update=0, start_smooth=0, bucket_num=1)
    if not 0 <= args.bucket_start < args.bucket_num:
        raise ValueError(f"--bucket_start: expected 0 to --bucket_num - 1 = {args.bucket_num - 1}, found {args.bucket_start}")
    check_shares(args, "fds_mmt")
    check_above_0(args, "focal_beta", "huber_beta")
    if args.predictions and not args.evaluate:
        raise ValueError("--predictions: goes with --evaluate; a run that trains writes predictions.csv into its folder")
    if args.predictions and not Path(args.predictions).parent.is_dir():
        raise ValueError(f"--predictions: there is no folder {Path(args.predictions).parent}; make it first")
    _check_methods(args)
    needed = 2 if {*args.terms, args.pretrain} & set(choices.TWO_VIEWS) else 1
    args.views = needed if args.views is None else args.views
    args.keep = "last" if args.pretrain != "none" and args.then == "none" else "best"
    if args.pretrain != "none" and args.cosine is None:
        args.cosine = PRETRAIN_COSINE
    values = {field.name: getattr(args, field.name) for field in dataclasses.fields(Plan) if hasattr(args, field.name)}
    if args.keep == "last":
        values["patience"] = None  # a pre-training has no validation to judge it by
    try:
        return Plan(**values)
    except ValueError as error:
        raise ValueError(f"--{error}") from None


def _check_methods(args: Namespace) -> None:
    """Raise ValueError for methods that make no sense together."""
    if args.resample != "none" and not (args.resamples or args.retrain_fc):
        raise ValueError(f"--resample {args.resample}: makes rows of a table (uci-dir's), or of a frozen encoder's features: "
                         "add --retrain_fc --pretrained CKPT; in the first stage pass --reweight sqrt_inv or inverse instead")
    if args.pretrain != "none":
        others = {"terms": args.terms, "retrain_fc": args.retrain_fc, "fds": args.fds, "head": args.head != "linear",
                  "target": args.target != "none" and args.then == "none"}
        for name in (name for name, found in others.items() if found):
            raise ValueError(f"--pretrain {args.pretrain}: trains the encoder alone; leave out --{name}, and add it to the run "
                             "after, with --pretrained")
    if args.head == "uvote" and args.reweight != "none":
        raise ValueError(f"--head uvote: weighs each head by itself, found --reweight {args.reweight}; pass --reweight none")
    _check_then(args)
    _check_sampler(args)
    _check_target(args)
    _check_constant(args)
    doubled = sorted({name for name in args.terms if args.terms.count(name) > 1})
    if doubled:
        raise ValueError(f"--terms: {doubled[0]} is named twice; its strength is --{doubled[0]}_strength")
    if args.loss in choices.BALANCES_ITSELF and args.reweight != "none":
        raise ValueError(
            f"--loss {args.loss}: balances the labels itself, found --reweight {args.reweight}; pass --reweight none, "
            "or another --loss"
        )


def _check_then(args: Namespace) -> None:
    if args.then != "none" and args.pretrain == "none":
        raise ValueError(f"--then {args.then}: follows a pre-training; add --pretrain rnc, or --pretrained CKPT --retrain_fc")
    if args.then != "none" and args.resume and not args.evaluate:
        raise ValueError(f"--resume: with --then it goes on in whichever stage the run stands, found {args.resume}; leave out "
                         "the path")
    check_least(args, then_epochs=1, then_batch_size=1)
    check_above_0(args, "then_lr")


def _check_sampler(args: Namespace) -> None:
    if args.sampler == "none":
        return
    said = f"--sampler {args.sampler}: "
    if args.reweight != "none":
        raise ValueError(f"{said}balances by drawing, so that --reweight {args.reweight} would balance twice; leave one out")
    if args.resample != "none":
        raise ValueError(f"{said}balances by drawing, so that --resample {args.resample} would balance twice; leave one out")
    if args.loss in (*choices.BALANCES_ITSELF, *choices.FITTED) and args.head == "linear":
        raise ValueError(f"{said}changes the distribution of the labels, which --loss {args.loss} takes to be the training "
                         "set's; leave one out")
    if args.head == "uvote":
        raise ValueError(f"{said}balances all heads alike, and --head uvote needs one without; leave one out")


def _check_target(args: Namespace) -> None:
    if args.target == "none":
        return
    if args.head != "linear":
        raise ValueError(f"--target {args.target}: --head {args.head} predicts a distribution of the label; leave one out")
    if args.loss in choices.FITTED:
        raise ValueError(f"--target {args.target}: --loss {args.loss} is fitted to the labels themselves; pass another --loss")


def _check_constant(args: Namespace) -> None:
    if args.constant == "none":
        return
    found = [name for name in choices.used(vars(args)) if name not in ("none", "linear", args.loss, args.constant)]
    others = {"retrain_fc": args.retrain_fc, "evaluate": args.evaluate, "pretrained": args.pretrained}
    for name in (*found, *(f"--{name}" for name, given in others.items() if given)):
        raise ValueError(f"--constant {args.constant}: trains nothing, and {name} has nothing to act on; leave it out")


# -- names -------------------------------------------------------------------------------------------------------------


def run_name(args: Namespace, dataset: str, model: str, *, default_seed: int = 0) -> str:
    """The published name of a run: data set, model, the methods with their settings, optimizer, loss, rate and batch.

    A seed other than the default comes last, so that runs of several seeds lie beside one another.
    """
    parts = [dataset, model.replace(":", "-")]  # "timm:NAME": not all systems have colons in names
    if args.store_name:
        parts.append(args.store_name)
    if args.constant != "none":
        return "_".join([*parts, "constant", args.constant, *([f"seed{args.seed}"] if args.seed != default_seed else [])])
    if args.lds:
        parts.append(_window_name("lds", args.lds_kernel, args.lds_ks, args.lds_sigma))
    elif args.reweight != "none":
        parts.append(_method_name(args, args.reweight))
    if args.fds:
        window = _window_name("fds", args.fds_kernel, args.fds_ks, args.fds_sigma)
        kind = "" if args.fds_kind == "released" else f"_{args.fds_kind}"
        parts.append(f"{window}_{args.start_update}_{args.start_smooth}_{args.fds_mmt:g}{kind}")
    if args.resample != "none":
        parts.append(_method_name(args, args.resample))
    if args.sampler != "none":
        parts.append(_window_name(f"sampler_{args.sampler}", args.lds_kernel, args.lds_ks, args.lds_sigma))
    if args.target != "none":
        parts.append(f"target_{args.target}")
    if args.pretrain != "none":
        parts.append("pretrain")
    if args.head != "linear":
        parts.append(_method_name(args, args.head))
    parts += [_method_name(args, name) for name in args.terms]
    if args.ascent:
        parts.append(f"ascent_{args.ascent:g}")
    if args.views > 1 and not {*args.terms, args.pretrain} & set(choices.TWO_VIEWS):
        parts.append(f"views_{args.views}")
    if args.retrain_fc:
        parts.append("retrain_fc")
    if args.cosine is not None and (args.pretrain == "none" or args.cosine != PRETRAIN_COSINE):
        parts.append(f"cosine_{args.cosine:g}")
    loss = args.loss if args.loss in choices.PUBLISHED_LOSSES else _method_name(args, args.loss)
    first = loss if args.pretrain == "none" else _method_name(args, args.pretrain)
    parts += [args.optimizer, first, f"{args.lr:g}", str(args.batch_size)]
    if args.then != "none":
        given = (args.then_epochs, args.then_lr, args.then_batch_size)
        parts += ["then", args.then, loss, *(f"{value:g}" for value in given if value is not None)]
    if args.seed != default_seed:
        parts.append(f"seed{args.seed}")
    return "_".join(parts)


def _method_name(args: Namespace, method: str) -> str:
    """A method and the values of its knobs, as in "ranksim_100_2"; a switch shows by its name, and only when on."""
    parts = [method]
    for knob in choices.KNOBS:
        if method in choices.owners(knob):
            value = getattr(args, choices.PUBLISHED.get(knob, knob))
            if isinstance(value, bool):
                parts += [knob.rsplit("_", 1)[-1]] if value else []
            else:
                parts.append(f"{value:g}" if isinstance(value, (int, float)) else str(value))
    return "_".join(parts)


def _window_name(method: str, kernel: str, ks: int, sigma: float) -> str:
    return f"{method}_{kernel[:3]}_{ks}" + (f"_{sigma:g}" if kernel in ("gaussian", "laplace") else "")


def split_name(args: Namespace) -> str:
    """What an explicit split adds to a run's name, so that runs on two splits never meet in a folder; "" without one."""
    return f"split_{Path(args.split).stem}" if args.split else ""


def run_folder(args: Namespace, name: str, runtime: Runtime) -> Path:
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
    blocked = [place for place in (folder, *folder.parents) if place.exists() and not place.is_dir()]
    if blocked:
        raise ValueError(f"--store_root: {blocked[0]} is a file, so no folder can be made there; pass another")
    if runtime.is_main and folder.exists() and args.resume is None and not args.overwrite:
        raise ValueError(f"{folder} exists; --resume goes on with it, --overwrite replaces it, --store_name names another")
    return folder


# -- what the flags build ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(
    args: Namespace, dataset: str, model: str, *, suffix: str = "", default_seed: int = 0, images: bool = False
) -> Iterator[tuple[Runtime, Path]]:
    """Join the other processes and start the log; gives the ranks and the run's folder, and leaves them.

    Benchmarks of `images`, all of one size, take all visible GPUs in one process where none is named; others the first, as
    sending recurrent layers to each GPU in each step costs more than it gains.
    """
    from .training import runtime
    from .training.log import start_log

    ranks = runtime.start(
        args.device, args.amp, compile=args.compile, channels_last=args.channels_last, local_bn=args.local_bn,
        fixed_sizes=images, spread=images,
    )
    start_log(ranks)
    name = run_name(args, dataset, model, default_seed=default_seed)
    folder = run_folder(args, f"{name}_{suffix}" if suffix else name, ranks)
    try:
        yield ranks, folder
    except Interrupted as signal:
        if signal.said:  # the loop's own: all ranks have come to it; after any other error they may wait for one another
            runtime.stop()
        raise
    runtime.stop()


def settings(args: Namespace) -> dict[str, Any]:
    """All flags as plain values, to be kept beside the run."""
    return plain(vars(args))


def lds(args: Namespace) -> dict[str, Any]:
    """The flags as arguments of `lds.label_density`."""
    return {"kernel": args.lds_kernel, "ks": args.lds_ks, "sigma": args.lds_sigma}


def sample_weights(args: Namespace, labels: choices.Labels, published: Callable) -> np.ndarray:
    """The weights of the training samples: (N,), or (N, heads) for a head that asks for them.

    `published` is the benchmark's own `sample_weights`, which LDS belongs to.
    """
    if args.head == "uvote" and labels.values is not None:
        from .methods.uvote import uvote_weights

        with choices.flag_named(args.head):
            return uvote_weights(labels.values, labels.bins, args.uvote_heads)
    if args.reweight in ("none", "sqrt_inv", "inverse"):
        smoothed = args.lds and args.reweight != "none"  # --loss bni smooths its own histogram
        return published(labels.values, args.reweight, smoothed, args.lds_kernel, args.lds_ks, args.lds_sigma)
    with choices.flag_named(args.reweight):
        return choices.REWEIGHTS[args.reweight](vars(args), labels)


def fds(args: Namespace) -> dict[str, Any]:
    """The flags as arguments of a benchmark's `FDS`, after the width of the features."""
    return {
        "bucket_num": args.bucket_num, "bucket_start": args.bucket_start, "start_update": args.start_update,
        "start_smooth": args.start_smooth, "kernel": args.fds_kernel, "ks": args.fds_ks, "sigma": args.fds_sigma,
        "momentum": args.fds_mmt, "kind": args.fds_kind,
    }


def build_fds(args: Namespace, make: Callable[..., FDS], feature_dim: int) -> FDS | None:
    """The benchmark's FDS as the flags describe it, or None without --fds."""
    if not args.fds:
        return None
    try:
        return make(feature_dim, **fds(args))
    except ValueError as error:
        raise ValueError(f"--fds_{error}") from None
