"""The flags that the two age benchmarks share, and what they mean for the plan."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace

from .. import choices, flags
from ..cli import ArgumentParser, check_least
from ..training.plan import Plan

TIMM = "timm:"  # begins the name of a model of timm


def encoder_name(text: str) -> str:
    """A name that --model takes; timm is asked later, as it is slow to load."""
    if text in choices.RESNETS or text.removeprefix(TIMM) not in ("", text):
        return text
    raise ArgumentTypeError(f"expected one of {', '.join(choices.RESNETS)}, or {TIMM}NAME for a model of timm, found {text!r}")


def add_face_flags(parser: ArgumentParser, dataset: str) -> None:
    """Data, images, encoder and schedule; `dataset` is the name of the benchmark's csv."""
    group = parser.add_argument_group("faces")
    group.add_argument("--dataset", default=dataset, help="the csv in --data_dir, without its ending")
    group.add_argument("--split", metavar="FILE", help="another csv of age,path,split, e.g. of the command protocols")
    group.add_argument("--model", default="resnet50", type=encoder_name,
                       help="the encoder: resnet18, 34, 50, 101, 152, or timm:NAME for any of timm's (pip install timm)")
    group.add_argument("--imagenet", action="store_true", help="start from ImageNet weights instead of from scratch")
    group.add_argument("--img_size", type=int, default=224, help="side of the images in pixels")
    group.add_argument("--epoch", type=int, default=90, help="passes over the training set")
    group.add_argument("--schedule", type=int, nargs="*", default=[60, 80], help="epochs at which the rate falls to a tenth")
    group.add_argument("--optimizer", choices=("adam", "sgd"), default="adam")
    group.add_argument("--momentum", type=float, default=0.9, help="of sgd")
    group.add_argument("--weight_decay", type=float, default=1e-4, help="of sgd; adam has none, as published")
    group.add_argument("--gpu", type=int, default=None, help="number of the only GPU to use; short for --device cuda:N")
    group.add_argument("--cache", default=None, metavar="DIR", help="keep the resized images there, for faster epochs")
    group.add_argument("--skip_bad_images", action="store_true", help="leave out and count images that cannot be read")


def face_plan(args: Namespace) -> Plan:
    """The plan, with what the faces' own flags stand for. Raises ValueError as `flags.plan` does."""
    if args.gpu is not None and args.device is None:
        args.device = f"cuda:{args.gpu}"
    if args.optimizer == "adam":
        args.weight_decay = 0.0
    check_least(args, epoch=1, img_size=32)
    args.epochs = args.epoch  # the library calls it epochs
    return flags.plan(args)
