"""Simple Baselines' loss: half of the squared error where a keypoint is labelled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from config.systems.simple_baselines import SimpleBaselinesConfig


class SimpleBaselinesLoss(nn.Module):
    """keypoints: their names, for what watches the loss."""

    def __init__(self, keypoints: tuple[str, ...]):
        super().__init__()
        self.keypoints = keypoints

    @classmethod
    def from_config(cls, config: SimpleBaselinesConfig) -> SimpleBaselinesLoss:
        """The loss for the keypoints of `config.skeleton`."""
        return cls(config.skeleton.keypoints)

    def forward(self, heatmaps: Tensor, target: Tensor, target_weight: Tensor) -> Tensor:
        """The scalar loss; arguments as in `parts`."""
        return self.parts(heatmaps, target, target_weight).sum()

    def parts(self, heatmaps: Tensor, target: Tensor, target_weight: Tensor) -> Tensor:
        """heatmaps and target (N, K, h, w), target_weight (N, K, 1) -> (K,) each keypoint's share of the loss: half of the mean squared
        error of heatmap times weight, over the number of keypoints."""
        dtype = torch.promote_types(heatmaps.dtype, torch.float32)
        error = (heatmaps.to(dtype) - target) * target_weight[..., None]
        return error.square().mean((0, 2, 3)) / (2 * len(self.keypoints))

    def part_name(self, keypoint: int) -> str:
        """The name of one entry of `parts`."""
        return self.keypoints[keypoint]
