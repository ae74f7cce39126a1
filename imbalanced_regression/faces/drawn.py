"""Drawn faces whose age shows: sample data in the real layouts, so that everything runs offline and without real people.

`draw_face` is the one place that draws. A child has a large forehead, large low eyes and a small nose; hair greys, thins
and recedes; wrinkles, bags, spots and jowls come. Each sign has its own noise, as in life, so none gives the age away
alone. Skin, pose, light, background, hair style, glasses, beard and expression vary without regard to age.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .table import write_csv

if TYPE_CHECKING:
    from PIL import Image

Color = tuple[int, int, int]

# Training images per age 0..101 of AgeDB-DIR, counted in agedb.csv of the first release of the paper's code
# (github.com/YyzHarry/imbalanced-regression, agedb-dir/data/agedb.csv, MIT): 12,208 in all.
TRAIN_COUNTS = np.array(
    [0, 1, 0, 4, 2, 2, 4, 5, 4, 2, 5, 8, 6, 8, 9, 15, 18, 28, 60, 50]
    + [101, 103, 123, 152, 199, 224, 215, 244, 287, 253, 325, 256, 318, 278, 302, 353, 287, 310, 322, 261]
    + [326, 260, 296, 265, 221, 282, 227, 229, 251, 207, 257, 227, 250, 190, 198, 234, 167, 183, 186, 153]
    + [185, 147, 178, 158, 133, 171, 117, 117, 155, 90, 156, 85, 115, 96, 78, 98, 49, 44, 46, 26]
    + [31, 26, 24, 19, 15, 20, 13, 10, 7, 7, 7, 7, 5, 5, 3, 3, 2, 1, 2, 1, 2, 1]
)

FIRST = {
    "f": ["Ada", "Bea", "Cleo", "Dora", "Ella", "Gina", "Ida", "Lena", "Mona", "Vera"],
    "m": ["Abel", "Carl", "Emil", "Finn", "Hugo", "Ivan", "Jon", "Nils", "Otto", "Sven"],
}
LAST = ["Acker", "Birch", "Dorn", "Fells", "Grove", "Holm", "Jarl", "Kern", "Lund", "Marsh", "North", "Pell", "Stone"]


# -- who is in the sample ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """One image to draw: the age in whole years, "f" or "m", and the split that it belongs to."""

    age: int
    gender: str
    name: str
    split: str


def sample_people(train: int, per_age: int, seed: int = 0) -> list[Person]:
    """`train` people with AgeDB's distribution of ages, and `per_age` of each age 1, 3, 4, ..., 101 for val and for test.

    The counts of the training ages are AgeDB's scaled to `train` (largest remainders), so the rarest ages may have none.
    """
    if train < 1 or per_age < 1:
        raise ValueError(f"--train and --per_age must be positive, found {train} and {per_age}")
    share = TRAIN_COUNTS * (train / TRAIN_COUNTS.sum())
    counts = np.floor(share).astype(int)
    counts[np.argsort(counts - share, kind="stable")[: train - counts.sum()]] += 1
    draw = np.random.default_rng((seed, 0xFACE))
    ages = np.arange(len(counts))
    known = ages[TRAIN_COUNTS > 0]
    rows = [(age, "train") for age in np.repeat(ages, counts)]
    rows += [(age, split) for split in ("val", "test") for age in np.repeat(known, per_age)]
    people = []
    for i in draw.permutation(len(rows)):
        gender = "fm"[draw.integers(2)]
        name = draw.choice(FIRST[gender]) + draw.choice(LAST)
        people.append(Person(int(rows[i][0]), gender, name, rows[i][1]))
    return people


def write_sample(
    people: list[Person],
    paths: list[str],
    folder: str | Path,
    csv_name: str,
    *,
    size: int,
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
) -> None:
    """Draw each person as a JPEG at `folder/path`, then write `folder/csv_name` with the columns age, path, split.

    Image i depends on (seed, i, age, gender) alone, whatever the number of processes. `sample.json` marks the folder: only
    a folder so marked is ever overwritten, so real images cannot be. Raises ValueError for a folder that has the csv.
    """
    folder, tops = Path(folder), sorted({path.split("/")[0] for path in paths})
    mark = folder / "sample.json"
    if any((folder / name).exists() for name in (csv_name, *tops)):
        if not mark.exists():
            raise ValueError(f"{folder} has {csv_name} or images that are no sample; pass another --out")
        if not overwrite:
            raise ValueError(f"{folder} has a sample; --overwrite replaces it, --out names another folder")
        (folder / csv_name).unlink(missing_ok=True)
        for name in tops:
            shutil.rmtree(folder / name, ignore_errors=True)
    for parent in sorted({(folder / path).parent for path in paths}):
        parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps({"drawn, no real people": True, "images": len(people), "size": size, "seed": seed}) + "\n")
    jobs = [(folder / path, p.age, p.gender, size, (seed, i)) for i, (p, path) in enumerate(zip(people, paths))]
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            for _ in pool.map(_save_face, jobs, chunksize=64):
                pass
    else:
        for job in jobs:
            _save_face(job)
    # last and whole: where the csv is, the images are
    write_csv(folder / csv_name, ("age", "path", "split"), [(p.age, path, p.split) for p, path in zip(people, paths)])


def draw_sheet(rows: int = 8, size: int = 64, seed: int = 0) -> Image.Image:
    """A sheet of faces sorted by age from left to right, the ages above: for a look at what the sample shows."""
    from PIL import Image, ImageDraw

    ages = [1, 3, 5, 8, 11, 14, 17, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100]
    sheet = Image.new("RGB", (len(ages) * (size + 2), rows * (size + 2) + 14), "white")
    pen = ImageDraw.Draw(sheet)
    for column, age in enumerate(ages):
        pen.text(((column + 0.5) * (size + 2), 1), str(age), fill="black", anchor="ma")
        for row in range(rows):
            face = draw_face(age, "fm"[row % 2], np.random.default_rng((seed, row, column)), size)
            sheet.paste(face, (column * (size + 2), 14 + row * (size + 2)))
    return sheet


def _save_face(job: tuple[Path, int, str, int, tuple[int, int]]) -> None:
    path, age, gender, size, seed = job
    draw_face(age, gender, np.random.default_rng(seed), size).save(path, quality=92)


# -- the drawing -------------------------------------------------------------------------------------------------------


def draw_face(age: float, gender: str, rng: np.random.Generator, size: int = 64) -> Image.Image:
    """A face of that age (0..101) and gender ("f" or "m") as an RGB image of `size` pixels; all else is drawn from `rng`."""
    from PIL import Image, ImageDraw, ImageFilter

    look = _Look(age, gender, rng)
    side = 2 * size  # drawn twice as large with a margin of 1/8, turned, then halved
    image = _background(look, int(1.25 * side))
    pen = _Pen(ImageDraw.Draw(image), side)
    _body(pen, look)
    image = image.filter(ImageFilter.GaussianBlur(0.012 * side))
    pen = _Pen(ImageDraw.Draw(image), side)
    _features(pen, look)
    _wrinkles(pen, look)
    _beard(pen, look)
    _hair(pen, look)
    _glasses(pen, look)
    cos, sin = look.zoom * np.cos(look.tilt), look.zoom * np.sin(look.tilt)
    middle, half = image.width / 2, side / 2
    turn = (cos, -sin, middle - (cos - sin) * half, sin, cos, middle - (sin + cos) * half)
    image = image.transform((side, side), Image.Transform.AFFINE, turn, Image.Resampling.BILINEAR).reduce(2)
    return Image.fromarray(_lit(np.asarray(image, np.float32), look))


def _ramp(x: float, start: float, end: float) -> float:
    """0 below `start`, 1 above `end`, straight between."""
    return float(min(max((x - start) / (end - start), 0.0), 1.0))


def _mix(a: Color, b: Color, t: float) -> Color:
    """`a` at t = 0, `b` at t = 1."""
    return tuple(int(x + (y - x) * t) for x, y in zip(a, b))  # type: ignore[return-value]


def _muted(rng: np.random.Generator, low: int, high: int, grey: float) -> Color:
    color = rng.uniform(low, high, 3)
    return tuple(int(c) for c in color + (color.mean() - color) * grey)  # type: ignore[return-value]


def _dark(color: Color, t: float) -> Color:
    return _mix(color, (40, 12, 5), t)


class _Look:
    """Every number the drawing needs, drawn once: first what age decides, each with its own noise, then the nuisances."""

    def __init__(self, age: float, gender: str, rng: np.random.Generator):
        self.rng, self.male = rng, gender == "m"

        def seen() -> float:
            """The age one sign shows: off by about 0.6 years at 5, 2 at 20, 4 from 50 on."""
            return max(age + rng.normal() * min(0.3 + 0.08 * age, 4.0), 0.0)

        # what age decides
        self.child = float(np.exp(-((seen() / 8.5) ** 1.15)))  # proportions: 1 newborn, 0 grown
        self.child_eyes = float(np.exp(-((seen() / 10) ** 1.15)))
        self.hairy = _ramp(seen(), -0.3, 4)  # a newborn's down becomes hair
        self.grown = _ramp(seen(), 11, 21)  # puberty: brows, jaw, nose, beard
        self.plump = 1 - _ramp(seen(), 15, 60)
        dyed = rng.random() < 0.08
        self.grey = 0.0 if dyed else _ramp(seen(), 34, 78)
        self.brow_grey = _ramp(seen(), 48, 92)
        self.thin = _ramp(seen(), 62, 104)  # hair thins in old age
        self.recede = _ramp(seen(), 22, 92) * rng.uniform(0.55, 1.25) * (1 if self.male else 0.18)
        self.forehead = _ramp(seen(), 28, 95)
        self.eye_lines = _ramp(seen(), 30, 92)
        self.nose_fold = _ramp(seen(), 22, 80)
        self.bags = _ramp(seen(), 36, 88)
        self.cheek_lines = _ramp(seen(), 55, 101)
        self.lip_lines = _ramp(seen(), 62, 101)
        self.spots = _ramp(seen(), 56, 101)
        self.sag = _ramp(seen(), 42, 98)  # jowls, lids, ears and nose
        self.lips = 1 - 0.75 * _ramp(seen(), 40, 98)
        self.hollow = _ramp(seen(), 66, 101)
        # nuisances
        tone = rng.random() ** 1.4
        skin = _mix((246, 212, 188), (118, 76, 52), tone)
        skin = tuple(int(c + rng.normal() * 4) for c in skin)  # type: ignore[assignment]
        self.skin = _mix(skin, (225, 208, 190), 0.25 * _ramp(age, 60, 100))
        natural = [(28, 20, 18), (58, 38, 26), (92, 60, 36), (140, 98, 54), (196, 158, 96), (150, 66, 34)]
        odds = np.array([3, 3, 2, 1.5, 1.5, 0.6]) if tone < 0.45 else np.array([6, 2, 0.4, 0, 0, 0])
        self.hair_base = natural[rng.choice(6, p=odds / odds.sum())]
        self.white = _mix((205, 205, 208), (240, 238, 232), rng.random())
        self.hair = _mix(self.hair_base, self.white, self.grey)
        self.style = rng.choice(["short", "side", "curly"] if self.male else ["long", "bob", "bun", "curly"])
        self.iris = [(70, 44, 26), (96, 66, 36), (64, 98, 70), (70, 110, 150)][rng.integers(4 if tone < 0.45 else 2)]
        self.smile = rng.uniform(-0.35, 1.0)
        self.mouth_open = self.smile > 0.55 and rng.random() < 0.6
        self.brow_up = rng.normal() * 0.02
        self.beard = rng.choice(["none", "stubble", "moustache", "full"], p=[0.6, 0.15, 0.1, 0.15]) if self.male else "none"
        self.wears_glasses = age > 4 and rng.random() < 0.17
        self.yaw, self.pitch = rng.normal(0, 0.035, 2)
        self.tilt = float(np.clip(rng.normal(0, 0.09), -0.16, 0.16))  # no corner of the canvas shows
        self.zoom = rng.uniform(0.9, 1.08)
        self.wide = rng.normal(1, 0.035)
        self.cloth = _muted(rng, 20, 235, 0.3)
        self.back = _muted(rng, 40, 235, 0.55)
        self.light = rng.uniform(0.78, 1.14)
        self.contrast = rng.uniform(0.85, 1.1)
        self.warmth = rng.normal(0.01, 0.025)
        self.shade_angle = rng.uniform(0, 2 * np.pi)
        self.shade = rng.uniform(0, 0.28)
        self.grain = rng.uniform(1, 4)
        # the head: centre, half width, height, and where things are on it
        c = self.child
        self.x, self.y = 0.5 + rng.normal() * 0.02, 0.5 + rng.normal() * 0.02 + 0.03 * c
        self.w = (0.232 + 0.02 * c + 0.006 * self.male * self.grown) * self.wide
        self.h = 0.60 - 0.095 * c + 0.012 * self.sag
        self.top, self.chin = self.y - self.h / 2, self.y + self.h / 2
        self.eye_y = self.top + self.h * (0.46 + 0.13 * c + self.pitch)
        self.eye_x = self.w * (0.44 + 0.04 * c)
        self.shift = self.yaw * 0.6  # the features move with the head's turn, the outline does not
        e = self.child_eyes
        self.eye_w = self.w * (0.185 + 0.10 * e)
        self.eye_h = self.eye_w * (0.58 + 0.26 * e) * (1 - 0.42 * self.sag)
        self.nose_y = self.eye_y + self.h * (0.205 - 0.07 * c + 0.015 * self.sag)
        self.nose_w = self.w * (0.17 - 0.035 * c + 0.06 * self.sag + 0.02 * self.male * self.grown)
        self.mouth_y = self.nose_y + self.h * (0.135 - 0.035 * c + 0.01 * self.sag)
        self.mouth_w = self.w * (0.40 - 0.13 * c) * (1 + 0.12 * max(self.smile, 0))

    def outline(self, angles: np.ndarray, grow: float = 0.0) -> np.ndarray:
        """The edge of the head, `grow` wider all round; angle 0 is the top, positive clockwise: (n,) -> (n, 2)."""
        down = np.clip(-np.cos(angles), 0, 1)
        jaw = 0.20 - 0.13 * self.male * self.grown - 0.15 * self.child
        taper = 1 - jaw * down**2 + 0.06 * self.plump * np.exp(-(((down - 0.45) / 0.3) ** 2))
        taper = taper + 0.13 * self.sag * np.exp(-(((down - 0.72) / 0.16) ** 2))  # jowls
        taper = taper - 0.12 * self.hollow * np.exp(-(((down - 0.35) / 0.15) ** 2))
        x = self.x + (self.w + grow) * np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** 0.86 * taper
        y = self.y - (self.h / 2 + grow) * np.cos(angles)
        return np.stack([x, y], 1)


class _Pen:
    """Pillow's pen in the units of the finished square: 0..1 across, whatever the pixels."""

    def __init__(self, draw, side: int):
        self.draw, self.side = draw, side

    def _at(self, points) -> list[float]:
        return ((np.asarray(points, float) + 0.125) * self.side).ravel().tolist()

    def fill(self, points, color: Color) -> None:
        self.draw.polygon(self._at(points), fill=color)

    def line(self, points, color: Color, width: float) -> None:
        self.draw.line(self._at(points), fill=color, width=max(round(width * self.side), 1), joint="curve")

    def oval(self, x: float, y: float, rx: float, ry: float, color: Color) -> None:
        rx, ry = max(rx, 0.002), max(ry, 0.002)
        self.draw.ellipse(self._at([(x - rx, y - ry), (x + rx, y + ry)]), fill=color)

    def arc(self, x: float, y: float, rx: float, bow: float, color: Color, width: float, n: int = 7) -> None:
        """A shallow curve of half width `rx` whose middle lies `bow` below its ends."""
        t = np.linspace(-1, 1, n)
        self.line(np.stack([x + rx * t, y + bow * (1 - t**2)], 1), color, width)


