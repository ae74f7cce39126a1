"""How many training images a processor core makes ready per second: the data set of faces/ beside the plain pipeline.

    python benchmarks/loader_speed.py                          # drawn faces, under a minute; exit code 1 if a claim fails
    python benchmarks/loader_speed.py --quick                  # few images: that it runs, and the pixels
    python benchmarks/loader_speed.py --csv agedb.csv --data_dir DIR    # 256 of your own images

Plain: Pillow and torchvision, open, convert, resize, random crop, flip, to float, normalise. Ours ends with uint8, as the
encoder normalises on the device. Both go through a DataLoader in one process and thread, in turns, timed by the
processor's clock, so a busy machine disturbs little. Pixels are compared after normalising, in levels of 0..255.
Then seconds per training epoch of a ResNet-18: vanilla beside FDS with statistics from a second pass, and streaming.
"""

from __future__ import annotations

import datetime
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# found through the path set above
from imbalanced_regression import FDS, Regressor, weighted_l1_loss  # noqa: E402
from imbalanced_regression.cli import ArgumentParser, guard  # noqa: E402
from imbalanced_regression.faces import drawn as faces  # noqa: E402
from imbalanced_regression.faces.dataset import AgeDataset  # noqa: E402
from imbalanced_regression.faces.pixels import load_face  # noqa: E402
from imbalanced_regression.faces.resnet import ResNetEncoder, normalize  # noqa: E402
from imbalanced_regression.faces.table import read_age_csv  # noqa: E402
from imbalanced_regression.tools.starting import processor  # noqa: E402
from imbalanced_regression.training import Objective, Plan, Splits  # noqa: E402
from imbalanced_regression.training.epochs import train_one_epoch  # noqa: E402
from imbalanced_regression.training.loaders import Feed  # noqa: E402
from imbalanced_regression.training.session import EpochProgress, prepare  # noqa: E402

WANTED, WANTED_CACHED = 2, 5  # times the plain pipeline
STREAMING = 1.05  # times a vanilla epoch, at most
HALF = ([0.5] * 3, [0.5] * 3)


class Plain(Dataset):
    """The pipeline as one writes it first."""

    def __init__(self, paths: list[str], size: int):
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((size, size)), transforms.RandomCrop(size, padding=16), transforms.RandomHorizontalFlip(),
                transforms.ToTensor(), transforms.Normalize(*HALF),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        one = np.asarray([1.0]).astype("float32")
        return self.transform(Image.open(self.paths[index]).convert("RGB")), one, one


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--img_size", type=int, default=224, help="side of the images that training sees")
    parser.add_argument("--source_sizes", type=int, nargs="+", default=[160, 250, 350, 500, 1000], help="sides of drawn files")
    parser.add_argument("--csv", type=Path, help="time these images instead of drawn ones")
    parser.add_argument("--data_dir", type=Path, help="the folder that the csv's paths start from")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; the best counts")
    parser.add_argument("--quick", action="store_true", help="few images, speeds not judged")
    args = parser.parse_args()
    if bool(args.csv) != bool(args.data_dir):
        parser.error("--csv and --data_dir belong together")
    torch.set_num_threads(1)
    random.seed(0)
    torch.manual_seed(0)
    count, rounds = (8, 1) if args.quick else (64, args.rounds)

    print(
        f"{datetime.date.today()}, {processor()}, one thread, python {platform.python_version()}, torch {torch.__version__}, "
        f"Pillow {PIL.__version__}, to {args.img_size} px"
    )
    print(f"{'':<22}{'images per second and core':^42}{'times plain':^20}{'pixel difference':^20}")
    print(f"{'files':<22}{'plain':>12}{'ours':>14}{'--cache':>16}{'ours':>11}{'--cache':>9}{'mean':>11}{'largest':>9}")
    gains = []
    with tempfile.TemporaryDirectory() as folder:
        for name, paths in sources(args, count, Path(folder)):
            row = measure(paths, args.img_size, Path(folder) / "cache", rounds)
            print(
                f"{name:<22}{row['plain']:>12,.0f}{row['ours']:>14,.0f}{row['cached']:>16,.0f}"
                f"{row['ours'] / row['plain']:>11.1f}{row['cached'] / row['plain']:>9.1f}"
                f"{row['mean']:>11.2f}{row['largest']:>9.0f}"
            )
            gains.append((row["ours"] / row["plain"], row["cached"] / row["plain"]))
    ours, cached = np.exp(np.log(gains).mean(0))
    print(f"geometric mean of the gains: {ours:.1f}, with --cache {cached:.1f}; wanted: {WANTED} and {WANTED_CACHED}")
    seconds = epochs(64 if args.quick else 256, rounds)
    print("\nseconds of processor time per epoch, ResNet-18, 64 px, batch 64 (best of the turns):")
    for name, value in seconds.items():
        print(f"{name:<22}{value:>12.2f}{value / seconds['vanilla']:>10.3f} times vanilla")
    streaming = seconds["FDS, streaming"] / seconds["vanilla"]
    print(f"wanted: streaming at most {STREAMING} times vanilla")
    fast = ours >= WANTED and cached >= WANTED_CACHED and streaming <= STREAMING
    sys.exit(0 if args.quick or fast else 1)


