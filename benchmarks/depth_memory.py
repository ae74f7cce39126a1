"""An estimate, made on a CPU, of the GPU memory that one training step of NYUD2-DIR takes: no measurement on a GPU.

    python benchmarks/depth_memory.py            # batch 32 at 228 x 304, bf16, with FDS; seconds

Counted are the bytes that autograd keeps for the backward pass at two small batch sizes, scaled linearly to `--batch_size`,
and parameters, gradients and Adam's two moments. Tensors lie on a fake GPU, under CUDA's rules of autocast (fake_gpu.py). Not
counted: the workspace of convolutions, fragmentation, CUDA itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "nyud2-dir")]

from fake_gpu import autocast_of_a_gpu, fake_gpu, kept_for_backward  # noqa: E402  # found through the path set above
from loss import LOSSES  # noqa: E402
from models.net import make_model, output_size  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--height", type=int, default=228)
    parser.add_argument("--width", type=int, default=304)
    parser.add_argument("--fp32", action="store_true", help="without mixed precision")
    args = parser.parse_args()
    with fake_gpu():
        model = make_model(args.model, fds=True)
        model.fds.num_samples_tracked.fill_(1)
        one, two = (kept(model, batch, args) for batch in (1, 2))
    activations = one + (two - one) * (args.batch_size - 1)
    state = sum(p.numel() * 4 * 4 for p in model.parameters())
    print(f"{args.model}, batch {args.batch_size}, {args.height} x {args.width}, {'fp32' if args.fp32 else 'bf16'}, with FDS:")
    print(f"  kept for the backward pass    {activations / 1e9:6.2f} GB ({(two - one) / 1e6:.0f} MB an image)")
    print(f"  parameters, gradients, Adam   {state / 1e9:6.2f} GB")
    print(f"  together                      {(activations + state) / 1e9:6.2f} GB: an estimate, not a measurement")


def kept(model: torch.nn.Module, batch: int, args) -> int:
    """Bytes of the different storages that one forward pass saves, without the parameters."""
    images = torch.randn(batch, 3, args.height, args.width)
    depth = 1 + 8 * torch.rand(batch, 1, *output_size(args.height, args.width))
    model.train()
    with kept_for_backward(model) as storages:
        with autocast_of_a_gpu(None if args.fp32 else torch.bfloat16):
            preds, _ = model(images, depth, 1)
        LOSSES["mse"](preds.float(), depth, torch.ones_like(depth))
    return sum(storages.values())


if __name__ == "__main__":
    main()
