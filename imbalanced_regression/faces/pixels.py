"""An image file of a face -> pixels, and the random crop and flip of training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..images import BadImage, as_shown


def load_face(path: str | Path, size: int) -> Tensor:
    """An image file -> (3, size, size) uint8, RGB `as_shown`, resized bilinearly (antialiased) whatever its proportions.

    The same pixels as Pillow's `convert("RGB").resize(...)` to within 2 of 255, except JPEGs at least twice as large as
    `size` on both sides: those are decoded at 1/2, 1/4 or 1/8 (`draft`), which skips most of the inverse DCT.
    Raises BadImage (a ValueError) with the path: missing, no image, truncated, above Pillow's limit of pixels, or of a mode
    without one meaning.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, above the limit of {Image.MAX_IMAGE_PIXELS}")
            image.draft("RGB", (size, size))  # nothing happens for other formats or smaller images
            image.load()
            rgb = as_shown(image)
            (width, height), content = rgb.size, bytearray(rgb.tobytes())
        # (H, W, 3) seen as (1, 3, H, W): torch resizes this layout with SIMD, several times faster than Pillow
        pixels = torch.frombuffer(content, dtype=torch.uint8).view(1, height, width, 3).permute(0, 3, 1, 2)
        if (width, height) != (size, size):
            pixels = nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        return pixels[0]
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise BadImage(f"{path}: {' '.join(reason.split())}") from error


def crop_and_flip(image: Tensor, top: int, left: int, flip: bool) -> Tensor:
    """(3, S, S) -> (3, S, S): moved by `top` and `left` pixels, black where nothing is, then mirrored if `flip`.

    `top` and `left` in -p..p are a crop of S from the image padded by p.
    """
    size = image.shape[-1]
    out = torch.zeros(image.shape, dtype=image.dtype)
    seen = image[:, max(top, 0) : size + min(top, 0), max(left, 0) : size + min(left, 0)]
    y, x = max(-top, 0), max(-left, 0)
    out[:, y : y + seen.shape[1], x : x + seen.shape[2]] = seen
    return out.flip(2) if flip else out
