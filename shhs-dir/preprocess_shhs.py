"""SHHS's files as delivered -> one file of 30-second epochs per night, and shhs.csv with the split.

    python preprocess_shhs.py                        # data/polysomnography/..., data/datasets/... -> data/nights, data/shhs.csv
    python preprocess_shhs.py --data_dir sample --cap 4
    python preprocess_shhs.py --plot 200077          # draws a night's channels: 200077.png

Nights run in parallel; started again, it goes on with those not done. A night that cannot be read is left out, with its
reason in skipped.csv. The score's zero, which the release sets to missing, is recovered from the raw sum.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import random
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from imbalanced_regression.cli import ArgumentParser, check_least, guard
from imbalanced_regression.files import write as write_whole

logger = logging.getLogger(__name__)

HERE = Path(__file__).resolve().parent
EDFS, TABLES = Path("polysomnography/edfs/shhs2"), Path("datasets")
SECONDS = 30  # the length of a scored epoch
# spindles end at 16 Hz; heart beats want 8 ms; breaths take seconds
RATES = {"eeg": 64, "ecg": 128, "breathing": 8}
# what files call a channel, in capitals and without spaces -> what it is
LABELS = {
    "EEG": "eeg", "C4-A1": "eeg", "EEG(C4-A1)": "eeg", "ECG": "ecg", "EKG": "ecg",
    "AIRFLOW": "airflow", "NEWAIR": "airflow", "NEWA/F": "airflow",
    "THORRES": "thorax", "THOR": "thorax", "ABDORES": "abdomen", "ABDO": "abdomen",
}
CHANNELS = {"eeg": ("eeg",), "ecg": ("ecg",), "breathing": ("airflow", "thorax", "abdomen")}
LARGEST = 10.0  # in robust standard deviations; beyond it is movement or a loose electrode
GRID, RAW_OF_ZERO = 5, 5  # step of the score; the raw sum of the answers that makes the score 0


# -- one night ---------------------------------------------------------------------------------------------------------


def read_night(path: Path, hours: float) -> dict[str, np.ndarray]:
    """An EDF -> {signal: (T, C, n) float16}: T 30-second epochs of n = 30 x rate samples, robustly normalised.

    Raises ValueError with the reason for a night that cannot be used.
    """
    from edfio import read_edf

    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of truncated last records and start dates of 00.00.00, normal here
        try:
            edf = read_edf(path, lazy_load_data=True)
            signals = list(edf.signals)
        except Exception as error:  # a damaged header makes the reader raise nearly anything
            raise ValueError(f"is no EDF that can be read ({type(error).__name__}: {error})") from None
        by_name = {}
        for signal in signals:
            name = LABELS.get("".join(signal.label.upper().split()))
            if name is not None and name not in by_name:  # the first of several, as EEG before EEG(sec)
                by_name[name] = signal
        wanted = [name for names in CHANNELS.values() for name in names]
        missing = [name for name in wanted if name not in by_name]
        if missing:
            raise ValueError(f"has no channel {missing[0]}; it has {', '.join(signal.label for signal in signals)}")
        channels = {}
        for signal, names in CHANNELS.items():
            for name in names:
                try:
                    data, rate = by_name[name].data, by_name[name].sampling_frequency
                except Exception as error:
                    raise ValueError(f"channel {name} cannot be read ({type(error).__name__}: {error})") from None
                channels[name] = normalise(resample(data, rate, RATES[signal]), name)
    epochs = min(len(channels[name]) // (SECONDS * RATES[signal]) for signal, names in CHANNELS.items() for name in names)
    epochs = min(epochs, int(hours * 3600 / SECONDS))
    if epochs < 1:
        raise ValueError(f"is shorter than {SECONDS} seconds")

    def cut(name: str, rate: int) -> np.ndarray:
        return channels[name][: epochs * SECONDS * rate].reshape(epochs, SECONDS * rate).astype(np.float16)

    return {s: np.stack([cut(name, RATES[s]) for name in names], axis=1) for s, names in CHANNELS.items()}


def resample(data: np.ndarray, rate: float, wanted: int) -> np.ndarray:
    """(n,) at `rate` Hz -> float32 at `wanted` Hz, low-passed where needed."""
    from scipy.signal import resample_poly

    ratio = Fraction(wanted / rate).limit_denominator(1000)
    data = np.asarray(data, dtype=np.float32)
    return data if ratio == 1 else resample_poly(data, ratio.numerator, ratio.denominator).astype(np.float32)


def normalise(data: np.ndarray, name: str) -> np.ndarray:
    """Median 0 and quartiles as those of N(0, 1), cut at +-10. Raises ValueError for a channel that is flat or not finite."""
    if len(data) == 0 or not np.isfinite(data).all():
        raise ValueError(f"channel {name} is empty or not finite")
    low, middle, high = np.quantile(data, [0.25, 0.5, 0.75])
    spread = (high - low) / 1.349
    if not spread > 0:  # an ECG may rest on its baseline for half the time
        spread = data.std()
    if not spread > 0:
        raise ValueError(f"channel {name} is flat")
    return np.clip((data - middle) / spread, -LARGEST, LARGEST)


def make_night(job: tuple[int, Path, Path], hours: float) -> tuple[int, str | None]:
    """Make one night's file; returns its number, and the reason where it cannot be used. A full disk is raised."""
    number, edf, out = job
    try:
        night = read_night(edf, hours)
    except (ValueError, OSError) as error:
        return number, " ".join(str(error).split())
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **night)
    write_whole(out, buffer.getvalue())
    return number, None


