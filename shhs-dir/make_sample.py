"""A made-up SHHS-DIR, for trying and testing: short nights as true EDF files in the provider's layout, and its csv.

    python make_sample.py                                   about 600 nights to train on, 84 val, 84 test; 3 to 6 minutes each
    python preprocess_shhs.py --data_dir sample --cap 4     then the real path
    python train.py --data_dir sample --width 8 --d_hid 32 --batch_size 8 --epochs 12 --schedule 9

The better the score, the fewer breathing pauses, the more the heart's rate varies, and the more spindles the EEG has; each
follows a score of its own, off by a few points. Numbers on this sample are no benchmark results.
"""

from __future__ import annotations

import csv
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imbalanced_regression.cli import ArgumentParser, check_least, guard
from imbalanced_regression.files import whole

HERE = Path(__file__).resolve().parent
EDFS, TABLE = Path("polysomnography/edfs/shhs2"), Path("datasets/shhs2-dataset-0.21.0.csv")

# how many real nights have each score 0, 5, ..., 100, about
REAL = np.array([2, 1, 5, 11, 15, 35, 43, 45, 57, 90, 113, 152, 163, 202, 344, 325, 299, 227, 185, 143, 165])
SPREAD = 8.0  # standard deviation, in points, by which what one organ shows differs from the score
BREATH = 0.25  # breaths a second

# what the provider's files call the channels, and the rates in them
LABELS = {
    "eeg": ("EEG", "eeg", "EEG "), "ecg": ("ECG", "ecg", "EKG"), "airflow": ("AIRFLOW", "New Air", "NEW A/F", "Airflow"),
    "thorax": ("THOR RES", "Thor Res", "THORRES"), "abdomen": ("ABDO RES", "Abdo Res", "ABDORES"),
}
RATES = {"eeg": (125, 128), "ecg": (125, 250, 256), "breathing": (10, 8)}


class Signs(NamedTuple):
    """What a night shows of the score, (n,) float32 each, and the rates they are given at."""

    eeg: np.ndarray
    ecg: np.ndarray
    airflow: np.ndarray
    thorax: np.ndarray
    abdomen: np.ndarray


def draw_night(rng: np.random.Generator, score: float, seconds: int, eeg_rate: int, ecg_rate: int, breath_rate: int) -> Signs:
    """The signals of a night of `seconds` with a score in 0..100; volts and effort in units of the sensors."""
    shown = np.clip(score + SPREAD * rng.standard_normal(3), 0, 100) / 100
    breath = 2 * np.pi * BREATH * rng.uniform(0.85, 1.15)

    # breathing pauses: up to two a minute, 12 to 25 s; the flow stops, chest and belly go on against the closed throat
    time = np.arange(seconds * breath_rate) / breath_rate
    open_ = np.ones(len(time))
    for start in rng.uniform(0, seconds, rng.poisson(seconds / 30 * (1 - shown[0]))):
        open_[(time >= start) & (time < start + rng.uniform(12, 25))] = 0.05
    open_ = np.convolve(np.pad(open_, breath_rate, mode="edge"), np.ones(2 * breath_rate + 1) / (2 * breath_rate + 1), "valid")
    phase = breath * time + np.cumsum(rng.normal(0, 0.05, len(time)))
    noise = rng.normal(0, 0.05, (3, len(time)))
    airflow = open_ * np.sin(phase) + noise[0]
    thorax = (0.5 + 0.5 * open_) * np.sin(phase + 0.3) + noise[1]
    abdomen = (0.5 + 0.5 * open_) * np.sin(phase + 0.3 + 2.2 * (1 - open_)) + noise[2]

    # heart: beats 0.01 to 0.16 s earlier and later with breathing and slow waves, about 65 a minute
    beats, at = [], rng.uniform(0, 1)
    base, swing = rng.uniform(0.85, 1.0), 0.01 + 0.15 * shown[1]
    slow, fast = rng.uniform(0, 2 * np.pi, 2)
    while at < seconds - 0.1:
        beats.append(at)
        at += base + swing * (np.sin(breath * at + fast) + 0.6 * np.sin(0.6 * at + slow)) + rng.normal(0, 0.005)
    time = np.arange(-0.3, 0.5, 1 / ecg_rate)
    wave = np.exp(-((time / 0.015) ** 2)) - 0.2 * np.exp(-(((time - 0.04) / 0.015) ** 2))
    wave += 0.2 * np.exp(-(((time - 0.25) / 0.06) ** 2)) + 0.1 * np.exp(-(((time + 0.16) / 0.03) ** 2))
    pulses = np.zeros(seconds * ecg_rate)
    pulses[(np.array(beats) * ecg_rate).astype(int)] = 1
    ecg = np.convolve(pulses, wave, "same") + rng.normal(0, 0.03, len(pulses))

    # EEG: a slow background, and up to 20 spindles a minute of 11 to 15 Hz
    time = np.arange(seconds * eeg_rate) / eeg_rate
    eeg = sum(
        rng.uniform(5, 12) * np.sin(2 * np.pi * f * time + np.cumsum(rng.normal(0, 0.15, len(time))))
        for f in (0.8, 2.3, 5.5, 9.0)
    )
    eeg = eeg + rng.normal(0, 8, len(time))
    for start in rng.uniform(0, seconds - 2, rng.poisson(seconds / 60 * 20 * shown[2])):
        part = slice(int(start * eeg_rate), int((start + rng.uniform(0.7, 1.5)) * eeg_rate))
        inside = time[part] - time[part.start]
        eeg[part] += 40 * np.sin(np.pi * inside / inside[-1]) * np.sin(2 * np.pi * rng.uniform(11, 15) * inside)
    return Signs(eeg, ecg, airflow, thorax, abdomen)


