"""The search for an FDS that one can use without harm: many variants on tables, ten seeds trained at once, paired.

    python benchmarks/fds_search.py --data_dir FOLDER                         # the four UCI tables, all variants
    python benchmarks/fds_search.py --data_dir FOLDER --variants vanilla own released --weights lds
    python benchmarks/fds_search.py --summary                                 # the table of the results
    python benchmarks/fds_search.py --sts_b FOLDER --glove FILE --tables sts-b   # pooled word vectors, the same network

FOLDER holds airfoil_self_noise.dat, abalone.data, concrete.csv and real_estate.csv. An MLP d-32-32-1 of each seed is a slice
of one batched network; the label's bins, balanced validation and test parts, and the statistics are each seed's own.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from imbalanced_regression import Bins, get_lds_kernel_window, lds_weights

WIDTHS = {"airfoil": 1.0, "abalone": 1.0, "concrete": 2.0, "real_estate": 5.0, "sts-b": 0.1}
CAP = 10  # validation and test samples of a bin at most
FEW = 0.25  # bins with fewer training samples than this share of the fullest bin's are few-shot
STEPS, BATCH, RATE, WIDTH = 800, 64, 3e-3, 32


# -- data --------------------------------------------------------------------------------------------------------------


@dataclass
class Table:
    """A table split S times: inputs (S, N, d) standardised, labels (S, N) in their unit, for train, val and test."""

    inputs: dict[str, Tensor]
    labels: dict[str, Tensor]
    bins: Bins


def read_table(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, d) and labels (N,) of a UCI table; categories one-hot."""
    if name == "airfoil":
        rows = np.loadtxt(folder / "airfoil_self_noise.dat")
        return rows[:, :-1], rows[:, -1]
    if name == "abalone":
        rows = [line.split(",") for line in (folder / "abalone.data").read_text().split()]
        sex = np.array([[row[0] == s for s in "MFI"] for row in rows], dtype=float)
        numbers = np.array([row[1:] for row in rows], dtype=float)
        return np.concatenate([sex, numbers[:, :-1]], axis=1), numbers[:, -1]
    rows = np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1)
    return rows[:, 1 if name == "real_estate" else 0 : -1], rows[:, -1]


