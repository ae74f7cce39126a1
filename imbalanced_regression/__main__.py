"""Tools for one's own labels and finished runs.

    python -m imbalanced_regression inspect FILE.csv --target COLUMN   # labels -> bins, kernel, re-weighting, and why
    python -m imbalanced_regression compare RUN RUN ...                # the paper's table, and the gain per bin
    python -m imbalanced_regression features RUN                       # how alike the features of two bins are
    python -m imbalanced_regression sweep FOLDER --seeds 0-4           # methods x seeds of a benchmark, and the table
    python -m imbalanced_regression verify TABLE.csv RUN               # does a table hold, by fresh runs?
    python -m imbalanced_regression results                            # the page of results/, from its csv files
    python -m imbalanced_regression protocols FILE --shape gap         # labels -> a split with gaps, peaks or one side

Each prints text, and the first three draw a PNG (--out). Every command has its own --help with examples.
"""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from .cli import ArgumentParser, check_above_0, check_least, guard

PROGRAM = "python -m imbalanced_regression"
MOST_BINS = 1_000_000  # a width in another unit than the labels' would fill the memory with edges

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
    {PROGRAM} compare checkpoint --baseline vanilla --intervals   # which differences are more than luck
    {PROGRAM} compare checkpoint --metrics sera ccc --cost        # metrics that the runs lack come from their predictions
    {PROGRAM} compare sweep --published --format latex            # several data sets at once, and ranks over them
    {PROGRAM} compare sweep --commons results/uci-dir.csv         # a line for each run that `sweep` has made
    {PROGRAM} compare sweep --decides results/what_decides.csv    # gains beside imbalance, size of the model, ...
    {PROGRAM} compare results/uci-dir.csv --decides results/what_decides.csv   # its gains anew, with lines added since
    {PROGRAM} compare --ensemble runs/vanilla runs/inverse        # and the mean of their predictions, paired by seed

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

_SWEEP = f"""Methods x benchmarks x seeds: every run that is not done yet, then a table for each data set.

    {PROGRAM} sweep agedb-dir --seeds 0-2 -- --data_dir sample --model resnet18 --img_size 32
    {PROGRAM} sweep uci-dir sts-b-dir --methods vanilla lds fds --seeds 0-4 --jobs 2
    {PROGRAM} sweep uci-dir --methods vanilla --row "lds9: --reweight inverse --lds --lds_ks 9"
    {PROGRAM} sweep agedb-dir --datasets "gap: --split gap.csv" "one_sided: --split one_sided.csv" -- --data_dir sample
    {PROGRAM} sweep imdb-wiki-dir --methods all --gpus 0,1,2,3
    {PROGRAM} sweep agedb-dir --methods all --launcher slurm --partition gpu --minutes 600 --gpus_per_run 1
    {PROGRAM} sweep uci-dir --status

Methods are the rows of the folder's methods.toml: all, paper (those marked so) or their names; rows and data sets of your own
are a name and flags. The words behind -- go to every train.py, which runs in its folder, where paths begin as well. The state
of a run lies in its own folder under --out: finished runs are skipped, begun ones resumed, failed ones listed and tried again;
the same command goes on after any kill.
"""


_VERIFY = f"""Whether the numbers of a table hold: beside fresh runs, or another table. Exit code 1 where they do not.

    {PROGRAM} verify results/uci-dir.csv sweep                     # runs that `sweep` has made
    {PROGRAM} verify table.csv checkpoint --tolerance 0.05         # table.csv: from compare --format csv
    {PROGRAM} verify results/uci-dir.csv other.csv --partial --metrics l1

Seeds that both have are compared; where they share none, the means over all seeds are. Runs on the same kind of machine are
equal to the last bit, others agree to a few per cent.
"""

_RESULTS = f"""The page of results: DIR/README.md and its pictures, from the csv files of DIR that `compare --commons` fills.

    {PROGRAM} results
    {PROGRAM} results DIR --benchmarks .

What people conclude from <benchmark>.csv stands in <benchmark>.md, below its tables, or above them what stands there before a
line <!-- tables -->. A csv that is named as a benchmark's folder has the published numbers of its methods.toml beside ours.
"""

