"""Looks at the labels of a data set and proposes bins, kernel and re-weighting, each with its reason.

The one idea: every rule reads a number off the labels that can be checked by hand (share of the range, Silverman's
width, effective share of the sample), and the advice is the line of code that acts on it. Needs numpy and scipy only;
pictures are drawn by matplotlib.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from ..bins import Bins, as_labels, choose_bins, spread
from ..methods.lds import effective_density, mean_one
from ..metrics import SHOTS, shot_of_counts
from . import measured

_FDS_SAMPLES = 10  # the mean of 10 samples is known to a third of their sd, their variance to half of it
_REPEATS = 20  # with more distinct values than this, one value that holds much of the labels is worth a note
_BALANCED = 0.95  # effective share of the sample under "inverse" above which weights change nothing
_SEEN = {  # measured rows, in words
    "sqinv": "square-root weights", "lds": "square-root weights, LDS", "inv": "inverse weights", "fds": "FDS",
    "rrt": "head trained anew (RRT)",
    "gbdt": "boosted trees", "gbdt+lds": "boosted trees, LDS",
}
_HARSH = 0.5, 10  # effective share below which, or weight above which, "inverse" leaves too few labels to learn from


@dataclass
class Advice:
    """What `advise` found and proposes; (K,) arrays are per bin.

    `bins` and the text `bins_code` that makes them; `lds_weights` arguments `reweight`, `ks`, `sigma`; `reasons` in
    words for "bins", "kernel" and "weights"; `counts`, the smoothed `density` and the `weights` of a label in each bin
    (mean 1 over the labels); `share`, the effective share of the sample under each re-weighting; `notes`, what else
    to mind.
    """

    bins: Bins
    bins_code: str
    ks: int
    sigma: float
    reweight: str
    reasons: dict[str, str]
    counts: np.ndarray
    shots: np.ndarray
    density: np.ndarray
    weights: np.ndarray
    share: dict[str, float]
    notes: list[str] = field(default_factory=list)


def advise(labels, *, many: int = 100, few: int = 20) -> Advice:
    """Bins, kernel and re-weighting for labels (N,), each with its reason.

    Bins: the rule of `choose_bins`, as `Bins.auto`. Kernel: `Bins.window`, Silverman's rule, as `lds_weights(labels)`.
    Re-weighting: by the effective share of the sample, (sum w)^2 / (N sum w^2): "none" where "inverse" leaves it near
    1, "inverse" while it keeps half of the sample and no weight passes 10, "sqrt_inv" otherwise.

    Args:
        labels: (N,) or (N, 1) finite numbers.
        many, few: what makes a bin many-shot (more) or few-shot (fewer), as in `shot_metrics`.

    Raises:
        ValueError: no labels, or NaN or infinite ones.
    """
    labels = as_labels(labels)
    bins, code, why_bins = choose_bins(labels)
    counts = bins.counts(labels)
    ks, sigma, why_kernel = _choose_kernel(labels, bins)
    share, largest, weights = {}, {}, {"none": np.ones(bins.count)}
    for how in ("sqrt_inv", "inverse"):
        weights[how] = _bin_weights(counts, how, ks, sigma)
        used = weights[how][counts > 0]
        share[how], largest[how] = len(labels) / float(counts[counts > 0] @ used**2), float(used.max())
    reweight, why_weights = _choose_weights(share, largest, bins)
    return Advice(
        bins=bins, bins_code=code, ks=ks, sigma=sigma, reweight=reweight,
        reasons={"bins": why_bins, "kernel": why_kernel, "weights": why_weights},
        counts=counts, shots=shot_of_counts(counts, many, few),
        density=effective_density(counts, ks=ks, sigma=sigma), weights=weights[reweight], share=share,
        notes=_notes(labels, bins, share, reweight, many=many, heavy_tail="heavy tail" in why_bins),
    )


def _bin_weights(counts: np.ndarray, reweight: str, ks: int, sigma: float) -> np.ndarray:
    """What `lds_weights` gives a label of each bin (K,), also of the bins that have none yet (NaN where undefined)."""
    density = effective_density(counts, reweight=reweight, ks=ks, sigma=sigma)
    return np.where(density > 0, mean_one(density, counts), np.nan)


# -- kernel and weights ------------------------------------------------------------------------------------------------


def _choose_kernel(labels: np.ndarray, bins: Bins) -> tuple[int, float, str]:
    (ks, sigma), best = bins.window(labels), bins.kernel_width(labels)
    why = f"Silverman's rule for the density of {len(labels)} labels gives a width of {best:.2g} bins"
    if best > max(1.0, bins.count / 8):
        why += f", held to an eighth of the {bins.count} bins"
    elif best < 1:
        why += ", raised to 1 so that neighbours count at all"
    if (ks, sigma) == (5, 2):
        why += "; it is the published choice"
    return ks, sigma, why


def _choose_weights(share: dict[str, float], largest: dict[str, float], bins: Bins) -> tuple[str, str]:
    percent = {how: f"{100 * value:.0f} %" for how, value in share.items()}
    if bins.count == 1:
        return "none", "with one label value there is nothing to weigh"
    if share["inverse"] >= _BALANCED and largest["inverse"] < 2:
        return "none", (
            f"the labels are balanced: even 'inverse' weights reach {largest['inverse']:.2f} times the mean at most and keep "
            f"{percent['inverse']} of the sample effective, so they would change nothing"
        )
    if share["inverse"] >= _HARSH[0] and largest["inverse"] <= _HARSH[1]:
        return "inverse", (
            f"it keeps {percent['inverse']} of the sample effective, and the rarest labels weigh at most "
            f"{largest['inverse']:.3g} times the mean"
        )
    return "sqrt_inv", (
        f"'inverse' would leave {percent['inverse']} of the sample effective and weigh the rarest {largest['inverse']:.3g} "
        f"times the mean; the square root keeps {percent['sqrt_inv']} and weighs them {largest['sqrt_inv']:.3g} times"
    )


def _notes(
    labels: np.ndarray, bins: Bins, share: dict[str, float], reweight: str, *, many: int, heavy_tail: bool
) -> list[str]:
    notes = []
    values, counts = np.unique(labels, return_counts=True)
    commonest = counts.argmax()
    if len(values) > _REPEATS and counts[commonest] > 0.3 * len(labels):
        notes.append(
            f"{100 * counts[commonest] / len(labels):.0f} % of the labels are exactly {values[commonest]:g}: weights push a "
            "model away from them; a classifier for that value and a regressor for the others may serve better"
        )
    sentinel = _sentinel(values, counts)
    if sentinel is not None:
        notes.append(
            f"{sentinel:g} stands {counts[values == sentinel][0]} times apart from all others, as marks of missing values do: "
            f"if it is one, leave it out first, labels[labels != {sentinel:g}], and ask again"
        )
    lonely = _lonely(bins.counts(labels))
    if reweight != "none" and lonely:
        notes.append(
            f"{lonely} label{'s lie' if lonely > 1 else ' lies'} alone between empty bins: LDS raises the weight of such "
            "labels, since nothing near shares it; wider bins or clip=(low, high) on the counts limit it"
        )
    if len(labels) < 100:
        notes.append(f"{len(labels)} labels are few: counts of bins are mostly chance; check the gain by cross-validation")
    apart = np.abs(labels - np.median(labels))
    far = apart > 10 * spread(labels) if len(values) > 1 else apart > 0
    if not heavy_tail and 0 < far.sum() <= max(3, 0.001 * len(labels)):
        farthest = labels[apart.argmax()]
        notes.append(f"{far.sum()} far from all others, such as {farthest:g}: an error in the data would weigh much")
    if reweight == "sqrt_inv" and share["sqrt_inv"] < 0.3:
        notes.append("a few labels still carry much of the weight: fewer bins, or clip=(low, high) on the counts, limit it")
    fullest = bins.counts(labels).max()
    if bins.count > 1 and fullest <= many:
        limits = f"many={max(2, round(0.28 * fullest))}, few={max(2, round(0.06 * fullest))}"
        notes.append(
            f"no bin is many-shot; shot_metrics(..., {limits}) would set the limits in proportion to the fullest bin, as "
            "100 and 20 are on AgeDB-DIR"
        )
    if heavy_tail:
        notes.append(
            "for errors over equally many labels each use Bins.quantile(labels, 20) in shot_metrics, and there only: its "
            "counts are equal, so it gives no weights, and FDS wants equal widths"
        )
    return notes


def _sentinel(values: np.ndarray, counts: np.ndarray) -> float | None:
    """A value such as -999, -1 or 9999 that repeats at an end of the labels, far from the others or alone in its sign."""
    if len(values) <= _REPEATS:
        return None
    inner = values[-2] - values[1]
    for at, next_to in ((0, 1), (-1, -2)):
        value, repeats = float(values[at]), int(counts[at])
        if repeats < 3 or repeats < 0.002 * counts.sum():
            continue
        nines = re.fullmatch(r"-?9+|-1", f"{value:.0f}") is not None and value == round(value)
        alone = value < 0 <= values[1] or (abs(value) >= 99 and abs(value - values[next_to]) > 0.1 * inner)
        if nines and alone and (at == 0 or value >= 99):
            return value
    return None


def _lonely(counts: np.ndarray) -> int:
    """How many labels lie one to a bin, with empty bins on both sides."""
    padded = np.concatenate([[0], counts, [0]])
    return int(((counts == 1) & (padded[:-2] == 0) & (padded[2:] == 0)).sum())


# -- in words and as a picture -----------------------------------------------------------------------------------------


def describe(labels: np.ndarray, advice: Advice, *, many: int = 100, few: int = 20) -> str:
    """The summary of the labels and the advice with its reasons, as text of several lines."""
    counts, used = advice.counts, advice.counts > 0
    spread = np.std(labels)
    skew = float(np.mean(((labels - labels.mean()) / spread) ** 3)) if spread > 0 else 0.0
    inner = counts[used.argmax() : len(counts) - used[::-1].argmax()]
    ratio = counts.max() / counts[used].min()
    shots = []
    for shot, rule in zip(SHOTS, (f"> {many}", f"{few} to {many}", f"< {few}")):
        chosen = advice.shots == shot
        bins = (chosen & used).sum()
        percent = 100 * counts[chosen].sum() / len(labels)
        shots.append(f"{shot} ({rule}): {percent:.3g} % of the labels in {bins} bin{'' if bins == 1 else 's'}")
    lines = [
        f"labels     {len(labels)}, {len(np.unique(labels))} distinct, {labels.min():g} to {labels.max():g}; "
        f"mean {labels.mean():.4g}, median {np.median(labels):.4g}, skewness {skew:.2g}",
        f"bins       {advice.bins.count}, {(~used).sum()} empty ({(inner == 0).sum()} of them between others); "
        f"fullest {counts.max()}, emptiest used {counts[used].min()}: imbalance ratio {ratio:.3g}",
        "shots      " + "; ".join(shots),
        "",
        "advice",
        f"  bins     {advice.bins_code}",
        f"           {advice.reasons['bins']}",
    ]
    if advice.reweight == "none":
        lines += ["  weights  none", f"           {advice.reasons['weights']}"]
    else:
        lines += [
            f"  kernel   gaussian, ks {advice.ks}, sigma {advice.sigma:g}",
            f"           {advice.reasons['kernel']}",
            f"  weights  {advice.reweight}, smoothed (LDS)",
            f"           {advice.reasons['weights']}",
        ]
    if advice.reweight != "none":
        thin = int(((counts > 0) & (counts < _FDS_SAMPLES)).sum())
        lines += [
            "  fds      none to begin with; keep it only where a validation set with rare labels is the better for it over",
            "           several seeds",
            f"           {thin} of {used.sum()} used bins have fewer than the {_FDS_SAMPLES} samples that statistics need"
            + ("" if _even(advice.bins) else "; in bins of equal width: wide ones move rare features towards the crowd"),
            *_seen(),
        ]
    lines += [f"  note     {note}" for note in advice.notes]
    lines.append("  note     ask with the labels of the training part only: those of the test part must not shape the training")
    if advice.reweight != "none":
        lines.append("  note     few-shot errors fall, often while the overall one rises a little; judge by shot_metrics")
    return "\n".join(lines)


def _seen() -> list[str]:
    """What the advised and the usual did where they were measured, a line each (results/README.md)."""
    found = measured.read()
    lines = [f"           {words:<27}{found[row].words()}" for row, words in _SEEN.items() if row in found]
    heading = "few-shot and overall error beside a network without any of it, medians over what was measured"
    return [f"  seen     {heading}:", *lines]


def code(advice: Advice, read: str) -> str:
    """The advice as Python: `read` is the expression that gives the labels (NaN where missing)."""
    names = "Bins" if advice.reweight == "none" else "Bins, lds_weights"
    lines = ["import numpy as np", *(["import pandas"] if read.startswith("pandas") else [])]
    lines += [f"from imbalanced_regression import {names}", "", f"labels = {read}"]
    lines += ["labels = labels[np.isfinite(labels)]  # and the same rows of all that belongs to them"]
    lines.append(f"bins = {advice.bins_code}")
    if advice.reweight != "none":
        how = f'reweight="{advice.reweight}", ks={advice.ks}, sigma={advice.sigma:g}'
        lines.append(f"weights = lds_weights(labels, bins, {how})")
        lines.append("# any estimator: estimator.fit(features, labels, sample_weight=weights)")
    return "\n".join(lines)


def network_code(advice: Advice, labels: np.ndarray) -> str:
    """What a PyTorch model takes besides, after the lines of `code`: the head in the label's unit, and FDS as an option."""
    if advice.reweight == "none":
        return (
            "from imbalanced_regression import ScaledLinear\n\n"
            "head = ScaledLinear.of(64, labels)  # 64 features; predicts in the labels' unit"
        )
    bins, (ks, sigma), of = "bins", (advice.ks, advice.sigma), advice.bins
    if not _even(of):
        low, high = float(f"{labels.min():.6g}"), float(f"{labels.max():.6g}")
        of = Bins.uniform(low, high, 20)
        bins, (ks, sigma) = f"Bins.uniform({low}, {high}, 20)", of.window(labels)
    lines = [
        "from imbalanced_regression import FDS, ScaledLinear", "",
        "head = ScaledLinear.of(64, labels)  # 64 features; predicts in the labels' unit",
    ]
    if of.count > 1:
        lines.append(f"fds = FDS(64, bins={bins}, ks={ks}, sigma={sigma:g})  # takes targets in that unit too")
    return "\n".join(lines)