# -- scores and the split ----------------------------------------------------------------------------------------------


def read_scores(table: Path) -> dict[int, float]:
    """nsrrid -> score 0..100, from the provider's csv; persons without a score are left out.

    Raises ValueError naming file and line.
    """
    rows = list(csv.reader(table.read_text(encoding="latin-1").splitlines()))
    header = [name.strip().lower() for name in rows[0]] if rows else []
    for name in ("nsrrid", "gh_s2", "rawgh_s2"):
        if name not in header:
            raise ValueError(f"{table}: line 1: no column {name!r} in the header")
    at = [header.index(name) for name in ("nsrrid", "gh_s2", "rawgh_s2")]
    scores = {}
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        try:
            number, score, raw = (float(row[i]) if row[i].strip() else None for i in at)
        except (ValueError, IndexError):
            raise ValueError(f"{table}: line {line}: nsrrid, gh_s2 and rawgh_s2 must be numbers or empty") from None
        if number is None:
            raise ValueError(f"{table}: line {line}: nsrrid is empty")
        if score is None and raw == RAW_OF_ZERO:
            score = 0.0  # the release sets scores up to 0 to missing
        if score is None:
            continue
        if not 0 <= score <= 100:
            raise ValueError(f"{table}: line {line}: gh_s2: {score:g} lies outside 0..100")
        scores[int(number)] = score
    return scores


