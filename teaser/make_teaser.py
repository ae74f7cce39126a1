"""Draws the pictures of the README: label distributions, LDS, FDS and an overview, from the library itself.

The one idea: nothing is sketched. The counts are the training labels of the benchmarks (label_histograms.json), every
curve is what `effective_density` or `FDS` returns, and the same command gives the same pictures again.

    python make_teaser.py                                            # all pictures, into this folder
    python make_teaser.py --only lds.gif --out somewhere
    python make_teaser.py --agedb agedb.csv --sts_b train_new.tsv    # count the labels anew into label_histograms.json
    python make_teaser.py --uci FOLDER                               # the same of UCI-DIR's four tables
"""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # runs from a checkout without installation

from imbalanced_regression import Bins, cli, effective_density, get_lds_kernel_window, shot_of_counts  # noqa: E402

HISTOGRAMS = HERE / "label_histograms.json"
WIDTH, DPI = 8.3, 100  # inches: 830 pixels, the width of a README; its text is then no larger or smaller than drawn

# An opaque card of a light tint: the same picture stands on white and on the dark page of a README.
CARD, INK, QUIET = "#f4f6f8", "#1f2933", "#5f6b7a"
BAR, LINE, KERNEL, BEFORE, AFTER = "#8fb3cc", "#c44e52", "#d9912b", "#9aa5b1", "#2f6f9f"
SHOTS = {"many": "#7fae7a", "medium": "#e0ba4f", "few": "#d2746b"}  # apart in lightness too, not by hue alone

STYLE = {
    "font.size": 10, "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False,
    "figure.facecolor": CARD, "axes.facecolor": CARD, "savefig.facecolor": CARD, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET, "axes.titlelocation": "left", "legend.frameon": False,
}


# -- the counts --------------------------------------------------------------------------------------------------------


def count_ages(path: Path) -> list[int]:
    """Training labels per age, 0 to 120, of a csv with the columns age and split."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"age", "split"} <= rows[0].keys():
        found = ", ".join(rows[0]) if rows else "no rows"
        raise ValueError(f"{path}: expected a csv with the columns age and split, found {found}")
    return Bins.width(0, 121, 1).counts([float(row["age"]) for row in rows if row["split"] == "train"]).tolist()


def count_scores(path: Path) -> list[int]:
    """Training labels per bin of 0.1, 0 to 5, of a tsv with a header whose last column is the score."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0].split("\t")[-1] != "score":
        raise ValueError(f"{path}: expected a tsv whose last column is named score")
    return Bins.uniform(0, 5, 50).counts([float(line.split("\t")[-1]) for line in lines[1:]]).tolist()


COUNTERS = {  # flag -> benchmark, what counts its training labels
    "agedb": ("AgeDB-DIR", count_ages), "imdb_wiki": ("IMDB-WIKI-DIR", count_ages), "sts_b": ("STS-B-DIR", count_scores),
}


def count_tables(folder: Path) -> dict[str, list[int]]:
    """Training labels per bin of each of UCI-DIR's tables, by its benchmark's own reader and split with seed 0."""
    import imbalanced_regression

    sys.path.insert(0, str(Path(imbalanced_regression.__file__).resolve().parents[1] / "uci-dir"))
    from datasets import TABLES, read_table, split_rows

    counts = {}
    for name, table in TABLES.items():
        labels = read_table(name, folder)[2]
        counts[f"UCI-DIR, {name}"] = table.bins.counts(labels[split_rows(labels, table)["train"]]).tolist()
    return counts


def read_histograms() -> dict[str, dict]:
    """Benchmark -> its counts per equal-width bin over `range`, what they count, and where they come from."""
    return json.loads(HISTOGRAMS.read_text(encoding="utf-8"))


def count_anew(files: dict[str, Path], uci: Path | None) -> None:
    """Put the counts of the given files into label_histograms.json, one benchmark a line group."""
    entries = read_histograms()
    found = {COUNTERS[flag][0]: COUNTERS[flag][1](path) for flag, path in files.items()}
    for name, counts in {**found, **(count_tables(uci) if uci else {})}.items():
        entries[name]["counts"] = counts
    text = ",\n".join(
        f" {json.dumps(name)}: {{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in entry.items()) + "\n }"
        for name, entry in entries.items()
    )
    save(HISTOGRAMS, f"{{\n{text}\n}}\n")


