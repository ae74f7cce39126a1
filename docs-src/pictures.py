"""The guide's pictures: each method on labels in one dimension, drawn by the library itself, as SVG.

    python docs-src/pictures.py --out pictures

The one idea: text and axes are in the colour of the page's text, so a picture serves light and dark mode; nothing else is
the picture's own but two colours that suit both.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imbalanced_regression import (
    BNI,
    FDS,
    Bins,
    RankSim,
    dense_weights,
    label_density,
    lds_weights,
    smogn,
    weighted_mse_loss,
)
from imbalanced_regression.cli import ArgumentParser, guard

BLUE, ORANGE = "#4488dd", "#e0812f"
INK = "#010203"  # stands for the colour of the text

_STYLE = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.color": INK, "axes.edgecolor": INK,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 10, "legend.frameon": False, "axes.linewidth": 0.8,
}


def skewed(count: int, seed: int = 0) -> np.ndarray:
    """Labels in [0, 100], most of them near 30 and few above 70."""
    draw = np.random.default_rng(seed)
    common = draw.normal(30, 9, count * 9 // 10)
    return np.concatenate([common, draw.uniform(0, 100, count - len(common))]).clip(0, 99.9)


def lds(axes: list[Axes]) -> None:
    labels, bins = skewed(600), Bins.uniform(0, 100, 50)
    order = np.argsort(labels)
    axes[0].bar(bins.centers, bins.counts(labels), width=2, color=BLUE, alpha=0.55, label="count of the bin")
    axes[0].plot(bins.centers, label_density(labels, bins), color=ORANGE, linewidth=2, label="smoothed (LDS)")
    axes[0].set(xlabel="label", ylabel="training labels")
    axes[0].legend()
    for smooth, colour, name in ((False, BLUE, "without LDS"), (True, ORANGE, "with LDS")):
        weights = lds_weights(labels, bins, reweight="sqrt_inv", lds=smooth)
        axes[1].plot(labels[order], weights[order], color=colour, linewidth=1.6, label=name)
    axes[1].set(xlabel="label", ylabel="weight (sqrt_inv)", ylim=(0, None))
    axes[1].legend()


def dense_weight(axes: list[Axes]) -> None:
    labels = np.sort(skewed(600))
    axes[0].hist(labels, bins=50, color=BLUE, alpha=0.55)
    axes[0].set(xlabel="label", ylabel="training labels")
    for alpha, style in ((0.5, ":"), (1.0, "-"), (2.0, "--")):
        axes[1].plot(labels, dense_weights(labels, alpha=alpha), color=ORANGE, linestyle=style, label=f"alpha {alpha:g}")
    axes[1].set(xlabel="label", ylabel="weight")
    axes[1].legend(loc="center right")


def fds(axes: list[Axes]) -> None:
    labels, draw = skewed(400), np.random.default_rng(1)
    features = np.sin(labels / 25) + draw.normal(0, 0.3, len(labels))
    layer = FDS(1, bins=Bins.uniform(0, 100, 25))
    z, y = torch.tensor(features, dtype=torch.float32)[:, None], torch.tensor(labels, dtype=torch.float32)
    layer.update_running_stats(z, y, 0)
    moved = layer.smooth(z, y, 1)[:, 0].numpy()
    seen = layer.num_samples_tracked.numpy() > 0
    centers = Bins.uniform(0, 100, 25).centers[seen]
    axes[0].scatter(labels, features, s=5, color=BLUE, alpha=0.5, linewidths=0)
    axes[0].plot(centers, layer.running_mean_last_epoch[:, 0].numpy()[seen], color=BLUE, label="mean of the bin")
    axes[0].plot(centers, layer.smoothed_mean_last_epoch[:, 0].numpy()[seen], color=ORANGE, label="smoothed over bins")
    axes[0].set(xlabel="label", ylabel="one feature", title="before")
    axes[0].legend()
    axes[1].scatter(labels, moved, s=5, color=ORANGE, alpha=0.6, linewidths=0)
    axes[1].set(xlabel="label", ylabel="one feature", title="calibrated", ylim=axes[0].get_ylim())


def balanced_mse(axes: list[Axes]) -> None:
    labels, bins = skewed(800), Bins.uniform(0, 100, 50)
    inputs = labels + np.random.default_rng(2).normal(0, 15, len(labels))  # what a model sees is the label and noise
    x, y = (torch.tensor(values, dtype=torch.float32)[:, None] for values in (inputs, labels))
    grid = torch.linspace(0, 100, 101)[:, None]
    losses = {"MSE": (weighted_mse_loss, BLUE), "BNI, sigma 15": (BNI.fit(bins, bins.counts(labels), sigma=15.0), ORANGE)}
    axes[0].hist(labels, bins=50, color=BLUE, alpha=0.55)
    axes[0].set(xlabel="label", ylabel="training labels")
    axes[1].plot([0, 100], [0, 100], color=INK, linestyle=":", linewidth=1, label="input = label")
    for name, (loss, colour) in losses.items():
        fitted = _fit(x, y, loss)
        axes[1].plot(grid[:, 0], fitted(grid), color=colour, linewidth=2, label=name)
    axes[1].set(xlabel="input (label + noise)", ylabel="prediction", xlim=(0, 100), ylim=(0, 100))
    axes[1].legend()


def _fit(x: torch.Tensor, y: torch.Tensor, loss):
    """A small network fitted to (x, y): a function of inputs (n, 1) -> (n,) array."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1, 24), torch.nn.Tanh(), torch.nn.Linear(24, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def predict(values: torch.Tensor) -> torch.Tensor:
        return 50 + 30 * model((values - 50) / 30)

    for _ in range(500):
        optimizer.zero_grad()
        (loss(predict(x), y) / 900).backward()
        optimizer.step()
    return lambda values: predict(values)[:, 0].detach().numpy()


