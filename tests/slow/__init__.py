"""The slow twin: bins, windows, LDS, FDS, losses and metrics a second time, as literal loops over the formulas.

Written from the paper (arXiv 2102.09554) and the project's decisions, never from the library: where the two agree,
both were read the same way. Everything is float64, one sample at a time. K bins, N samples, D features, h half window.
The last section holds the per-label torch loops that `benchmarks/methods_speed.py` times the library against.
"""

from __future__ import annotations

import math

import numpy as np
import torch

# Bins


def bin_index(label, edges) -> int:
    """The bin of the last edge <= label, compared in float32 unless float32 merges two edges; the ends clamp."""
    return index_among(label, *compared(edges))


def compared(edges):
    """The edges as they are compared, and the type that labels are rounded to first."""
    narrow = [float(np.float32(edge)) for edge in edges]
    if all(narrow[i] < narrow[i + 1] for i in range(len(narrow) - 1)):
        return narrow, np.float32
    return [float(edge) for edge in edges], np.float64


def index_among(label, edges, kind) -> int:
    label, b = float(kind(label)), 0
    while b + 1 < len(edges) - 1 and edges[b + 1] <= label:
        b += 1
    return b


def bin_counts(labels, edges) -> list[int]:
    counts = [0] * (len(edges) - 1)
    for label in labels:
        counts[bin_index(label, edges)] += 1
    return counts


# Windows


def reflect_with_edge(i: int, n: int) -> int:
    """d c b a | a b c d | d c b a: scipy's "reflect"."""
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i


def reflect_without_edge(i: int, n: int) -> int:
    """d c b | a b c d | c b a: torch's "reflect"."""
    if i < 0:
        i = -i
    return i if i < n else 2 * (n - 1) - i


def kernel_window(kernel: str, ks: int, sigma: float) -> list[float]:
    """(ks,) values with maximum 1."""
    h = ks // 2
    if kernel == "gaussian":  # a unit impulse under a gaussian cut at four sigma, the array reflected
        radius = int(4.0 * sigma + 0.5)
        bell = [math.exp(-0.5 * (x / sigma) ** 2) for x in range(-radius, radius + 1)]
        window = []
        for i in range(ks):
            value = 0.0
            for x in range(-radius, radius + 1):
                if reflect_with_edge(i + x, ks) == h:
                    value += bell[x + radius] / sum(bell)
            window.append(value)
    elif kernel == "triang":
        window = [1 - abs(x) / (h + 1) for x in range(-h, h + 1)]
    elif kernel == "laplace":
        window = [math.exp(-abs(x) / sigma) / (2 * sigma) for x in range(-h, h + 1)]
    return [value / max(window) for value in window]


# LDS


def effective_density(
    counts,
    reweight="inverse",
    lds=True,
    kernel="gaussian",
    ks=5,
    sigma=2,
    clip=None,
    boundary="renormalize",
    truncate=False,
) -> list[float]:
    """(K,) smoothed g(n): g(n) = sqrt(n) or n, clipped; then the window laid over every bin."""
    base = []
    for n in counts:
        n = n if clip is None else min(max(n, clip[0]), clip[1])
        base.append(math.sqrt(n) if reweight == "sqrt_inv" else n)
    if not lds:
        return [float(value) for value in base]
    window, h, K = kernel_window(kernel, ks, sigma), ks // 2, len(base)
    density = []
    for b in range(K):
        total, mass_inside = 0.0, 0.0
        for x in range(-h, h + 1):
            if 0 <= b + x < K:
                total += window[x + h] * base[b + x]
                mass_inside += window[x + h]
            elif boundary == "reflect":
                total += window[x + h] * base[reflect_with_edge(b + x, K)]
        if boundary == "renormalize":
            total /= mass_inside
        if truncate and reweight == "inverse":
            total = int(total)
        density.append(float(total))
    return density


def lds_weights(labels, edges, **how) -> list[float]:
    """(N,) one over the density of the label's bin, scaled to mean 1."""
    edges, kind = compared(edges)
    counts = [0] * (len(edges) - 1)
    for label in labels:
        counts[index_among(label, edges, kind)] += 1
    density = effective_density(counts, **how)
    weights = [1 / density[index_among(label, edges, kind)] for label in labels]
    total = sum(weights)
    return [weight * len(weights) / total for weight in weights]


def weights_per_output(labels, edges, **how) -> list[list[float]]:
    """(N, M): every output weighed by its own density."""
    columns = [lds_weights([row[m] for row in labels], edges[m], **how) for m in range(len(edges))]
    return [[columns[m][i] for m in range(len(edges))] for i in range(len(labels))]


