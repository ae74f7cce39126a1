"""Tools for one's own labels and finished runs.

    python -m imbalanced_regression inspect FILE.csv --target COLUMN   # labels -> bins, kernel, re-weighting, and why
    python -m imbalanced_regression compare RUN RUN ...                # the paper's table, and the gain per bin
    python -m imbalanced_regression features RUN                       # how alike the features of two bins are

Each prints text and draws a PNG (--out). Every command has its own --help with examples.
"""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from pathlib import Path

from .cli import ArgumentParser, check_least, guard

PROGRAM = "python -m imbalanced_regression"

_INSPECT = f"""Look at the labels of a table, and propose bins, kernel and re-weighting with the reason for each.

    {PROGRAM} inspect houses.csv --target price
    {PROGRAM} inspect scores.tsv --target score --out scores.png
    {PROGRAM} inspect labels.npy                        # (N,), or (N, M) with --target 0
    {PROGRAM} inspect visits.parquet --target cost --many 500 --few 50

Prints a summary, the advice, and the Python that acts on it; draws the histogram, its smoothed density and the weights.
"""

_COMPARE = f"""The paper's table from finished runs: methods x all, many, medium and few for each metric.

    {PROGRAM} compare checkpoint                        # every finished run in that folder
    {PROGRAM} compare checkpoint/agedb_* --format markdown
    {PROGRAM} compare runs/seed0 runs/seed1 runs/seed2 --metrics l1 gmean --format csv > table.csv

Runs whose flags are equal but for the seed and the names of files are one method: mean +- standard deviation (n - 1).
The picture shows, bin by bin, how much lower each method's MAE is than the vanilla one's (or the first's).
"""

_FEATURES = f"""The paper's figure of feature statistics: how similar the features of one bin are to those of all others.

    {PROGRAM} features checkpoint/agedb_resnet50_fds_gau_5_2_0_1_0.9_adam_l1_0.00025_64
    {PROGRAM} features RUN --anchor 30                  # in the unit of the label, here 30 years
    {PROGRAM} features RUN/ckpt.pth.tar --format csv > similarity.csv

Cosine similarity between the mean (and the variance) of the anchor bin's features and those of every bin, before and
after FDS smoothed them over bins, from the statistics in the run's checkpoint. The run must have been made with --fds.
"""


def parse_args() -> Namespace:
    parser = ArgumentParser(prog=PROGRAM, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{inspect,compare,features}")

    inspect = commands.add_parser("inspect", description=_INSPECT, help="labels of a table -> advice")
    inspect.add_argument("file", type=Path, metavar="FILE", help=".csv, .tsv (also .gz), .npy or .parquet")
    inspect.add_argument("--target", metavar="COLUMN", help="the column of labels; its number for .npy")
    inspect.add_argument("--many", type=int, default=100, help="more labels than this make a bin many-shot")
    inspect.add_argument("--few", type=int, default=20, help="fewer labels than this make a bin few-shot")
    inspect.add_argument("--out", type=Path, default=Path("inspect.png"), metavar="PNG", help="where the picture goes")

    compare = commands.add_parser("compare", description=_COMPARE, help="finished runs -> the paper's table")
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder, or a folder of such folders")
    compare.add_argument("--format", choices=("text", "markdown", "csv"), default="text", help="of the table")
    compare.add_argument("--metrics", nargs="+", metavar="NAME", help="e.g. l1 gmean; default: those of the paper")
    compare.add_argument("--split", choices=("test", "val"), default="test", help="which metrics of the runs")
    compare.add_argument("--out", type=Path, default=Path("gain.png"), metavar="PNG", help="where the picture goes")

    features = commands.add_parser("features", description=_FEATURES, help="a run with FDS -> similarity of bins")
    features.add_argument("run", type=Path, metavar="RUN", help="a run's folder, or a checkpoint")
    features.add_argument("--anchor", type=float, help="label whose bin is compared; default: the bin with most samples")
    features.add_argument("--format", choices=("text", "csv"), default="text", help="of the numbers")
    features.add_argument("--out", type=Path, default=Path("features.png"), metavar="PNG", help="where the picture goes")

    args = parser.parse_args()
    if args.out.suffix.lower() != ".png":
        raise ValueError(f"--out: expected a name that ends in .png, found {args.out}")
    return args


def run_inspect(args: Namespace) -> None:
    check_least(args, many=0, few=0)
    if args.few > args.many:
        raise ValueError(f"--few: expected at most --many = {args.many}, found {args.few}")
    import numpy as np

    from .tools import inspect as advice

    labels, read = advice.read_labels(args.file, args.target)
    finite = np.isfinite(labels)
    if not finite.any():
        raise ValueError(f"--target: none of the {len(labels)} labels is a finite number")
    if not finite.all():
        _say(f"{(~finite).sum()} of {len(labels)} labels are missing or infinite and left out")
        labels = labels[finite]
    limits = {"many": args.many, "few": args.few}
    found = advice.advise(labels, **limits)
    print(advice.describe(labels, found, **limits))
    print(f"\nin Python\n{_indented(advice.code(found, read))}")
    if advice.flags(found):
        print(f"\nas flags of a train.py here\n{_indented(advice.flags(found))}")
    name = args.file.name if args.target is None else f"{args.target} of {args.file.name}"
    _draw(args.out, lambda: advice.figure(found, name, args.target or "label"))


def run_compare(args: Namespace) -> None:
    from .tools import compare

    runs = compare.find_runs(args.runs)
    methods = compare.group(runs, args.split)
    _say(f"{len(runs)} runs of {len(methods)} methods, {args.split} split")
    print(compare.TABLES[args.format](methods, args.metrics))
    if len(methods) < 2:
        _say("one method: no picture of its gain over another")
    else:
        _draw(args.out, lambda: compare.figure(methods))


def run_features(args: Namespace) -> None:
    from .tools import features

    statistics = features.read(args.run)
    found = features.similarities(statistics, args.anchor)
    print(features.TABLES[args.format](found))
    _draw(args.out, lambda: features.figure(found))


COMMANDS = {"inspect": run_inspect, "compare": run_compare, "features": run_features}


def main() -> None:
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")  # to stderr: stdout is for the numbers alone
    COMMANDS[args.command](args)


def _draw(path: Path, draw) -> None:
    from .files import write

    if not path.parent.is_dir():
        raise ValueError(f"--out: there is no folder {path.parent}")
    write(path, draw())
    _say(f"picture: {path}")


def _say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


if __name__ == "__main__":
    sys.argv[0] = PROGRAM  # what the one line of an error begins with; python -m leaves a path there
    guard(main)