_PROTOCOLS = f"""Splits whose training labels have gaps, peaks or one side, from any label list; the test set stays balanced.

    {PROGRAM} protocols houses.csv --target price --shape gap --out gap.csv
    {PROGRAM} protocols labels.npy --shape bimodal --seed 3
    {PROGRAM} protocols agedb.csv --target age --gap 47 53 --range 20 73    # age,path,split: the face folders' form
    {PROGRAM} protocols labels.npy --peak 30 5 --peak 70 5 2                # center, width and skew of each

full: all labels; gap: none from 45 to 60 % of the range; one_sided: none above 60 %; peaked: most in the middle; bimodal:
most at 20 and 80 %. The range is that between the 1 % and 99 % quantiles. Writes a csv of index,label,split, which uci-dir
reads (train.py --split FILE), or of age,path,split, which the face folders read, and prints how many test rows are of labels
without training rows.
"""


def parse_args() -> Namespace:
    parser = ArgumentParser(prog=PROGRAM, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    inspect = commands.add_parser("inspect", description=_INSPECT, help="labels of a table -> advice")
    inspect.add_argument("file", type=Path, metavar="FILE", help=".csv, .tsv (also .gz), .npy or .parquet")
    inspect.add_argument("--target", metavar="COLUMN", help="the column of labels; its number for .npy")
    inspect.add_argument("--many", type=int, default=100, help="more labels than this make a bin many-shot")
    inspect.add_argument("--few", type=int, default=20, help="fewer labels than this make a bin few-shot")
    inspect.add_argument("--out", type=Path, default=Path("inspect.png"), metavar="PNG", help="where the picture goes")

    compare = commands.add_parser("compare", description=_COMPARE, help="finished runs -> the paper's table")
    compare.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="a run's folder, or a folder of such folders")
    compare.add_argument("--ensemble", nargs=2, metavar=("A", "B"),
                         help="also the mean of two methods' predictions: folders of their runs, or names in the table")
    compare.add_argument("--format", choices=("text", "markdown", "csv", "latex"), default="text", help="of the table")
    compare.add_argument("--baseline", metavar="NAME", help="a method of the table: differences to it, with corrected p")
    compare.add_argument("--intervals", action="store_true", help="95 %% bootstrap intervals over seeds and test samples")
    compare.add_argument("--metrics", nargs="+", metavar="NAME", help="e.g. l1 gmean; default: those of the paper")
    compare.add_argument("--cost", action="store_true", help="seconds per epoch, peak memory and parameters of each method")
    compare.add_argument("--published", action="store_true", help="published numbers beside ours, of runs that `sweep` made")
    compare.add_argument("--commons", type=Path, metavar="CSV", help="add the runs to this csv instead, a line for each")
    compare.add_argument("--decides", type=Path, metavar="CSV",
                         help="add the gains of these runs to this csv instead, beside what sets their settings apart")
    compare.add_argument("--split", choices=("test", "val"), default="test", help="which metrics of the runs")
    compare.add_argument("--out", type=Path, default=Path("gain.png"), metavar="PNG", help="where the picture goes")

    features = commands.add_parser("features", description=_FEATURES, help="a run with FDS -> similarity of bins")
    features.add_argument("run", type=Path, metavar="RUN", help="a run's folder, or a checkpoint")
    features.add_argument("--anchor", type=float, help="label whose bin is compared; default: the bin with most samples")
    features.add_argument("--format", choices=("text", "csv"), default="text", help="of the numbers")
    features.add_argument("--out", type=Path, default=Path("features.png"), metavar="PNG", help="where the picture goes")

    sweep = commands.add_parser("sweep", description=_SWEEP, help="methods x benchmarks x seeds -> runs and tables")
    sweep.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="benchmarks, each with a methods.toml")
    sweep.add_argument("--methods", nargs="+", default=["paper"], metavar="ROW", help="all, paper, or names of rows")
    sweep.add_argument("--row", action="append", default=[], metavar="'NAME: FLAGS'", help="a row of your own; may be repeated")
    sweep.add_argument("--seeds", nargs="+", default=["0"], metavar="SEEDS", help="numbers and ranges, e.g. 0-4 or 0,2,7")
    sweep.add_argument("--datasets", nargs="+", metavar="NAME",
                       help="some of the folder's data sets, or your own as 'NAME: FLAGS'; default: all the folder's")
    sweep.add_argument("--out", type=Path, default=Path("sweep"), metavar="DIR", help="where the runs lie")
    sweep.add_argument("--jobs", type=int, default=1,
                       help="runs at a time, each with its share of the cores, or with OMP_NUM_THREADS where that is smaller")
    sweep.add_argument("--fork", choices=("auto", "always", "never"), default="auto",
                       help="import torch once, and make each run a fork; auto: where 8 or more wait, without a GPU")
    sweep.add_argument("--gpus", default="", metavar="N,N", help="GPUs by number: one run at a time on each")
    sweep.add_argument("--status", action="store_true", help="only say what is done, and show the table so far")
    sweep.add_argument("--print", action="store_true", help="only print the commands of what is not done, one a line")
    sweep.add_argument("--launcher", choices=("local", "slurm"), default="local", help="this machine, or a Slurm cluster")
    sweep.add_argument("--partition", help="slurm: the partition")
    sweep.add_argument("--minutes", type=int, default=240, help="slurm: time limit of a run; it is queued again at its end")
    sweep.add_argument("--cpus", type=int, default=4, help="slurm: cores of a run")
    sweep.add_argument("--gpus_per_run", type=int, default=0, help="slurm: GPUs of a run")
    sweep.add_argument("--metrics", nargs="+", metavar="NAME", help="of the table, e.g. l1 gmean; default: the paper's")
    sweep.add_argument("--format", choices=("text", "markdown", "csv", "latex"), default="text", help="of the table")
    sweep.add_argument("--baseline", metavar="ROW", help="differences to this row, with corrected p; default: vanilla")
    sweep.add_argument("--intervals", action="store_true", help="95 %% bootstrap intervals over seeds and test samples")
    sweep.add_argument("--no_published", action="store_true", help="without published numbers, for runs on other data")
    sweep.add_argument("--picture", type=Path, metavar="PNG", help="draw the gain over vanilla per bin, and ranks")
    sweep.add_argument("--mixed", action="store_true", help="show runs of different versions of this software in one table")

    verify = commands.add_parser("verify", description=_VERIFY, help="does a table hold, by fresh runs?")
    verify.add_argument("table", type=Path, metavar="TABLE", help="a csv of results/, or of compare --format csv")
    verify.add_argument("fresh", type=Path, nargs="+", metavar="FRESH", help="folders of runs, or one other csv")
    verify.add_argument("--tolerance", type=float, default=0.01, help="a share of each number of the table")
    verify.add_argument("--absolute", type=float, default=0.0, help="added to that share, in the metric's unit")
    verify.add_argument("--metrics", nargs="+", metavar="NAME", help="only these, e.g. l1 gmean")
    verify.add_argument("--partial", action="store_true", help="numbers that FRESH lacks do not count against the table")

    results = commands.add_parser("results", description=_RESULTS, help="csv files of results -> their page and pictures")
    results.add_argument("folder", type=Path, nargs="?", default=Path("results"), metavar="DIR", help="where the csv files lie")
    results.add_argument("--benchmarks", type=Path, default=Path(), metavar="DIR", help="where the benchmarks' folders lie")

    words, shared = sys.argv[1:], []
    protocols = commands.add_parser("protocols", description=_PROTOCOLS, help="labels -> a split with gaps, peaks or one side")
    protocols.add_argument("file", type=Path, metavar="FILE", help=".csv, .tsv (also .gz), .npy or .parquet")
    protocols.add_argument("--target", metavar="COLUMN", help="the column of labels; its number for .npy")
    protocols.add_argument("--shape", default="full", metavar="SHAPE", help="full, gap, one_sided, peaked or bimodal")
    protocols.add_argument("--gap", type=float, nargs=2, action="append", metavar=("LOW", "HIGH"), help="no training labels")
    protocols.add_argument("--range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="training labels only here")
    protocols.add_argument("--peak", type=float, nargs="+", action="append", metavar="CENTER", help="center, width [and skew]")
    protocols.add_argument("--width", type=float, help="of the bins; default: chosen from the labels")
    protocols.add_argument("--cap", type=int, default=30, help="most test rows, and validation rows, of a bin")
    protocols.add_argument("--size", type=float, default=4.0, help="peaks: times its share that a bin may have")
    protocols.add_argument("--replace", action="store_true", help="peaks: draw with replacement, as published")
    protocols.add_argument("--many", type=int, default=100, help="more labels than this make a bin many-shot")
    protocols.add_argument("--few", type=int, default=20, help="fewer labels than this make a bin few-shot")
    protocols.add_argument("--seed", type=int, default=0, help="of all draws")
    protocols.add_argument("--out", type=Path, default=Path("split.csv"), metavar="CSV", help="where the split goes")

    if "sweep" in words[:1] and "--" in words:
        words, shared = words[: words.index("--")], words[words.index("--") + 1 :]
    args = parser.parse_args(words)
    args.shared = shared
    if args.command in ("sweep", "protocols", "verify", "results"):
        return args
    if args.out.suffix.lower() != ".png":
        raise ValueError(f"--out: expected a name that ends in .png, found {args.out}")
    return args


def run_inspect(args: Namespace) -> None:
    check_least(args, many=0, few=0)
    if args.few > args.many:
        raise ValueError(f"--few: expected at most --many = {args.many}, found {args.few}")
    import numpy as np

    from .tools import inspect as advice
    from .tools.labels import read_labels

    labels, read, odd = read_labels(args.file, args.target)
    for line in odd:
        _say(line)
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
    print(f"\nin a PyTorch model besides\n{_indented(advice.network_code(found, labels))}")
    name = args.file.name if args.target is None else f"{args.target} of {args.file.name}"
    _draw(args.out, lambda: advice.figure(found, name, args.target or "label"))


def run_compare(args: Namespace) -> None:
    from tempfile import TemporaryDirectory

    from .tools import commons, compare, decides, ensemble, later, overview

    members = args.ensemble or []
    if not args.runs and not members:
        raise ValueError("RUN: expected folders of runs, or --ensemble A B, found neither")
    if args.commons is not None:
        added, total = commons.add(args.commons, args.runs)
        _say(f"{args.commons}: {added} runs added or renewed, {total} lines")
    if args.decides is not None:
        added, total = decides.add(args.decides, args.runs)
        _say(f"{args.decides}: {added} settings added or renewed, {total} in all")
    if args.commons is not None or args.decides is not None:
        return
    if not args.out.parent.is_dir():
        raise ValueError(f"--out: there is no folder {args.out.parent}")
    if members and args.split != "test":
        raise ValueError(f"--split: runs keep the predictions of the test set, found {args.split} with --ensemble")
    places = [*args.runs, *(Path(member) for member in members if Path(member).is_dir())]
    if not places:
        raise ValueError(f"--ensemble: neither {members[0]} nor {members[1]} is a folder of runs; names go with RUN folders")
    runs = compare.find_runs(places)
    datasets = {name: compare.group(own, args.split) for name, own in compare.by_dataset(runs).items()}
    with TemporaryDirectory() as scratch:  # a pair of runs is one more run while the table is made
        for number, methods in enumerate(datasets.values() if members else ()):
            one, other = (ensemble.find(methods, member) for member in members)
            methods.append(ensemble.average(one, other, Path(scratch, str(number))))
        names = list(dict.fromkeys(method.name for methods in datasets.values() for method in methods))
        several = f" on {len(datasets)} data sets" if len(datasets) > 1 else ""
        _say(f"{len(runs)} runs of {len(names)} methods{several}, {args.split} split")
        notes = [later.note(later.add(methods, args.metrics or ())) for methods in datasets.values() if args.split == "test"]
        said = overview.overview(
            datasets, args.format, args.metrics, baseline=args.baseline, intervals=args.intervals, cost=args.cost,
            published=args.published, notes=list(dict.fromkeys(line for lines in notes for line in lines)),
        )
        print(said)
        for path in overview.pictures(datasets, args.metrics, args.out):
            _say(f"picture: {path}")
    if len(names) < 2:
        _say("one method: no picture of its gain over another")


def run_features(args: Namespace) -> None:
    from .tools import features

    statistics = features.read(args.run)
    found = features.similarities(statistics, args.anchor)
    print(features.TABLES[args.format](found))
    _draw(args.out, lambda: features.figure(found))


def run_sweep(args: Namespace) -> None:
    from .tools import launchers, overview, rows, sweep
    from .tools.starting import hardware

    check_least(args, jobs=1, minutes=1, cpus=1, gpus_per_run=0)
    if args.picture is not None and (args.picture.suffix.lower() != ".png" or not args.picture.parent.is_dir()):
        raise ValueError(f"--picture: expected a name that ends in .png in a folder that is there, found {args.picture}")
    gpus = [gpu.strip() for gpu in args.gpus.split(",") if gpu.strip()]
    numbers, own = rows.seeds(args.seeds), [rows.own_row(text) for text in args.row]
    benchmarks = [rows.read_benchmark(folder) for folder in args.folders]
    jobs = rows.make_jobs(benchmarks, args.methods, own, numbers, args.shared, args.out, args.datasets)
    if args.print:
        print("\n".join(launchers.printed(jobs)))
        return
    at_once = len(gpus) or args.jobs
    if not args.status:
        with sweep.claimed(args.out):
            if args.launcher == "local":
                here = len(hardware()["gpus"])
                absent = [gpu for gpu in gpus if gpu.isdecimal() and int(gpu) >= here]
                if absent:
                    _say(f"--gpus {','.join(absent)}: nvidia-smi shows {here} here, counted from 0; "
                         "a run on another takes the CPU")
                sweep.run_all(jobs, at_once=at_once, gpus=gpus, say=_Progress(jobs, at_once), fork=args.fork)
            else:
                launchers.submit(jobs, args.out, at_once=args.jobs, slurm_partition=args.partition, timeout_min=args.minutes,
                                 cpus_per_task=args.cpus, gpus_per_node=args.gpus_per_run)
                _say("submitted; the same command with --status shows how far the runs are")
    _say(sweep.summary(jobs, at_once=at_once))
    for line in sweep.failures(jobs):
        _say(f"failed: {line}")
    found = sweep.mixed(jobs)
    if found and not args.mixed:
        raise ValueError(f"--mixed: the runs were made by {len(found)} versions of this software ({', '.join(found)}); "
                         "pass it to see them in one table all the same")
    print(sweep.tables(jobs, args.format, args.metrics, baseline=args.baseline, intervals=args.intervals,
                       published=not args.no_published))
    if args.picture is not None:
        for path in overview.pictures(sweep.methods(jobs), args.metrics, args.picture):
            _say(f"picture: {path}")


class _Progress:
    """A line on stderr for each run that starts or ends; on a terminal also one that says how far the sweep is."""

    def __init__(self, jobs, at_once: int):
        self.jobs, self.at_once, self.shown = jobs, at_once, ""

    def __call__(self, job, what: str) -> None:
        from .tools import sweep

        live = sys.stderr is not None and sys.stderr.isatty()
        if job is not None:
            clear = "\r\033[K" if live else ""
            _say(f"{clear}{job.title}: {what}")
            self.shown = ""
            if not live and what != "started":
                _say(sweep.summary(self.jobs, at_once=self.at_once))
        elif live and not self.shown:
            self.shown = sweep.summary(self.jobs, int(what), self.at_once)
            print(f"\r\033[K{self.shown}", end="", file=sys.stderr, flush=True)


def run_protocols(args: Namespace) -> None:
    check_least(args, many=0, few=0, cap=1, seed=0)
    check_above_0(args, "size", "width")
    import dataclasses

    import numpy as np

    from .bins import Bins
    from .files import write
    from .tools import protocols
    from .tools.labels import read_labels, read_texts

    if args.shape not in protocols.SHAPES:
        raise ValueError(f"--shape: expected one of {', '.join(protocols.SHAPES)}, found {args.shape!r}")
    if not args.out.parent.is_dir():
        raise ValueError(f"--out: there is no folder {args.out.parent}")
    given: dict[str, Any] = {}
    if args.peak:
        for peak in args.peak:
            if len(peak) not in (2, 3) or not peak[1] > 0:
                raise ValueError(f"--peak: expected center, width above 0 and perhaps skew, found {' '.join(map(str, peak))}")
        given["peaks"] = tuple((peak[0], peak[1], peak[2] if len(peak) == 3 else 0.0) for peak in args.peak)
    for flag, pairs in (("--gap", args.gap or []), ("--range", [args.range] if args.range else [])):
        for low, high in pairs:
            if not low <= high:
                raise ValueError(f"{flag}: expected LOW up to HIGH, found {low:g} {high:g}")
    if args.gap:
        given["gaps"] = tuple(map(tuple, args.gap))
    if args.range:
        given["keep"] = tuple(args.range)

    labels, _, odd = read_labels(args.file, args.target)
    for line in odd:
        _say(line)
    rows_of = np.flatnonzero(np.isfinite(labels))
    if not len(rows_of):
        raise ValueError(f"--target: none of the {len(labels)} labels is a finite number")
    if len(rows_of) < len(labels):
        _say(f"{len(labels) - len(rows_of)} of {len(labels)} labels are missing or infinite and left out")
    kept = labels[rows_of]
    if args.width is not None and (kept.max() - kept.min()) / args.width > MOST_BINS:
        raise ValueError(f"--width: {args.width:g} cuts labels from {kept.min():g} to {kept.max():g} into more than "
                         f"{MOST_BINS:,} bins; pass a larger one")
    bins = Bins.auto(kept) if args.width is None else Bins.width(kept.min(), kept.max() + args.width / 2, args.width)
    shape = dataclasses.replace(protocols.SHAPES[args.shape](kept), **given)
    if args.replace and not shape.peaks:
        raise ValueError("--replace: draws the rows of peaks; add --shape peaked or bimodal, or --peak, or leave it out")
    try:
        found = protocols.make_split(kept, shape, bins, cap=args.cap, size=args.size, replace=args.replace, seed=args.seed)
    except ValueError as error:
        raise ValueError(f"--{error}") from None
    rows = {name: rows_of[chosen] for name, chosen in found.items()}
    paths = read_texts(args.file, "path")
    texts = [repr(label) if label != int(label) else f"{label:.0f}" for label in kept.tolist()]
    whole = dict(zip(rows_of.tolist(), texts))
    write(args.out, protocols.split_csv(rows, whole, paths))
    print(protocols.describe(kept, found, bins, args.many, args.few))
    _say(f"split: {args.out}")


def run_verify(args: Namespace) -> None:
    from .tools import verify

    check_least(args, tolerance=0, absolute=0)
    if not args.table.is_file():
        raise ValueError(f"TABLE: there is no file {args.table}")
    given = {"share": args.tolerance, "absolute": args.absolute}
    checked, missing = verify.check(verify.read([args.table]), verify.read(args.fresh), metrics=args.metrics, **given)
    print(verify.report(checked, missing, **given))
    if not all(one.holds for one in checked) or (missing and not args.partial):
        sys.exit(1)


def run_results(args: Namespace) -> None:
    from .tools import results

    for path in results.write(args.folder, args.benchmarks):
        _say(f"written: {path}")


COMMANDS = {
    "inspect": run_inspect, "compare": run_compare, "features": run_features, "sweep": run_sweep, "verify": run_verify,
    "results": run_results, "protocols": run_protocols,
}


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
