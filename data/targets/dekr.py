"""DEKR's targets: heatmaps of keypoints and person centers, and around each center the offsets from its keypoints (paper section 3.3).

Pixel (i, j) of a map stands at x = j, y = i of its keypoints.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from config.systems.dekr import DekrConfig
from data.datasets.dekr import DekrSample
from data.targets.rasterize import BoxPixels, gaussians, to_device

PUBLISHED_KEYPOINTS = 17  # the published code takes channels from here on for centers, whatever the skeleton


class DekrTargets(NamedTuple):
    """A batch's targets."""

    heatmap: Tensor  # (N, K + 1, h, w) float32 in [0, 1], the centers last
    weight: Tensor  # (N, K + 1, h, w) float32, of the heatmap's pixels
    offset: Tensor  # (N, 2 K, h, w) float32 from keypoint to pixel, x then y, map pixels
    offset_weight: Tensor  # (N, 2 K, h, w) float32


def render_targets(joints: np.ndarray, sizes: np.ndarray, map_size: tuple[int, int], config: DekrConfig) -> tuple[np.ndarray, ...]:
    """Render one image's heatmap, weight, offset and offset_weight, float32, as in `DekrTargets` without N.

    joints (P, K + 1, 3): x, y in map pixels, v above 0 where labeled; the center last. sizes (P,): each person's width^2 + height^2, any
    unit. Joints outside the maps are not rendered.
    """
    targets = _render(joints[None, ..., :2].astype(float), joints[None, ..., 2] > 0, sizes[None], map_size, config, torch.device("cpu"))
    return tuple(maps[0].numpy() for maps in targets)


def render_batch(batch: DekrSample, config: DekrConfig, device: torch.device) -> DekrTargets:
    """Render a batch's targets on the device. Masked pixels, and channels that a data set does not annotate, have no weight."""
    points, labeled, person_area = batch.keypoints.numpy(), batch.labeled.numpy(), batch.person_area.numpy()
    targets = _render(points, labeled, person_area, batch.mask_miss.shape[1:], config, device)
    mask_miss, channel_mask = (mask.to(device, non_blocking=True) for mask in (batch.mask_miss, batch.channel_mask))
    return targets._replace(weight=targets.weight * mask_miss[:, None] * channel_mask[..., None, None])


def _render(
    points: np.ndarray, labeled: np.ndarray, person_area: np.ndarray, map_size: tuple[int, int], config: DekrConfig, device: torch.device
) -> DekrTargets:
    """points (N, P, K + 1, 2) in map pixels, labeled (N, P, K + 1) bool, person_area (N, P)."""
    settings, keypoints = config.targets, points.shape[2] - 1
    present = labeled & (points >= 0).all(-1) & (points < map_size[::-1]).all(-1)
    sigmas = np.full(keypoints + 1, settings.keypoint_sigma)
    if keypoints >= PUBLISHED_KEYPOINTS or not settings.published_faults:
        sigmas[keypoints] = settings.centre_sigma
    heatmaps = _render_heatmaps(points, present, sigmas, map_size, settings.background_weight, device)
    return DekrTargets(*heatmaps, *_render_offsets(points, present, person_area, map_size, settings.offset_radius, device))


def _render_heatmaps(
    points: np.ndarray, present: np.ndarray, sigmas: np.ndarray, map_size: tuple[int, int], background: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Render a Gaussian at each present point; where several meet, the largest. sigmas (K + 1,).

    Returns heatmap and weight (N, K + 1, h, w) float32; the weight is 1 in the Gaussians' windows.
    """
    shape = len(points), len(sigmas), *map_size
    heatmap, weight = torch.zeros(shape, device=device), torch.full(shape, background, device=device)
    image, person, channel = np.nonzero(present)
    centers, sigma = points[image, person, channel], sigmas[channel]
    reach = 3 * sigma[:, None] + 1
    low, high = np.floor(centers - reach), np.ceil(centers + reach + 1)
    pixels = BoxPixels.of(low, high, image * len(sigmas) + channel, map_size, device)
    pixels.scatter_max(heatmap, gaussians(pixels, centers, sigma))
    weight.view(-1).index_fill_(0, pixels.index, 1)
    return heatmap, weight


def _render_offsets(
    points: np.ndarray, present: np.ndarray, person_area: np.ndarray, map_size: tuple[int, int], radius: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Render in a square around each person's center the offset from keypoint to pixel; where squares meet, the smaller person's.

    Returns offset and weight (N, 2 K, h, w) float32.
    """
    keypoints = points.shape[2] - 1
    image, person, keypoint = np.nonzero(present[..., :-1] & present[..., -1:])
    centers = points[image, person, -1].astype(int)
    number = image * keypoints + keypoint
    pixels = BoxPixels.of(centers - radius, centers + radius, number, map_size, device)
    ranks = np.argsort(np.argsort(-person_area, axis=1, kind="stable"), axis=1)[image, person]  # the last is rendered on top
    rank = to_device(ranks, device)[pixels.box]
    shape = len(points), keypoints, 2, *map_size
    top = torch.full((len(points), keypoints, *map_size), -1, device=device)
    pixels.scatter_max(top, rank)
    visible = (top.view(-1)[pixels.index] == rank).float()
    x, y, scale = pixels.gather(np.column_stack([points[image, person, keypoint], 1 / np.sqrt(person_area[image, person])])).unbind(1)
    offset, weight = torch.zeros(2, *shape, device=device)
    area = map_size[0] * map_size[1]
    first = pixels.index + to_device(number * area, device)[pixels.box]  # each keypoint has two maps, one after the other
    for index, value in ((first, pixels.x - x), (first + area, pixels.y - y)):
        offset.view(-1).index_add_(0, index, value * visible)  # at each pixel one person is visible: nothing is added up
        weight.view(-1).index_add_(0, index, scale * visible)
    return offset.flatten(1, 2), weight.flatten(1, 2)
