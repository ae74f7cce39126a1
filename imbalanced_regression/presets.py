"""Published schedules: batch size, rate, epochs and knobs of a method on a benchmark, where they are not the benchmark's own.

The one idea: without a preset all methods share a benchmark's schedule, so that a comparison compares methods; a preset is
for whoever wants a method as its paper ran it. It names values of flags, switches no method on, and any flag overrules it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Values of train.py's flags by name, and where they are published; `also` says what flags cannot, or leave to the user."""

    flags: dict[str, Any]
    source: str
    also: str = field(default="")

    def __str__(self) -> str:
        values = ", ".join(f"{name} {value}" for name, value in self.flags.items())
        return f"{values} ({self.source}{'; ' if self.also else ''}{self.also})"


_RANKSIM = "RankSim, ICML 2022"
_CONR = "ConR, ICLR 2024, arXiv 2309.06651"
_BALANCED = "Balanced MSE, CVPR 2022, arXiv 2203.16427"
_PUETZ = "the comparison by Puetz et al., 2026"
_RRT = "the head alone, on the vanilla model: add --retrain_fc --pretrained CKPT"
_RNC = {
    "model": "resnet18", "optimizer": "sgd", "lr": 0.5, "momentum": 0.9, "weight_decay": 1e-4, "epoch": 400, "batch_size": 256,
    "cosine": 1e-3,
}
_UVOTE = {"batch_size": 64, "lr": 1e-3, "epoch": 90, "schedule": [60, 80]}

# benchmark's folder -> method, by its name in choices -> preset
PRESETS: dict[str, dict[str, Preset]] = {
    "agedb-dir": {
        "ranksim": Preset(
            {"batch_size": 64, "lr": 2.5e-4, "epoch": 120, "schedule": [60, 80], "ranksim_strength": 100.0,
             "ranksim_interpolation": 2.0}, _RANKSIM,
        ),
        "conr": Preset(
            {"batch_size": 64, "lr": 2.5e-4, "epoch": 120, "conr_strength": 4.0, "conr_within": 1.0, "conr_push": 0.01,
             "conr_temperature": 0.2}, _CONR,
        ),
        "bmc": Preset(
            {"lr": 1e-4, "epoch": 10, "schedule": [], "bmc_sigma": 10.0, "bmc_learn": True, "bmc_lr": 1e-2}, _PUETZ, _RRT,
        ),
        "bni": Preset(
            {"lr": 1e-4, "epoch": 10, "schedule": [], "bni_sigma": 10.0, "bni_learn": True, "bni_lr": 1e-3}, _PUETZ, _RRT,
        ),
        "rnc": Preset(
            {**_RNC, "rnc_temperature": 2.0, "then_epochs": 100, "then_lr": 0.05, "then_batch_size": 64},
            "Rank-N-Contrast, NeurIPS 2023, arXiv 2210.01189",
            "its crops, colour jitter and grey images are not among the benchmark's augmentations",
        ),
        "ascent": Preset(
            {**_RNC, "lr": 0.2, "ascent": 0.2}, "BSAM, ICCV 2025, arXiv 2508.16973", "with --reweight sqrt_inv",
        ),
        "uvote": Preset({**_UVOTE, "uvote_heads": 2}, "UVOTE, GCPR 2024, arXiv 2305.15178"),
        "nig": Preset(
            {"batch_size": 64, "lr": 1e-3, "epoch": 90, "lds_ks": 5, "lds_sigma": 2.0, "fds_ks": 5, "fds_sigma": 2.0},
            "VIR, NeurIPS 2023, arXiv 2306.06599", "with --reweight sqrt_inv --lds --fds",
        ),
    },
    "imdb-wiki-dir": {
        "ranksim": Preset(
            {"batch_size": 256, "lr": 1e-3, "epoch": 90, "ranksim_strength": 100.0, "ranksim_interpolation": 2.0}, _RANKSIM,
        ),
        "bmc": Preset(
            {"lr": 1e-4, "epoch": 10, "schedule": [], "bmc_sigma": 10.0, "bmc_learn": True, "bmc_lr": 1e-2}, _BALANCED, _RRT,
        ),
        "gai": Preset(
            {"lr": 1e-4, "epoch": 10, "schedule": [], "gai_sigma": 10.0, "gai_learn": True, "gai_lr": 1e-2,
             "gai_components": 8}, _BALANCED, _RRT,
        ),
        "bni": Preset(
            {"lr": 1e-4, "epoch": 10, "schedule": [], "bni_sigma": 10.0, "bni_learn": True, "bni_lr": 1e-2}, _BALANCED, _RRT,
        ),
        "ascent": Preset(
            {**_RNC, "lr": 0.2, "ascent": 0.05}, "BSAM, ICCV 2025, arXiv 2508.16973", "with --reweight sqrt_inv",
        ),
        "uvote": Preset({**_UVOTE, "uvote_heads": 3}, "UVOTE, GCPR 2024, arXiv 2305.15178"),
    },
    "sts-b-dir": {
        "ranksim": Preset(
            {"batch_size": 16, "lr": 2.5e-4, "max_vals": 300, "patience": 30, "ranksim_strength": 3e-4,
             "ranksim_interpolation": 2.0}, _RANKSIM,
        ),
        "uvote": Preset({"uvote_heads": 3}, "UVOTE, GCPR 2024, arXiv 2305.15178"),
    },
    "nyud2-dir": {
        "gai": Preset({"epochs": 10, "gai_sigma": 1.0, "gai_components": 16}, _BALANCED),
        "bni": Preset({"epochs": 10, "bni_sigma": 1.0}, _BALANCED),
        "conr": Preset(
            {"epochs": 20, "conr_strength": 0.2, "conr_within": 0.2, "conr_push": 0.2, "conr_temperature": 0.2}, _CONR,
            "published with an image's mean depth as its label, here with depths of pixels",
        ),
    },
}


def find(benchmark: str, method: str) -> Preset:
    """The preset of a method on a benchmark. Raises ValueError with those that the benchmark has."""
    there = PRESETS.get(benchmark, {})
    if method not in there:
        others = f"those there are: {', '.join(there)}" if there else "it has none of any method"
        raise ValueError(f"--preset: expected a method with a published schedule on {benchmark or 'this benchmark'}, found "
                         f"{method!r}; {others}")
    return there[method]
