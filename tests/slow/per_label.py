"""Per-label torch loops, which `benchmarks/methods_speed.py` times the library against."""

from __future__ import annotations

import torch


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
