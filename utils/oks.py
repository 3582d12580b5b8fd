"""Object keypoint similarity (OKS) of predictions with annotations, as in COCO, and of predictions with each other."""

import numpy as np

ROWS = 32  # people compared with all others at a time; measured best for the CPU cache
LEAST = -700.0  # exponent; below it exp returns subnormal numbers, which take 100 times as long


def object_keypoint_similarity(
    poses: np.ndarray, joints: np.ndarray, areas: np.ndarray, boxes: np.ndarray, sigmas: np.ndarray, present: np.ndarray | None = None
) -> np.ndarray:
    """Return (P, G) OKS of each prediction with each annotated person, 0 to 1, as pycocotools computes it.

    poses (P, D, 2 or more) x, y in pixels; joints (G, D, 3) x, y, v (0: unlabeled) in the same order; areas (G,) pixels squared; boxes
    (G, 4) x, y, width, height; sigmas (D,). For a person without keypoints, distances are those from the box enlarged to three times its
    width and height. present (P, D) bool: keypoints of the poses that count; a pose that shares none with a person has an OKS of 0.
    """
    points, labeled = poses[:, None, :, :2], joints[..., 2] > 0
    corner, size = boxes[:, None, :2], boxes[:, None, 2:]
    outside = np.maximum(np.maximum(corner - size - points, points - (corner + 2 * size)), 0)
    without = ~np.any(labeled, axis=1, keepdims=True)
    distance = np.where(without[..., None], outside, points - joints[..., :2])
    counted = labeled | without
    of_keypoints = _keypoint_similarity(np.square(distance / (2 * sigmas[:, None])).sum(-1), _falloff(areas)[:, None])
    if present is not None:
        counted = counted & present[:, None]
    return (of_keypoints * counted).sum(-1) / np.maximum(counted.sum(-1), 1)


def keypoint_similarity(pose: np.ndarray, joints: np.ndarray, area: float, sigmas: np.ndarray) -> np.ndarray:
    """Return (D,), 0 to 1: the OKS of each keypoint alone. pose, joints (D, 2 or more) x, y in pixels; area pixels squared; sigmas (D,)."""
    squared = np.square((pose[:, :2] - joints[:, :2]) / (2 * sigmas[:, None])).sum(1)
    return _keypoint_similarity(squared, _falloff(np.asarray(area)))


def pose_similarity(poses: np.ndarray, people: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Return (P, G), 0 to 1: the OKS of the keypoints that a pose and a person share, times their part of those of the one with fewer.

    poses (P, D, 3), people (G, D, 3): x, y in pixels, and a score or v above 0 where present; areas (G,) pixels squared; sigmas (D,).
    """
    present, labeled = poses[..., 2] > 0, people[..., 2] > 0
    oks = object_keypoint_similarity(poses, people, areas, np.zeros((len(people), 4)), sigmas, present)
    shared = (present[:, None] & labeled).sum(2)
    fewer = np.minimum(present.sum(1)[:, None], labeled.sum(1))
    return oks * shared / np.maximum(fewer, 1)


def oks_nms(keypoints: np.ndarray, areas: np.ndarray, scores: np.ndarray, sigmas: np.ndarray, threshold: float) -> np.ndarray:
    """Return indices (M,) of the remaining people, best first. A remaining person suppresses worse ones at an OKS above the threshold.

    keypoints (P, K, 2 or more) x, y in pixels, all count; areas (P,) pixels squared, averaged over a pair; scores (P,); sigmas (K,).
    """
    candidates, selected = np.argsort(-scores, kind="stable"), []
    while len(candidates):
        duplicates = _duplicates(keypoints[candidates, :, :2], areas[candidates], sigmas, threshold)
        remaining = np.ones(len(candidates), bool)
        for row, of_row in enumerate(duplicates):
            if remaining[row]:
                selected.append(candidates[row])
                remaining &= ~of_row
        candidates = candidates[len(duplicates) :][remaining[len(duplicates) :]]
    return np.array(selected, np.intp)


def _duplicates(poses: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float) -> np.ndarray:
    """Return (R, P) bool: the OKS of each of the first R people with each later one is above the threshold.

    poses (P, K, 2), areas (P,), sigmas (K,). The first keypoints alone exclude most pairs; the others are computed for the remaining pairs.
    """
    poses = poses / (2 * sigmas[:, None])
    x, y = np.ascontiguousarray(poses.transpose(2, 1, 0))
    falloff, enough = _falloff((areas[:ROWS, None] + areas) / 2), threshold * len(sigmas)
    first = min(max(int(len(sigmas) - enough), 0) + 3, len(sigmas))  # two more than the fewest that can exclude a pair
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
    """Return the factor of the squared distance in the exponent, for areas in pixels squared."""
    return -0.5 / (areas + np.spacing(1))


def _keypoint_similarity(squared: np.ndarray, falloff: np.ndarray) -> np.ndarray:
    """Return the OKS of single keypoints, 0 to 1, computed in place of squared distances in units of two sigmas."""
    squared *= falloff
    return np.exp(np.maximum(squared, LEAST, out=squared), out=squared)