def _even(bins: Bins) -> bool:
    return bool(np.allclose(np.diff(bins.edges), np.diff(bins.edges)[0], rtol=1e-3))


def figure(advice: Advice, title: str, label: str) -> bytes:
    """Histogram with the smoothed density over it, shots shaded, and below the weight of a label in each bin; a PNG."""
    from .drawing import BAR, LINE, MUTED, SHADES, new_figure, png, shade_shots

    fig = new_figure(9, 6)
    from matplotlib.patches import Patch  # new_figure has checked that matplotlib is installed

    bins, K = advice.bins, advice.bins.count
    even = _even(bins)
    edges = bins.edges if even else np.arange(K + 1.0)  # uneven bins are drawn equally wide, with their edges written
    middle = (edges[1:] + edges[:-1]) / 2
    top, bottom = fig.subplots(2, 1, sharex=True)
    fig.suptitle(title, fontsize=11)
    for axes in (top, bottom):
        shade_shots(axes, edges, advice.shots)
        axes.set_xlim(edges[0], edges[-1])
    top.bar(middle, advice.counts, np.diff(edges), color=BAR, edgecolor="white", lw=0.4, zorder=2)
    bars = Patch(color=BAR, label="labels")
    (line,) = top.plot(middle, _mass(advice), color=LINE, lw=1.8, zorder=3, label="smoothed density (LDS)")
    top.set_ylabel("labels per bin")
    used = [Patch(facecolor=SHADES[s], edgecolor=MUTED, lw=0.5, label=f"{s}-shot") for s in SHOTS if (advice.shots == s).any()]
    top.set_ylim(0, 1.3 * max(advice.counts.max(), 1))
    top.legend(handles=[bars, line, *used], loc="upper center", ncols=5, framealpha=1, edgecolor="none", fontsize=9)
    seen = advice.counts > 0
    weights = np.where(seen, advice.weights, np.nan)  # where there are no labels there is nothing to weigh
    bottom.bar(middle, weights, np.diff(edges), color=BAR, edgecolor="white", lw=0.4, zorder=2)
    bottom.axhline(1, color=LINE, lw=1, ls="--", zorder=3)
    bottom.set_ylabel("weight of a label")
    bottom.set_ylim(0, 1.15 * np.nanmax(weights))
    how = "no re-weighting needed" if advice.reweight == "none" else (
        f"{advice.reweight}, LDS with ks {advice.ks}, sigma {advice.sigma:g}; dashed: the mean, 1")
    bottom.set_title(how, fontsize=9, loc="left")
    bottom.set_xlabel(label if even else f"{label} (bins of unequal width)")
    if not even:
        at = np.unique(np.linspace(0, K, min(K, 10) + 1).round().astype(int))
        bottom.set_xticks(at, [f"{bins.edges[i]:.3g}" for i in at])
    return png(fig)


def _mass(advice: Advice) -> np.ndarray:
    """The smoothed density on the scale of the counts: the window has maximum 1, so its sum is divided out."""
    return advice.density * advice.counts.sum() / advice.density.sum()