def _background(look: _Look, side: int) -> Image.Image:
    from PIL import Image, ImageDraw

    rng = look.rng
    image = Image.new("RGB", (side, side), look.back)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 6)):
        color = tuple(int(c) for c in np.clip(np.array(look.back) + rng.normal(0, 12, 3) + rng.normal(0, 25), 0, 255))
        x, y, r, q = rng.uniform(0, side, 4)
        if rng.random() < 0.5:
            draw.ellipse((x - r / 2, y - r / 2, x + r / 2, y + r / 2), fill=color)
        else:
            draw.rectangle((x, min(y, q), x + r / 3, max(y, q)), fill=color)
    return image


def _body(pen: _Pen, look: _Look) -> None:
    skin, c = look.skin, look.child
    if look.style in ("long", "bob") and look.hairy > 0.3:
        low = look.chin + (0.16 if look.style == "long" else -0.06) * look.hairy - 0.1 * c
        wide = look.w * (1.22 - 0.12 * look.thin)
        turn = np.linspace(-np.pi / 2, np.pi / 2, 15)
        cap = np.stack([look.x + wide * np.sin(turn), look.y - 0.05 - (look.h / 2) * np.cos(turn)], 1)
        pen.fill([*cap, (look.x + wide * 0.95, low), (look.x - wide * 0.95, low)], _dark(look.hair, 0.3))
    neck = look.w * (0.58 - 0.16 * c + 0.07 * look.male * look.grown)
    bottom = look.chin + 0.10 - 0.05 * c
    shoulder = 0.44 - 0.14 * c + 0.05 * look.male * look.grown
    pen.oval(look.x, bottom + 0.20, shoulder, 0.20, look.cloth)
    pen.fill([(look.x - shoulder, bottom + 0.2), (look.x + shoulder, bottom + 0.2), (1.2, 1.2), (-0.2, 1.2)], look.cloth)
    pen.fill(
        [(look.x - neck, look.y), (look.x + neck, look.y), (look.x + neck, bottom), (look.x - neck, bottom)],
        _dark(skin, 0.18),
    )
    pen.oval(look.x, bottom, neck, 0.035, _dark(skin, 0.18))
    for side in (-1, 1):  # ears: longer in old age
        ear = 0.052 + 0.018 * look.sag - 0.006 * c
        pen.oval(look.x + side * look.w * 1.0, look.eye_y + 0.035 + 0.3 * look.sag * ear, 0.032, ear, _dark(skin, 0.1))
    around = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    pen.fill(look.outline(around), _dark(skin, 0.14))
    pen.fill(look.outline(around, -0.012), skin)
    x = look.x + look.shift
    rosy = _mix(skin, (225, 90, 80), 0.13 + 0.14 * c)
    for side in (-1, 1):
        cheek = 0.05 + 0.02 * c
        pen.oval(x + side * look.w * 0.56, look.nose_y + 0.005, cheek, cheek * 0.8, rosy)
        pen.oval(x + side * look.eye_x, look.eye_y, look.eye_w * 1.5, look.eye_h * 1.8, _dark(skin, 0.05 + 0.12 * look.bags))
        if look.hollow > 0.02:
            pen.oval(x + side * look.w * 0.68, look.mouth_y - 0.03, 0.035, 0.07, _dark(skin, 0.30 * look.hollow))


