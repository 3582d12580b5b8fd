"""What DEKR's network should answer: heatmaps of keypoints and centres of people, and about each centre the offsets from its keypoints.

Paper section 3.3; pixel (i, j) of a map stands at x = j, y = i of its joints.
"""

from __future__ import annotations

import numpy as np

from config.systems.dekr import DekrConfig

Targets = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
PUBLISHED_KEYPOINTS = 17  # the published code takes channels from here on for centres, whatever the skeleton


def render_targets(joints: np.ndarray, sizes: np.ndarray, map_size: tuple[int, int], config: DekrConfig) -> Targets:
    """The maps for these people.

    joints (P, K + 1, 3): x, y in map pixels, v above 0 where labelled; the centre last. sizes (P,): width^2 + height^2 of each, any unit.
    Returns float32: heatmap (K + 1, h, w) in [0, 1] and its weight, offset (2 K, h, w) from keypoint to pixel, x then y, and its weight.
    Joints outside the maps are not drawn.
    """
    height, width = map_size
    inside = (joints[..., :2] >= 0).all(-1) & (joints[..., :2] < (width, height)).all(-1)
    there = (joints[..., 2] > 0) & inside
    settings, keypoints = config.targets, joints.shape[1] - 1
    sigmas = np.full(keypoints + 1, settings.keypoint_sigma)
    if keypoints >= PUBLISHED_KEYPOINTS or not settings.published_faults:
        sigmas[keypoints] = settings.centre_sigma
    heatmap, near = draw_heatmaps(joints[..., :2], there, sigmas, map_size)
    weight = np.where(near, np.float32(1), np.float32(settings.background_weight))
    return heatmap, weight, *draw_offsets(joints[..., :2], there, sizes, map_size, settings.offset_radius)


def draw_heatmaps(points: np.ndarray, there: np.ndarray, sigmas: np.ndarray, map_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian at each point that is there, the largest where several meet. points (P, C, 2), there (P, C) bool, sigmas (C,).

    Returns heatmap (C, h, w) float32 and, bool, the windows that were drawn in.
    """
    channels = len(sigmas)
    heatmap, near = np.zeros((channels, *map_size), np.float32), np.zeros((channels, *map_size), bool)
    people, kinds = np.nonzero(there)
    centres, spread = points[people, kinds].astype(float), sigmas[kinds]
    low = np.floor(centres - 3 * spread[:, None] - 1).astype(int).clip(0)
    high = np.ceil(centres + 3 * spread[:, None] + 2).astype(int)  # slices end at the map's border by themselves
    bells = [
        np.exp(-((np.arange(side) - centres[:, axis, None]) ** 2) / (2 * spread[:, None] ** 2)).astype(np.float32)
        for axis, side in enumerate(map_size[::-1])
    ]
    for kind, bell_x, bell_y, (x0, y0), (x1, y1) in zip(kinds, *bells, low, high):
        drawn = heatmap[kind, y0:y1, x0:x1]
        np.maximum(drawn, np.multiply.outer(bell_y[y0:y1], bell_x[x0:x1]), out=drawn)
        near[kind, y0:y1, x0:x1] = True
    return heatmap, near


def draw_offsets(
    points: np.ndarray, there: np.ndarray, sizes: np.ndarray, map_size: tuple[int, int], radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """In a square about each person's centre the way from the keypoints to the pixel; the smaller person's where two squares meet.

    points (P, K + 1, 2), there (P, K + 1) bool, the centre last; sizes (P,). Returns offset (2 K, h, w) and weight float32.
    """
    keypoints, (height, width) = points.shape[1] - 1, map_size
    offset, weight = np.zeros((2, keypoints, 2, height, width), np.float32)
    for p in np.argsort(-sizes, kind="stable"):
        if not there[p, -1]:
            continue
        x, y = points[p, -1].astype(int)
        rows = slice(max(y - radius, 0), min(y + radius, height))
        columns = slice(max(x - radius, 0), min(x + radius, width))
        known = np.flatnonzero(there[p, :-1])
        offset[known, 0, rows, columns] = np.arange(columns.start, columns.stop) - points[p, known, 0, None, None]
        offset[known, 1, rows, columns] = np.arange(rows.start, rows.stop)[:, None] - points[p, known, 1, None, None]
        weight[known, :, rows, columns] = 1 / np.sqrt(sizes[p])
    return offset.reshape(-1, height, width), weight.reshape(-1, height, width)
