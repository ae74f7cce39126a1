"""SHHS-DIR at full size: seconds to preprocess a night, and an estimate of the memory that a training step takes.

    python benchmarks/night_speed.py             # a night of 9 hours with 14 channels; 32 nights of 8 hours in bf16
    python benchmarks/night_speed.py --quick     # small, to see that it runs

The memory is counted, not measured on a GPU: bytes that autograd keeps for some 30-second epochs under CUDA's rules of bf16
(fake_gpu.py), scaled to 32 nights, with parameters, gradients and Adam's moments. Not counted: the GRU, the convolutions'
workspace, fragmentation, CUDA itself.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "shhs-dir")]

from fake_gpu import autocast_of_a_gpu, fake_gpu, kept_for_backward  # noqa: E402
from models import CHANNELS as SIGNALS  # noqa: E402
from models import NightEncoder  # noqa: E402
from preprocess_shhs import CHANNELS, EPOCH, convert  # noqa: E402

from imbalanced_regression.cli import ArgumentParser, guard  # noqa: E402

# as in the provider's files: label -> rate
RECORDED = {
    "SaO2": 1, "H.R.": 1, "EEG(sec)": 125, "ECG": 250, "EMG": 125, "EOG(L)": 50, "EOG(R)": 50, "EEG": 125, "THOR RES": 10,
    "ABDO RES": 10, "POSITION": 1, "LIGHT": 1, "NEW AIR": 10, "OX stat": 1,
}


SAMPLES = {"eeg": EPOCH * CHANNELS["eeg"][0], "ecg": EPOCH * CHANNELS["ecg"][0], "breathing": EPOCH * CHANNELS["airflow"][0]}


def night_seconds(hours: float) -> tuple[float, int, int]:
    """Seconds to make the file of one night; the bytes of the EDF and of the file."""
    from edfio import Edf, EdfSignal

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        edf, out = Path(folder) / "night.edf", Path(folder) / "night.npz"
        seconds = int(hours * 3600)
        Edf([
            EdfSignal(random.normal(size=seconds * rate), rate, label=label, physical_range=(-9, 9))
            for label, rate in RECORDED.items()
        ], data_record_duration=1).write(edf)
        began = time.perf_counter()
        reason = convert(edf, out, hours=hours, fill_missing=False)
        taken = time.perf_counter() - began
        assert reason is None, reason
        return taken, edf.stat().st_size, out.stat().st_size


def kept_bytes(epochs: int, segment: int = 10**9, amp: torch.dtype | None = torch.bfloat16) -> int:
    """What autograd keeps of the convolutions over `epochs` of one night on a GPU, each storage once.

    The GRU is left out: cuDNN's own memory for a vector an epoch is small beside theirs, and it has no fake.
    """
    with fake_gpu():
        model = NightEncoder(segment=segment).train()
        with kept_for_backward(model) as kept, autocast_of_a_gpu(amp):
            for name, encode in model.signals.items():
                parts = torch.randn(epochs, SIGNALS[name], SAMPLES[name]).split(segment)
                for part in parts:
                    encode._again(part) if len(parts) > 1 else encode.cnn(part)
    return sum(kept.values())


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    args = parser.parse_args()
    hours, few = (0.2, 4) if args.quick else (9.0, 24)
    taken, before, after = night_seconds(hours)
    print(f"one night of {hours:g} h, {len(RECORDED)} channels: {taken:.1f} s ({before / 1e6:.0f} MB -> {after / 1e6:.1f} MB)")

    batch, epochs, segment = 32, 960, 2048
    each, plain = ((kept_bytes(2 * few, amp=amp) - kept_bytes(few, amp=amp)) / few for amp in (torch.bfloat16, None))
    recomputed = (kept_bytes(4 * few, few) - kept_bytes(2 * few, few)) / (2 * few)
    inputs = 2 * sum(channels * SAMPLES[name] for name, channels in SIGNALS.items())
    weights = 4 * 4 * sum(p.numel() for p in NightEncoder().parameters())
    whole = batch * epochs * (each + inputs) + weights
    cut = batch * epochs * (recomputed + inputs) + segment * each + weights
    what = f"{batch} nights of {epochs} epochs in bf16, estimated"
    print(f"{what}: {whole / 1e9:.1f} GB; with --segment {segment}: {cut / 1e9:.1f} GB")
    print(f"of {segment} epochs are kept {segment * each / 1e9:.2f} GB in bf16, {segment * plain / 1e9:.2f} GB without")


if __name__ == "__main__":
    guard(main)