def shots_of(entry: dict) -> np.ndarray:
    """The shot of each bin: the published list where there is one, otherwise by count, with the benchmark's limits."""
    if "many" not in entry:
        return shot_of_counts(entry["counts"], *entry.get("limits", ()))
    shots = np.full(len(entry["counts"]), "few", dtype=object)
    for shot in ("many", "medium"):
        shots[entry[shot]] = shot
    return shots


# -- pictures and their files ------------------------------------------------------------------------------------------


def save(path: Path, data: bytes | str) -> None:
    """Replace the file in one step, so that no half-written picture is left."""
    from imbalanced_regression.files import write

    write(path, data)


def new_figure(height: float):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    fig.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    FigureCanvasAgg(fig)
    return fig


def png(fig) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def pixels(fig) -> np.ndarray:
    """The drawn figure, (H, W, 3) uint8."""
    fig.canvas.draw()
    return np.asarray(fig.canvas.buffer_rgba())[..., :3].copy()


def gif(frames: list[np.ndarray], milliseconds: list[int]) -> bytes:
    """Frames (H, W, 3) as an endless GIF in 96 colours of all of it: one palette, so that nothing flickers."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    palette = Image.fromarray(np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]])).quantize(96)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
    return buffer.getvalue()


def short(count: float) -> str:
    for size, sign in ((1e9, " bn"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{sign}"
    return f"{count:g}"


# -- label distributions -----------------------------------------------------------------------------------------------


def draw_labels(quick: bool) -> bytes:
    """The labels of each benchmark, coloured by shot, with the effective density LDS makes of them."""
    from matplotlib.patches import Patch

    entries = read_histograms()
    drawn = [name for name, entry in entries.items() if entry["counts"]]
    rows = (len(drawn) + 1) // 2
    fig = new_figure(2.3 * rows + 0.55)
    axes = fig.subplots(rows, 2).ravel()
    for ax in axes[len(drawn):]:
        ax.set_axis_off()
    for ax, name in zip(axes, drawn):
        entry = entries[name]
        counts, first = np.array(entry["counts"], dtype=float), entry["first_bin"]
        bins = Bins.uniform(*entry["range"], len(counts))
        colors = [SHOTS[shot] for shot in shots_of(entry)] if entry["split"] == "train" else BAR
        ax.bar(bins.edges[:-1], counts, np.diff(bins.edges), align="edge", color=colors, lw=0)
        ax.plot(bins.centers[first:], effective_density(counts[first:]), color=INK, lw=1.5)
        ax.set_title(name)
        ax.set_xlabel(entry["label"])
        ax.set_xlim(entry["shown"])
        ax.set_ylim(0, 1.12 * counts.max())
        ax.yaxis.set_major_formatter(lambda value, _: short(value))
        seen = counts[counts > 0]
        lines = [f"{'about ' if entry['approximate'] else ''}{short(counts.sum())} {entry['unit']}",
                 f"fullest bin {short(seen.max())}", f"rarest seen {short(seen.min())}"]
        right = counts[: len(counts) // 2].sum() > counts[len(counts) // 2 :].sum()
        ax.text(0.98 if right else 0.06, 0.98, "\n".join(lines), transform=ax.transAxes, color=QUIET, fontsize=8.5,
                ha="right" if right else "left", va="top")
    for ax in axes[::2]:
        ax.set_ylabel("labels per bin")
    handles = [Patch(color=color, label=f"{shot}-shot bin") for shot, color in SHOTS.items()]
    handles.append(Patch(color=BAR, label="all, not yet split"))
    handles += axes[0].plot([], [], color=INK, lw=1.5, label="effective density")
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.4, handlelength=1.6)
    return png(fig)


# -- LDS ---------------------------------------------------------------------------------------------------------------


def draw_lds(quick: bool) -> bytes:
    """The kernel slides over the counts of STS-B-DIR; behind it stays the effective density, below the weights."""
    entry = read_histograms()["STS-B-DIR"]
    counts, bins = np.array(entry["counts"], dtype=float), Bins.uniform(*entry["range"], len(entry["counts"]))
    window = get_lds_kernel_window("gaussian", 5, 2)
    reach, density, width = len(window) // 2, effective_density(counts), bins.edges[1] - bins.edges[0]
    used = counts > 0
    weights = [np.where(used, 1 / np.where(used, d, 1), np.nan) for d in (counts, density)]
    weights = [w * counts.sum() / np.nansum(w * counts) for w in weights]  # a mean of 1 over the samples, as lds_weights

    fig = new_figure(4.9)
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    bars = top.bar(bins.centers, counts, width, color=BAR, edgecolor=CARD, lw=0.5, label="labels per bin")
    kernel = top.fill_between([], [], color=KERNEL, alpha=0.35, lw=0, label="kernel")
    (curve,) = top.plot([], [], color=LINE, lw=2.2, label="effective density: the kernel's average")
    (head,) = top.plot([], [], "o", color=LINE, ms=6)
    top.set_title("LDS: a label is as rare as its neighbourhood  (STS-B-DIR, 5,249 training pairs)")
    top.set_ylabel("labels per bin")
    top.set_ylim(0, 1.08 * counts.max())
    top.legend(loc="upper left", bbox_to_anchor=(0.04, 1.0))
    bottom.bar(bins.centers, weights[0], width, color=BEFORE, edgecolor=CARD, lw=0.5, label="1 / count")
    (after,) = bottom.plot([], [], color=LINE, lw=2.2, drawstyle="steps-mid", label="1 / effective density")
    bottom.set_yscale("log")
    bottom.set_ylabel("weight")
    bottom.set_xlabel("similarity score")
    bottom.set_xlim(bins.edges[0], bins.edges[-1])
    bottom.set_ylim(0.2, 2000)
    bottom.legend(loc="upper left", ncols=2)

    frames, holds = [], []
    for at in range(0, bins.count, 10 if quick else 1):
        for i, bar in enumerate(bars):
            bar.set_facecolor(KERNEL if abs(i - at) <= reach else BAR)
        x = (np.arange(-reach, reach + 1) + at) * width + bins.centers[0]
        kernel.set_data(x, np.zeros(len(x)), window * density[at])
        curve.set_data(bins.centers[: at + 1], density[: at + 1])
        head.set_data([bins.centers[at]], [density[at]])
        after.set_data(bins.centers[: at + 1], weights[1][: at + 1])
        frames.append(pixels(fig))
        holds.append(110)
    for bar in bars:
        bar.set_facecolor(BAR)
    kernel.set_data([bins.centers[0]], [0], [0])
    head.set_data([], [])
    curve.set_data(bins.centers, density)
    after.set_data(bins.centers, weights[1])
    return gif([*frames, pixels(fig)], [*holds, 3500])


# -- FDS ---------------------------------------------------------------------------------------------------------------


def calibrated_features(seed: int = 3):
    """Synthetic two-channel features of skewed labels, and what a real FDS makes of them.

    The true mean runs along an arc as the label grows; rare bins miss it by chance.
    Returns bins, FDS, labels (N,), features before and after (N, 2), the true means (K, 2).
    """
    import torch  # here, so that what needs no FDS starts at once

    from imbalanced_regression import FDS

    random = np.random.default_rng(seed)
    bins = Bins.uniform(0, 100, 40)
    share = np.exp(-bins.centers / 22)
    counts = np.maximum(3, np.round(900 * share / share.sum())).astype(int)
    counts[[24, 25, 33]] = 0  # labels nobody has
    angle = np.pi * (1 - bins.centers / 100)
    true = np.stack([4 * np.cos(angle), 3 * np.sin(angle)], axis=1)
    of = np.repeat(np.arange(bins.count), counts)
    shared_error = random.normal(size=(bins.count, 2)) * (0.9 / np.sqrt(np.maximum(counts, 1)))[:, None]
    features = true[of] + shared_error[of] + random.normal(size=(len(of), 2)) * 0.35
    labels = torch.tensor(bins.centers[of])
    before = torch.tensor(features, dtype=torch.float32)
    fds = FDS(feature_dim=2, bins=bins, kernel="gaussian", ks=9, sigma=2)
    fds.observe(before, labels)
    fds.finish_epoch(0)
    after = fds.smooth(before, labels, epoch=1)
    return bins, fds, labels.numpy(), before.numpy(), after.numpy(), true


def draw_fds(quick: bool) -> bytes:
    """Features move from their bin's own statistics to those smoothed over neighbouring bins."""
    bins, fds, labels, before, after, true = calibrated_features()
    known = fds.num_samples_tracked.numpy() > 0
    mean, smooth = fds.running_mean_last_epoch.numpy()[:, 0], fds.smoothed_mean_last_epoch.numpy()[:, 0]
    std = [np.sqrt(v.numpy()[:, 0]) for v in (fds.running_var_last_epoch, fds.smoothed_var_last_epoch)]
    x = bins.centers

    fig = new_figure(4.0)
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.15))
    dots = left.scatter(*before.T, c=labels, s=9, cmap="viridis", lw=0)
    left.plot(*true.T, color=QUIET, lw=1, ls="--")
    (centers,) = left.plot([], [], "o-", color=LINE, ms=3.5, lw=1)
    left.set_xlim(-5.4, 5.6)
    left.set_ylim(-1.6, 4.6)
    left.set_xlabel("feature 1")
    left.set_ylabel("feature 2")
    bar = fig.colorbar(dots, ax=left, location="bottom", aspect=40, pad=0.02)
    bar.set_label("label")
    right.plot(x, true[:, 0], color=QUIET, lw=1, ls="--", label="true mean")
    right.plot(x[known], mean[known], "o", color=BEFORE, ms=4, label="mean of the bin (none where empty)")
    (line,) = right.plot([], [], color=LINE, lw=2, label="mean in use")
    band = right.fill_between([], [], color=LINE, alpha=0.18, lw=0, label="and one standard deviation")
    right.set_xlim(0, 100)
    right.set_ylim(-6, 9.4)
    right.set_xlabel("label")
    right.set_ylabel("feature 1")
    right.legend(loc="upper left", fontsize=8.5)

    frames, holds = [], []
    steps = np.linspace(0, 1, 3 if quick else 22)
    for t in (3 * steps**2 - 2 * steps**3):  # starts and ends gently
        now = (1 - t) * before + t * after
        dots.set_offsets(now)
        own = [now[labels == center].mean(0) for center in x[known]]
        centers.set_data(*np.array(own).T)
        m = (1 - t) * mean + t * smooth
        s = (1 - t) * std[0] + t * std[1]
        line.set_data(x[known], m[known])
        band.set_data(x[known], (m - s)[known], (m + s)[known])
        left.set_title("before FDS" if t == 0 else "after FDS" if t == 1 else "FDS moves the features ...")
        right.set_title("statistics of each bin" if t == 0 else "... to statistics smoothed over bins")
        frames.append(pixels(fig))
        holds.append(2000 if t == 0 else 3500 if t == 1 else 80)
    return gif(frames, holds)


