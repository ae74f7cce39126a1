"""Draws the pictures of the README: label distributions, LDS at work, FDS at work. Nothing is sketched: the counts are those of
the benchmarks' training labels (label_histograms.json), the curves what the library returns.

    python make_teaser.py                    # labels.png, lds.gif, fds.gif into this folder
    python make_teaser.py --out somewhere

IMDB-WIKI-DIR is left out: its csv is 191,509 rows to download, and its histogram looks like AgeDB-DIR's, only larger.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from imbalanced_regression.cli import ArgumentParser, guard
from imbalanced_regression.files import write

HERE = Path(__file__).resolve().parent
# an opaque card of a light tint: the same picture stands on a white and on a dark page
CARD, INK, BAR, LINE, KERNEL = "#f4f6f8", "#1f2933", "#8fb3cc", "#c44e52", "#d9912b"
STYLE = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": CARD, "axes.facecolor": CARD,
    "savefig.facecolor": CARD, "text.color": INK, "axes.labelcolor": INK, "axes.titlelocation": "left", "legend.frameon": False,
}


def read_histograms() -> dict[str, dict]:
    """Benchmark -> counts (K,) of its training labels over `edges`, with what they count and their source."""
    return json.loads((HERE / "label_histograms.json").read_text())


def new_figure(width: float, height: float):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def png(fig) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    return buffer.getvalue()


def gif(figures: list, milliseconds: int, last: int) -> bytes:
    """Figures as an animation that loops, in one palette of 64 colours; the last one stays for `last` milliseconds."""
    from PIL import Image

    images = [Image.open(io.BytesIO(png(fig))).convert("RGB") for fig in figures]
    palette = images[-1].quantize(64, dither=Image.Dither.NONE)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    duration = [milliseconds] * (len(images) - 1) + [last]
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return buffer.getvalue()


def draw_labels() -> bytes:
    """The training labels of the benchmarks, with LDS's effective density over them."""
    from imbalanced_regression import effective_density, get_lds_kernel_window

    fig = new_figure(8.3, 4.6)
    for ax, (name, entry) in zip(fig.subplots(2, 2).ravel(), read_histograms().items()):
        counts, edges = np.array(entry["counts"], float), np.linspace(*entry["edges"], len(entry["counts"]) + 1)
        first = int(np.flatnonzero(counts)[0])
        ax.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BAR)
        density = effective_density(counts[first:]) / get_lds_kernel_window().sum()
        ax.plot((edges[:-1] + edges[1:])[first:] / 2, density * counts.sum() / density.sum(), color=LINE, lw=1.6)
        seen = counts[counts > 0]
        ax.set_title(f"{name}: {seen.max() / seen.min():,.0f} to 1")
        ax.set(xlabel=entry["label"], ylabel=entry["what"])
    fig.suptitle("training labels (bars), their effective density (line), and fullest to emptiest bin", fontsize=10)
    return png(fig)


def draw_lds(frames: int) -> bytes:
    """The kernel slides over AgeDB-DIR's counts and leaves the effective density; the weights grow below."""
    from imbalanced_regression import effective_density, get_lds_kernel_window

    counts = np.array(read_histograms()["AgeDB-DIR"]["counts"], float)
    window = get_lds_kernel_window("gaussian", 9, 2)
    density = effective_density(counts, kernel="gaussian", ks=9, sigma=2)
    density *= counts.sum() / density.sum()
    inverse, smoothed = 1 / np.sqrt(np.maximum(counts, 1)), 1 / np.sqrt(np.maximum(density, 1e-9))
    age = np.arange(len(counts))
    figures = []
    for at in np.linspace(4, 100, frames).astype(int):
        fig = new_figure(8.3, 3.9)
        top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        top.bar(age, counts, 1, color=BAR, label="training faces")
        top.plot(age[: at + 1], density[: at + 1], color=LINE, lw=2, label="effective density")
        reach = np.arange(at - 4, at + 5)
        top.fill_between(reach, window * density[at], color=KERNEL, alpha=0.7, lw=0, label="kernel")
        top.set(ylabel="faces", ylim=(0, counts.max() * 1.05), xlim=(0, 105))
        top.legend(loc="upper right")
        known = counts > 0
        bottom.plot(age[known], inverse[known], color=BAR, label="weights from counts")
        reached = known & (age <= at)
        bottom.plot(age[reached], smoothed[reached], color=LINE, lw=2, label="weights by LDS")
        bottom.set(xlabel="age (years)", ylabel="weight", ylim=(0, 1.15))
        bottom.legend(loc="upper center")
        figures.append(fig)
    return gif(figures, 140, 3000)


def draw_fds(frames: int) -> bytes:
    """Features of an imbalanced set, moved by a real FDS from their bin's statistics to the smoothed ones.

    Drawn are two features whose true mean follows the target; bins with few samples are off it by chance.
    """
    import torch

    from imbalanced_regression import FDS, Bins

    torch.manual_seed(3)
    bins = Bins.uniform(0, 1, 30)
    labels = torch.distributions.Beta(1.1, 4.0).sample((500,))
    true = torch.linspace(0, 1, 200)

    def curve(y):
        return torch.stack([3 * y, torch.sin(3 * y)], dim=1)

    features = curve(labels) + 0.35 * torch.randn(500, 2)
    fds = FDS(2, bins=bins, ks=7)
    fds.observe(features, labels)
    fds.finish_epoch(0)
    moved = fds.train().smooth(features, labels, epoch=1)
    seen = fds.num_samples_tracked > 0
    before, after = fds.running_mean[seen], fds.smoothed_mean_last_epoch[seen]
    colors, figures = bins.centers[seen.numpy()], []
    for share in np.linspace(0, 1, frames):
        fig = new_figure(8.3, 3.6)
        ax = fig.subplots()
        ax.plot(*curve(true).T, color=INK, lw=1, ls="--", label="where the features of each target truly lie")
        points = features + share * (moved - features)
        ax.scatter(*points.T, c=labels, cmap="viridis", s=8, alpha=0.45, lw=0)
        means = before + share * (after - before)
        ax.plot(*means.T, color=LINE, lw=1, zorder=2)
        drawn = ax.scatter(*means.T, c=colors, cmap="viridis", s=50, edgecolor=LINE, zorder=3, label="mean of each bin")
        ax.set(xlabel="feature 1", ylabel="feature 2", xlim=(-1, 4), ylim=(-1.2, 2.2))
        ax.set_title("as the network gives them" if share == 0 else "calibrated by FDS" if share == 1 else "...", fontsize=10)
        ax.legend(loc="lower right")
        fig.colorbar(drawn, label="target (rare where yellow)")
        figures.append(fig)
    return gif([figures[0]] * 6 + figures, 150, 3000)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--quick", action="store_true", help="few frames, to see that it runs")
    args = parser.parse_args()
    import matplotlib

    args.out.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        pictures = {
            "labels.png": draw_labels(),
            "lds.gif": draw_lds(3 if args.quick else 33),
            "fds.gif": draw_fds(3 if args.quick else 15),
        }
    for name, data in pictures.items():
        write(args.out / name, data)
        print(f"{args.out / name}: {len(data) / 1e3:.0f} kB")


if __name__ == "__main__":
    guard(main)