def write_night(path: Path, seed: list[int], score: float, minutes: tuple[float, float]) -> None:
    """One EDF with channels the loader wants and others, under labels and at rates that differ from night to night."""
    from edfio import Edf, EdfSignal

    rng = np.random.default_rng(seed)
    seconds = int(60 * rng.uniform(*minutes))
    rates = {name: int(rng.choice(choices)) for name, choices in RATES.items()}
    signs = draw_night(rng, score, seconds, rates["eeg"], rates["ecg"], rates["breathing"])
    ranges = {"eeg": (125.0, "uV"), "ecg": (1.25, "mV")}
    channels = [EdfSignal(rng.integers(90, 99, seconds).astype(float), 1, label="SaO2", physical_range=(0, 100))]
    for name, data in signs._asdict().items():
        reach, unit = ranges.get(name, (2.0, ""))
        gain = rng.uniform(0.6, 1.0)  # of the amplifier
        channels.append(EdfSignal(
            np.clip(gain * data, -reach, reach), rates.get(name, rates["breathing"]), label=str(rng.choice(LABELS[name])),
            physical_dimension=unit, physical_range=(-reach, reach),
        ))
    channels.append(EdfSignal(np.zeros(seconds), 1, label="POSITION", physical_range=(0, 3)))
    with whole(path) as part:
        Edf(channels, data_record_duration=1).write(part)


def draw_counts(train: int, per_score: int) -> np.ndarray:
    """(21,) nights to make of each score: the real hill, steeper so that few nights show it, and val's and test's share.

    At least `per_score` are left for train, as the split gives val and test no more than a third each.
    """
    shape = (REAL / REAL.max()) ** 1.5
    return np.maximum(np.round(train * shape / shape.sum()).astype(int), per_score) + 2 * per_score


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=600, help="nights in train, about")
    parser.add_argument("--per_score", type=int, default=4, help="nights of each score in val, and in test")
    parser.add_argument("--minutes", type=float, nargs=2, default=(3, 6), metavar=("LEAST", "MOST"), help="length of a night")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "sample", help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="write into a sample that is there")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 4), help="processes that draw")
    args = parser.parse_args()
    check_least(args, train=1, per_score=1, seed=0, workers=1)
    if not 1 <= args.minutes[0] <= args.minutes[1]:
        raise ValueError(f"--minutes: expected 1 <= LEAST <= MOST, found {args.minutes[0]:g} {args.minutes[1]:g}")
    table = args.out / TABLE
    if table.exists() and not args.overwrite:
        raise ValueError(f"{table} exists; --overwrite draws the sample anew, --out names another folder")
    for folder in (args.out / EDFS, table.parent):
        folder.mkdir(parents=True, exist_ok=True)

    scores = np.repeat(np.arange(0, 101, 5), draw_counts(args.train, args.per_score))
    np.random.default_rng(args.seed).shuffle(scores)
    ids = 200001 + np.arange(len(scores))
    paths = [args.out / EDFS / f"shhs2-{i}.edf" for i in ids]
    write = partial(write_night, minutes=tuple(args.minutes))
    seeds = [[args.seed, int(i)] for i in ids]
    if args.workers == 1:
        for job in zip(paths, seeds, scores.tolist()):
            write(*job)
    else:
        with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
            for _ in pool.map(write, paths, seeds, scores.tolist(), chunksize=4):
                pass
    # the csv comes last: where it lies, the nights are whole. As the provider's, it has no score 0: only rawgh_s2 tells
    with whole(table) as part, part.open("w", newline="", encoding="latin-1") as file:
        rows = csv.writer(file)
        rows.writerow(["nsrrid", "pptid", "visitnumber", "site", "rawgh_s2", "gh_s2"])
        for i, score in zip(ids, scores):
            rows.writerow([i, i - 200000, 2, "Orléans", f"{5 + score / 5:g}", score if score else ""])
    print(f"{args.out}: {len(ids)} made-up nights; now python preprocess_shhs.py --data_dir {args.out} --cap {args.per_score}")


if __name__ == "__main__":
    guard(main)
