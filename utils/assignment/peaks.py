"""Keypoints: the maxima of their maps, with sub-pixel positions."""

from __future__ import annotations

import numpy as np

from config.skeleton import Skeleton
from config.systems.simplepose import Channels
from config.systems.simplepose_assignment import AssignmentConfig
from utils.assignment.candidates import Candidates, MapReader, strongest

LEAST = 1e-3  # responses are raised to this before their logarithm is taken


def find_peaks(maps: MapReader, skeleton: Skeleton, parameters: AssignmentConfig, keypoint_sigma: float) -> Candidates:
    """The keypoint channels' maxima, the strongest `max_peaks` of each, with sub-pixel positions."""
    _, channels, h, w = maps.shape
    index, windows = maps.peaks(skeleton, parameters.keypoint_threshold)
    channel, pixel = np.divmod(index, h * w)
    y, x = np.divmod(pixel, w)
    image, kind = np.divmod(channel, channels)
    kind -= Channels(skeleton).keypoints.start
    # The logarithm of a Gaussian is a parabola: its vertex is exact from three points, whatever the Gaussian's width and height.
    log = np.log(np.maximum(windows, LEAST))
    variance = keypoint_sigma**2
    dx = _vertex(log[:, 3], log[:, 4], log[:, 5], x == 0, x == w - 1, variance)
    dy = _vertex(log[:, 1], log[:, 4], log[:, 7], y == 0, y == h - 1, variance)
    found = Candidates(image, kind, x + dx, y + dy, windows[:, 4])
    if len(found) > parameters.max_peaks:
        found = found.take(strongest(image * skeleton.num_keypoints + kind, found.score, parameters.max_peaks))
    return found


def _vertex(before: np.ndarray, at: np.ndarray, after: np.ndarray, first: np.ndarray, last: np.ndarray, variance: float) -> np.ndarray:
    """Offset of a peak from its pixel, from logarithms; at the border, where one neighbour is missing, from the known variance."""
    offset = (after - before) / (2 * np.maximum(2 * at - before - after, 1e-6))
    if first.any() or last.any():
        offset = np.where(first, variance * (after - at) + 0.5, offset)
        offset = np.where(last, np.where(first, 0, variance * (at - before) - 0.5), offset)
    return offset.clip(-1.5, 1.5)
