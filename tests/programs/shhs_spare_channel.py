"""SHHS-DIR: a spare channel serves where the first is flat; run in its folder."""

import sys
from pathlib import Path

import numpy as np
from edfio import Edf, EdfSignal
from preprocess_shhs import read_night

time = np.arange(150 * 64) / 64


def channel(label, data):
    return EdfSignal(
        data[::8] if "RES" in label or "AIR" in label else data,
        8 if "RES" in label or "AIR" in label else 64,
        label=label,
        physical_range=(-2, 2),
    )


wave, flat = np.sin(2 * np.pi * time), np.zeros(len(time))
others = [channel(label, wave) for label in ("EKG", "NEW AIR", "THOR RES", "ABDO RES")]
path = Path(sys.argv[1]) / "night.edf"
Edf([channel("EEG", flat), channel("EEG(sec)", wave), *others]).write(path)
night = read_night(path, 8)
assert night["eeg"].shape == (5, 1, 1920) and night["eeg"].std() > 0.3 and night["breathing"].shape == (5, 3, 240)
Edf([channel("EEG", flat), channel("EEG2", flat), *others]).write(path)
try:
    raise SystemExit(f"read {read_night(path, 8).keys()}")
except ValueError as error:
    assert "eeg is flat (channels: EEG, EEG2, EKG" in str(error), error
night = read_night(path, 8, fill_missing=True)
assert not night["eeg"].any() and night["ecg"].std() > 0.3