def _features(pen: _Pen, look: _Look) -> None:
    skin, x, c = look.skin, look.x + look.shift, look.child
    brow = _mix(_mix(look.hair_base, (60, 40, 30), 0.3), look.white, look.brow_grey)
    brow = _mix(skin, brow, 0.25 + 0.75 * look.grown)
    for side in (-1, 1):
        ex, ey, w, h = x + side * look.eye_x, look.eye_y, look.eye_w, look.eye_h
        pen.oval(ex, ey, w, h, (244, 242, 238))
        r = min(w * 0.62, h * 1.02)
        gaze = look.shift * 0.3
        pen.oval(ex + gaze, ey, r, r, look.iris)
        pen.oval(ex + gaze, ey, r * 0.5, r * 0.5, (12, 10, 10))
        pen.oval(ex + gaze - r * 0.35, ey - r * 0.35, r * 0.25, r * 0.25, (255, 255, 255))
        pen.arc(ex, ey - h * 0.1, w * 1.05, -h * 0.95, _dark(skin, 0.72), 0.011)
        if look.sag > 0.05:  # the lid comes down over the eye, lowest outside
            lid = look.sag * h * 1.1
            pen.fill(
                [
                    (ex - w, ey - h),
                    (ex + w, ey - h),
                    (ex + side * w, ey - h + lid * 1.5),
                    (ex - side * w, ey - h + lid * 0.5),
                ],
                skin,
            )
            pen.line([(ex - side * w, ey - h + lid * 0.5), (ex + side * w, ey - h + lid * 1.5)], _dark(skin, 0.55), 0.009)
        high = ey - h - look.w * (0.17 - 0.02 * c) + look.brow_up + 0.01 * look.sag
        thick = 0.010 + 0.012 * look.grown + 0.008 * look.male * look.grown
        t = np.linspace(-1, 1, 5)
        pen.line(np.stack([ex + w * 1.25 * t, high - 0.016 * (1 - t**2) + 0.012 * look.sag * side * t], 1), brow, thick)
    shadow = _dark(skin, 0.34)
    if look.grown > 0.1:
        lit = -1 if np.cos(look.shade_angle) > 0 else 1
        pen.line(
            [(x + lit * 0.030, look.eye_y + 0.01), (x + lit * look.nose_w * 0.8, look.nose_y - 0.012)],
            _dark(skin, 0.24 * look.grown),
            0.010,
        )
    pen.arc(x, look.nose_y, look.nose_w, 0.016, shadow, 0.011)
    for side in (-1, 1):
        pen.oval(x + side * look.nose_w * 0.55, look.nose_y + 0.002, 0.009, 0.006, _dark(skin, 0.6))
    _mouth(pen, look, x)