def split(scores: dict[int, float], cap: int, seed: int) -> dict[int, str]:
    """nsrrid -> train, val or test: of each score min(count // 3, cap) to val and as many to test, drawn with `seed`."""
    chance = random.Random(seed)
    result = {}
    for bin_ in sorted({round(score / GRID) for score in scores.values()}):
        numbers = sorted(number for number, score in scores.items() if round(score / GRID) == bin_)
        chance.shuffle(numbers)
        k = min(len(numbers) // 3, cap)
        for i, number in enumerate(numbers):
            result[number] = "val" if i < k else "test" if i < 2 * k else "train"
    return result


def _csv(rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


# -- the picture -------------------------------------------------------------------------------------------------------


def plot(path: Path, out: Path, hours: float) -> None:
    """Draw a night: 30 seconds of every channel from its middle above the whole night, as the model gets it."""
    from imbalanced_regression.drawing import BAR, LINE, new_figure, png

    night = read_night(path, hours)
    names = [(signal, i, name) for signal, channels in CHANNELS.items() for i, name in enumerate(channels)]
    fig = new_figure(11, 9)
    axes = fig.subplots(len(names), 2, width_ratios=(3, 2))
    middle = len(night["eeg"]) // 2
    for (signal, i, name), (whole, zoom) in zip(names, axes):
        rate, data = RATES[signal], night[signal][:, i].astype(np.float32)
        hour = (np.arange(len(data)) + 0.5) * SECONDS / 3600
        low, high = np.quantile(data, [0.02, 0.98], axis=1)
        whole.fill_between(hour, low, high, color=BAR, lw=0)
        whole.axvline(hour[middle], color=LINE, lw=0.8)
        whole.set_ylabel(name)
        zoom.plot(np.arange(SECONDS * rate) / rate, data[middle], color=LINE, lw=0.6)
    axes[0, 0].set_title("the night: 2 % to 98 % of every 30 s, in robust standard deviations", fontsize=10)
    axes[0, 1].set_title("30 s at the red line", fontsize=10)
    axes[-1, 0].set_xlabel("hours")
    axes[-1, 1].set_xlabel("seconds")
    fig.suptitle(path.name, fontsize=10)
    write_whole(out, png(fig))


# -- the script --------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=HERE / "data", help="folder with the provider's layout")
    parser.add_argument("--table", type=Path, help="the csv of visit 2; default: datasets/shhs2-dataset-*.csv, the newest")
    parser.add_argument("--hours", type=float, default=8, help="longer nights are cut to this")
    parser.add_argument("--cap", type=int, default=25, help="nights of a score in val, and in test, at most")
    parser.add_argument("--seed", type=int, default=666, help="of the split")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--overwrite", action="store_true", help="make nights again that are there")
    parser.add_argument("--plot", metavar="NSRRID", help="only draw this night (its number, or an EDF file)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_least(args, cap=1, seed=0, workers=1)
    if not args.hours > 0:
        raise ValueError(f"--hours: expected a number above 0, found {args.hours:g}")
    if args.plot:
        path = Path(args.plot)
        path = path if path.suffix.lower() == ".edf" else args.data_dir / EDFS / f"shhs2-{args.plot}.edf"
        if not path.is_file():
            raise ValueError(f"--plot: there is no {path}")
        try:
            plot(path, Path(path.stem + ".png"), args.hours)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        print(f"{path.stem}.png")
        return

    tables = [args.table] if args.table else sorted((args.data_dir / TABLES).glob("shhs2-dataset-*.csv"))
    if not tables or not tables[-1].is_file():
        raise ValueError(f"--data_dir: no {TABLES}/shhs2-dataset-*.csv in {args.data_dir}; run python download_shhs.py, "
                         "or python make_sample.py and pass --data_dir sample")
    scores = read_scores(tables[-1])
    paths = {number: args.data_dir / EDFS / f"shhs2-{number}.edf" for number in scores}
    absent = [number for number, path in paths.items() if not path.is_file()]
    if len(absent) == len(paths):
        raise ValueError(f"--data_dir: none of the {len(paths)} nights of {tables[-1]} lies in {args.data_dir / EDFS}")
    if absent:
        logger.info("%d persons with a score have no recording and are left out", len(absent))
    skipped = make_nights({n: p for n, p in paths.items() if p.is_file()}, args.data_dir / "nights", args)
    done = {number: scores[number] for number in scores if (args.data_dir / "nights" / f"{number}.npz").is_file()}
    splits = split(done, args.cap, args.seed)
    write_whole(args.data_dir / "skipped.csv", _csv([("nsrrid", "reason"), *sorted(skipped.items())]))
    rows = [("nsrrid", "gh", "split"), *((number, f"{done[number]:g}", splits[number]) for number in sorted(done))]
    write_whole(args.data_dir / "shhs.csv", _csv(rows))
    sizes = {name: list(splits.values()).count(name) for name in ("train", "val", "test")}
    print(f"{args.data_dir / 'shhs.csv'}: {sizes}, {len(skipped)} nights skipped")


def make_nights(paths: dict[int, Path], folder: Path, args) -> dict[int, str]:
    """Make every night that is not there yet; number -> reason of those that cannot be."""
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.part"):  # by a process that was killed while writing
        left.unlink()
    jobs = [(number, path, folder / f"{number}.npz") for number, path in sorted(paths.items())]
    jobs = [job for job in jobs if args.overwrite or not job[2].is_file()]
    if len(jobs) < len(paths):
        logger.info("%d nights are there already", len(paths) - len(jobs))
    skipped = {}
    make: Callable = partial(make_night, hours=args.hours)
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        results = map(make, jobs) if args.workers == 1 else pool.map(make, jobs)
        for number, reason in tqdm(results, total=len(jobs), desc="nights", disable=None):
            if reason is not None:
                logger.warning("night %d is skipped: %s", number, reason)
                skipped[number] = reason
    return skipped


if __name__ == "__main__":
    guard(main)
