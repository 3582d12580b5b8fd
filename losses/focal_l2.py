"""Focal L2 loss over scales and stages (Li et al., Simple Pose, AAAI 2020, section 3.4)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from config.systems.simplepose import SimplePoseConfig
from losses import Loss


class FocalL2(Loss):
    """(s - t)^2 |1 - q|^gamma per pixel, with q = s - alpha on foreground and 1 - s - beta on background."""

    channel_weights: Tensor
    scale_weights: Tensor

    def __init__(self, config: SimplePoseConfig):
        super().__init__()
        self.settings, channels = config.loss, config.channels
        channel_weights = torch.ones(channels.count)
        channel_weights[channels.keypoints] = config.loss.keypoint_weight
        channel_weights[channels.person] = config.loss.person_weight
        scale_weights = torch.tensor(config.loss.scale_weights, dtype=torch.float64)
        self.register_buffer("channel_weights", channel_weights[:, None, None], persistent=False)
        self.register_buffer("scale_weights", (scale_weights / scale_weights.sum()).float(), persistent=False)

    def terms(self, predictions: list[list[Tensor]], heatmaps: Tensor, mask_miss: Tensor, channel_mask: Tensor | None = None) -> Tensor:
        """Return (stages, scales): each one's part of the loss, summed over pixels and channels and divided by the batch size.

        predictions: per stage, the scales' (N, C, h_i, w_i), finest first. heatmaps (N, C, h, w) and mask_miss (N, 1, h, w) in [0, 1].
        channel_mask (N, C): 0 for the maps that a sample's data set does not annotate, 1 for the others; None: all are annotated.
        """
        # Half precision would overflow in sums over millions of pixels
        dtype = torch.promote_types(predictions[0][0].dtype, torch.float32)
        heatmaps, mask_miss = heatmaps.to(dtype), mask_miss.to(dtype)
        channel_weights = self.channel_weights.to(dtype)
        if channel_mask is not None:
            channel_weights = channel_weights * channel_mask.to(dtype)[:, :, None, None]
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
    def term_name(stage: int, scale: int) -> str:
        """Return the name of one entry of `terms`."""
        return f"stage {stage}, scale {scale}"