def _mouth(pen: _Pen, look: _Look, x: float) -> None:
    t = np.linspace(-1, 1, 9)
    y, w, bow = look.mouth_y, look.mouth_w, 0.030 * look.smile
    line = np.stack([x + w * t, y + bow * (1 - t**2)], 1)
    lip = _mix(look.skin, (178, 52, 58), 0.42 if look.male else 0.62)
    lip = _mix(lip, look.skin, 0.55 * (1 - look.lips))
    full = (0.026 + 0.006 * (not look.male)) * look.lips * (1 - 0.25 * look.child)
    upper = np.stack([x + w * t, y + bow * (1 - t**2) - full * 0.8 * (1 - t**2) * (1 - 0.3 * np.exp(-((t / 0.2) ** 2)))], 1)
    gap = 0.035 if look.mouth_open else 0.0
    lower = np.stack([x + w * t, y + bow * (1 - t**2) + (full + gap) * (1 - t**2)], 1)
    pen.fill([*upper, *lower[::-1]], lip)
    if look.mouth_open:
        inner = np.stack([x + 0.86 * w * t, y + bow * (1 - t**2) + gap * (1 - t**2)], 1)
        pen.fill([*line, *inner[::-1]], (120, 30, 34))
        teeth = np.stack([x + 0.8 * w * t, y + bow * (1 - t**2) + 0.5 * gap * (1 - t**2)], 1)
        pen.fill([*line[1:-1], *teeth[::-1]], _mix((250, 250, 246), (214, 196, 150), look.sag))
    else:
        pen.line(line, _dark(lip, 0.5), 0.009)


