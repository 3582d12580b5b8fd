"""Object keypoint similarity: COCO's measure of how well a pose found agrees with an annotated one."""

from __future__ import annotations

import numpy as np


def object_keypoint_similarity(
    poses: np.ndarray, joints: np.ndarray, areas: np.ndarray, boxes: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """(P, G) in 0 to 1: of each pose found with each annotated person, as pycocotools computes it.

    poses (P, D, 2 or more) x, y in pixels; joints (G, D, 3) x, y, v (0: not labelled) in the same order; areas (G,) pixels squared; boxes
    (G, 4) x, y, width, height; sigmas (D,). Where somebody has no keypoints, what counts is how far those of the pose lie outside the
    box, made three times as wide and high.
    """
    found, labelled = poses[:, None, :, :2], joints[..., 2] > 0
    corner, size = boxes[:, None, :2], boxes[:, None, 2:]
    outside = np.maximum(np.maximum(corner - size - found, found - (corner + 2 * size)), 0)
    without = ~labelled.any(1, keepdims=True)
    distance = np.where(without[..., None], outside, found - joints[..., :2])
    error = np.square(distance).sum(-1) / (2 * sigmas) ** 2 / (areas[:, None] + np.spacing(1)) / 2
    counted = labelled | without
    return (np.exp(-error) * counted).sum(-1) / counted.sum(-1)
