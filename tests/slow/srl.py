"""SRL as literal loops: its three parts, and its state from batch to batch and epoch to epoch."""

from __future__ import annotations

import math


def unit(row) -> list[float]:
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row] if length > 0 else list(row)


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a, b))


def enveloping(centroids, points) -> float:
    return 1 - sum(max(dot(u, unit(c)) for c in centroids) for u in points) / len(points)


def homogeneity(centroids, labels) -> float:
    total = 0.0
    for k in range(len(centroids) - 1):
        a, b = unit(centroids[k]), unit(centroids[k + 1])
        total += sum((x - y) ** 2 for x, y in zip(a, b)) / (labels[k + 1] - labels[k])
    return total


def contrastive(features, index, centroids, temperature) -> float:
    total = 0.0
    for row, own in zip(features, index):
        logits = [dot(unit(row), unit(c)) / temperature for c in centroids]
        top = max(logits)
        total -= logits[own] - top - math.log(sum(math.exp(value - top) for value in logits))
    return total / len(features)


class SRL:
    """Bins by number; `centers` are their labels."""

    def __init__(self, centers, points, envelope=0.1, homogeneity=0.1, contrast=1.0, temperature=0.1, momentum=0.9):
        self.centers, self.points, self.momentum, self.temperature = centers, points, momentum, temperature
        self.strengths = envelope, homogeneity, contrast
        self.surrogates, self.seen = {}, []

    def loss(self, features, index) -> float:
        self.seen += list(zip(features, index))
        if not self.surrogates:
            return 0.0
        centroids, labels, place = [], [], {}
        for k, label in enumerate(self.centers):
            own = [unit(row) for row, b in zip(features, index) if b == k]
            if own:
                centroid = unit([sum(column) / len(own) for column in zip(*own)])
            elif k in self.surrogates:
                centroid = self.surrogates[k]
            else:
                continue
            place[k] = len(centroids)
            centroids.append(centroid)
            labels.append(label)
        envelope, homogenous, contrast = self.strengths
        return (
            envelope * enveloping(centroids, self.points)
            + homogenous * homogeneity(centroids, labels)
            + contrast * contrastive(features, [place[k] for k in index], centroids, self.temperature)
        )

    def finish_epoch(self) -> None:
        for k in range(len(self.centers)):
            own = [unit(row) for row, b in self.seen if b == k]
            if own:
                new = unit([sum(column) / len(own) for column in zip(*own)])
                old = self.surrogates.get(k)
                a = self.momentum
                self.surrogates[k] = new if old is None else unit([a * x + (1 - a) * y for x, y in zip(old, new)])
        self.seen = []