# -- overview ----------------------------------------------------------------------------------------------------------


def draw_overview(quick: bool) -> bytes:
    """Where LDS and FDS sit in training: the weights of the loss, and between encoder and head."""
    from matplotlib.patches import FancyBboxPatch

    counts = np.array(read_histograms()["AgeDB-DIR"]["counts"], dtype=float)[:102]
    bins = Bins.width(0, 102, 1)
    density = effective_density(counts, ks=9, sigma=2)
    _, fds, _, _, _, _ = calibrated_features()
    known = fds.num_samples_tracked.numpy() > 0

    fig = new_figure(4.3)
    fig.set_layout_engine("none")
    page = fig.add_axes((0, 0, 1, 1))
    page.set_axis_off()
    page.set_xlim(0, 100)
    page.set_ylim(0, 52)

    def box(x, y, w, h, text, color="#ffffff", bold=False):
        page.add_patch(FancyBboxPatch((x, y), w, h, boxstyle="round,pad=0,rounding_size=1.2", fc=color, ec=QUIET, lw=1))
        page.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=10, fontweight="bold" if bold else "normal")

    def arrow(start, end, color=QUIET):
        style = {"arrowstyle": "-|>", "color": color, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
        page.annotate("", end, start, arrowprops=style)

    def inset(x, y, w, h, title):
        ax = fig.add_axes((x / 100, y / 52, w / 100, h / 52))
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(title, fontsize=9, fontweight="normal", pad=3, loc="center")
        return ax

    page.text(2, 49, "LDS", fontsize=12, fontweight="bold", color=LINE, va="center")
    page.text(7.2, 49, "weighs the loss by a density smoothed over neighbouring labels", fontsize=10, va="center")
    x = bins.centers
    ax = inset(3, 31, 24, 12.5, "training labels (ages)")
    ax.bar(x, counts, 1, color=BAR)
    ax = inset(36.5, 31, 24, 12.5, "effective density")
    ax.bar(x, counts, 1, color=BAR, alpha=0.5)
    ax.plot(x, density, color=LINE, lw=1.8)
    ax = inset(70, 31, 24, 12.5, "weights (log scale)")
    ax.plot(x, 1 / density, color=LINE, lw=1.8)
    ax.set_yscale("log")
    ax.set_yticks([])
    ax.minorticks_off()
    arrow((28, 37), (35.5, 37))
    arrow((61.5, 37), (69, 37))

    page.text(2, 24, "FDS", fontsize=12, fontweight="bold", color=AFTER, va="center")
    page.text(7.2, 24, "moves features to statistics smoothed over neighbouring bins", fontsize=10, va="center")
    for at, width, text in ((2, 10, "input"), (16, 12, "encoder"), (63, 10, "head"), (77, 13, "prediction")):
        box(at, 8.5, width, 6, text)
    ax = inset(33.5, 4, 24, 14, "mean of a feature over the bins")
    centers = fds.bins.centers
    ax.plot(centers[known], fds.running_mean_last_epoch.numpy()[known, 0], "o", color=BEFORE, ms=3)
    ax.plot(centers[known], fds.smoothed_mean_last_epoch.numpy()[known, 0], color=AFTER, lw=2)
    arrow((12, 11.5), (16, 11.5))
    arrow((28, 11.5), (33, 11.5))
    arrow((58, 11.5), (63, 11.5))
    arrow((73, 11.5), (77, 11.5))
    page.text(92, 24, "loss", fontsize=10, ha="center", va="center", fontweight="bold")
    arrow((90, 14.5), (92, 22.4))
    arrow((92, 30.3), (92, 25.8), LINE)
    return png(fig)


PICTURES = {"overview.png": draw_overview, "labels.png": draw_labels, "lds.gif": draw_lds, "fds.gif": draw_fds}


def main() -> None:
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder the pictures go to")
    parser.add_argument("--only", choices=PICTURES, nargs="+", default=list(PICTURES), help="draw these only")
    parser.add_argument("--quick", action="store_true", help="a few frames of each animation: that it runs")
    for flag, (name, _) in COUNTERS.items():
        parser.add_argument(f"--{flag}", type=Path, metavar="FILE", help=f"count {name} anew from its csv or tsv")
    parser.add_argument("--uci", type=Path, metavar="FOLDER", help="count UCI-DIR's tables anew, see uci-dir/download_uci.py")
    args = parser.parse_args()
    files = {flag: getattr(args, flag) for flag in COUNTERS if getattr(args, flag)}
    if files or args.uci:
        count_anew(files, args.uci)
    import matplotlib

    args.out.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name in args.only:
            data = PICTURES[name](args.quick)
            save(args.out / name, data)
            print(f"{args.out / name}: {len(data) / 1000:.0f} kB")


if __name__ == "__main__":
    cli.guard(main)
