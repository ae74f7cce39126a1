"""EDF files of whole nights -> nights/<nsrrid>.npz at common rates, and shhs.csv with the columns nsrrid, gh, split.

    python preprocess_shhs.py --workers 8                    data/polysomnography/edfs/shhs2 and data/datasets -> data
    python preprocess_shhs.py --data_dir sample --cap 4
    python preprocess_shhs.py --plot 200077                  draw a night instead (its number, or an EDF file)

A night that cannot be used is reported, listed in skipped.csv with the reason, and left out; a second run does only what is
missing or older than its EDF file. Rates: EEG and ECG 64 Hz, which keeps spindles and the R peaks; breathing 8 Hz, the lower
of the two recorded.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import random
import re
import warnings
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from imbalanced_regression.cli import ArgumentParser, check_above_0, check_least, guard
from imbalanced_regression.files import read_columns, whole

HERE = Path(__file__).resolve().parent
log = logging.getLogger("preprocess_shhs")

EDFS, TABLES = "polysomnography/edfs/shhs2", "datasets/shhs2-dataset-*.csv"
NAME = re.compile(r"shhs2-(\d+)\.edf", re.ASCII)  # `shhs2-200002 (1).edf` is what a second download is called
EPOCH = 30  # seconds
CLIP = 20.0  # of the interquartile range: far above R peaks, below what a lost electrode gives
LEAST_EPOCHS = 4

# labels without case and spaces, the one to prefer first: a spare sensor where the first is missing or flat
CHANNELS = {
    "eeg": (64, ("eeg", "eeg(sec)", "eeg2", "eegsec")),
    "ecg": (64, ("ecg", "ekg", "ecg1")),
    "airflow": (8, ("airflow", "newair", "newa/f", "newairflow")),
    "thorax": (8, ("thorres", "thor", "thorax", "chest")),
    "abdomen": (8, ("abdores", "abdo", "abdomen", "abd")),
}
BREATHING = ("airflow", "thorax", "abdomen")


def read_night(path: Path, hours: float, fill_missing: bool = False) -> dict[str, np.ndarray]:
    """An EDF file -> {"eeg": (T, 1, 1920), "ecg": (T, 1, 1920), "breathing": (T, 3, 240)} float16, T epochs of 30 s.

    Every channel is resampled to its common rate, less its median, over its interquartile range, within -20..20; of a
    night longer than `hours` the beginning is kept.

    Raises ValueError with the reason why the night cannot be used: no EDF, a channel missing or flat (zeros with
    `fill_missing`, unless all are), or too short.
    """
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    try:
        labels, found, unusable = _channels(path, hours)
    except Exception as error:  # a damaged header makes edfio, and the arithmetic on its numbers, raise nearly anything
        raise ValueError(f"no readable EDF file ({type(error).__name__}: {error})") from error
    if unusable and not (fill_missing and found):
        raise ValueError(f"{'; '.join(unusable)} (channels: {', '.join(labels) or 'none'})")
    epochs = min(len(data) // (EPOCH * CHANNELS[name][0]) for name, data in found.items())
    if epochs < LEAST_EPOCHS:
        raise ValueError(f"it holds {epochs} epochs of {EPOCH} s, expected at least {LEAST_EPOCHS}")

    def cut(name: str) -> np.ndarray:
        size = EPOCH * CHANNELS[name][0]
        data = found.get(name, np.zeros(epochs * size, np.float32))
        return data[: epochs * size].reshape(epochs, size).astype(np.float16)

    return {
        "eeg": cut("eeg")[:, None], "ecg": cut("ecg")[:, None], "breathing": np.stack([cut(name) for name in BREATHING], 1)
    }


def _channels(path: Path, hours: float) -> tuple[list[str], dict[str, np.ndarray], list[str]]:
    """The file's labels, the wanted channels at their rates, normalised, and why each of the others cannot be used."""
    from edfio import read_edf
    from scipy.signal import resample_poly

    found, unusable = {}, []
    with warnings.catch_warnings():
        # edfio tells of a last record cut short, which is normal here, and of limits that are equal: such a channel is flat
        warnings.simplefilter("ignore")
        signals = list(read_edf(path, lazy_load_data=True).signals)
        named = defaultdict(list)
        for signal in signals:
            named["".join(signal.label.split()).casefold()].append(signal)
        for name, (rate, labels) in CHANNELS.items():
            candidates = [signal for label in labels for signal in named[label]]
            for signal in candidates:
                data = signal.data[: int(hours * 3600 * signal.sampling_frequency)].astype(np.float32)
                ratio = Fraction(rate / signal.sampling_frequency).limit_denominator(1000)
                low, middle, high = np.percentile(data, (25, 50, 75)) if len(data) else (0, 0, 0)
                if high > low and np.isfinite(data).all():
                    data = resample_poly((data - middle) / (high - low), ratio.numerator, ratio.denominator)
                    found[name] = np.clip(data, -CLIP, CLIP)
                    break
            else:
                unusable.append(f"{name} {'is flat' if candidates else 'is missing'}")
    return [signal.label for signal in signals], found, unusable


