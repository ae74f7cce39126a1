"""What is NYUD2-DIR's own: its 100 depth bins, the published pixel weights and shots, and its metrics.

The one idea: a pixel's weight depends on its depth bin only, so 100 weights are made once and looked up per pixel.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imbalanced_regression import Bins, DepthMetrics, effective_density, get_lds_kernel_window
from imbalanced_regression.files import read_text
from imbalanced_regression.methods.lds import mean_one
from imbalanced_regression.metrics import DepthReference

__all__ = ["BINS", "BUCKET_START", "COUNTS_FILE", "SHOTS", "bucket_weights", "evaluate", "get_lds_kernel_window",
           "new_metrics", "pixel_bins",
           "pixel_weights", "read_counts", "row_weights"]

BUCKET_NUM, BUCKET_START = 100, 7
PER_METRE = np.float32(10)  # bins are 0.1 m wide
COUNTS_FILE = Path(__file__).with_name("train_bucket_num.txt")


def _exact_edges() -> np.ndarray:
    """For each bin the least float32 depth whose product with 10, rounded to float32, reaches the bin's number.

    Ten of them lie one float32 step beside k / 10. So `BINS` is min(int(float32(depth) * float32(10)), 99) to the bit.
    """
    edges = []
    for k in range(BUCKET_NUM + 1):
        edge = np.float32(k / 10)
        while edge * PER_METRE < k:
            edge = np.nextafter(edge, np.float32(np.inf))
        while edge > 0 and np.nextafter(edge, np.float32(0)) * PER_METRE >= k:
            edge = np.nextafter(edge, np.float32(0))
        edges.append(edge)
    return np.array(edges)


BINS = Bins(_exact_edges())

# The published lists decide a bin's shot.
_MANY = {*range(9, 46), 47, 49}
_MEDIUM = {7, 8, 46, 48, *range(50, 57), 58, 60, 61, 63}
SHOTS = np.array(["many" if b in _MANY else "medium" if b in _MEDIUM else "few" for b in range(BUCKET_NUM)])


def pixel_bins(depth: Tensor) -> Tensor:
    """The bin of each pixel: depth in metres, at least 0, float32, any shape -> int32. Bins as `BINS`, without a search."""
    return (depth * float(PER_METRE)).int().clamp_(max=BUCKET_NUM - 1)


def pixel_weights(depth: Tensor, table: Tensor) -> Tensor:
    """The weight of each pixel: depth in metres (any shape) and the weights (100,) of the bins -> weights of that shape.

    A pixel without depth (0) weighs 0: nothing is known there. (The first release teaches such pixels, the corners that
    a rotation leaves empty, a depth of 0; test: test_pixels_without_depth_weigh_nothing.)
    """
    return table.index_select(0, pixel_bins(depth).reshape(-1)).view_as(depth) * (depth > 0)


def read_counts(path: str | Path = COUNTS_FILE) -> np.ndarray:
    """Training pixels per bin from a file of 100 whole numbers, a line each ('#' begins a comment): (100,) int64.

    Raises ValueError where the file holds anything else, OSError where it cannot be read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"--bucket_counts: {path} is missing; preprocess_nyud2.py --counts makes it")
    lines = [line.split("#")[0].strip() for line in read_text(path).splitlines()]
    words = [line for line in lines if line]
    if len(words) != BUCKET_NUM or not all(word.isascii() and word.isdigit() for word in words):
        raise ValueError(f"--bucket_counts: {path} holds {len(words)} lines, expected {BUCKET_NUM} whole numbers, a line each")
    counts = np.array([int(word) for word in words], dtype=np.int64)
    if not counts.any():
        raise ValueError(f"--bucket_counts: all {BUCKET_NUM} counts in {path} are 0; make it anew with preprocess_nyud2.py")
    return counts


