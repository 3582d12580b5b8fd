"""MoveNet SinglePose as Simple Baselines' network: the heatmaps of the person in the middle of the crop."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from config.systems.simple_baselines import SimpleBaselinesConfig, SimpleBaselinesMobileConfig
from models.movenet import MoveNet

SHARPNESS = 20  # of the soft maximum over center cells
NEAR = 1.8  # cells from a center, or from where a keypoint is expected, at which a value counts half
THUNDER_STEM = 56  # channels of Thunder's first layer


class SimpleBaselinesMobile(MoveNet):
    """images (N, 3, H, W) BGR in [0, 1] -> heatmaps (N, K, H / 4, W / 4) in [0, 1]. H and W are multiples of 32.

    As in MoveNet's decoding, each heatmap is weighted by the distance from where the person in the middle should have the keypoint; that is
    a soft maximum here, so that center and regression are trained, too.
    """

    used_heads = ("center", "keypoint_heatmap", "keypoint_regression")

    def __init__(self, config: SimpleBaselinesConfig):
        assert isinstance(config.model, SimpleBaselinesMobileConfig)
        keypoints = config.skeleton.num_keypoints
        super().__init__(config.model.width, dict(zip(self.used_heads, (1, keypoints, 2 * keypoints))))

    def forward(self, images: Tensor) -> Tensor:
        _, maps = self.features_and_maps(images)
        center, regression = maps["center"].float(), maps["keypoint_regression"].float()
        height, width = center.shape[2:]
        near = nearness(center.new_tensor([[[height / 2, width / 2]]]), height, width)
        weight = (SHARPNESS * (F.logsigmoid(center) + near.log())).flatten(1).softmax(1)
        y, x = (torch.arange(side, device=center.device) for side in (height, width))
        cells = torch.stack([y[:, None].expand(height, width), x.expand(height, width)]).flatten(1)  # (2, cells) y, x
        points = ((regression.flatten(2).unflatten(1, (-1, 2)) + cells) * weight[:, None, None]).sum(3)
        return maps["keypoint_heatmap"].sigmoid() * nearness(points, height, width)

    @staticmethod
    def recipe(weights: Mapping[str, Tensor]) -> str | None:
        """Return the recipe of the published Thunder."""
        is_thunder = "heads.center.output.weight" in weights and len(weights["trunk.stem.weight"]) == THUNDER_STEM
        return "simple_baselines_small" if is_thunder else None


def nearness(points: Tensor, height: int, width: int) -> Tensor:
    """Return (N, K, height, width) in (0, 1]: 1 at the points (N, K, 2) y, x in cells, half of it NEAR cells away."""
    y = torch.arange(height, device=points.device)[:, None] - points[..., None, None, 0]
    x = torch.arange(width, device=points.device) - points[..., None, None, 1]
    return NEAR / ((y.square() + x.square() + 1e-6).sqrt() + NEAR)
