"""The order of SimplePose's maps."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from config.skeleton import Skeleton


class Channels:
    """The order of the maps: a skeleton's limbs, its keypoints, the person mask, and the maximum over the keypoint maps."""

    def __init__(self, skeleton: Skeleton):
        self.skeleton = skeleton
        self.person = skeleton.num_limbs + skeleton.num_keypoints
        self.keypoint_maximum = self.person + 1
        self.count = self.person + 2
        self.limbs = slice(0, skeleton.num_limbs)
        self.keypoints = slice(skeleton.num_limbs, self.person)

    @cached_property
    def flip(self) -> np.ndarray:
        """(C,) the channel that takes each index in a flipped image."""
        keypoints = self.keypoints.start + self.skeleton.flip_keypoints
        return np.concatenate([self.skeleton.flip_limbs, keypoints, [self.person, self.keypoint_maximum]])

    def annotated(self, keypoints: np.ndarray, outlines: bool) -> np.ndarray:
        """Return (C,) bool: the maps that a data set annotates.

        keypoints (K,) bool: its labeled keypoints; a limb needs both ends. outlines: it has segmentations of people.
        """
        return np.concatenate([keypoints[self.skeleton.limb_ends].all(1), keypoints, [outlines, keypoints.all()]])
