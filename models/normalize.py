"""Normalize images for networks with ImageNet weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, RGB in [0, 1]


class Normalize(nn.Module):
    """Images (N, 3, H, W) BGR in [0, 1] -> RGB minus `mean`, divided by `std`.

    rgb: False keeps the channels BGR, with RGB's mean and std, as some published weights need it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, rgb: bool = True, mean: Sequence[float] = MEAN, std: Sequence[float] = STD):
        super().__init__()
        self.rgb = rgb
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return ((images.flip(1) if self.rgb else images) - self.mean) / self.std
