"""DEKR's loss: weighted L2 for the heatmaps, weighted smooth L1 for the offsets (paper section 3.3)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from config.systems.dekr import DekrConfig
from losses import Loss


class DekrLoss(Loss):
    """heatmap_weight x heatmap loss + offset_weight x offset loss."""

    def __init__(self, config: DekrConfig):
        super().__init__()
        self.settings = config.loss

    def terms(self, outputs: tuple[Tensor, Tensor], heatmap: Tensor, weight: Tensor, offset: Tensor, offset_weight: Tensor) -> Tensor:
        """Return (2,): heatmap_weight times the heatmaps' weighted squared error, mean over all pixels, and offset_weight times the
        offsets' weighted smooth L1 error, mean over the pixels of positive weight.

        outputs: heatmap (N, K + 1, h, w) and offset (N, 2 K, h, w) of the network. The targets have the same shapes.
        """
        dtype = torch.promote_types(outputs[0].dtype, torch.float32)
        predicted, predicted_offset = (output.to(dtype) for output in outputs)
        heatmap_loss = ((predicted - heatmap).square() * weight).mean()
        errors = F.smooth_l1_loss(predicted_offset, offset.to(dtype), reduction="none", beta=self.settings.beta)
        offset_loss = (errors * offset_weight).sum() / (offset_weight > 0).sum().clamp(min=1)
        return torch.stack([self.settings.heatmap_weight * heatmap_loss, self.settings.offset_weight * offset_loss])

    @staticmethod
    def term_name(term: int) -> str:
        """Return the name of one entry of `terms`."""
        return ("heatmaps", "offsets")[term]
