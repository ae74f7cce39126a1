"""Seeds: one from several numbers, and the generators' states, so that every draw of a run can be made again.

The one idea: nothing draws from a generator that was not seeded by (seed, epoch, rank) or less.
"""

from __future__ import annotations

import random

import numpy as np
import torch


def derive_seed(seed: int, *numbers: int) -> int:
    """One seed from several numbers, so that draws for (seed, epoch, rank) are unrelated to those of their neighbours."""
    return int(np.random.SeedSequence([seed, *numbers]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_all(seed: int) -> None:
    """Seed python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # libraries that draw from numpy's global state
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict:
    """The states of python's, numpy's and torch's generators, as plain values and tensors, for a checkpoint."""
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  # the one that `seed_all` seeds
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(gpu) for gpu in _gpus(device)],
        **({"mps": torch.mps.get_rng_state()} if device.type == "mps" else {}),
    }


def set_random_state(state: dict, device: torch.device) -> None:
    """Put the generators that a run on `device` draws from where `random_state` found them.

    Where the state is of another kind or number of accelerators, theirs are left as they are: nothing else is lost by going on
    elsewhere, see `same_generators`.
    """
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if not same_generators(state, device):
        return
    for gpu, there in zip(_gpus(device), state["cuda"]):
        torch.cuda.set_rng_state(there, gpu)
    if device.type == "mps":
        torch.mps.set_rng_state(state["mps"])


def same_generators(state: dict, device: torch.device) -> bool:
    """Whether a state is of as many accelerators, of the kind, as a run on `device` draws from."""
    return len(state["cuda"]) == len(_gpus(device)) and ("mps" in state) == (device.type == "mps")


def _gpus(device: torch.device) -> list[int]:
    if device.type != "cuda":
        return []
    return list(range(torch.cuda.device_count())) if device.index is None else [device.index]
