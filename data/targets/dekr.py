"""What DEKR's network should answer: heatmaps of keypoints and centres of people, and about each centre the offsets from its keypoints.

Paper section 3.3; pixel (i, j) of a map stands at x = j, y = i of its joints.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from config.systems.dekr import DekrConfig
from data.targets.drawing import Pixels, gaussians, on_device

Targets = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
PUBLISHED_KEYPOINTS = 17  # the published code takes channels from here on for centres, whatever the skeleton


def render_targets(joints: np.ndarray, sizes: np.ndarray, map_size: tuple[int, int], config: DekrConfig) -> Targets:
    """The maps for the people of one image.

    joints (P, K + 1, 3): x, y in map pixels, v above 0 where labelled; the centre last. sizes (P,): width^2 + height^2 of each, any unit.
    Returns float32: heatmap (K + 1, h, w) in [0, 1] and its weight, offset (2 K, h, w) from keypoint to pixel, x then y, and its weight.
    Joints outside the maps are not drawn.
    """
    maps = draw_maps(joints[None], sizes[None], map_size, config, torch.device("cpu"))
    return tuple(of_batch[0].numpy() for of_batch in maps)


def batch_targets(
    config: DekrConfig, device: torch.device, joints: Tensor, sizes: Tensor, mask: Tensor, labelled: Tensor
) -> tuple[Tensor, ...]:
    """On the device, what the loss wants of a batch: heatmap, weight, offset, offset_weight as in `render_targets`, each (N, ...).

    In memory, as the samples hold them: joints (N, P, K + 1, 3) and sizes (N, P) as there; mask (N, h, w) bool, where the loss counts;
    labelled (N, K + 1) bool, the keypoints that a sample's data set labels, and centres: what it does not has no weight.
    """
    heatmap, weight, *offsets = draw_maps(joints.numpy(), sizes.numpy(), mask.shape[1:], config, device)
    mask, labelled = (tensor.to(device, non_blocking=True) for tensor in (mask, labelled))
    return heatmap, weight * mask[:, None] * labelled[..., None, None], *offsets


def draw_maps(
    joints: np.ndarray, sizes: np.ndarray, map_size: tuple[int, int], config: DekrConfig, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`render_targets` of a batch: joints (N, P, K + 1, 3) and sizes (N, P), of which those without any v above 0 are nobody."""
    height, width = map_size
    points = joints[..., :2].astype(float)
    there = (joints[..., 2] > 0) & (points >= 0).all(-1) & (points < (width, height)).all(-1)
    settings, keypoints = config.targets, joints.shape[2] - 1
    sigmas = np.full(keypoints + 1, settings.keypoint_sigma)
    if keypoints >= PUBLISHED_KEYPOINTS or not settings.published_faults:
        sigmas[keypoints] = settings.centre_sigma
    heatmap, near = draw_heatmaps(points, there, sigmas, map_size, device)
    weight = torch.where(near, 1.0, settings.background_weight)
    return heatmap, weight, *draw_offsets(points, there, sizes, map_size, settings.offset_radius, device)


def draw_heatmaps(
    points: np.ndarray, there: np.ndarray, sigmas: np.ndarray, map_size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """A Gaussian at each point that is there, the largest where several meet. points (N, P, C, 2), there (N, P, C) bool, sigmas (C,).

    Returns heatmap (N, C, h, w) float32 and, bool, the windows that were drawn in.
    """
    shape = len(points), len(sigmas), *map_size
    heatmap, near = torch.zeros(shape, device=device), torch.zeros(shape, dtype=torch.bool, device=device)
    image, person, kind = np.nonzero(there)
    centres, spread = points[image, person, kind], sigmas[kind]
    reach = 3 * spread[:, None] + 1
    low, high = np.floor(centres - reach), np.ceil(centres + reach + 1)
    pixels = Pixels.of(low, high, image * len(sigmas) + kind, map_size, device)
    pixels.largest(heatmap, gaussians(pixels, centres, spread))
    near.view(-1).index_fill_(0, pixels.place, True)
    return heatmap, near


def draw_offsets(
    points: np.ndarray, there: np.ndarray, sizes: np.ndarray, map_size: tuple[int, int], radius: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """In a square about each person's centre the way from the keypoints to the pixel; the smaller person's where two squares meet.

    points (N, P, K + 1, 2), there (N, P, K + 1) bool, the centre last; sizes (N, P). Returns offset (N, 2 K, h, w) and weight float32.
    """
    keypoints = points.shape[2] - 1
    image, person, keypoint = np.nonzero(there[..., :-1] & there[..., -1:])
    centres = points[image, person, -1].astype(int)
    number = image * keypoints + keypoint
    pixels = Pixels.of(centres - radius, centres + radius, number, map_size, device)
    ranks = np.argsort(np.argsort(-sizes, axis=1, kind="stable"), axis=1)[image, person]  # the last is drawn on top
    rank = on_device(ranks, device)[pixels.box]
    shape = len(points), keypoints, 2, *map_size
    top = torch.full((len(points), keypoints, *map_size), -1, device=device)
    pixels.largest(top, rank)
    seen = (top.view(-1)[pixels.place] == rank).float()
    x, y, scale = pixels.each(np.column_stack([points[image, person, keypoint], 1 / np.sqrt(sizes[image, person])])).unbind(1)
    offset, weight = torch.zeros(2, *shape, device=device)
    area = map_size[0] * map_size[1]
    first = pixels.place + on_device(number * area, device)[pixels.box]  # each keypoint has two maps, one after the other
    for place, way in ((first, pixels.x - x), (first + area, pixels.y - y)):
        offset.view(-1).index_add_(0, place, way * seen)  # at each place one person is seen: nothing is added up
        weight.view(-1).index_add_(0, place, scale * seen)
    return offset.flatten(1, 2), weight.flatten(1, 2)
