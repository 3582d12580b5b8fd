"""Assign keypoints of a batch of heatmaps on a device: the device reads peaks and limb scores, NumPy groups people.

Only the values around the peaks (9 each) and the limb scores leave the device: a few kilobytes an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from config.errors import UserError
from config.systems.simplepose_channels import Channels
from utils.assignment import KEYPOINT_SIGMA, LIMB_MARGIN, assign_batch, check_shape
from utils.assignment.candidates import NOT_FINITE

if TYPE_CHECKING:
    from config.skeleton import Skeleton
    from config.systems.simplepose import AssignmentConfig


class TorchHeatmaps:
    """A `HeatmapReader` of a batch of heatmaps (N, C, h, w) on any device."""

    def __init__(self, maps: torch.Tensor):
        self.shape = tuple(maps.shape)
        self.maps = maps.detach().float().contiguous()
        self.flat = self.maps.view(-1)

    def peaks(self, skeleton: Skeleton, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        channels = Channels(skeleton).keypoints
        keypoints = self.maps[:, channels]
        if not bool(torch.isfinite(self.maps[:, : channels.stop]).all()):
            raise UserError(NOT_FINITE)
        is_peak = (F.max_pool2d(keypoints, 3, stride=1, padding=1) == keypoints) & (keypoints > threshold)
        image, keypoint_type, y, x = is_peak.nonzero(as_tuple=True)
        padded = F.pad(keypoints, (1, 1, 1, 1), value=-1.0)
        step = torch.arange(3, device=x.device)
        rows, columns = y[:, None, None] + step[:, None], x[:, None, None] + step
        windows = padded[image[:, None, None], keypoint_type[:, None, None], rows, columns].flatten(1)
        keep = (windows[:, 4:5] > windows[:, :4]).all(1) & (windows[:, 4:5] >= windows[:, 5:]).all(1)
        _, count, h, w = self.shape
        index = ((image * count + keypoint_type + channels.start) * h + y) * w + x
        return index[keep].cpu().numpy(), windows[keep].cpu().numpy()

    def values(self, index: np.ndarray) -> np.ndarray:
        return self._gather(index).cpu().numpy()

    def weakest_third(self, index: np.ndarray) -> np.ndarray:
        count, samples = index.shape
        return self._gather(index).view(count, 3, samples // 3).mean(2).amin(1).cpu().numpy()

    def _gather(self, index: np.ndarray) -> torch.Tensor:
        return self.flat[torch.from_numpy(index).to(self.flat.device)]


def assign_people_batch(
    maps: torch.Tensor,
    skeleton: Skeleton,
    parameters: AssignmentConfig,
    map_to_images: list[tuple[float, float]],
    keypoint_sigma: float = KEYPOINT_SIGMA,
    limb_margin: float = LIMB_MARGIN,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the people of each image of a batch, as `assign_people` does for one.

    maps: (N, C, h, w) on any device. map_to_images: (sx, sy) of each image.
    """
    check_shape(tuple(maps.shape[1:]), skeleton)
    return assign_batch(TorchHeatmaps(maps), skeleton, parameters, map_to_images, keypoint_sigma, limb_margin)