def epochs(count: int, rounds: int) -> dict[str, float]:
    """Seconds of one epoch, end of FDS's epoch included, in turns; drawn faces from a cache, so the model is what counts."""
    with tempfile.TemporaryDirectory() as folder:
        paths, ages = [], np.random.default_rng(0).integers(1, 90, count)
        for i in range(count):
            paths.append(f"{folder}/{i}.jpg")
            rng = np.random.default_rng(i % 16)
            faces.draw_face(float(ages[i % 16]), "fm"[i % 2], rng, 64).save(paths[i])
        data = AgeDataset(paths, ages, img_size=64, train=True, cache=f"{folder}/cache", cache_workers=1)
        splits = Splits(data, data, data)
        best: dict[str, float] = {}
        variants = {"vanilla": "second_pass", "FDS, second pass": "second_pass", "FDS, streaming": "streaming"}
        runs = {}
        for name, stats in variants.items():
            encoder = ResNetEncoder("resnet18")
            fds = None if name == "vanilla" else FDS(encoder.feature_dim)
            plan = Plan(epochs=rounds + 2, batch_size=64, fds_stats=stats)
            training = prepare(Regressor(encoder, nn.Linear(encoder.feature_dim, 1), fds), Objective(weighted_l1_loss), plan)
            runs[name] = training, Feed(splits, plan, training.runtime), plan
        for turn in range(rounds + 1):  # the first turn warms up
            for name, (training, feed, plan) in runs.items():
                training.progress = EpochProgress()
                began = time.process_time()
                train_one_epoch(training, feed, turn, plan)
                if turn:
                    best[name] = min(best.get(name, np.inf), time.process_time() - began)
    return best


def sources(args, count: int, folder: Path):
    """(name, paths) of each set of files: one's own, or drawn faces of each size as JPEGs of quality 90."""
    if args.csv:
        split = read_age_csv(args.csv, args.data_dir)["train"]
        chosen = np.random.default_rng(0).permutation(len(split))[: 4 * count]
        paths = [split.paths[i] for i in chosen]
        yield f"{args.csv.name}, {kilobytes(paths)} kB", paths
        return
    for size in args.source_sizes:
        paths = []
        for i in range(count):
            path = folder / f"{size}_{i}.jpg"
            if i < 8:  # drawing large faces is slow, and eight different ones do
                rng = np.random.default_rng(i)
                faces.draw_face(rng.uniform(5, 90), "fm"[i % 2], rng, size).save(path, quality=90)
            else:
                path.write_bytes((folder / f"{size}_{i % 8}.jpg").read_bytes())
            paths.append(str(path))
        yield f"{size} px, {kilobytes(paths)} kB", paths


def measure(paths: list[str], size: int, cache: Path, rounds: int) -> dict[str, float]:
    ages = np.full(len(paths), 30.0)
    data = {
        "plain": Plain(paths, size),
        "ours": AgeDataset(paths, ages, img_size=size, train=True),
        "cached": AgeDataset(paths, ages, img_size=size, train=True, cache=cache, cache_workers=1),
    }
    best = dict.fromkeys(data, 0.0)
    for _ in range(rounds + 1):  # the first turn warms up
        for name, dataset in data.items():
            loader = DataLoader(dataset, 32)
            began = time.process_time()
            for _batch in loader:
                pass
            best[name] = max(best[name], len(paths) / (time.process_time() - began))
    resize = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(*HALF)])
    difference = [
        abs(resize(Image.open(path).convert("RGB")) - normalize(load_face(path, size))).mul(127.5) for path in paths[:16]
    ]
    return {**best, "mean": float(torch.stack(difference).mean()), "largest": float(torch.stack(difference).max())}


def kilobytes(paths: list[str]) -> str:
    return f"{np.mean([os.path.getsize(path) for path in paths]) / 1000:.0f}"


if __name__ == "__main__":
    guard(main)
