"""How much of the label FDS's movement carries, and whether the head reads it; over the passes, for every kind.

    python benchmarks/fds_leak.py --data_dir FOLDER                      # concrete strength, an MLP; a minute
    python benchmarks/fds_leak.py --sts_b FOLDER --glove FILE --table sts-b   # pooled word vectors of STS-B-DIR

While training a feature z is moved to z'; at test it is not. Per kind and pass: the R2 of a ridge that predicts the label
from smoothed mean - mean, the movement that all features of a bin share (on the training samples, since the head sees these
very movements again in the next pass); the correlation of head times that movement with the label; the training loss with
the whole movement and without; and the distance between the predictions of z' and z.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import fds_search
import numpy as np
import torch
from torch import Tensor, nn

from imbalanced_regression import FDS, Regressor
from imbalanced_regression.tools import drawing

KINDS: dict[str, dict] = {
    "vanilla": {},
    "own, second pass": {},
    "own, streaming": {},
    "own, momentum 0": {"momentum": 0.0},
    "released": {"kind": "released", "fill_empty": True},
}
MEASURES = {
    "probe": "R² of a ridge from the movement to the label",
    "correlation": "correlation of head x movement with the label",
    "loss moved": "training MAE, moved as in training",
    "loss unmoved": "training MAE, not moved as at test",
    "distance": "mean distance of the two predictions",
    "val": "validation MAE",
}


def ridge_r2(x: Tensor, y: Tensor, strength: float = 1e-3) -> float:
    """R2 of a ridge from x (N, D), standardised, to y (N,), on the samples it is fitted on; 0 where nothing moves."""
    if not x.abs().max() > 0:
        return 0.0
    x, y = ((x - x.mean(0)) / x.std(0).clamp(min=1e-9)).double(), (y - y.mean()).double()
    gram = x.T @ x + strength * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    left = y - x @ torch.linalg.solve(gram, x.T @ y)
    return 1 - float(left.square().sum() / y.square().sum())


def follow(table: fds_search.Table, seed: int, kind: str, passes: int) -> list[dict[str, float]]:
    """Train one network with the library's FDS and measure after every pass."""
    x, labels = table.inputs["train"][seed], table.labels["train"][seed]
    centre, spread = labels.mean(), labels.std()
    targets = ((labels - centre) / spread)[:, None]
    torch.manual_seed(seed)
    width = fds_search.WIDTH
    encoder = nn.Sequential(nn.Linear(x.shape[1], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    fds = None if kind == "vanilla" else FDS(width, bins=table.bins, **KINDS[kind])
    model = Regressor(encoder, nn.Linear(width, 1), fds)
    optimizer = torch.optim.Adam(model.parameters(), lr=fds_search.RATE)
    found = []
    for epoch in range(passes):
        for index in torch.randperm(len(x)).split(fds_search.BATCH):
            preds, features = model(x[index], labels[index], epoch)
            if kind == "own, streaming":
                fds.observe(features, labels[index])
            loss = (preds - targets[index]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            # what this pass trained with, before its end changes the statistics
            z = encoder(x)
            moved = z if fds is None else fds.smooth(z, labels, epoch)
            on, off = (model.head(part) for part in (moved, z))
            read = (on - off)[:, 0]
            middle = torch.zeros_like(z) if fds is None else fds.running_mean_last_epoch[table.bins.index(labels.numpy())]
            shared = torch.zeros_like(z) if fds is None else fds.smooth(middle, labels, epoch) - middle
            told = (shared @ model.head.weight.T)[:, 0]
            val = model.head(encoder(table.inputs["val"][seed]))[:, 0] * spread + centre
            found.append({
                "probe": ridge_r2(shared, targets[:, 0]),
                "correlation": float(torch.corrcoef(torch.stack([told, targets[:, 0]]))[0, 1]) if told.std() > 0 else 0.0,
                "loss moved": float((on - targets).abs().mean() * spread),
                "loss unmoved": float((off - targets).abs().mean() * spread),
                "distance": float(read.abs().mean() * spread),
                "val": float((val - table.labels["val"][seed]).abs().mean()),
            })
            if fds is not None:
                if kind != "own, streaming":
                    fds.observe(moved if fds.observes_smoothed else z, labels)
                fds.finish_epoch(epoch)
    return found


def draw(path: Path, means: dict[str, dict[str, np.ndarray]], title: str) -> None:
    figure = drawing.new_figure(12, 6.5)
    for at, (measure, label) in enumerate(MEASURES.items()):
        axes = figure.add_subplot(2, 3, at + 1)
        for kind, values in means.items():
            axes.plot(np.arange(1, len(values[measure]) + 1), values[measure], label=kind, lw=1.4)
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("passes")
        if measure not in ("probe", "correlation"):
            axes.set_ylim(bottom=0)
    figure.axes[0].legend(fontsize=8)
    figure.suptitle(title)
    path.write_bytes(drawing.png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="data", help="the UCI tables")
    parser.add_argument("--table", default="concrete", choices=fds_search.WIDTHS)
    parser.add_argument("--sts_b", help="the published tsv files of STS-B-DIR")
    parser.add_argument("--glove", help="word vectors of lower-cased words")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=60)
    parser.add_argument("--out", default="fds_leak", help="names the csv and the picture")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table, means = fds_search.load(args.table, args), {}
    with open(f"{args.out}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "seed", "pass", *MEASURES])
        for kind in args.kinds:
            runs = [follow(table, seed, kind, args.passes) for seed in range(args.seeds)]
            for seed, run in enumerate(runs):
                writer.writerows([kind, seed, at + 1, *(f"{row[m]:.5g}" for m in MEASURES)] for at, row in enumerate(run))
            means[kind] = {m: np.array([[row[m] for row in run] for run in runs]).mean(0) for m in MEASURES}
            print(f"{kind:18}" + "  ".join(f"{m} {means[kind][m][-10:].mean():.3f}" for m in MEASURES), flush=True)
    draw(Path(f"{args.out}.png"), means, f"{args.table}: what FDS's movement tells the head, {args.seeds} seeds")


if __name__ == "__main__":
    main()