def bucket_weights(
    reweight: str, lds: bool, lds_kernel: str = "gaussian", lds_ks: int = 5, lds_sigma: float = 2,
    bucket_start: int = BUCKET_START, *, counts: np.ndarray | None = None,
) -> np.ndarray:
    """The published weight of a pixel in each bin: (100,) float32 whose mean over all training pixels is 1.

    The base is n ("inverse") or its root ("sqrt_inv"), smoothed over the bins from `bucket_start` on with mirrored ends;
    nothing is clipped or truncated. Bins before `bucket_start` take its weight. A bin that still has no density, in other
    data, takes that of the nearest bin with one: a resized or rotated image may bring in a depth that was not counted.

    Args:
        reweight: "none" (all ones; not with `lds`), "sqrt_inv" or "inverse".
        lds, lds_kernel, lds_ks, lds_sigma: smooth the density, and the window.
        counts: (100,) training pixels per bin; the published ones of NYUD2 when None.

    Source: the paper, section 4 and appendix (NYUD2-DIR).
    """
    counts = read_counts() if counts is None else np.asarray(counts, dtype=np.int64)
    if counts.shape != (BUCKET_NUM,):
        raise ValueError(f"counts: expected ({BUCKET_NUM},), found {counts.shape}")
    if not 0 <= bucket_start < BUCKET_NUM:
        raise ValueError(f"bucket_start: expected 0 to {BUCKET_NUM - 1}, found {bucket_start}")
    if reweight == "none" and not lds:
        return np.ones(BUCKET_NUM, dtype=np.float32)
    density = effective_density(
        counts[bucket_start:], reweight=reweight, lds=lds, kernel=lds_kernel, ks=lds_ks, sigma=lds_sigma, boundary="reflect"
    )
    there = np.flatnonzero(density > 0)
    nearest = there[np.abs(np.arange(len(density))[:, None] - there).argmin(axis=1)]
    density = density[nearest]
    return mean_one(np.concatenate([np.full(bucket_start, density[0]), density]), counts).astype(np.float32)


def row_weights(depths: np.ndarray, reweight: str, *window) -> np.ndarray:
    """`bucket_weights` for single pixels: depths (N,) -> (N,) float32 with mean 1, by the counts of these depths."""
    return bucket_weights(reweight, *window, counts=BINS.counts(depths))[BINS.index(depths)]


def new_metrics(counts: tuple[int, ...] | None = None) -> DepthMetrics:
    """An empty accumulator of RMSE, AbsRel, log10, MAE and delta1..3 by the published shots; SERA and bMASE by the training
    pixels' counts (100,), those of NYUD2 when None."""
    return DepthMetrics(BINS, SHOTS, _reference(counts))


evaluate = new_metrics  # its name until 0.2.0


@functools.cache  # an accumulator is made for every image
def _reference(counts: tuple[int, ...] | None) -> DepthReference:
    return DepthReference(BINS, read_counts() if counts is None else counts)


@torch.no_grad()
def examples(model, dataset, runtime, count: int = 4) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Up to `count` images spread over a data set, for the report: image (H, W, 3) in 0..1, true and predicted depth (H, W)."""
    from nyu_transform import MEAN, STD

    model.eval()
    found = []
    for i in np.unique(np.linspace(0, len(dataset) - 1, count + 2).round().astype(int)[1:-1]):
        image, depth, _ = dataset[int(i)]
        if model.constant is None:
            with runtime.autocast():  # `forward` by itself, or the model would be compiled anew for a batch of one
                preds = model.point(model.forward(runtime.move(image[None]))[0].float()).cpu()
        else:
            preds = torch.full((1, 1, *depth.shape[-2:]), model.constant)
        preds = torch.nn.functional.interpolate(preds, depth.shape[-2:], mode="bilinear", align_corners=True)
        shown = (image.permute(1, 2, 0) * torch.tensor(STD) + torch.tensor(MEAN)).clamp(0, 1)
        found.append((shown.numpy(), depth[0].numpy(), preds[0, 0].numpy()))
    return found
