"""Focal L2 loss over scales and stages (Li et al., Simple Pose, AAAI 2020, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config.systems.simplepose import FocalL2Config, SimplePoseConfig


class FocalL2(nn.Module):
    """(s - t)^2 |1 - q|^gamma per pixel, with q = s - alpha on foreground and 1 - s - beta on background.

    channel_weights (C,): each map channel's weight.
    """

    def __init__(self, settings: FocalL2Config, channel_weights: Tensor):
        super().__init__()
        self.settings = settings
        scale_weights = torch.tensor(settings.scale_weights, dtype=torch.float64)
        self.register_buffer("channel_weights", channel_weights[:, None, None], persistent=False)
        self.register_buffer("scale_weights", (scale_weights / scale_weights.sum()).float(), persistent=False)

    @classmethod
    def from_config(cls, config: SimplePoseConfig) -> FocalL2:
        """The loss of `config.loss` for the maps of `config.channels`."""
        weights = torch.ones(config.channels.count)
        weights[config.channels.keypoints] = config.loss.keypoint_weight
        weights[config.channels.person] = config.loss.person_weight
        return cls(config.loss, weights)

    def forward(self, predictions: list[list[Tensor]], heatmaps: Tensor, mask_miss: Tensor, known: Tensor | None = None) -> Tensor:
        """The scalar loss; arguments as in `parts`."""
        return self.parts(predictions, heatmaps, mask_miss, known).sum()

    def parts(self, predictions: list[list[Tensor]], heatmaps: Tensor, mask_miss: Tensor, known: Tensor | None = None) -> Tensor:
        """predictions: per stage, the scales' (N, C, h_i, w_i), finest first. heatmaps (N, C, h, w) and mask_miss (N, 1, h, w) in [0, 1].

        known (N, C): 0 for the channels that a sample's data set does not label, 1 for the others; None: all are.
        Returns (stages, scales): each place's share of the loss, summed over pixels and channels and divided by the batch size.
        """
        # Sums over millions of pixels: half precision would overflow.
        dtype = torch.promote_types(predictions[0][0].dtype, torch.float32)
        heatmaps, mask_miss = heatmaps.to(dtype), mask_miss.to(dtype)
        channel_weights = self.channel_weights.to(dtype)
        if known is not None:
            channel_weights = channel_weights * known.to(dtype)[:, :, None, None]
        columns = []
        for i, scale in enumerate(zip(*predictions)):
            size = scale[0].shape[2:]
            finest = size == heatmaps.shape[2:]
            target = heatmaps if finest else F.adaptive_avg_pool2d(heatmaps, size)
            mask = mask_miss if finest else F.interpolate(mask_miss, size, mode="bilinear", align_corners=False)
            weight = torch.where(mask < 0.5, 0, mask) * channel_weights
            foreground = target >= self.settings.foreground
            losses = torch.stack([self._sum(s.to(dtype), target, foreground, weight) for s in scale])
            columns.append(losses * self.scale_weights[i])
        return torch.stack(columns, 1) / (len(predictions) * len(heatmaps))

    def _sum(self, s: Tensor, t: Tensor, foreground: Tensor, weight: Tensor) -> Tensor:
        error = (s - t).square()
        if self.settings.focal:
            q = torch.where(foreground, s - self.settings.alpha, 1 - s - self.settings.beta)
            error = error * (1 - q).abs().pow(self.settings.gamma)
        return (error * weight).sum()

    @staticmethod
    def part_name(stage: int, scale: int) -> str:
        """The name of one entry of `parts`."""
        return f"stage {stage}, scale {scale}"
