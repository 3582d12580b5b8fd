"""What assignment works on: keypoints that may be somebody's, limbs between them, and the maps that both are read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from config.skeleton import Skeleton

BROKEN = "the maps hold NaN or infinite values: the network's weights or its input are broken"


@dataclass(frozen=True)
class Candidates:
    """N keypoints that may be somebody's. Sub-pixel x, y in map pixels; score is the response, 0 to 1."""

    image: np.ndarray  # (N,) number in the batch
    kind: np.ndarray  # (N,) keypoint number in the skeleton
    x: np.ndarray
    y: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, which: np.ndarray) -> Candidates:
        """The candidates of an index or a mask."""
        return Candidates(*(array[which] for array in vars(self).values()))

    def joined(self, more: Candidates) -> Candidates:
        """These candidates, then more."""
        return Candidates(*map(np.concatenate, zip(vars(self).values(), vars(more).values())))


@dataclass(frozen=True)
class Limbs:
    """M limbs between candidates `start` and `end` (numbers into Candidates), with the evidence that they are there, 0 to 1."""

    limb: np.ndarray  # (M,) limb number in the skeleton
    start: np.ndarray
    end: np.ndarray
    evidence: np.ndarray

    def take(self, which: np.ndarray) -> Limbs:
        """The limbs of an index or a mask."""
        return Limbs(*(array[which] for array in vars(self).values()))

    def joined(self, more: Limbs) -> Limbs:
        """These limbs, then more."""
        return Limbs(*map(np.concatenate, zip(vars(self).values(), vars(more).values())))


class MapReader(Protocol):
    """What assignment asks of maps (N, C, h, w), wherever they lie. `index` counts their values in that order."""

    shape: tuple[int, int, int, int]

    def peaks(self, skeleton: Skeleton, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """(P,) index of each 3 x 3 maximum above `threshold` in a keypoint channel, and (P, 9) the responses around it, row by row."""

    def values(self, index: np.ndarray) -> np.ndarray:
        """The responses at any array of indices."""

    def weakest_third(self, index: np.ndarray) -> np.ndarray:
        """(M, S) indices along M limbs -> (M,) the least mean response of a third."""


def pixel_index(x: np.ndarray, y: np.ndarray, channel: np.ndarray, h: int, w: int) -> np.ndarray:
    """Index of the pixel nearest to x, y, which lie inside of the map, in a channel counted over the batch."""
    index = np.rint(y)
    index *= w
    index += np.rint(x)
    index += channel * (h * w)
    return index.astype(np.intp)


def by_image(image: np.ndarray, images: int) -> list[np.ndarray | slice]:
    """image (N,) numbers in a batch of so many -> for each image, which of the N are its own, in their order."""
    if images == 1:
        return [slice(None)]
    order = np.argsort(image, kind="stable")
    return np.split(order, np.searchsorted(image[order], np.arange(1, images)))


def strongest(group: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    """Mask of the `count` highest scores of each group, of equal ones the first. group, score (N,), float32 from 0."""
    # The bits of a positive float are in its order: one key of whole numbers sorts faster than two keys
    key = (group.astype(np.int64) << 32) - np.ascontiguousarray(score, np.float32).view(np.int32)
    order = np.argsort(key, kind="stable")
    ranked = group[order]
    rank = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
    keep = np.zeros(len(group), bool)
    keep[order[rank < count]] = True
    return keep