def convert(path: Path, out: Path, *, hours: float, fill_missing: bool) -> str | None:
    """One night into its file; the reason, if it cannot be used. What carries the final name is whole."""
    try:
        night = read_night(path, hours, fill_missing)
    except (ValueError, OSError) as error:
        return " ".join(str(error).split())
    with whole(out) as part, part.open("wb") as file:
        np.savez_compressed(file, **night)
    return None


def find_edfs(folder: Path) -> tuple[dict[int, Path], list[str]]:
    """nsrrid -> file of each `shhs2-<nsrrid>.edf` in the folder, and the names of the other EDF files, such as copies."""
    edfs, others = {}, []
    for path in sorted(folder.glob("*.[eE][dD][fF]")):
        match = NAME.fullmatch(path.name)
        if match and int(match[1]) not in edfs:
            edfs[int(match[1])] = path
        else:
            others.append(path.name)
    return edfs, others


def read_scores(folder: Path) -> dict[int, float]:
    """nsrrid -> general health 0..100 of the newest table; the release leaves out scores of 0, which rawgh_s2 = 5 tells."""
    tables = sorted(folder.glob(TABLES), key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
    if not tables:
        raise ValueError(f"--data_dir: no {TABLES} in {folder}; run python download_shhs.py, or python make_sample.py")
    scores: dict[int, float] = {}
    for number, (name, own, raw) in zip(*read_columns(tables[-1], ("nsrrid", "gh_s2", "rawgh_s2"))):
        score = 0.0 if _number(raw) == 5 else _number(own)
        if score is None:
            continue
        night = _number(name)
        if night is None or night != int(night) or not 0 <= score <= 100:
            raise ValueError(f"{tables[-1]}: row {number}: nsrrid {name!r}, score {score:g}: expected a number and 0..100")
        scores[int(night)] = score
    return scores


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def split_nights(scores: dict[int, float], cap: int, seed: int) -> dict[int, str]:
    """nsrrid -> split: of each score's nights, shuffled, k = min(count // 3, cap) to val, the next k to test, as for ages."""
    groups = defaultdict(list)
    for night in sorted(scores):
        groups[round(scores[night] / 5)].append(night)
    shuffle, split = random.Random(seed).shuffle, {}
    for group in sorted(groups):
        nights = groups[group]
        shuffle(nights)
        k = min(len(nights) // 3, cap)
        split.update({night: "val" if i < k else "test" if i < 2 * k else "train" for i, night in enumerate(nights)})
    return split


def write_table(path: Path, header: list[str], rows: list[list]) -> None:
    with whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def plot(night: dict[str, np.ndarray], title: str, out: Path) -> None:
    """The channels of a night, whole (each epoch's range) and a minute of its middle, to a PNG."""
    from matplotlib.figure import Figure

    rows = {"EEG": night["eeg"][:, 0], "ECG": night["ecg"][:, 0]}
    rows.update({name: night["breathing"][:, i] for i, name in enumerate(BREATHING)})
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(len(rows), 2, sharex="col", width_ratios=(2, 3))
    for (night_long, minute), (name, data) in zip(axes, rows.items()):
        data = data.astype(np.float32)
        middle = max(len(data) // 2 - 1, 0)
        hours = np.arange(len(data)) * EPOCH / 3600
        for low, high, shade in ((0, 100, "#c9dbe6"), (5, 95, "#7aa6c2"), (25, 75, "#33658a")):
            night_long.fill_between(hours, *np.percentile(data, (low, high), axis=1), color=shade, lw=0)
        piece = data[middle : middle + 2].ravel()
        minute.plot(np.linspace(0, EPOCH * len(data[middle : middle + 2]), len(piece)), piece, color="#33658a", lw=0.6)
        night_long.set_ylabel(name)
    axes[-1, 0].set_xlabel("hours (range of each epoch; darker: 5-95 %, 25-75 %)")
    axes[-1, 1].set_xlabel(f"seconds from {middle * EPOCH / 3600:.2f} h")
    figure.suptitle(f"{title}: {len(night['eeg'])} epochs of 30 s, in interquartile ranges")
    figure.savefig(out, dpi=90)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=HERE / "data", help="where the provider's folders lie; written to too")
    parser.add_argument("--hours", type=float, default=8, help="of a longer night the beginning is kept")
    parser.add_argument("--cap", type=int, default=25, help="nights of each score in val, and in test, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--fill_missing", action="store_true", help="zeros for a missing or flat channel, not skipped nights")
    parser.add_argument("--overwrite", action="store_true", help="do finished nights again")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="processes; each takes up to 1 GB")
    parser.add_argument("--plot", metavar="NSRRID|FILE", help="draw this night to <nsrrid>.png, and do nothing else")
    args = parser.parse_args()
    check_least(args, cap=0, seed=0, workers=1)
    check_above_0(args, "hours")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    nights = args.data_dir / "nights"
    if args.plot:
        if args.plot.isdigit():
            file = nights / f"{args.plot}.npz"
            if not file.is_file():
                raise ValueError(f"--plot: no {file}; run this script without --plot first, or pass an EDF file")
            with np.load(file) as stored:
                night = dict(stored)
        else:
            file = Path(args.plot)
            night = read_night(file, args.hours, args.fill_missing)
        plot(night, file.stem, Path(f"{file.stem}.png"))
        print(f"{file.stem}.png")
        return

    scores = read_scores(args.data_dir)
    edfs, others = find_edfs(args.data_dir / EDFS)
    if others:
        few = ", ".join(others[:3])
        log.warning("%d files of other names than shhs2-<nsrrid>.edf are left out, such as %s", len(others), few)
    if not edfs:
        raise ValueError(f"--data_dir: no shhs2-*.edf in {args.data_dir / EDFS}; run python download_shhs.py")
    nights.mkdir(exist_ok=True)
    settings = nights / "settings.json"
    plain = {"hours": args.hours, "rates": {name: rate for name, (rate, _) in CHANNELS.items()}}
    # nights without zeros may be completed by nights with them, but not the other way round
    now, without = json.dumps({**plain, "fill_missing": True} if args.fill_missing else plain), json.dumps(plain)
    if settings.exists() and settings.read_text() not in (now, without) and not args.overwrite:
        flag = "--fill_missing" if settings.read_text() == json.dumps({**plain, "fill_missing": True}) else "--hours"
        raise ValueError(f"{flag}: {nights} was made with {settings.read_text()}, now {now}; --overwrite makes it anew")
    if args.overwrite:
        for old in nights.glob("*.npz"):
            old.unlink()
    for left in nights.glob("*.part"):  # of a run that was killed
        left.unlink()
    settings.write_text(now)

    wanted = [night for night in edfs if night in scores]
    todo = [night for night in wanted if not _done(nights / f"{night}.npz", edfs[night])]
    log.info("%d EDF files, %d with a score, %d to do", len(edfs), len(wanted), len(todo))
    skipped = {}
    work = partial(convert, hours=args.hours, fill_missing=args.fill_missing)
    for done, (night, reason) in enumerate(_each(work, edfs, todo, nights, args.workers), start=1):
        if reason:
            skipped[night] = reason
            log.warning("%s skipped: %s", edfs[night].name, reason)
        if done % 100 == 0 or done == len(todo):
            log.info("%d of %d nights", done, len(todo))
    write_table(args.data_dir / "skipped.csv", ["nsrrid", "reason"], sorted(map(list, skipped.items())))
    kept = {night: scores[night] for night in wanted if night not in skipped}
    if not kept:
        raise ValueError(f"no night can be used; {args.data_dir / 'skipped.csv'} says why")
    split = split_nights(kept, args.cap, args.seed)
    write_table(args.data_dir / "shhs.csv", ["nsrrid", "gh", "split"], [[n, f"{kept[n]:g}", split[n]] for n in sorted(kept)])
    print(f"{args.data_dir / 'shhs.csv'}: {dict(Counter(split.values()))}, {len(skipped)} skipped")


def _done(night: Path, edf: Path) -> bool:
    """Whether a night's file is there and not older than its EDF file, which may have been fetched or drawn anew."""
    return night.exists() and night.stat().st_mtime_ns >= edf.stat().st_mtime_ns


def _each(work, edfs: dict[int, Path], todo: list[int], nights: Path, workers: int):
    """(night, None or the reason) of all, as they get done."""
    if workers == 1:
        for night in todo:
            yield night, work(edfs[night], nights / f"{night}.npz")
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(work, edfs[night], nights / f"{night}.npz"): night for night in todo}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        except BrokenProcessPool:
            raise OSError("a worker was killed, perhaps for memory; finished nights are kept, try fewer --workers") from None
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    guard(main)