def split(inputs: np.ndarray, labels: np.ndarray, bins: Bins, seeds: int) -> Table:
    """Balanced validation and test parts: per bin k = min(count // 3, CAP) each, drawn by the seed; the rest trains."""
    index = bins.index(labels)
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        order = random.permutation(len(labels))
        order = order[np.argsort(index[order], kind="stable")]
        counts = np.bincount(index, minlength=bins.count)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        k = np.minimum(counts // 3, CAP)[index[order]]
        for name, chosen in (("val", rank < k), ("test", (rank >= k) & (rank < 2 * k)), ("train", rank >= 2 * k)):
            parts[name].append(random.permutation(order[chosen]))
    train = np.stack(parts["train"])
    mean, std = inputs[train].mean(1, keepdims=True), inputs[train].std(1, keepdims=True)
    scaled = {name: (inputs[np.stack(rows)] - mean) / np.where(std > 0, std, 1) for name, rows in parts.items()}
    return Table(
        {name: torch.tensor(values, dtype=torch.float32) for name, values in scaled.items()},
        {name: torch.tensor(labels[np.stack(rows)], dtype=torch.float32) for name, rows in parts.items()}, bins,
    )


def load(name: str, args) -> Table:
    if name != "sts-b":
        inputs, labels = read_table(Path(args.data_dir), name)
        width = WIDTHS[name]
        return split(inputs, labels, Bins.width(np.floor(labels.min()), labels.max() + width, width), args.seeds)
    sys.path.insert(0, str(Path(__file__).parents[1] / "sts-b-dir"))
    import tasks

    words = {}
    for line in Path(args.glove).read_text(encoding="utf-8").split("\n"):
        word, *numbers = line.split(" ")
        if numbers:
            words[word] = np.array(numbers, dtype=np.float32)
    zero = np.zeros(len(next(iter(words.values()))), dtype=np.float32)
    inputs, labels = {}, {}
    for part, file in tasks.FILES.items():
        pairs = tasks.read_pairs(Path(args.sts_b) / file, 40, lowercase=True)
        means = [[np.mean([words.get(word, zero) for word in side], axis=0) for side in pair] for pair in pairs.sentences]
        u, v = np.array(means).swapaxes(0, 1)
        inputs[part] = torch.from_numpy(np.concatenate([u, v, abs(u - v), u * v], axis=1))
        labels[part] = torch.from_numpy(pairs.scores)
    mean, std = inputs["train"].mean(0), inputs["train"].std(0)
    return Table(
        {part: ((x - mean) / std).expand(args.seeds, -1, -1) for part, x in inputs.items()},
        {part: y.expand(args.seeds, -1) for part, y in labels.items()}, Bins.uniform(0, 5, 50),
    )


# -- statistics per seed and bin ---------------------------------------------------------------------------------------


def per_bin(z: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features (S, N, D) and their bins (S, N) -> number (S, K, 1), mean and unbiased variance (S, K, D) of each bin."""
    seeds, _, width = z.shape
    at = (rows + count * torch.arange(seeds)[:, None]).reshape(-1)
    n = torch.zeros(seeds * count).index_add_(0, at, torch.ones(at.numel()))[:, None]
    flat = z.reshape(-1, width)
    mean = torch.zeros(seeds * count, width).index_add_(0, at, flat) / n.clamp(min=1)
    var = torch.zeros(seeds * count, width).index_add_(0, at, (flat - mean[at]).square()) / (n - 1).clamp(min=1)
    return n.view(seeds, count, 1), mean.view(seeds, count, width), var.view(seeds, count, width)


def over_bins(x: Tensor, weight: Tensor, window: Tensor) -> Tensor:
    """Window average over the bins of x (S, K, D) with weights (S, K, 1), mirrored at the ends; x where all weigh nothing."""
    reach, last = len(window) // 2, x.shape[1] - 1
    at = torch.arange(-reach, last + 1 + reach).abs()
    at = last - (last - at).abs()
    total, mass = torch.zeros_like(x), torch.zeros_like(weight)
    for offset, share in enumerate(window.tolist()):
        here = at[offset : offset + last + 1]
        total, mass = total + share * (weight * x)[:, here], mass + share * weight[:, here]
    return torch.where(mass > 0, total / mass.clamp(min=1e-12), x)


@dataclass
class Batch:
    """What a step knows of its samples, each (S, B): their places in the training set, bins, standardised labels, weights."""

    index: Tensor
    rows: Tensor
    targets: Tensor
    weights: Tensor


class Vanilla:
    """No FDS; the base of all variants, whose hooks do nothing."""

    observes_smoothed = False

    def __init__(self, table: Table, **knobs):
        self.rows = torch.from_numpy(np.stack([table.bins.index(y.numpy()) for y in table.labels["train"]])).long()
        self.count = table.bins.count
        window = torch.tensor(get_lds_kernel_window("gaussian", 5, 2), dtype=torch.float32)
        self.window = window / window.sum()
        self.clip = (0.1, 10.0)
        self.scale: Tensor | None = None
        for name, value in knobs.items():
            setattr(self, name, value)

    def move(self, z: Tensor, rows: Tensor) -> Tensor:
        return z

    def in_training(self, z: Tensor, batch: Batch, model: Network) -> Tensor:
        """The features of a batch that the head sees while training."""
        return self.move(z, batch.rows)

    def penalty(self, z: Tensor, batch: Batch, model: Network) -> Tensor | float:
        """What is added to the loss of each seed, (S,)."""
        return 0.0

    def predict(self, model: Network, z: Tensor) -> Tensor:
        """Predictions at test, (S, B), of features (S, B, D)."""
        return model.head(z)

    def parameters(self) -> list[Tensor]:
        """What it learns beside the network."""
        return []

    def end(self, z: Tensor, epoch: int, model) -> None:
        pass

    def gather(self, part: Tensor, rows: Tensor) -> Tensor:
        return part.gather(1, rows[:, :, None].expand(-1, -1, part.shape[2]))


class Own(Vanilla):
    """FDS of this library. `rare`: bins with fewer samples than this move; `late`: first epoch that moves."""

    momentum, late, rare, half = 0.9, 1, None, 1.0

    def end(self, z: Tensor, epoch: int, model) -> None:
        n, mean, var = per_bin(z, self.rows, self.count)
        self.n = n
        m = self.momentum if epoch else 0.0
        self.mean, self.var = (mean, var) if m == 0 else (m * self.mean + (1 - m) * mean, m * self.var + (1 - m) * var)
        seen = (n > 0).float()
        self.smoothed_mean = over_bins(self.mean, seen, self.window)
        self.smoothed_var = over_bins(self.var, (n > 1).float(), self.window)
        if epoch + 1 < self.late:
            return
        scale = torch.where(self.var > 0, (self.smoothed_var / self.var.clamp(min=1e-12)).clamp(*self.clip).sqrt(), 1.0)
        shift = self.half * (self.smoothed_mean - self.mean)
        if self.rare is not None:
            acts = n < self.rare
            scale, shift = torch.where(acts, scale, 1.0), torch.where(acts, shift, 0.0)
        self.scale, self.shift = scale, shift

    def move(self, z: Tensor, rows: Tensor) -> Tensor:
        if self.scale is None:
            return z
        mean = self.gather(self.mean, rows)
        return (z - mean) * self.gather(self.scale, rows) + mean + self.gather(self.shift, rows)


class OwnCounted(Own):
    """The window weighs each bin by its samples."""

    def end(self, z: Tensor, epoch: int, model) -> None:
        super().end(z, epoch, model)
        self.shift = over_bins(self.mean, self.n, self.window) - self.mean
        var = over_bins(self.var, (self.n - 1).clamp(min=0), self.window)
        self.scale = torch.where(self.var > 0, (var / self.var.clamp(min=1e-12)).clamp(*self.clip).sqrt(), 1.0)


class Released(Own):
    """The first release's: statistics of smoothed features, whitening with the newest, re-colouring with the ones before."""

    observes_smoothed = True

    def end(self, z: Tensor, epoch: int, model) -> None:
        n, mean, var = per_bin(z, self.rows, self.count)
        if epoch == 0:
            seen = n > 0  # bins without samples take from their neighbours, as on STS-B
            near = over_bins(mean, seen.float(), self.window), over_bins(var, seen.float(), self.window)
            self.mean, self.var = torch.where(seen, mean, near[0]), torch.where(seen, var, near[1])
            return
        everywhere = torch.ones_like(n)
        smoothed = over_bins(self.mean, everywhere, self.window), over_bins(self.var, everywhere, self.window)
        self.mean = torch.where(n > 0, 0.9 * self.mean + 0.1 * mean, self.mean)
        self.var = torch.where(n > 0, 0.9 * self.var + 0.1 * var, self.var)
        self.scale = torch.where(self.var > 0, (smoothed[1] / self.var.clamp(min=1e-12)).clamp(*self.clip).sqrt(), 1.0)
        self.shift = smoothed[0] - self.mean


class Pull(Own):
    """A regulariser instead of a movement: strength * mean((z - sg[smoothed z])^2 / variance); nothing differs at test.

    `across`: only across the head's direction, so that no prediction is pulled; `shrink`: bins are pulled by the share of
    the estimation error, v / n over v / n plus the squared distance; `linear`: the smoothing is a local line.
    """

    strength, momentum, across, shrink, means_only, counted = 0.01, 0.5, False, False, False, False

    def end(self, z: Tensor, epoch: int, model) -> None:
        super().end(z, epoch, model)
        self.spread = z.var(dim=1, keepdim=True).clamp(min=1e-6)
        weight = self.n if self.counted else (self.n > 0).float()
        self.target = over_bins(self.mean, weight, self.window)
        if self.shrink:
            error = (self.var / self.n.clamp(min=1)).mean(2, keepdim=True)
            share = error / (error + (self.target - self.mean).square().mean(2, keepdim=True)).clamp(min=1e-12)
            self.target = self.mean + share * (self.target - self.mean)

    def penalty(self, z: Tensor, batch: Batch, model: Network) -> Tensor | float:
        if self.scale is None:
            return 0.0
        rows = batch.rows
        mean, target = self.gather(self.mean, rows), self.gather(self.target, rows)
        goal = z.detach() - mean + target
        if not self.means_only:
            goal = (z.detach() - mean) * self.gather(self.scale, rows) + target
        apart = z - goal
        if self.rare is not None:
            apart = apart * (self.gather(self.n, rows) < self.rare)
        if self.across:
            w = model.weights[2].detach().transpose(1, 2)  # (S, 1, D)
            apart = apart - (apart * w).sum(2, keepdim=True) * w / w.square().sum(2, keepdim=True)
        return self.strength * (apart.square() / self.spread).mean((1, 2))

    def move(self, z: Tensor, rows: Tensor) -> Tensor:
        return z


class CrossFitted(Own):
    """Movement by statistics of the other half of the bin's samples, so that a sample's own features play no part."""

    def end(self, z: Tensor, epoch: int, model) -> None:
        halves = torch.arange(z.shape[1]) % 2
        tables = []
        for half in (0, 1):
            of = halves == half
            tables.append(per_bin(z[:, of], self.rows[:, of], self.count))
        m = self.momentum if epoch else 0.0
        new = [torch.stack([tables[0][k], tables[1][k]]) for k in (1, 2)]
        self.means, self.vars = new if m == 0 else (m * self.means + (1 - m) * new[0], m * self.vars + (1 - m) * new[1])
        self.ns = torch.stack([tables[0][0], tables[1][0]])
        self.smoothed = [over_bins(self.means[h], (self.ns[h] > 0).float(), self.window) for h in (0, 1)]
        self.halves = halves
        self.scale = torch.ones(())

    def in_training(self, z: Tensor, batch: Batch, model: Network) -> Tensor:
        if self.scale is None:
            return z
        first, rows = (batch.index % 2 == 0)[:, :, None], batch.rows  # of half 0: moved by half 1's statistics
        shift = [self.gather(torch.where((self.ns[h] > 0), self.smoothed[h] - self.means[h], 0.0), rows) for h in (0, 1)]
        return z + torch.where(first, shift[1], shift[0])


class LeaveOneOut(Own):
    """Movement of the mean by the statistics of the bin's other samples: mean without z is mean + (mean - z) / (n - 1)."""

    def move(self, z: Tensor, rows: Tensor) -> Tensor:
        if self.scale is None:
            return z
        n, mean, smoothed = (self.gather(part, rows) for part in (self.n, self.mean, self.smoothed_mean))
        others = torch.where(n > 1, mean + (mean - z.detach()) / (n - 1).clamp(min=1), smoothed)
        return z - others + smoothed


class PredictedBins(Own):
    """Movement by the bin of the network's own detached prediction, in training and at test: it knows no label."""

    def predicted(self, model: Network, z: Tensor) -> Tensor:
        with torch.no_grad():
            labels = model.head(z) * self.unit[1] + self.unit[0]
            return torch.bucketize(labels, self.edges[1:-1], right=True)

    def in_training(self, z: Tensor, batch: Batch, model: Network) -> Tensor:
        return self.move(z, self.predicted(model, z))

    def predict(self, model: Network, z: Tensor) -> Tensor:
        return model.head(self.move(z, self.predicted(model, z)))


class Distilled(Own):
    """Nothing moves; the prediction is also drawn to that of the moved features: strength * |head(z) - sg[head(moved)]|."""

    strength = 0.5

    def penalty(self, z: Tensor, batch: Batch, model: Network) -> Tensor | float:
        if self.scale is None:
            return 0.0
        teacher = model.head(Own.move(self, z, batch.rows)).detach()
        return self.strength * (batch.weights * (model.head(z) - teacher).abs()).mean(1)

    def move(self, z: Tensor, rows: Tensor) -> Tensor:
        return z


class TwoHeads(Own):
    """The network learns from moved features; the head that is used at test learns from the same features as they are."""

    def __init__(self, table: Table, **knobs):
        super().__init__(table, **knobs)
        seeds = len(self.rows)
        self.weight = torch.zeros(seeds, WIDTH, 1, requires_grad=True)
        self.bias = torch.zeros(seeds, 1, 1, requires_grad=True)

    def parameters(self) -> list[Tensor]:
        return [self.weight, self.bias]

    def penalty(self, z: Tensor, batch: Batch, model: Network) -> Tensor | float:
        return (batch.weights * (self.predict(model, z.detach()) - batch.targets).abs()).mean(1)

    def predict(self, model: Network, z: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, z, self.weight)[:, :, 0]


class TwoHeadsReleased(TwoHeads, Released):
    """The same with the first release's statistics."""


class TwoHeadsVanilla(TwoHeads):
    """The second head without any FDS: what it changes by itself."""

    observes_smoothed = False

    def end(self, z: Tensor, epoch: int, model) -> None:
        pass


VARIANTS = {
    "vanilla": (Vanilla, {}),
    "own": (Own, {}),
    "released": (Released, {}),
    "pull .01": (Pull, {"strength": 0.01}),
    "pull .1": (Pull, {"strength": 0.1}),
    "across .1, means": (Pull, {"strength": 0.1, "across": True, "means_only": True}),
    "across 1, means": (Pull, {"strength": 1.0, "across": True, "means_only": True}),
    "across 1, means, counts": (Pull, {"strength": 1.0, "across": True, "means_only": True, "counted": True}),
    "pull .1, shrunk": (Pull, {"strength": 0.1, "shrink": True}),
    "across 1, shrunk": (Pull, {"strength": 1.0, "across": True, "shrink": True}),
    "leave one out": (LeaveOneOut, {}),
    "cross-fitted": (CrossFitted, {}),
    "own, momentum 0": (Own, {"momentum": 0.0}),
    "own, rare bins only (n < 10)": (Own, {"rare": 10}),
    "own, late (half of the passes)": (Own, {"late": "half"}),
    "own, variances only": (Own, {"half": 0.0}),
    "own, half of the movement": (Own, {"half": 0.5}),
    "pull .1, means": (Pull, {"strength": 0.1, "means_only": True}),
    "pull .1, means, rare": (Pull, {"strength": 0.1, "means_only": True, "rare": 10}),
    "across 1": (Pull, {"strength": 1.0, "across": True}),
    "across 10, means": (Pull, {"strength": 10.0, "across": True, "means_only": True}),
    "own, counts in the window": (OwnCounted, {}),
    "own, predicted bins": (PredictedBins, {}),
    "own, predicted bins, momentum 0": (PredictedBins, {"momentum": 0.0}),
    "distilled .1": (Distilled, {"strength": 0.1}),
    "distilled .5": (Distilled, {"strength": 0.5}),
    "second head, own": (TwoHeads, {}),
    "second head, released": (TwoHeadsReleased, {}),
    "second head, no FDS": (TwoHeadsVanilla, {}),
}


# -- training ----------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """S networks d-32-32-1 as one: inputs (S, B, d) -> features (S, B, 32) -> predictions (S, B)."""

    def __init__(self, seeds: int, inputs: int):
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in ((inputs, WIDTH), (WIDTH, WIDTH), (WIDTH, 1)):
            bound = fan_in**-0.5
            draws = [torch.Generator().manual_seed(1000 * s + fan_out) for s in range(seeds)]
            self.weights.append(torch.stack([(2 * torch.rand(fan_in, fan_out, generator=g) - 1) * bound for g in draws]))
            self.biases.append(torch.stack([(2 * torch.rand(1, fan_out, generator=g) - 1) * bound for g in draws]))

    def encode(self, x: Tensor) -> Tensor:
        for weight, bias in zip(self.weights[:2], self.biases[:2]):
            x = torch.relu(torch.baddbmm(bias, x, weight))
        return x

    def head(self, z: Tensor) -> Tensor:
        return torch.baddbmm(self.biases[2], z, self.weights[2])[:, :, 0]


def train(table: Table, variant: str, lds: bool, seeds: int) -> dict[str, np.ndarray]:
    """Test MAE per seed, overall and few-shot, of the pass that is best on the validation part."""
    inputs, labels = table.inputs, table.labels
    count = labels["train"].shape[1]
    per_pass = -(-count // BATCH)
    passes = -(-STEPS // per_pass)
    kind, knobs = VARIANTS[variant]
    fds = kind(table, **{name: passes // 2 if value == "half" else value for name, value in knobs.items()})
    centre, spread = labels["train"].mean(1, keepdim=True), labels["train"].std(1, keepdim=True)
    targets = (labels["train"] - centre) / spread
    weights = torch.ones_like(targets)
    if lds:
        how = {"reweight": "sqrt_inv", "lds": True, "ks": 5, "sigma": 2}
        weights = torch.stack([torch.from_numpy(lds_weights(y.numpy(), table.bins, **how)) for y in labels["train"]])
    torch.manual_seed(0)
    model = Network(seeds, inputs["train"].shape[2])
    optimizer = torch.optim.Adam([*model.parameters(), *fds.parameters()], lr=RATE)
    fds.unit, fds.edges = (centre, spread), torch.tensor(np.array(table.bins.edges), dtype=torch.float32)
    generators = [torch.Generator().manual_seed(s) for s in range(seeds)]
    few = []
    for s in range(seeds):
        counts = table.bins.counts(labels["train"][s].numpy())
        few.append(torch.from_numpy(counts[table.bins.index(labels["test"][s].numpy())] < FEW * counts.max()))
    few = torch.stack(few)
    best, found = torch.full((seeds,), torch.inf), {"all": torch.zeros(seeds), "few": torch.zeros(seeds)}
    at = torch.arange(seeds)[:, None]
    for epoch in range(passes):
        order = torch.stack([torch.randperm(count, generator=g) for g in generators])
        for group in optimizer.param_groups:
            group["lr"] = RATE * (0.1 if epoch >= 0.8 * passes else 1.0)
        for index in order.split(BATCH, dim=1):
            z = model.encode(inputs["train"][at, index])
            batch = Batch(index, fds.rows[at, index], targets[at, index], weights[at, index])
            moved = fds.in_training(z, batch, model)
            loss = (batch.weights * (model.head(moved) - batch.targets).abs()).mean(1)
            loss = loss + fds.penalty(z, batch, model)
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimizer.step()
        with torch.no_grad():
            if type(fds) is not Vanilla:
                z = model.encode(inputs["train"])
                fds.end(fds.move(z, fds.rows) if fds.observes_smoothed else z, epoch, model)
            errors = {}
            for part in ("val", "test"):
                errors[part] = (fds.predict(model, model.encode(inputs[part])) * spread + centre - labels[part]).abs()
            val = errors["val"].mean(1)
            better = val < best
            best = torch.where(better, val, best)
            found["all"] = torch.where(better, errors["test"].mean(1), found["all"])
            found["few"] = torch.where(better, (errors["test"] * few).sum(1) / few.sum(1), found["few"])
    return {name: values.numpy() for name, values in found.items()}


def summary(path: Path) -> str:
    """Markdown: per weights and variant, test errors against vanilla's with the same weights and seed.

    Few-shot MAE of each table in per cent of vanilla's, seeds with fewer and more few-shot error, and the overall MAE of the
    table where it rises most.
    """
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[tuple, dict] = {}
    for row in rows:
        cell = found.setdefault((row["weights"], row["variant"], row["table"]), {"all": [], "few": []})
        for group in ("all", "few"):
            cell[group].append(float(row[group]))
    tables = [name for name in WIDTHS if any(key[2] == name for key in found)]
    head = f"| weights | variant | {' | '.join(tables)} | seeds better / worse | worst overall |"
    lines = [head, "|---" * (len(tables) + 4) + "|"]
    for weights in ("none", "lds"):
        for variant in VARIANTS:
            cells = [found.get((weights, variant, name)) for name in tables]
            if None in cells:
                continue
            changes, overall, better, worse = [], [], 0, 0
            for name, cell in zip(tables, cells):
                base = found[weights, "vanilla", name]
                mine, theirs = np.array(cell["few"]), np.array(base["few"])
                change = 100 * (mine.mean() / theirs.mean() - 1)
                changes.append(f"{mine.mean():.2f}" if variant == "vanilla" else f"{change:+.1f} %")
                overall.append(100 * (np.mean(cell["all"]) / np.mean(base["all"]) - 1))
                better, worse = better + int((mine < theirs).sum()), worse + int((mine > theirs).sum())
            last = "| | |" if variant == "vanilla" else f"| {better} / {worse} | {max(overall):+.1f} % |"
            lines.append(f"| {weights} | {variant} | {' | '.join(changes)} {last}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="data", help="the UCI tables")
    parser.add_argument("--sts_b", help="the published tsv files of STS-B-DIR")
    parser.add_argument("--glove", help="word vectors of lower-cased words")
    parser.add_argument("--tables", nargs="+", default=["airfoil", "abalone", "concrete", "real_estate"], choices=WIDTHS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--weights", nargs="+", default=["none", "lds"], choices=("none", "lds"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", default="fds_search.csv", help="one line per table, weights, variant and seed")
    parser.add_argument("--summary", action="store_true", help="only print the table of what --out holds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = Path(args.out)
    if args.summary:
        print(summary(path))
        return
    done = set()
    if path.is_file():
        with open(path, newline="") as file:
            done = {(row["table"], row["weights"], row["variant"]) for row in csv.DictReader(file)}
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        if not done:
            writer.writerow(["table", "weights", "variant", "seed", "all", "few"])
        tables = {name: load(name, args) for name in args.tables}
        for variant in args.variants:
            for name, table in tables.items():
                for weights in args.weights:
                    if (name, weights, variant) in done:
                        continue
                    began = time.perf_counter()
                    result = train(table, variant, weights == "lds", args.seeds)
                    for seed, (overall, few) in enumerate(zip(result["all"], result["few"])):
                        writer.writerow([name, weights, variant, seed, f"{overall:.5f}", f"{few:.5f}"])
                    file.flush()
                    print(f"{variant:32} {name:12} {weights:5} all {result['all'].mean():.4f} few {result['few'].mean():.4f} "
                          f"({time.perf_counter() - began:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
