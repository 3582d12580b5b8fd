"""SimplePose's targets: limbs, keypoints, person mask, keypoint maximum (paper section 3.2).

Map pixel (i, j) stands for the input position x = stride j + (stride - 1) / 2, y likewise.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from config.skeleton import UNLABELED
from config.systems.simplepose import SimplePoseConfig, TargetsConfig
from data.datasets.simplepose import SimplePoseSample
from data.targets.rasterize import BoxPixels, gaussians


class SimplePoseTargets(NamedTuple):
    """A batch's targets."""

    heatmaps: Tensor  # (N, C, h, w) float32 in [0, 1], in the order of `config.channels`
    mask_miss: Tensor  # (N, 1, h, w) float32 in [0, 1], 1 where the loss counts
    channel_mask: Tensor  # (N, C) bool, the maps that a sample's data set annotates


def render_targets(joints: np.ndarray, mask_all: np.ndarray, config: SimplePoseConfig) -> np.ndarray:
    """Render one image's heatmaps (C, h, w) float32 in [0, 1], in the order of `config.channels`.

    joints (P, K, 3): x, y in input pixels, v = 2 not labeled. mask_all (h, w): 1 over people, 0 elsewhere, at map size.
    """
    labeled = joints[..., 2] != UNLABELED
    mask_all = torch.from_numpy(np.ascontiguousarray(mask_all, np.float32))
    return _render(joints[None, ..., :2], labeled[None], mask_all[None], config)[0].numpy()


def render_batch(batch: SimplePoseSample, config: SimplePoseConfig, device: torch.device) -> SimplePoseTargets:
    """Render a batch's targets on the device."""
    mask_miss, mask_all = (mask.to(device, non_blocking=True).float() / 255 for mask in (batch.mask_miss, batch.mask_all))
    heatmaps = _render(batch.keypoints.numpy(), batch.labeled.numpy(), mask_all, config)
    return SimplePoseTargets(heatmaps, mask_miss[:, None], batch.channel_mask.to(device, non_blocking=True))


def _render(points: np.ndarray, labeled: np.ndarray, mask_all: Tensor, config: SimplePoseConfig) -> Tensor:
    """Render a batch (N, C, h, w) on the device of mask_all (N, h, w) in [0, 1]; points (N, P, K, 2) input pixels, labeled (N, P, K)."""
    channels = config.channels
    maps = torch.zeros(len(mask_all), channels.count, *mask_all.shape[1:], device=mask_all.device)
    _render_keypoints(maps, points, labeled, config)
    _render_limbs(maps, points, labeled, config)
    maps[:, channels.person] = -F.max_pool2d(-mask_all[:, None], 3, 1, 1)[:, 0]  # eroded by 3 x 3
    torch.amax(maps[:, channels.keypoints], 1, out=maps[:, channels.keypoint_maximum])
    return maps  # nothing above leaves [0, 1]


def _render_keypoints(maps: Tensor, points: np.ndarray, labeled: np.ndarray, config: SimplePoseConfig) -> None:
    """Render a Gaussian at each labeled point; where several meet, the largest."""
    settings, first = config.targets, config.channels.keypoints.start
    image, person, keypoint = np.nonzero(labeled)
    centers = points[image, person, keypoint].astype(float)
    radius = math.ceil(math.sqrt(_cutoff(settings.keypoint_sigma, settings)) / settings.stride)
    middle = np.rint(centers / settings.stride)
    number = image * maps.shape[1] + first + keypoint
    pixels = BoxPixels.of(middle - radius, middle + radius + 1, number, maps.shape[2:], maps.device)
    pixels.scatter_max(maps, gaussians(pixels, _to_map(centers, settings), settings.keypoint_sigma / settings.stride))


def _render_limbs(maps: Tensor, points: np.ndarray, labeled: np.ndarray, config: SimplePoseConfig) -> None:
    """Render each limb as a ridge along the line through its ends, inside their box; where boxes meet, the mean."""
    settings, limb_ends = config.targets, config.skeleton.limb_ends
    ends = points[:, :, limb_ends].astype(float)  # (N, P, L, 2 ends, 2)
    vectors = ends[..., 1, :] - ends[..., 0, :]
    lengths = np.hypot(vectors[..., 0], vectors[..., 1])
    image, person, limb = np.nonzero(labeled[:, :, limb_ends].all(3) & (lengths > 0))
    ends, (dx, dy) = ends[image, person, limb], (vectors[image, person, limb] / lengths[image, person, limb, None]).T
    low = np.rint((ends.min(1) - settings.limb_margin) / settings.stride)
    high = np.rint((ends.max(1) + settings.limb_margin) / settings.stride) + 1
    number = image * maps.shape[1] + config.channels.limbs.start + limb
    pixels = BoxPixels.of(low, high, number, maps.shape[2:], maps.device)
    x, y = _to_map(ends[:, 0], settings).T
    dx, dy, offset = pixels.gather(np.column_stack([dx, dy, y * dx - x * dy])).unbind(1)
    squared = (pixels.y * dx - pixels.x * dy - offset).square_()  # of the distance from the line, map pixels
    sigma = settings.limb_sigma / settings.stride
    cutoff = _cutoff(sigma, settings)
    response = torch.where(squared < cutoff, torch.exp(squared.clamp(max=cutoff) / (-2 * sigma**2)), settings.limb_floor)
    flat = maps.view(-1)
    boxes = flat.index_add_(0, pixels.index, torch.ones_like(response))[pixels.index]  # how many there are at each pixel
    flat.index_fill_(0, pixels.index, 0).index_add_(0, pixels.index, response / boxes)


def _cutoff(sigma: float, settings: TargetsConfig) -> float:
    """Return the squared distance at which a Gaussian falls to the threshold."""
    return -2 * sigma**2 * math.log(settings.threshold)


def _to_map(points: np.ndarray, settings: TargetsConfig) -> np.ndarray:
    """Convert input pixels (..., 2) to map pixels."""
    return (points - (settings.stride - 1) / 2) / settings.stride
