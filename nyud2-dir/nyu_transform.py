"""What happens to an image and its depth map together: torchvision's joint transforms on (`Image`, `Mask`) pairs.

The one idea: a depth map is a `Mask`, so geometry moves both alike, depth by nearest neighbour, and colour leaves it alone.
All draws come from torch's generator on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

HEIGHT, WIDTH = 228, 304  # the published crop
SHORTER = 240  # the shorter side before the crop, at that size
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images

# principal components of ImageNet's colours (Krizhevsky et al. 2012, section 4.1): standard deviations, and vectors by column
PCA_VALUES = (0.2175, 0.0188, 0.0045)
PCA_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def output_size(height: int, width: int) -> tuple[int, int]:
    """(H, W) of the depth map of an image: twice that of ResNet's first block; 114 x 152 for 228 x 304."""
    return 2 * -(-height // 4), 2 * -(-width // 4)


def nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., H, W) -> (..., h, w): each value is the one at its centre, as in Pillow; torchvision takes the corner's."""
    rows, columns = (((torch.arange(new) + 0.5) * (old / new)).long() for new, old in zip(size, values.shape[-2:]))
    return values[..., rows[:, None], columns]


class Scale(v2.Transform):
    """The shorter side becomes `shorter` pixels long: images bilinearly (antialiased), depth by nearest neighbour."""

    def __init__(self, shorter: int):
        super().__init__()
        self.shorter = shorter

    def transform(self, inpt, params):
        height, width = inpt.shape[-2:]
        size = (self.shorter, round(width * self.shorter / height))
        if height > width:
            size = (round(height * self.shorter / width), self.shorter)
        if (height, width) == size:
            return inpt
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.wrap(nearest(inpt.as_subclass(Tensor), size), like=inpt)
        # contiguous: what is interleaved, as decoded, rotates at half the speed
        return tv_tensors.wrap(v2.functional.resize(inpt, list(size), antialias=True).contiguous(), like=inpt)


class Lighting(v2.Transform):
    """Moves the colours of an image (floats) along ImageNet's principal components, by N(0, `std`) of each."""

    def __init__(self, std: float):
        super().__init__()
        self.std = std

    def make_params(self, flat_inputs):
        strength = torch.randn(3) * self.std * torch.tensor(PCA_VALUES)
        return {"shift": (torch.tensor(PCA_VECTORS) @ strength)[:, None, None]}

    def transform(self, inpt, params):
        return tv_tensors.wrap(inpt + params["shift"], like=inpt) if isinstance(inpt, tv_tensors.Image) else inpt


def _geometry(height: int, width: int, moves: tuple = ()) -> list:
    shorter = max(round(height * SHORTER / HEIGHT), round(width * SHORTER / WIDTH))
    return [Scale(shorter), *moves, v2.CenterCrop((height, width))]


def _floats() -> v2.ToDtype:
    return v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)


def train_transform(
    height: int = HEIGHT, width: int = WIDTH, *, degrees: float = 5, lighting: float = 0.1, jitter: float = 0.4
) -> v2.Compose:
    """(Image (3, H, W) uint8, Mask (1, H, W)) -> (Image (3, height, width) normalised float32, Mask (1, height, width)).

    Scaled, mirrored, rotated, cropped, lit, its colours jittered, normalised: in the published order.
    """
    moves = (v2.RandomHorizontalFlip(), v2.RandomRotation(degrees, v2.InterpolationMode.BILINEAR, fill=None))
    return v2.Compose([
        *_geometry(height, width, moves), _floats(), Lighting(lighting), v2.ColorJitter(jitter, jitter, jitter),
        v2.Normalize(MEAN, STD),
    ])


def eval_transform(height: int = HEIGHT, width: int = WIDTH) -> v2.Compose:
    """The same without anything random."""
    return v2.Compose([*_geometry(height, width), _floats(), v2.Normalize(MEAN, STD)])
