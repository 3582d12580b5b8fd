"""MoveNet MultiPose as DEKR's network: the published weights predict people without training."""

from collections.abc import Mapping

import torch
from torch import Tensor

from config.systems.dekr import DekrConfig, DekrMoveNetConfig
from models.movenet import MoveNet


class DekrMoveNet(MoveNet):
    """images (N, 3, H, W) BGR in [0, 1] -> heatmap (N, K + 1, H / 4, W / 4) in [0, 1], the people's center last, and offset
    (N, 2 K, H / 4, W / 4) from each keypoint, x then y, to the pixel's middle, in map pixels. H and W are multiples of 32.
    """

    used_heads = ("center", "keypoint_heatmap", "keypoint_regression")

    def __init__(self, config: DekrConfig):
        assert isinstance(config.model, DekrMoveNetConfig)
        keypoints = config.skeleton.num_keypoints
        super().__init__(config.model.width, dict(zip(self.used_heads, (1, keypoints, 2 * keypoints))))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        _, maps = self.features_and_maps(images)
        regression = maps["keypoint_regression"].unflatten(1, (-1, 2)).flip(2).flatten(1, 2)  # from the pixel's corner; y, x -> x, y
        return torch.cat([maps["keypoint_heatmap"], maps["center"]], 1).sigmoid(), 0.5 - regression

    @staticmethod
    def recipe(weights: Mapping[str, Tensor]) -> str | None:
        """Return the recipe of the published MultiPose, the only one with boxes."""
        return "dekr_small" if "heads.box_size.output.weight" in weights else None