def smogn_cases(axes: list[Axes]) -> None:
    y = skewed(400)
    x = np.column_stack([y + np.random.default_rng(3).normal(0, 6, len(y))])
    new_x, new_y = smogn(x, y, relevance="density", threshold=0.8, pert=0.1)
    for axis, points, title in ((axes[0], (x, y), "as collected"), (axes[1], (new_x, new_y), "after SMOGN")):
        old = np.isin(points[1], y)
        axis.scatter(points[0][old, 0], points[1][old], s=7, color=BLUE, alpha=0.6, linewidths=0, label="real")
        axis.scatter(points[0][~old, 0], points[1][~old], s=7, color=ORANGE, alpha=0.8, linewidths=0, label="synthetic")
        axis.set(xlabel="input", ylabel="label", title=title)
    axes[1].legend()


def ranksim(axes: list[Axes]) -> None:
    labels = torch.arange(12, dtype=torch.float32)
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(12, 8, generator=draw).requires_grad_()
    before, term = features.detach().clone(), RankSim()
    optimizer = torch.optim.Adam([features], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        term(features, labels).backward()
        optimizer.step()
    shown = [-(labels[:, None] - labels).abs(), _cosines(before), _cosines(features.detach())]
    for axis, values, title in zip(axes, shown, ("minus label distance", "cosines, at first", "cosines, 200 steps later")):
        axis.pcolormesh(values.numpy(), cmap="viridis", linewidth=0)
        axis.set(title=title, xlabel="sample, by label", aspect="equal", xticks=[], yticks=[])


def _cosines(features: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(features)
    return unit @ unit.T


PICTURES = {
    "lds": (lds, 2), "dense_weight": (dense_weight, 2), "fds": (fds, 2), "balanced_mse": (balanced_mse, 2),
    "smogn": (smogn_cases, 2), "ranksim": (ranksim, 3),
}


def draw_all() -> dict[str, str]:
    """All pictures: name -> SVG, whose text and axes have the colour of the text around them. The same every time."""
    return {name: _drawn(name) for name in PICTURES}


def _drawn(name: str) -> str:
    draw, panels = PICTURES[name]
    file = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(7.2, 2.7), layout="constrained")
        draw(list(figure.subplots(1, panels)))
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the SVG files")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, svg in draw_all().items():
        (args.out / f"{name}.svg").write_text(svg)


if __name__ == "__main__":
    guard(main)
