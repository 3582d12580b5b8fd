"""Simple Baselines' loss: half of the squared error where a keypoint is labeled."""

import torch
from torch import Tensor

from config.systems.simple_baselines import SimpleBaselinesConfig
from losses import Loss


class SimpleBaselinesLoss(Loss):
    """The mean over the skeleton's keypoints of half of the weighted mean squared error."""

    def __init__(self, config: SimpleBaselinesConfig):
        super().__init__()
        self.keypoints = config.skeleton.keypoints

    def terms(self, heatmaps: Tensor, target: Tensor, target_weight: Tensor) -> Tensor:
        """Return (K,) each keypoint's part of the loss from heatmaps and target (N, K, h, w) and target_weight (N, K, 1)."""
        dtype = torch.promote_types(heatmaps.dtype, torch.float32)
        error = (heatmaps.to(dtype) - target) * target_weight[..., None]
        return error.square().mean((0, 2, 3)) / (2 * len(self.keypoints))

    def term_name(self, keypoint: int) -> str:
        """Return the name of one entry of `terms`."""
        return self.keypoints[keypoint]
