"""The slow twin of LDS: literal loops over the formulas."""

from __future__ import annotations

import math

from .bins import bin_index, compared, index_among, kernel_window, reflect_with_edge


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
