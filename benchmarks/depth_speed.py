"""How fast NYUD2-DIR's parts are beside the plain way to write them.

    python benchmarks/depth_speed.py            # a minute; exit code 1 if a claim fails
    python benchmarks/depth_speed.py --quick    # small sizes: that it runs; times are not judged

The plain ways: FDS pixel by pixel in torch; a training sample by Pillow, scipy's rotation (reshape off) of image and depth,
and weights by Python's `map` over pixels (by itself in methods_speed.py). Best of several runs, one thread.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "nyud2-dir"), str(ROOT / "benchmarks")]

from fds import FDS  # noqa: E402  # found through the path set above
from loaddata import DepthDataset, Pairs  # noqa: E402
from methods_speed import faster, plain_weights, race  # noqa: E402
from nyu_transform import MEAN, PCA_VALUES, PCA_VECTORS, STD  # noqa: E402
from utils import bucket_weights  # noqa: E402

from imbalanced_regression.tools.starting import processor  # noqa: E402

FULL = {"batch": 32, "H": 114, "W": 152, "channels": 128, "pixels": 4000, "repeats": 3, "seconds": 3}
QUICK = {"batch": 1, "H": 16, "W": 20, "channels": 8, "pixels": 50, "repeats": 1, "seconds": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; no time is judged")
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [*dense_fds(size), sample(size)]
    print(f"{datetime.date.today()}, {processor()}, 1 thread, python {platform.python_version()}, torch {torch.__version__}")
    print(f"{'claim':<66}{'plain':>12}{'here':>12}{'ratio':>10}{'wanted':>10}  ok")
    for claim, plain, here, ratio, wanted, ok in rows:
        print(f"{claim:<66}{plain:>12}{here:>12}{ratio:>10}{wanted or '-':>10}  {'-' if args.quick else 'yes' if ok else 'NO'}")
    sys.exit(0 if args.quick or all(row[-1] for row in rows) else 1)


def dense_fds(size) -> list[tuple]:
    """The loop is timed on `pixels` pixels, the library on a training batch; both per pixel."""
    shape = (size["batch"], size["channels"], size["H"], size["W"])
    features, labels = torch.randn(shape), 0.7 + 9.2 * torch.rand(shape[0], 1, *shape[2:])
    fds = FDS(size["channels"])
    fds.update_running_stats(features, labels, 0)
    mean, var = fds.running_mean_last_epoch, fds.running_var_last_epoch
    smoothed_mean, smoothed_var = fds.smoothed_mean_last_epoch, fds.smoothed_var_last_epoch
    n = size["pixels"]
    rows = features.movedim(1, -1).reshape(-1, size["channels"])[:n].clone()
    bins = (labels.reshape(-1)[:n] * 10).long().clamp(7, 99).sub(7).tolist()

    def smooth_plain() -> torch.Tensor:
        out = rows.clone()
        for i, b in enumerate(bins):
            out[i] = (rows[i] - mean[b]) * (smoothed_var[b] / var[b]).clamp(0.2, 5).sqrt() + smoothed_mean[b]
        return out

    def statistics_plain() -> None:  # a running mean and sum of squares per bin: as little memory as the library
        count = [0] * 93
        means, squares = torch.zeros(2, 93, size["channels"], dtype=torch.float64)
        for i, b in enumerate(bins):
            count[b] += 1
            apart = rows[i] - means[b]
            means[b] += apart / count[b]
            squares[b] += apart * (rows[i] - means[b])

    def statistics() -> None:
        fds.observe(features, labels)
        fds._sums = None  # ready for another epoch

    share = len(rows) / labels.numel()
    found = []
    for claim, plain, fast in (
        ("smooth", smooth_plain, lambda: fds.smooth(features, labels, 1)), ("statistics", statistics_plain, statistics),
    ):
        slow, seconds = race(plain, fast, size)
        what = f"dense FDS {claim}, {len(rows):,} of {labels.numel():,} pixels x {shape[1]}"
        found.append(faster(what, slow, seconds * share, 5))
    return found


def sample(size) -> tuple:
    """One training sample of the published size, from jpg and png of 640 x 480."""
    random = np.random.default_rng(0)
    small = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    table = bucket_weights("inverse", True)
    listed = table.tolist()
    with tempfile.TemporaryDirectory() as folder:
        image, depth = Path(folder, "1.jpg"), Path(folder, "1.png")
        Image.fromarray(small).resize((640, 480), Image.Resampling.BILINEAR).save(image)
        Image.fromarray(20 + small[..., 0] // 2).resize((640, 480), Image.Resampling.BILINEAR).save(depth)
        data = DepthDataset(Pairs([str(image)], [str(depth)], ["row 1"]), 228, 304, table=table, half=True, augment=True)
        plain, fast = race(lambda: plain_sample(image, depth, listed, random), lambda: data[0], size)
    return faster("a training sample, 304 x 228", plain, fast, 3)


def plain_sample(image_path: Path, depth_path: Path, listed: list[float], random: np.random.Generator):
    image, depth = Image.open(image_path), Image.open(depth_path)
    image = image.resize((320, 240), Image.Resampling.BILINEAR)
    depth = depth.resize((320, 240), Image.Resampling.NEAREST)
    if random.random() < 0.5:
        image, depth = (x.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for x in (image, depth))
    angle = random.uniform(-5, 5)
    image, depth = (Image.fromarray(ndimage.rotate(np.asarray(x), angle, reshape=False, order=2)) for x in (image, depth))
    image, depth = (x.crop((8, 6, 312, 234)) for x in (image, depth))
    depth = depth.resize((152, 114), Image.Resampling.NEAREST)
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    y = torch.from_numpy(np.array(depth)).float()[None] / 255 * 10
    x = x + (torch.tensor(PCA_VECTORS) @ (0.1 * torch.randn(3) * torch.tensor(PCA_VALUES)))[:, None, None]
    grey = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    for other in (torch.zeros_like(x), (x * grey).sum(0).mean().expand_as(x), (x * grey).sum(0, keepdim=True).expand_as(x)):
        strength = random.uniform(0.6, 1.4)
        x = strength * x + (1 - strength) * other
    x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    return x, y, plain_weights(y, listed)


if __name__ == "__main__":
    main()
