"""The four parts of Hu et al. 2019: encoder E, decoder D, multi-scale feature fusion MFF, and the body of the refinement R.

Names are the published ones, so that published checkpoints load. Widths follow the encoder: C4 = 2048 channels for
ResNet-50, as published, 512 for ResNet-18. Resizes are bilinear without aligned corners (test_published_layers.py).
Source: Hu et al., "Revisiting Single Image Depth Estimation", WACV 2019, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from imbalanced_regression.training.precision import resize

Size = tuple[int, int]


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


class UpProjection(nn.Module):
    """(B, C, h, w) -> (B, C', H, W): resized, then two branches of convolutions, summed."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 5), nn.BatchNorm2d(outputs)
        self.conv1_2, self.bn1_2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(inputs, outputs, 5), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        x = resize(x, size)
        long = self.bn1_2(self.conv1_2(relu(self.bn1(self.conv1(x)))))
        return relu(long + self.bn2(self.conv2(x)))


class E(nn.Module):
    """torchvision's ResNet without its classifier: images (B, 3, H, W) -> the outputs of its four blocks."""

    def __init__(self, resnet: nn.Module):
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        blocks = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            blocks.append(x)
        return blocks


class D(nn.Module):
    """Block 4 -> (B, C4 / 32, 2 h1, 2 w1): through the sizes of blocks 3, 2, 1, and twice that of block 1."""

    def __init__(self, c4: int):
        super().__init__()
        self.conv, self.bn = conv(c4, c4 // 2, 1), nn.BatchNorm2d(c4 // 2)
        self.up1, self.up2 = UpProjection(c4 // 2, c4 // 4), UpProjection(c4 // 4, c4 // 8)
        self.up3, self.up4 = UpProjection(c4 // 8, c4 // 16), UpProjection(c4 // 16, c4 // 32)

    def forward(self, blocks: list[Tensor], size: Size) -> Tensor:
        one, two, three, four = blocks
        x = relu(self.bn(self.conv(four)))
        x = self.up1(x, three.shape[-2:])
        x = self.up2(x, two.shape[-2:])
        x = self.up3(x, one.shape[-2:])
        return self.up4(x, size)


class MFF(nn.Module):
    """The four blocks -> (B, 64, H, W): each projected to 16 channels at that size, concatenated, one more convolution."""

    def __init__(self, channels: list[int]):
        super().__init__()
        self.up1, self.up2, self.up3, self.up4 = (UpProjection(c, 16) for c in channels)
        self.conv, self.bn = conv(64, 64, 5), nn.BatchNorm2d(64)

    def forward(self, blocks: list[Tensor], size: Size) -> Tensor:
        ups = (self.up1, self.up2, self.up3, self.up4)
        return relu(self.bn(self.conv(torch.cat([up(block, size) for up, block in zip(ups, blocks)], 1))))


class Refinement(nn.Module):
    """The body of R, up to FDS: (B, D, H, W) -> (B, D, H, W) by two 5x5 convolutions. Its `conv2` is the model's head."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv0, self.bn0 = conv(channels, channels, 5), nn.BatchNorm2d(channels)
        self.conv1, self.bn1 = conv(channels, channels, 5), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn1(self.conv1(relu(self.bn0(self.conv0(x))))))