def joint_weights(
    labels, edges, reweight="sqrt_inv", lds=True, kernel="gaussian", ks=5, sigma=2, clip=None, boundary="renormalize"
) -> list[float]:
    """(N,) one over the smoothed g(n) of the cell of both outputs: labels (N, 2), the kernel a product of two windows."""
    K, L = len(edges[0]) - 1, len(edges[1]) - 1
    counts = [[0] * L for _ in range(K)]
    cells = [(bin_index(row[0], edges[0]), bin_index(row[1], edges[1])) for row in labels]
    for a, b in cells:
        counts[a][b] += 1
    base = [[0.0] * L for _ in range(K)]
    for a in range(K):
        for b in range(L):
            n = counts[a][b] if clip is None else min(max(counts[a][b], clip[0]), clip[1])
            base[a][b] = math.sqrt(n) if reweight == "sqrt_inv" else float(n)
    window, h = (kernel_window(kernel, ks, sigma), ks // 2) if lds else ([1.0], 0)
    weights = []
    for a, b in cells:
        total, mass_inside = 0.0, 0.0
        for x in range(-h, h + 1):
            for y in range(-h, h + 1):
                product = window[x + h] * window[y + h]
                if 0 <= a + x < K and 0 <= b + y < L:
                    total += product * base[a + x][b + y]
                    mass_inside += product
                elif boundary == "reflect":
                    total += product * base[reflect_with_edge(a + x, K)][reflect_with_edge(b + y, L)]
        if boundary == "renormalize" and lds:
            total /= mass_inside
        weights.append(1 / total)
    return [weight * len(weights) / sum(weights) for weight in weights]


def age_weights(ages) -> list[float]:
    """(N,) the same for whole ages as one writes it first: sqrt_inv, LDS 5/2, ages over 120 into 120, zeros outside."""
    counts = dict.fromkeys(range(121), 0)
    for age in ages:
        counts[min(120, int(age))] += 1
    roots = [math.sqrt(n) for n in counts.values()]
    window = kernel_window("gaussian", 5, 2)
    density = []
    for b in range(121):
        density.append(sum(window[x + 2] * roots[b + x] for x in range(-2, 3) if 0 <= b + x < 121))
    weights = [1 / density[min(120, int(age))] for age in ages]
    scale = len(weights) / sum(weights)
    return [scale * weight for weight in weights]


# FDS


def epoch_statistics(features, rows, count):
    """Per row: number of samples, mean (D,), unbiased variance (D,), biased when there is one sample."""
    D = len(features[0])
    numbers, means, variances = [0] * count, [[0.0] * D for _ in range(count)], [[0.0] * D for _ in range(count)]
    for b in range(count):
        mine = [z for z, row in zip(features, rows) if row == b]
        numbers[b] = n = len(mine)
        if n == 0:
            continue
        for d in range(D):
            means[b][d] = mean = sum(z[d] for z in mine) / n
            variances[b][d] = sum((z[d] - mean) ** 2 for z in mine) / (n - 1 if n > 1 else 1)
    return numbers, means, variances


def smooth_over_bins(values, seen, window):
    """Convolve a (count, D) table over its rows: reflected ends, rows never seen weigh nothing, the rest sums to 1.

    A row whose whole window is unseen keeps its own values.
    """
    count, D, h = len(values), len(values[0]), len(window) // 2
    smoothed = []
    for b in range(count):
        total, mass = [0.0] * D, 0.0
        for x in range(-h, h + 1):
            i = reflect_without_edge(b + x, count)
            if seen[i]:
                mass += window[x + h]
                for d in range(D):
                    total[d] += window[x + h] * values[i][d]
        smoothed.append([t / mass for t in total] if mass > 0 else list(values[b]))
    return smoothed


def calibrate(z, m1, v1, m2, v2, clip):
    """One sample (D,) from mean m1, variance v1 to m2, v2; a channel without variance stays as it is."""
    out = []
    for d in range(len(z)):
        if v1[d] == 0 or v2[d] < 0:
            out.append(z[d])
        else:
            factor = min(max(v2[d] / v1[d], clip[0]), clip[1])
            out.append((z[d] - m1[d]) * math.sqrt(factor) + m2[d])
    return out


class FDS:
    """Feature distribution smoothing over `count` rows; the caller says which row each sample belongs to."""

    def __init__(self, dim, count, start_update=0, start_smooth=1, window=None, momentum=0.9, clip=(0.1, 10.0)):
        window = window or kernel_window("gaussian", 5, 2)
        self.window = [value / sum(window) for value in window]
        self.count, self.momentum, self.clip = count, momentum, clip
        self.start_update, self.start_smooth = start_update, start_smooth
        self.seen, self.varied = [0] * count, [False] * count  # a bin of one sample has a mean and no variance
        self.mean, self.var = [[0.0] * dim for _ in range(count)], [[1.0] * dim for _ in range(count)]
        self.smoothed_mean, self.smoothed_var = self.mean, self.var

    def finish_epoch(self, features, rows, epoch):
        if epoch < self.start_update:
            return
        numbers, means, variances = epoch_statistics(features, rows, self.count)
        for b in range(self.count):
            n = numbers[b]
            if n == 0:
                continue  # nothing new is known of this bin
            if self.seen[b] == 0 or epoch == self.start_update:
                keep = 0.0
            elif self.momentum is None:
                keep = self.seen[b] / (self.seen[b] + n)
            else:
                keep = self.momentum
            if not self.varied[b] or epoch == self.start_update:
                keep_var = 0.0  # no variance is known yet: the epoch's is taken whole, 0 from one sample
            elif n == 1:
                keep_var = 1.0  # one sample says nothing of the variance
            else:
                keep_var = keep
            self.seen[b] += n
            for d in range(len(means[b])):
                self.mean[b][d] = (1 - keep) * means[b][d] + keep * self.mean[b][d]
                self.var[b][d] = (1 - keep_var) * variances[b][d] + keep_var * self.var[b][d]
            self.varied[b] = any(self.var[b])
        self.smoothed_mean = smooth_over_bins(self.mean, self.seen, self.window)
        self.smoothed_var = smooth_over_bins(self.var, self.varied, self.window)

    def smooth(self, features, rows, epoch):
        out = []
        for z, b in zip(features, rows):
            if epoch < self.start_smooth or self.seen[b] == 0:
                out.append(list(z))
            else:
                after = self.smoothed_mean[b], self.smoothed_var[b]
                out.append(calibrate(z, self.mean[b], self.var[b], *after, self.clip))
        return out


# Losses


def loss(name, predictions, targets, weights=None, activate="sigmoid", beta=None, gamma=1) -> float:
    """Mean of w * l(e) over the elements of flat lists; `name` as in "focal_mse"."""
    beta = beta if beta is not None else (1.0 if name == "huber" else 0.2)
    total = 0.0
    for i in range(len(predictions)):
        e = predictions[i] - targets[i]
        if name.endswith("mse"):
            value = e**2
        elif name.endswith("l1"):
            value = abs(e)
        else:
            value = 0.5 * e**2 / beta if abs(e) < beta else abs(e) - 0.5 * beta
        if name.startswith("focal"):
            if activate == "sigmoid":
                f = 2 / (1 + math.exp(-beta * abs(e))) - 1
            else:
                f = math.tanh(beta * abs(e))
            value *= f**gamma
        total += value * (1.0 if weights is None else weights[i])
    return total / len(predictions)


def concordance(preds, targets, weights=None) -> float:
    """Lin's concordance correlation with population moments."""
    total = sum(weights) if weights else len(preds)
    weights = weights or [1.0] * len(preds)
    means = [sum(w * x for w, x in zip(weights, values)) / total for values in (preds, targets)]
    spreads = [
        sum(w * (x - mean) ** 2 for w, x in zip(weights, values)) / total for values, mean in zip((preds, targets), means)
    ]
    together = sum(w * (p - means[0]) * (y - means[1]) for w, p, y in zip(weights, preds, targets)) / total
    return 2 * together / (spreads[0] + spreads[1] + (means[0] - means[1]) ** 2)


# Metrics


def shot(train_count, many=100, few=20) -> str:
    if train_count > many:
        return "many"
    if train_count < few:
        return "few"
    return "medium"


def shots_in_order(train_counts, many=100, few=20) -> list[str]:
    """Bins that no training label is in are groups of their own: between others, or beyond them all."""
    shots = []
    for b, count in enumerate(train_counts):
        if count > 0:
            shots.append(shot(count, many, few))
        elif sum(train_counts[:b]) > 0 and sum(train_counts[b + 1 :]) > 0:
            shots.append("zero_interp")
        else:
            shots.append("zero_extrap")
    return shots


def regression_numbers(errors) -> dict[str, float]:
    n = len(errors)
    if n == 0:
        return {"mse": math.nan, "rmse": math.nan, "l1": math.nan, "gmean": math.nan, "bias": math.nan, "count": 0}
    logs = 0.0
    for e in errors:
        logs += math.log(abs(e) if e != 0 else 1e-10)
    mse = sum(e**2 for e in errors) / n
    return {
        "mse": mse,
        "rmse": math.sqrt(mse),
        "l1": sum(abs(e) for e in errors) / n,
        "gmean": math.exp(logs / n),
        "bias": sum(errors) / n,
        "count": n,
    }


def mean_over_bins(per_bin, names) -> dict[str, float]:
    """Each non-empty bin counts once."""
    there = [numbers for numbers in per_bin if numbers["count"] > 0]
    return {name: sum(numbers[name] for numbers in there) / len(there) for name in names}


def shot_metrics(preds, labels, train_labels, edges, many=100, few=20, shots=None) -> dict:
    train_counts = bin_counts(train_labels, edges)
    shots = shots if shots is not None else shots_in_order(train_counts, many, few)
    groups = {"overall": [], "many": [], "medium": [], "few": [], "zero_interp": [], "zero_extrap": []}
    bins = [[] for _ in train_counts]
    for pred, label in zip(preds, labels):
        b = bin_index(label, edges)
        for group in ("overall", shots[b]):
            groups[group].append(pred - label)
        bins[b].append(pred - label)
    result = {group: regression_numbers(errors) for group, errors in groups.items()}
    per_bin = [regression_numbers(errors) for errors in bins]
    result["balanced"] = mean_over_bins(per_bin, ("l1", "mse"))
    result["per_bin"] = {
        "center": [(edges[b] + edges[b + 1]) / 2 for b in range(len(bins))],
        "train_count": train_counts,
        "count": [numbers["count"] for numbers in per_bin],
        "l1": [numbers["l1"] for numbers in per_bin],
        "bias": [numbers["bias"] for numbers in per_bin],
        "shot": shots,
    }
    return result


def pearson(xs, ys) -> float:
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - mx) * (y - my) for x, y in zip(xs, ys))
    return above / math.sqrt(sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys))


