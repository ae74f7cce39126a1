r"""A sample to try NYUD2-DIR on: ray-cast rooms with true depth, in the real layout.

    python make_sample.py                     # sample/: 48 scenes of 5 training images, 48 test images
    python train.py --data_dir sample --bucket_counts sample/train_bucket_num.txt --no_imagenet --model resnet18 \
        --height 36 --width 48

A room is a textured box with furniture; light falls off with the distance from the camera. Training rooms are mostly
small, test rooms of every size: the depth is imbalanced in training. No result on the sample is a benchmark result.
"""

from __future__ import annotations

import csv
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imbalanced_regression.cli import ArgumentParser, check_least, guard

HERE = Path(__file__).resolve().parent
NEAR, FAR = 0.71, 9.9  # metres: all depths lie between
TANGENT = 0.54  # of half the horizontal angle of view, about that of the Kinect


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=48, help="training scenes")
    parser.add_argument("--frames", type=int, default=5, help="images of each")
    parser.add_argument("--test", type=int, default=48, help="test images")
    parser.add_argument("--height", type=int, default=36, help="of the crops to train on, for which the mask is made")
    parser.add_argument("--width", type=int, default=48, help="of the crops to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "sample", help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="replace a sample that is there")
    args = parser.parse_args()
    check_least(args, scenes=2, frames=1, test=4, height=32, width=32, seed=0)
    if args.out.exists() and not args.overwrite:
        raise ValueError(f"{args.out} is there; --overwrite replaces it, --out names another folder")
    part = args.out.with_name(args.out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        write_sample(part, args)
        shutil.rmtree(args.out, ignore_errors=True)
        os.replace(part, args.out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{args.out}: {args.scenes * args.frames} training images of {args.scenes} scenes, {args.test} test images")


def write_sample(folder: Path, args) -> None:
    """The csv files, images and depth maps; then counts, subset and mask as `preprocess_nyud2.py` makes them."""
    from PIL import Image
    from preprocess_nyud2 import STEPS

    # twice the size that images are scaled to before the crop
    height = 2 * max(round(args.height * 240 / 228), round(args.width * 240 / 304))
    size = (height, round(height * 4 / 3))
    rows: dict[str, list[tuple[str, str]]] = {"nyu2_train.csv": [], "nyu2_test.csv": []}

    def save(table: str, stem: tuple[str, str], image: np.ndarray, depth: np.ndarray) -> None:
        paths = [folder / name for name in stem]
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(paths[0], **({"quality": 92} if paths[0].suffix == ".jpg" else {}))
        Image.fromarray(depth).save(paths[1])
        rows[table].append((f"data/{stem[0]}", f"data/{stem[1]}"))

    for s in range(args.scenes):
        random = np.random.default_rng([args.seed, 0, s])
        room = draw_room(random, training_length(random, s))
        for f in range(1, args.frames + 1):
            image, depth = photograph(room, random, size)
            place = f"nyu2_train/sample_room_{s:04d}_out"
            save("nyu2_train.csv", (f"{place}/{f}.jpg", f"{place}/{f}.png"), image, np.rint(depth * 25.5).astype(np.uint8))
    for t in range(args.test):
        random = np.random.default_rng([args.seed, 1, t])
        image, depth = photograph(draw_room(random, 1.5 + 8.5 * (t + random.random()) / args.test), random, size)
        stem = f"nyu2_test/{t:05d}"
        save("nyu2_test.csv", (f"{stem}_colors.png", f"{stem}_depth.png"), image, np.rint(depth * 1000).astype(np.uint16))
    for name, pairs in rows.items():
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(pairs)
    for file, make in STEPS.values():
        make(folder / file, folder, args.height, args.width, max(8, args.scenes * args.frames // 5), args.seed)


def training_length(random: np.random.Generator, scene: int) -> float:
    """Metres from the camera's end of a training room to the other: mostly 2 to 4; every fourth 2 to 10, so that no depth is
    as rare as in no training image at all."""
    if scene % 4 == 3:
        return 2 + 8 * ((scene // 4 * 0.618 + 0.5 * random.random()) % 1)  # golden steps: evenly spread however many
    return float(np.clip(1.4 + random.lognormal(0.3, 0.4), 1.5, 10))


@dataclass
class Room:
    """x to the right, y up, z away from the camera's wall, in metres; `low` and `high` (F, 3) are the corners of the
    furniture; `colors` (1 + F, 6, 2, 3) two colours for each side of room and furniture; `tile` (1 + F, 6) its texture."""

    size: np.ndarray
    low: np.ndarray
    high: np.ndarray
    colors: np.ndarray
    tile: np.ndarray


def draw_room(random: np.random.Generator, length: float) -> Room:
    """A room whose far wall is `length` metres from the camera's place near the other."""
    size = np.array([random.uniform(2.4, 3.2) + 0.35 * length, random.uniform(2.3, 2.8), length + 0.5])
    low, high = [], []
    for _ in range(random.integers(2, 7)):
        extent = random.uniform((0.3, 0.3, 0.3), (1.3, 1.7, 0.9))
        corner = random.uniform((0, 0, min(1.6, 0.6 * size[2])), np.maximum(size - extent, (0.1, 0.1, 1.7)))
        corner[1] = 0 if random.random() < 0.85 else random.uniform(0.5, 1.2)  # on the floor, or on the wall
        low.append(corner)
        high.append(np.minimum(corner + extent, size))
    count = len(low) + 1
    base = random.uniform(0.3, 0.95, (count, 6, 1, 3))
    colors = np.clip(base * np.array([1.0, 0.75])[:, None] + random.normal(0, 0.03, (count, 6, 2, 3)), 0.05, 1)
    return Room(size, np.array(low), np.array(high), colors, random.uniform(0.18, 0.45, (count, 6)))


def photograph(room: Room, random: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A picture from near the room's front wall: (H, W, 3) uint8 and depth (H, W) in metres, within NEAR..FAR.

    The camera moves and turns a little at each try until nothing is too near; the depth is that of a depth camera, along
    its axis.
    """
    best = None
    for _ in range(12):
        x, y, z = random.uniform(0.35, 0.65) * room.size[0], random.uniform(1.2, 1.6), random.uniform(0.15, 0.5)
        image, depth = cast(room, np.array([x, y, z]), random.uniform(-0.3, 0.3), random.uniform(-0.25, 0.02), size)
        if best is None or depth.min() > best[1].min():
            best = image, depth
        if depth.min() >= NEAR:
            break
    image, depth = best
    image = image * random.uniform(0.9, 1.1) + random.normal(0, 0.012, image.shape)
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8), np.clip(depth, NEAR, FAR)


def cast(room: Room, eye: np.ndarray, yaw: float, pitch: float, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One ray per pixel: colours (H, W, 3) in 0..1 and depth along the camera's axis (H, W) in metres."""
    height, width = size
    u = ((np.arange(width) + 0.5) / width * 2 - 1) * TANGENT
    v = -((np.arange(height) + 0.5) / height * 2 - 1) * TANGENT * height / width
    rays = np.stack([*np.broadcast_arrays(u[None, :], v[:, None]), np.ones(size)], -1)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    rays = rays.reshape(-1, 3) @ (turn @ tilt).T
    rays = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
    # rays advance 1 m along the axis per unit, so the distance to a plane is the depth
    far_side = np.where(rays > 0, room.size, 0)
    walls = (far_side - eye) / rays
    axis = walls.argmin(1)
    depth, which, positive = walls.min(1), np.zeros(len(rays), dtype=int), rays[np.arange(len(rays)), axis] > 0
    for number, (low, high) in enumerate(zip(room.low, room.high), 1):
        a, b = (low - eye) / rays, (high - eye) / rays
        enter, leave = np.minimum(a, b), np.maximum(a, b)
        nearest = enter.max(1)
        hit = (nearest > 0) & (nearest < leave.min(1)) & (nearest < depth)
        depth = np.where(hit, nearest, depth)
        axis = np.where(hit, enter.argmax(1), axis)
        which = np.where(hit, number, which)
        positive = np.where(hit, rays[np.arange(len(rays)), axis] < 0, positive)
    side = 2 * axis + positive
    points = eye + depth[:, None] * rays
    tile = room.tile[which, side][:, None]
    cells = np.floor(points / tile).astype(int)
    cells[np.arange(len(cells)), axis] = 0  # a checker in the plane of the surface
    color = room.colors[which, side, cells.sum(1) % 2]
    distance = depth * np.linalg.norm(rays, axis=1)
    light = np.array([0.85, 1.0, 0.9])[axis] * (0.15 + 1.0 / (1 + (distance / 2.6) ** 2))
    return (color * light[:, None]).reshape(*size, 3), depth.reshape(size)


if __name__ == "__main__":
    guard(main)
