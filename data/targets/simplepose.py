"""Ground-truth maps of SimplePose: limbs, keypoints, person mask, keypoint maximum (paper section 3.2).

Map pixel (i, j) stands for the input position x = stride j + (stride - 1) / 2, y likewise.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from config.skeleton import UNLABELLED
from config.systems.simplepose import SimplePoseConfig, TargetsConfig
from data.targets.drawing import Pixels, gaussians


def render_targets(joints: np.ndarray, mask_all: np.ndarray, config: SimplePoseConfig) -> np.ndarray:
    """The maps that the network should draw for the people of one image.

    joints (P, K, 3): x, y in input pixels, v = 2 not labelled. mask_all (h, w): 1 over people, 0 elsewhere, at map size.
    Returns (C, h, w) float32 in [0, 1], in the order of `config.channels`.
    """
    labelled = joints[..., 2] != UNLABELLED
    everyone = torch.from_numpy(np.ascontiguousarray(mask_all, np.float32))
    return draw_maps(joints[None, ..., :2], labelled[None], everyone[None], config)[0].numpy()


def batch_targets(
    config: SimplePoseConfig, device: torch.device, joints: Tensor, miss: Tensor, everyone: Tensor, known: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """On the device, what the loss wants of a batch: heatmaps (N, C, h, w), mask_miss (N, 1, h, w), known (N, C).

    In memory, as the samples hold them: joints (N, P, K, 3) x, y in input pixels and 1 where labelled; miss and everyone (N, h, w) uint8
    of 0..255; known (N, C) bool.
    """
    points = joints.numpy()
    miss, everyone = (mask.to(device, non_blocking=True).float() / 255 for mask in (miss, everyone))
    maps = draw_maps(points[..., :2], points[..., 2] > 0, everyone, config)
    return maps, miss[:, None], known.to(device, non_blocking=True)


def draw_maps(points: np.ndarray, labelled: np.ndarray, everyone: Tensor, config: SimplePoseConfig) -> Tensor:
    """The maps of a batch (N, C, h, w) float32, on the device of `everyone` (N, h, w) in [0, 1], the mask over people.

    points (N, P, K, 2) input pixels, labelled (N, P, K) bool.
    """
    channels, device = config.channels, everyone.device
    maps = torch.zeros(len(everyone), channels.count, *everyone.shape[1:], device=device)
    draw_keypoints(maps, points, labelled, config)
    draw_limbs(maps, points, labelled, config)
    maps[:, channels.person] = -F.max_pool2d(-everyone[:, None].float(), 3, 1, 1)[:, 0]  # eroded by 3 x 3
    torch.amax(maps[:, channels.keypoints], 1, out=maps[:, channels.keypoint_maximum])
    return maps  # nothing above leaves [0, 1]


def draw_keypoints(maps: Tensor, points: np.ndarray, labelled: np.ndarray, config: SimplePoseConfig) -> None:
    """Draw a Gaussian at each labelled point into maps (N, C, h, w), the largest where several meet. Points as in `draw_maps`."""
    settings, first = config.targets, config.channels.keypoints.start
    image, person, keypoint = np.nonzero(labelled)
    centres = points[image, person, keypoint].astype(float)
    radius = math.ceil(math.sqrt(_far(settings.keypoint_sigma, settings)) / settings.stride)
    middle = np.rint(centres / settings.stride)
    number = image * maps.shape[1] + first + keypoint
    pixels = Pixels.of(middle - radius, middle + radius + 1, number, maps.shape[2:], maps.device)
    pixels.largest(maps, gaussians(pixels, _in_map(centres, settings), settings.keypoint_sigma / settings.stride))


def draw_limbs(maps: Tensor, points: np.ndarray, labelled: np.ndarray, config: SimplePoseConfig) -> None:
    """Draw each limb into maps (N, C, h, w), as a ridge along the line through its ends, inside their box; the mean where boxes meet."""
    settings, limb_ends = config.targets, config.skeleton.limb_ends
    ends = points[:, :, limb_ends].astype(float)  # (N, P, L, 2 ends, 2)
    across = ends[..., 1, :] - ends[..., 0, :]
    lengths = np.hypot(across[..., 0], across[..., 1])
    image, person, limb = np.nonzero(labelled[:, :, limb_ends].all(3) & (lengths > 0))
    ends, (dx, dy) = ends[image, person, limb], (across[image, person, limb] / lengths[image, person, limb, None]).T
    low = np.rint((ends.min(1) - settings.limb_margin) / settings.stride)
    high = np.rint((ends.max(1) + settings.limb_margin) / settings.stride) + 1
    number = image * maps.shape[1] + config.channels.limbs.start + limb
    pixels = Pixels.of(low, high, number, maps.shape[2:], maps.device)
    x, y = _in_map(ends[:, 0], settings).T
    dx, dy, offset = pixels.each(np.column_stack([dx, dy, y * dx - x * dy])).unbind(1)
    squared = (pixels.y * dx - pixels.x * dy - offset).square_()  # of the distance from the line, map pixels
    sigma = settings.limb_sigma / settings.stride
    far = _far(sigma, settings)
    response = torch.where(squared < far, torch.exp(squared.clamp(max=far) / (-2 * sigma**2)), settings.limb_floor)
    flat = maps.view(-1)
    boxes = flat.index_add_(0, pixels.place, torch.ones_like(response))[pixels.place]  # how many there are at each pixel
    flat.index_fill_(0, pixels.place, 0).index_add_(0, pixels.place, response / boxes)


def _far(sigma: float, settings: TargetsConfig) -> float:
    """The square of the distance where a Gaussian reaches the threshold."""
    return -2 * sigma**2 * math.log(settings.threshold)


def _in_map(points: np.ndarray, settings: TargetsConfig) -> np.ndarray:
    """Input pixels (..., 2) to map pixels."""
    return (points - (settings.stride - 1) / 2) / settings.stride