def spearman(xs, ys) -> float:
    def ranks(values):  # ties share the mean of their places
        return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]

    return pearson(ranks(xs), ranks(ys))


def depth_numbers(pairs) -> dict[str, float]:
    """(prediction, depth) pixels in metres; predictions below 0.001 count as 0.001 in log10 and delta."""
    names = ("rmse", "absrel", "log10", "l1", "delta1", "delta2", "delta3", "mse")
    n = len(pairs)
    if n == 0:
        return {**dict.fromkeys(names, math.nan), "count": 0}
    total = dict.fromkeys(names, 0.0)
    for p, y in pairs:
        positive = p if p > 0.001 else 0.001
        total["mse"] += (p - y) ** 2
        total["l1"] += abs(p - y)
        total["absrel"] += abs(p - y) / y
        total["log10"] += abs(math.log10(positive) - math.log10(y))
        for k in (1, 2, 3):
            total[f"delta{k}"] += max(positive / y, y / positive) < 1.25**k
    result = {name: value / n for name, value in total.items()}
    return {**result, "rmse": math.sqrt(result["mse"]), "count": n}


def depth_metrics(preds, depths, mask, edges, shots) -> dict:
    groups = {"overall": [], "many": [], "medium": [], "few": []}
    bins = [[] for _ in shots]
    for p, y, counts in zip(preds, depths, mask):
        if not counts:
            continue
        b = bin_index(y, edges)
        for group in (groups["overall"], groups[shots[b]], bins[b]):
            group.append((p, y))
    result = {group: depth_numbers(pairs) for group, pairs in groups.items()}
    result["per_bin"] = [depth_numbers(pairs) for pairs in bins]
    result["balanced"] = mean_over_bins(result["per_bin"], ("l1", "mse"))
    return result


