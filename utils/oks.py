"""Object keypoint similarity: COCO's measure of how well a pose found agrees with an annotated one, or with another one found."""

from __future__ import annotations

import numpy as np

ROWS = 32  # people that are compared with all others at a time: as many as the processor's cache holds best
LEAST = -700.0  # exponent; below it exp's answers are subnormal numbers, which take a hundred times as long


def object_keypoint_similarity(
    poses: np.ndarray, joints: np.ndarray, areas: np.ndarray, boxes: np.ndarray, sigmas: np.ndarray, present: np.ndarray | None = None
) -> np.ndarray:
    """(P, G) in 0 to 1: of each pose found with each annotated person, as pycocotools computes it.

    poses (P, D, 2 or more) x, y in pixels; joints (G, D, 3) x, y, v (0: not labeled) in the same order; areas (G,) pixels squared; boxes
    (G, 4) x, y, width, height; sigmas (D,). Where somebody has no keypoints, what counts is how far those of the pose lie outside the
    box, made three times as wide and high. present (P, D) bool: the keypoints that the poses have; given, the others do not count, and a
    pose that shares none with somebody has 0.
    """
    found, labeled = poses[:, None, :, :2], joints[..., 2] > 0
    corner, size = boxes[:, None, :2], boxes[:, None, 2:]
    outside = np.maximum(np.maximum(corner - size - found, found - (corner + 2 * size)), 0)
    without = ~labeled.any(1, keepdims=True)
    distance = np.where(without[..., None], outside, found - joints[..., :2])
    counted = labeled | without
    of_keypoints = _keypoint_similarity(np.square(distance / (2 * sigmas[:, None])).sum(-1), _falloff(areas)[:, None])
    if present is not None:
        counted = counted & present[:, None]
    return (of_keypoints * counted).sum(-1) / np.maximum(counted.sum(-1), 1)


def oks_nms(keypoints: np.ndarray, areas: np.ndarray, scores: np.ndarray, sigmas: np.ndarray, threshold: float) -> np.ndarray:
    """Indices (M,) of the people kept, best first: who is like a better one that is kept, by an OKS over the threshold, is dropped.

    keypoints (P, K, 2 or more) x, y in pixels, all of which count; areas (P,) pixels squared, of two people their mean; scores (P,);
    sigmas (K,).
    """
    waiting, kept = np.argsort(-scores, kind="stable"), []
    while len(waiting):
        batch_key = _alike(keypoints[waiting, :, :2], areas[waiting], sigmas, threshold)
        left = np.ones(len(waiting), bool)
        for row, others in enumerate(batch_key):
            if left[row]:
                kept.append(waiting[row])
                left &= ~others
        waiting = waiting[len(batch_key) :][left[len(batch_key) :]]
    return np.array(kept, np.intp)


def _alike(poses: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float) -> np.ndarray:
    """(R, P) bool: whether the OKS of each of the first R people with each one behind them is over the threshold.

    poses (P, K, 2), areas (P,), sigmas (K,). The first keypoints of most pairs are so far apart that the others cannot make up for it:
    those are looked at in the remaining pairs only.
    """
    poses = poses / (2 * sigmas[:, None])
    x, y = np.ascontiguousarray(poses.transpose(2, 1, 0))
    falloff, enough = _falloff((areas[:ROWS, None] + areas) / 2), threshold * len(sigmas)
    first = min(max(int(len(sigmas) - enough), 0) + 3, len(sigmas))  # two more than the fewest that can tell
    total, squared, of_y = np.zeros((3, *falloff.shape))
    for k in range(first):
        np.square(np.subtract(x[k, :ROWS, None], x[k], out=squared), out=squared)
        np.square(np.subtract(y[k, :ROWS, None], y[k], out=of_y), out=of_y)
        total += _keypoint_similarity(np.add(squared, of_y, out=squared), falloff)
    rows, others = np.nonzero(np.triu(total + (len(sigmas) - first) > enough, 1))
    squared = np.square(poses[rows, first:] - poses[others, first:]).sum(2)
    total[rows, others] += _keypoint_similarity(squared, falloff[rows, others, None]).sum(1)
    return total > enough


def _falloff(areas: np.ndarray) -> np.ndarray:
    """How fast similarity falls with the squared distance, for people of these areas in pixels squared."""
    return -0.5 / (areas + np.spacing(1))


def _keypoint_similarity(squared: np.ndarray, falloff: np.ndarray) -> np.ndarray:
    """Each keypoint's part of the OKS, 0 to 1, in place of its squared distance in units of two sigmas."""
    squared *= falloff
    return np.exp(np.maximum(squared, LEAST, out=squared), out=squared)
