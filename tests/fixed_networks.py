"""Fixed functions in the place of SimplePose's network, whose answers can be worked out by hand."""

from __future__ import annotations

import numpy as np
import torch
from places import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from config import Config, load_config

PUBLISHED = ROOT / "config" / "simplepose_coco_512.yaml"
STRIDE = 4
# The channel that takes each place in a mirrored image, as published; the code derives it from the skeleton's names.
FLIP_LIMBS = [0, 2, 1, 4, 3, 6, 5, 8, 7, 12, 13, 14, 9, 10, 11, 18, 19, 20, 15, 16, 17, 22, 21, 25, 26, 23, 24, 28, 27, 29]
FLIP_REST = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16, 18, 19]
FLIP = FLIP_LIMBS + [30 + channel for channel in FLIP_REST]


def settings(*overrides: str) -> Config:
    return load_config(PUBLISHED, overrides)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def mirrored(maps: Tensor) -> Tensor:
    """(C, h, w) maps of an image -> those of its mirror image."""
    return maps.flip(2)[FLIP]


class FixedNetwork(nn.Module):
    """images (N, 3, H, W) -> (N, 50, H/4, W/4): each channel another weighting of the six halves, left and right, of each 4 x 4 cell."""

    def __init__(self, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.Parameter(torch.rand(len(FLIP), 6, generator=generator))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        self.seen.append(tuple(images.shape))
        halves = F.avg_pool2d(images, (STRIDE, STRIDE // 2))
        halves = torch.cat([halves[..., 0::2], halves[..., 1::2]], 1)
        wrong = [torch.full((len(images), len(FLIP), 1, 1), torch.nan)]  # coarser scales and earlier stages are not asked
        return [wrong, [torch.einsum("nihw,ci->nchw", halves, self.weights), *wrong]]

    def predict(self, images: Tensor) -> Tensor:
        return self(images)[-1][0]


class EvenHandedNetwork(FixedNetwork):
    """Answers a mirrored image with mirrored maps, as the real one is trained to."""

    def __init__(self):
        super().__init__()
        turned = self.weights.detach()[FLIP][:, [3, 4, 5, 0, 1, 2]]
        self.weights = nn.Parameter(self.weights.detach() + turned)


class MeanNetwork(nn.Module):
    """Each channel is the mean of blue over the cell."""

    def __init__(self):
        super().__init__()
        self.dummy = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        return [[F.avg_pool2d(images[:, :1], STRIDE).expand(-1, len(FLIP), -1, -1)]]

    def predict(self, images: Tensor) -> Tensor:
        return self(images)[-1][0]