# Per-label loops in torch, as one writes FDS first: for the benchmark


def smooth_per_label(features, labels, mean, var, smoothed_mean, smoothed_var, clip=(0.1, 10.0)):
    """(N, D) features, labels (N,) that are row numbers: per label: pick its rows, move them, put them back."""
    out = features.clone()
    for label in torch.unique(labels):
        b = int(label)
        mine = labels == label
        factor = torch.clamp(smoothed_var[b] / var[b], clip[0], clip[1])
        moved = (features[mine] - mean[b]) * torch.sqrt(factor) + smoothed_mean[b]
        out[mine] = torch.where(var[b] == 0, features[mine], moved)
    return out


def statistics_per_label(batches, count):
    """Keep all features, join them, then mean and unbiased variance per label: (count,), (count, D), (count, D)."""
    kept_features, kept_labels = [], []
    for features, labels in batches:
        kept_features.append(features)
        kept_labels.append(labels)
    features, labels = torch.cat(kept_features), torch.cat(kept_labels)
    numbers = torch.zeros(count, dtype=torch.int64)
    means, variances = torch.zeros(count, features.shape[1]), torch.ones(count, features.shape[1])
    for label in torch.unique(labels):
        b = int(label)
        mine = features[labels == label]
        numbers[b] = len(mine)
        means[b] = torch.mean(mine, 0)
        variances[b] = torch.var(mine, 0, unbiased=len(mine) > 1)
    return numbers, means, variances
