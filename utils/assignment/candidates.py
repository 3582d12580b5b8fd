"""Candidates: the keypoints that assignment may give to people. They are the local maxima of the keypoint heatmaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from config.systems.simplepose_channels import Channels

if TYPE_CHECKING:
    from config.skeleton import Skeleton
    from config.systems.simplepose import AssignmentConfig

NOT_FINITE = "the maps hold NaN or infinite values: the network's weights or its input are broken"
LOG_FLOOR = 1e-3  # heatmap values are raised to this before their logarithm is taken
Rows = TypeVar("Rows", bound="_Columns")


class _Columns:
    """Arrays of one length."""

    def take(self: Rows, index: np.ndarray) -> Rows:
        """Select by an index or a mask."""
        return type(self)(*(column[index] for column in vars(self).values()))

    def append(self: Rows, *more: Rows) -> Rows:
        """Return these rows, then more."""
        return type(self)(*map(np.concatenate, zip(*(vars(rows).values() for rows in (self, *more)))))


@dataclass(frozen=True)
class Candidates(_Columns):
    """N keypoints that may belong to a person. Sub-pixel x, y in map pixels; the score is the heatmap value, 0 to 1."""

    image: np.ndarray  # (N,) index in the batch
    keypoint_type: np.ndarray  # (N,) keypoint index in the skeleton
    x: np.ndarray
    y: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.keypoint_type)


@dataclass(frozen=True)
class Limbs(_Columns):
    """M limbs between the candidates `start` and `end` (indices into Candidates)."""

    limb: np.ndarray  # (M,) limb index in the skeleton
    start: np.ndarray
    end: np.ndarray
    score: np.ndarray  # the mean heatmap value of the limb's weakest third, 0 to 1


class HeatmapReader(Protocol):
    """What assignment reads of heatmaps (N, C, h, w), in memory or on a device. `index` counts their values in that order."""

    shape: tuple[int, ...]

    def peaks(self, skeleton: Skeleton, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (P,) the index of each 3 x 3 maximum above `threshold` in a keypoint channel, and (P, 9) the values around it, row by
        row, -1 outside of the map. Of equal neighbors the first is the maximum: a keypoint midway between two pixels gives both the
        same value."""

    def values(self, index: np.ndarray) -> np.ndarray:
        """Return the values at any array of indices."""

    def weakest_third(self, index: np.ndarray) -> np.ndarray:
        """Return (M,) the lowest mean value of a third, of (M, S) indices along M limbs."""


def find_peaks(maps: HeatmapReader, skeleton: Skeleton, parameters: AssignmentConfig, keypoint_sigma: float) -> Candidates:
    """Find the maxima of the keypoint channels, the strongest `max_peaks` of each, with sub-pixel positions.

    keypoint_sigma: of a rendered keypoint, map pixels; used where the border cuts a peak.
    """
    _, channels, h, w = maps.shape
    index, windows = maps.peaks(skeleton, parameters.keypoint_threshold)
    channel, pixel = np.divmod(index, h * w)
    y, x = np.divmod(pixel, w)
    image, keypoint_type = np.divmod(channel, channels)
    keypoint_type -= Channels(skeleton).keypoints.start
    # The logarithm of a Gaussian is a parabola: three points give its vertex exactly, whatever the Gaussian's width and height.
    log = np.log(np.maximum(windows, LOG_FLOOR))
    variance = keypoint_sigma**2
    dx = _vertex(log[:, 3], log[:, 4], log[:, 5], x == 0, x == w - 1, variance)
    dy = _vertex(log[:, 1], log[:, 4], log[:, 7], y == 0, y == h - 1, variance)
    candidates = Candidates(image, keypoint_type, x + dx, y + dy, windows[:, 4])
    if len(candidates) > parameters.max_peaks:
        group = image * skeleton.num_keypoints + keypoint_type
        candidates = candidates.take(strongest(group, candidates.score, parameters.max_peaks))
    return candidates


def _vertex(before: np.ndarray, at: np.ndarray, after: np.ndarray, first: np.ndarray, last: np.ndarray, variance: float) -> np.ndarray:
    """Return the offset of a peak from its pixel, from logarithms. At the border one neighbor is missing; the variance replaces it."""
    offset = (after - before) / (2 * np.maximum(2 * at - before - after, 1e-6))
    offset = np.where(first, variance * (after - at) + 0.5, offset)
    offset = np.where(last, np.where(first, 0, variance * (at - before) - 0.5), offset)
    return offset.clip(-1.5, 1.5)


def pixel_index(x: np.ndarray, y: np.ndarray, channel: np.ndarray, h: int, w: int) -> np.ndarray:
    """Return the index of the pixel nearest to x, y, which lie inside of the map, in a channel counted over the batch."""
    index = np.rint(y)
    index *= w
    index += np.rint(x)
    index += channel * (h * w)
    return index.astype(np.intp)


def by_image(image: np.ndarray, images: int) -> list[np.ndarray]:
    """Return for each image of a batch which of N rows are its own, in their order. image: (N,) index in the batch."""
    order = np.argsort(image, kind="stable")
    return np.split(order, np.searchsorted(image[order], np.arange(1, images)))


def strongest(group: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    """Return a mask of the `count` highest scores of each group, of equal ones the first. group, score: (N,), float32 from 0."""
    # The bits of a positive float are in its order: one key of whole numbers sorts faster than two keys
    key = (group.astype(np.int64) << 32) - np.ascontiguousarray(score, np.float32).view(np.int32)
    order = np.argsort(key, kind="stable")
    ranked = group[order]
    rank = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
    keep = np.zeros(len(group), bool)
    keep[order[rank < count]] = True
    return keep
