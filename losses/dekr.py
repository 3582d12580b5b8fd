"""DEKR's loss: weighted L2 for the heatmaps, weighted smooth L1 for the offsets (paper section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config.systems.dekr import DekrConfig, DekrLossConfig


class DekrLoss(nn.Module):
    """heatmap_weight x heatmap loss + offset_weight x offset loss."""

    def __init__(self, settings: DekrLossConfig):
        super().__init__()
        self.settings = settings

    @classmethod
    def from_config(cls, config: DekrConfig) -> DekrLoss:
        """The loss of `config.loss`."""
        return cls(config.loss)

    def forward(self, outputs: tuple[Tensor, Tensor], *targets: Tensor) -> Tensor:
        """The scalar loss; arguments as in `parts`."""
        return self.parts(outputs, *targets).sum()

    def parts(self, outputs: tuple[Tensor, Tensor], heatmap: Tensor, weight: Tensor, offset: Tensor, offset_weight: Tensor) -> Tensor:
        """outputs: heatmap (N, K + 1, h, w) and offset (N, 2 K, h, w) as the network gives them; then what they should be, with weights.

        Returns (2,): the heatmaps' squared error, mean over the pixels, and the offsets' smooth L1 error, mean over the pixels of positive
        weight, each times its factor.
        """
        dtype = torch.promote_types(outputs[0].dtype, torch.float32)
        found, moved = outputs[0].to(dtype), outputs[1].to(dtype)
        heat = ((found - heatmap).square() * weight).mean()
        far = F.smooth_l1_loss(moved, offset, reduction="none", beta=self.settings.beta)
        near = (far * offset_weight).sum() / (offset_weight > 0).sum().clamp(min=1)
        return torch.stack([self.settings.heatmap_weight * heat, self.settings.offset_weight * near])

    @staticmethod
    def part_name(part: int) -> str:
        """The name of one entry of `parts`."""
        return ("heatmaps", "offsets")[part]
