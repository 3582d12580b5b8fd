"""Heatmaps in memory, read with NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from config.errors import UserError
from config.systems.simplepose_channels import Channels
from utils.assignment.candidates import NOT_FINITE

if TYPE_CHECKING:
    from config.skeleton import Skeleton


class NumpyHeatmaps:
    """A `HeatmapReader` of one image's heatmaps (C, h, w)."""

    def __init__(self, maps: np.ndarray):
        self.shape = (1, *maps.shape)
        self.flat = np.ascontiguousarray(maps, np.float32).reshape(-1)

    def peaks(self, skeleton: Skeleton, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        _, _, h, w = self.shape
        keypoints = Channels(skeleton).keypoints
        first = keypoints.start * h * w
        limbs, flat = self.flat[:first], self.flat[first : keypoints.stop * h * w]
        index = np.flatnonzero(~(flat <= threshold))  # NaN, too
        value = flat[index]
        # Reading the maps takes a third of the time, so each is read once: limbs by a minimum, which keeps NaN
        if not (np.isfinite(limbs.min(initial=0)) and np.isfinite(value).all()):
            raise UserError(NOT_FINITE)
        # One axis after the other: few pixels remain for the next step
        column = index % w
        keep = (value > flat.take(index - 1, mode="clip")) | (column == 0)
        keep &= (value >= flat.take(index + 1, mode="clip")) | (column == w - 1)
        index, value = index[keep], value[keep]
        row = index // w % h
        keep = (value > flat.take(index - w, mode="clip")) | (row == 0)
        keep &= (value >= flat.take(index + w, mode="clip")) | (row == h - 1)
        index = index[keep]
        windows = self._windows(flat, index, h, w)
        center = windows[:, 4:5]
        keep = (center > windows[:, :4]).all(1) & (center >= windows[:, 5:]).all(1)
        return index[keep] + first, windows[keep]

    @staticmethod
    def _windows(flat: np.ndarray, index: np.ndarray, h: int, w: int) -> np.ndarray:
        """Return (P, 9) the values around each pixel; -1 outside of the map."""
        around = np.array([-w - 1, -w, -w + 1, -1, 0, 1, w - 1, w, w + 1])
        windows = flat.take(index[:, None] + around, mode="clip")
        row, column = index // w % h, index % w
        for edge, outside in ((row == 0, [0, 1, 2]), (row == h - 1, [6, 7, 8]), (column == 0, [0, 3, 6]), (column == w - 1, [2, 5, 8])):
            windows[np.ix_(edge, outside)] = -1
        return windows

    def values(self, index: np.ndarray) -> np.ndarray:
        return self.flat.take(index)

    def weakest_third(self, index: np.ndarray) -> np.ndarray:
        count, samples = index.shape
        return self.flat.take(index).reshape(count, 3, samples // 3).mean(2).min(1)
