"""NYUD2-DIR: each transform moves image and depth together; run in its folder."""

import torch
from nyu_transform import MEAN, STD, Lighting, Scale, eval_transform, nearest, train_transform
from torchvision import tv_tensors
from torchvision.transforms import v2

H, W = 96, 128
y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
depth = (60 + 0.8 * x + 0.5 * y).round().to(torch.uint8)[None]  # a slope: neighbours differ by at most 1
image = torch.cat([depth, 255 - depth, depth // 2])
pair = tv_tensors.Image(image), tv_tensors.Mask(depth)


def apart(image, depth, edge=2):
    image, depth = image.as_subclass(torch.Tensor), depth.as_subclass(torch.Tensor)
    red = image[0].float() * (1 if image.dtype == torch.uint8 else 255)
    inside = depth[0] > 0
    inside = -torch.nn.functional.max_pool2d(-inside[None].float(), 2 * edge + 1, 1, edge)[0] > 0  # off the rotation's border
    assert inside.float().mean() > 0.5
    inside[:edge], inside[-edge:], inside[:, :edge], inside[:, -edge:] = False, False, False, False  # and off the picture's
    return float((red - depth[0].float()).abs()[inside].max())


for seed in range(4):
    torch.manual_seed(seed)
    for transform in (
        Scale(48),
        Scale(96),
        v2.RandomHorizontalFlip(1),
        v2.CenterCrop((57, 77)),
        v2.RandomRotation(5, v2.InterpolationMode.BILINEAR, fill=None),
        v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
    ):
        moved = transform(*pair)
        assert apart(*moved) <= 3, transform
        assert moved[0].shape[-2:] == moved[1].shape[-2:]
    whole = train_transform(57, 76, lighting=0, jitter=0)
    moved = whole(*pair)
    assert moved[0].shape == (3, 57, 76) and moved[1].shape == (1, 57, 76) and moved[1].dtype == torch.uint8
    raw = moved[0].as_subclass(torch.Tensor) * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert apart(raw, moved[1]) <= 4
    for color in (Lighting(0.1), v2.ColorJitter(0.4, 0.4, 0.4), v2.Normalize(MEAN, STD)):
        floats = tv_tensors.Image(image / 255)
        changed, same = color(floats, pair[1])
        assert torch.equal(same, pair[1]) and not torch.equal(changed, floats), color
assert set(nearest(depth, (57, 33)).unique().tolist()) <= set(depth.unique().tolist())
# the middle of each block, as Pillow takes it
assert nearest(torch.arange(8)[None], (1, 4)).tolist() == [[1, 3, 5, 7]]
assert eval_transform(57, 77)(*pair)[0].shape == (3, 57, 77)  # odd sizes