def _wrinkles(pen: _Pen, look: _Look) -> None:
    skin, x, rng = look.skin, look.x + look.shift, look.rng

    def ink(strength: float) -> Color:
        return _dark(skin, min(0.10 + 0.48 * strength, 0.6))

    brow_y = look.eye_y - look.eye_h - look.w * 0.30
    hairline = look.top + 0.17 * look.h
    lines = min(round(5 * look.forehead), max(int((brow_y - hairline) / 0.02), 0))
    for i in range(lines):
        y = brow_y - (i + 0.6) * min((brow_y - hairline) / max(lines, 1), 0.035)
        pen.arc(
            x + rng.normal() * 0.006,
            y,
            look.w * (0.55 - 0.04 * i),
            -0.012,
            ink(look.forehead),
            0.006 + 0.006 * look.forehead,
        )
    if look.forehead > 0.25:  # between the brows
        for side in (-1, 1):
            pen.line(
                [(x + side * 0.016, brow_y + 0.03), (x + side * 0.012, brow_y + 0.03 + 0.05 * look.forehead)],
                ink(look.forehead),
                0.008,
            )
    for side in (-1, 1):
        ex, ey, out = x + side * look.eye_x, look.eye_y, look.eye_w
        for i in range(round(4 * look.eye_lines)):  # crow's feet
            up = (i - 1.2) * 0.020
            pen.line(
                [(ex + side * out * 1.15, ey + up * 0.4), (ex + side * (out * 1.15 + 0.05), ey + up * 1.8)],
                ink(look.eye_lines),
                0.007 + 0.004 * look.eye_lines,
            )
        if look.bags > 0.04:
            pen.arc(
                ex,
                ey + look.eye_h + 0.010,
                out * 0.95,
                0.012 + 0.018 * look.bags,
                ink(look.bags * 0.9),
                0.006 + 0.008 * look.bags,
            )
        if look.bags > 0.55:
            pen.arc(ex, ey + look.eye_h + 0.032, out * 0.9, 0.02, ink(look.bags * 0.6), 0.008)
        if look.nose_fold > 0.03:  # from the nose around the mouth
            length = 0.45 + 0.75 * look.nose_fold
            start = np.array([x + side * look.nose_w * 1.15, look.nose_y - 0.008])
            end = np.array([x + side * (look.mouth_w + 0.028), look.mouth_y + 0.01])
            bend = (start + end) / 2 + np.array([side * 0.014, -0.012])
            t = np.linspace(0, min(length, 1), 6)[:, None]
            pen.line(
                (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end,
                ink(look.nose_fold),
                0.007 + 0.008 * look.nose_fold,
            )
        if look.sag > 0.25:  # from the mouth's corners down
            mx = x + side * (look.mouth_w + 0.012)
            pen.line(
                [(mx, look.mouth_y + 0.016), (mx + side * 0.012, look.mouth_y + 0.02 + 0.07 * look.sag)],
                ink(look.sag * 0.8),
                0.009,
            )
        for i in range(round(4 * look.cheek_lines)):
            cx, cy = x + side * look.w * (0.62 + 0.07 * i), look.nose_y + 0.02 * i
            pen.line(
                [(cx, cy), (cx - side * 0.012, cy + 0.05), (cx - side * 0.03, cy + 0.09)],
                ink(look.cheek_lines * 0.7),
                0.007,
            )
    for i in range(round(6 * look.lip_lines)):
        lx = x + (i - 2.5) * look.mouth_w * 0.3
        pen.line([(lx, look.mouth_y - 0.040), (lx, look.mouth_y - 0.014)], ink(look.lip_lines * 0.6), 0.005)
    for i in range(round(3 * look.sag)):
        pen.arc(x, look.chin + 0.03 + 0.025 * i, look.w * 0.42, 0.012, _dark(skin, 0.45), 0.008)
    for _ in range(rng.poisson(9 * look.spots)):
        angle, radius = rng.uniform(-np.pi, np.pi), rng.uniform(0.45, 0.9)
        sx, sy = look.x + radius * look.w * np.sin(angle), look.y - radius * look.h / 2 * np.cos(angle)
        spot = rng.uniform(0.006, 0.015)
        pen.oval(sx, sy, spot, spot * 0.8, _mix(skin, (110, 66, 38), 0.5))


def _hair(pen: _Pen, look: _Look) -> None:
    """The cap from ear to ear: between the head's edge, a little outside, and the hairline; where they cross there is none."""
    rng = look.rng
    color = _mix(look.skin, look.hair, (0.25 + 0.75 * look.hairy) * (1 - 0.45 * look.thin))
    volume = {"short": 0.018, "side": 0.03, "long": 0.03, "bob": 0.035, "bun": 0.018, "curly": 0.05}[look.style]
    volume = 0.006 + volume * look.hairy * (1 - 0.7 * look.thin)
    reach = {"short": 1.35, "side": 1.35, "long": 1.75, "bob": 1.75, "bun": 1.4, "curly": 1.6}[look.style]
    reach = 1.0 + (reach - 1.0) * look.hairy
    angles = np.linspace(-reach, reach, 41)
    outer = look.outline(angles, volume)
    across = angles / reach
    line = 0.17 - 0.30 * look.recede + 0.03 * look.child  # the hairline's middle, as a part of the head's height
    line += {"side": 0.03}.get(look.style, 0.0) * across * rng.choice([-1, 1])
    temples = -0.24 * look.recede * np.exp(-(((np.abs(across) - 0.55) / 0.22) ** 2))
    power = 6 if look.male else 3.2
    ends = (outer[0, 1] - look.top) / look.h
    drop = line + temples + (ends - line) * np.abs(across) ** power
    inner = np.stack([look.outline(angles, -0.035 - 0.01 * (not look.male))[:, 0], look.top + look.h * drop], 1)
    inner[:, 1] = np.maximum(inner[:, 1], outer[:, 1])
    if look.style == "bun" and look.hairy > 0.5:
        pen.oval(look.x, look.top - 0.035, 0.075 * look.hairy, 0.06, _dark(color, 0.12))
    pen.fill([*outer, *inner[::-1]], color)
    there = np.flatnonzero(inner[:, 1] - outer[:, 1] > 0.02)
    if look.style == "curly" and look.hairy > 0.4:
        for i in there[::3]:
            curl = 0.038 * look.hairy * (1 - 0.5 * look.thin)
            pen.oval(outer[i, 0], outer[i, 1], curl, curl, _mix(color, look.skin, rng.uniform(0, 0.12)))
    # strands: grey comes as single white hairs first, and thin hair lets the skin through
    for i in rng.choice(there, min(len(there), 14), replace=False) if len(there) else ():
        other = look.white if rng.random() < 1.3 * look.grey else _dark(color, 0.5)
        if rng.random() < look.thin:
            other = look.skin
        amount = 0.25 + 0.5 * look.grey * (1 - look.grey) * 2 + 0.4 * look.thin
        start = outer[i] + (inner[i] - outer[i]) * rng.uniform(0, 0.3)
        end = outer[i] + (inner[i] - outer[i]) * rng.uniform(0.6, 0.95)
        pen.line([start, end], _mix(color, other, min(amount, 0.8)), 0.007)


def _beard(pen: _Pen, look: _Look) -> None:
    amount = look.grown
    if look.beard == "none" or amount < 0.6:
        return
    x = look.x + look.shift
    color = _mix(look.hair_base, look.white, min(look.grey * 1.15, 1))
    color = _mix(look.skin, color, {"stubble": 0.25, "moustache": 0.85, "full": 0.85}[look.beard] * amount)
    if look.beard in ("stubble", "full"):
        angles = np.linspace(1.75, 2 * np.pi - 1.75, 25)
        edge = look.outline(angles, -0.004)
        side = np.abs(np.linspace(-1, 1, 25))
        inner_y = look.mouth_y + 0.035 - 0.10 * side**2
        inner = np.stack([x + (edge[:, 0] - look.x) * 0.78, np.minimum(inner_y, edge[:, 1])], 1)
        pen.fill([*edge, *inner[::-1]], color)
    t = np.linspace(-1, 1, 9)
    low = look.mouth_y - 0.006 + 0.02 * t**2
    pen.fill(
        [
            *np.stack([x + look.mouth_w * 0.95 * t, low], 1),
            *np.stack([x + look.mouth_w * 0.8 * t, low - 0.026 * (1 - 0.5 * t**2)], 1)[::-1],
        ],
        color,
    )


def _glasses(pen: _Pen, look: _Look) -> None:
    if not look.wears_glasses:
        return
    x, color = look.x + look.shift, [(30, 30, 34), (120, 80, 40), (150, 150, 155)][look.rng.integers(3)]
    around = np.linspace(0, 2 * np.pi, 17)
    r = look.w * 0.36
    for side in (-1, 1):
        ring = np.stack([x + side * look.eye_x + r * np.cos(around), look.eye_y + 0.85 * r * np.sin(around)], 1)
        pen.line(ring, color, 0.012)
        pen.line([(x + side * (look.eye_x + r), look.eye_y), (look.x + side * look.w, look.eye_y - 0.01)], color, 0.011)
    pen.line([(x - look.eye_x + r, look.eye_y), (x + look.eye_x - r, look.eye_y)], color, 0.012)


def _lit(pixels: np.ndarray, look: _Look) -> np.ndarray:
    """(S, S, 3) float -> uint8 with light from one side, brightness, contrast, warmth and grain."""
    ramp = np.linspace(-1, 1, len(pixels), dtype=np.float32)
    side = np.cos(look.shade_angle) * ramp[None, :] + np.sin(look.shade_angle) * ramp[:, None]
    tint = np.array([1 + look.warmth, 1, 1 - look.warmth], np.float32)
    light = (look.light * (1 - look.shade * side))[..., None] * tint
    pixels = ((pixels - 128) * look.contrast + 128) * light
    pixels += look.grain * look.rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)
