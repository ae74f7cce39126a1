"""ConR as literal loops over anchors, positives and confused negatives."""

from __future__ import annotations

import math


def cosine(a, b) -> float:
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b)) / lengths if lengths > 0 else 0.0


def per_anchor(features, labels, preds, weights=None, within=1.0, temperature=0.2, push=0.01) -> list[float]:
    losses, weights = [], weights or [1.0] * len(labels)
    for i in range(len(labels)):
        positives, negatives = [], []
        for j in range(len(labels)):
            if j != i and abs(labels[i] - labels[j]) <= within:
                positives.append(j)
            elif j != i and abs(preds[i] - preds[j]) <= within:
                negatives.append(j)
        if not positives or not negatives:
            losses.append(0.0)
            continue
        s = [cosine(features[i], other) / temperature for other in features]
        total = sum(math.exp(s[j]) for j in positives)
        total += sum(weights[i] * math.exp(push * abs(labels[i] - labels[j])) * math.exp(s[j]) for j in negatives)
        losses.append(-weights[i] / len(positives) * sum(s[j] - math.log(total) for j in positives))
    return losses


def loss(*args, **how) -> float:
    losses = per_anchor(*args, **how)
    return sum(losses) / len(losses)
