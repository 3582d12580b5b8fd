"""Ground-truth maps of SimplePose: limbs, keypoints, person mask, keypoint maximum (paper section 3.2)."""

from __future__ import annotations

import math

import cv2
import numpy as np

from config.skeleton import UNLABELLED
from config.systems.simplepose import SimplePoseConfig, TargetsConfig

EROSION = np.ones((3, 3), np.uint8)


def render_targets(joints: np.ndarray, mask_all: np.ndarray, config: SimplePoseConfig) -> np.ndarray:
    """The maps that the network should draw for these people.

    joints (P, K, 3): x, y in input pixels, v = 2 not labelled. mask_all (h, w): 1 over people, 0 elsewhere, at map size.
    Returns (C, h, w) float32 in [0, 1], in the order of `config.channels`. Map pixel (i, j) stands for the
    input position x = stride j + (stride - 1) / 2, y likewise.
    """
    channels, settings = config.channels, config.targets
    maps = np.zeros((channels.count, *mask_all.shape), np.float32)
    labelled = joints[..., 2] != UNLABELLED
    draw_keypoints(maps[channels.keypoints], joints[..., :2], labelled, settings)
    draw_limbs(maps[channels.limbs], joints[..., :2], labelled, config.skeleton.limb_ends, settings)
    maps[channels.person] = cv2.erode(np.asarray(mask_all, np.float32), EROSION)
    maps[channels.keypoint_maximum] = maps[channels.keypoints].max(0)
    return maps  # nothing above leaves [0, 1]


def draw_keypoints(maps: np.ndarray, points: np.ndarray, labelled: np.ndarray, settings: TargetsConfig) -> None:
    """Draw a Gaussian at each labelled point, the largest where several meet.

    maps (K, h, w) is drawn on. points (P, K, 2) input pixels, labelled (P, K) bool.
    """
    stride, variance = settings.stride, settings.keypoint_sigma**2
    radius = math.ceil(math.sqrt(-2 * variance * math.log(settings.threshold)) / stride)
    people, keypoints = np.nonzero(labelled)
    centres = points[people, keypoints].astype(float)
    windows = np.rint(centres / stride).astype(int)[:, :, None] + np.arange(-radius, radius + 1)  # (N, 2, 2 r + 1) map pixels
    positions = windows * stride + (stride - 1) / 2
    bells = np.exp(-((positions - centres[:, :, None]) ** 2) / (2 * variance)).astype(np.float32)
    height, width = maps.shape[1:]
    for k, (left, top), (bell_x, bell_y) in zip(keypoints, windows[:, :, 0], bells):
        (x0, x1), (y0, y1) = (max(left, 0), min(left + len(bell_x), width)), (max(top, 0), min(top + len(bell_y), height))
        if x0 < x1 and y0 < y1:
            drawn = maps[k, y0:y1, x0:x1]
            np.maximum(drawn, np.multiply.outer(bell_y[y0 - top : y1 - top], bell_x[x0 - left : x1 - left]), out=drawn)


def draw_limbs(maps: np.ndarray, points: np.ndarray, labelled: np.ndarray, limb_ends: np.ndarray, settings: TargetsConfig) -> None:
    """Draw each limb as a ridge along the line through its ends, inside their box; the mean where several people's boxes meet.

    maps (L, h, w) is drawn on. points (P, K, 2) input pixels, labelled (P, K) bool, limb_ends (L, 2) keypoint numbers.
    """
    stride, variance = settings.stride, settings.limb_sigma**2
    height, width = maps.shape[1:]
    ends = points[:, limb_ends].astype(float)  # (P, L, 2 ends, 2)
    across = ends[:, :, 1] - ends[:, :, 0]
    lengths = np.hypot(across[..., 0], across[..., 1])
    people, limbs = np.nonzero(labelled[:, limb_ends].all(2) & (lengths > 0))
    low = np.rint((ends.min(2) - settings.limb_margin) / stride)
    high = np.rint((ends.max(2) + settings.limb_margin) / stride) + 1
    low = np.maximum(low, 0).astype(int)
    high = np.clip(high, 0, (width, height)).astype(int)
    grid = np.arange(max(height, width)) * stride + (stride - 1) / 2
    far = np.float32(-2 * variance * math.log(settings.threshold))  # square of the distance where the response reaches the threshold
    drawn: dict[int, np.ndarray] = {}  # how many boxes cover each pixel of a limb's map
    for p, l in zip(people, limbs):
        (x0, y0), (x1, y1) = low[p, l], high[p, l]
        if x0 >= x1 or y0 >= y1:
            continue
        (dx, dy), (ax, ay) = across[p, l] / lengths[p, l], ends[p, l, 0]
        along_y, along_x = ((grid[y0:y1] - ay) * dx).astype(np.float32), ((grid[x0:x1] - ax) * dy).astype(np.float32)
        squared = np.square(np.subtract.outer(along_y, along_x))
        response = np.exp(np.minimum(squared, far) / np.float32(-2 * variance))  # exp of large numbers would be slow denormals
        response[squared >= far] = settings.limb_floor
        maps[l, y0:y1, x0:x1] += response
        if l not in drawn:
            drawn[l] = np.zeros((height, width), np.float32)
        drawn[l][y0:y1, x0:x1] += 1
    for l, count in drawn.items():
        maps[l] /= np.maximum(count, 1)
