"""SHHS-DIR: padding and segments change no prediction and no gradient; run in its folder."""

import torch
from datasets import collate
from models import NightEncoder

torch.manual_seed(0)


def night(t):
    return (
        {
            "eeg": torch.randn(t, 1, 1920).half(),
            "ecg": torch.randn(t, 1, 1920).half(),
            "breathing": torch.randn(t, 3, 240).half(),
        },
        50.0,
        1.0,
    )


nights = [night(t) for t in (3, 11, 7)]
model = NightEncoder(width=4, d_hid=8, segment=10**6).train()
batch = collate(nights)[0]
together = model(batch)
alone = torch.cat([model(collate([one])[0]) for one in nights])
torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
for name in ("eeg", "ecg", "breathing"):  # what stands in the padding is never looked at
    batch[name][0, 3:] = float("nan")
torch.testing.assert_close(model(batch), together, rtol=0, atol=0)
together.square().sum().backward()
first = [p.grad.clone() for p in model.parameters()]
model.zero_grad()
for signal in model.signals.values():
    signal.segment = 4
out = model(batch)
torch.testing.assert_close(out, together, rtol=1e-5, atol=1e-6)
out.square().sum().backward()
for one, other in zip(first, model.parameters()):
    torch.testing.assert_close(one, other.grad, rtol=1e-4, atol=1e-5)
