"""The slow twin of metrics by shot: literal loops over the formulas."""

from __future__ import annotations

import math

from .bins import bin_counts, bin_index


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
