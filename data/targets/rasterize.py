"""Rendering in boxes of maps, for a whole batch at once: the CPU computes pixel ranges from keypoints in memory, the device fills them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class BoxPixels:
    """All T pixels of M boxes, one box after the other."""

    box: Tensor  # (T,) int64, which box
    x: Tensor  # (T,) float32, in map pixels
    y: Tensor
    index: Tensor  # (T,) int64, in the flattened maps (..., h, w)

    @classmethod
    def of(cls, low: np.ndarray, high: np.ndarray, maps: np.ndarray, size: tuple[int, int], device: torch.device) -> BoxPixels:
        """Clip each box to its map. low, high (M, 2): x, y of the first pixel, and of the one after the last.

        maps (M,): each box's map. size: height and width of the maps. The host does not wait for the device.
        """
        height, width = size
        low = np.clip(low, 0, (width, height)).astype(np.int64)
        sides = np.clip(np.clip(high, 0, (width, height)).astype(np.int64) - low, 0, None)
        counts = sides.prod(1)
        start = np.cumsum(counts) - counts
        table = to_device(np.column_stack([counts, start, sides[:, 0], low, maps]), device)
        total = int(counts.sum())
        box = torch.repeat_interleave(torch.arange(len(counts), device=device), table[:, 0], output_size=total)
        start, side, left, top, number = table[box, 1:].unbind(1)
        within = torch.arange(total, device=device) - start
        y = within.div(side, rounding_mode="floor")
        x = within - y * side + left
        y += top
        return cls(box, x.float(), y.float(), (number * height + y) * width + x)

    def gather(self, values: np.ndarray) -> Tensor:
        """Return the boxes' values (M, ...) at each pixel (T, ...), float32."""
        return to_device(values.astype(np.float32), self.box.device)[self.box]

    def scatter_max(self, maps: Tensor, values: Tensor) -> None:
        """Set each pixel of the maps to the largest of its value and values (T,), in place."""
        maps.view(-1).scatter_reduce_(0, self.index, values, "amax")


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Return an array as a tensor on the device; the host does not wait for the device."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def gaussians(pixels: BoxPixels, centers: np.ndarray, sigmas: np.ndarray | float) -> Tensor:
    """Return (T,) the Gaussian of each box's center (M, 2) and sigma, all in map pixels."""
    x, y, factor = pixels.gather(np.column_stack([centers, np.broadcast_to(-1 / (2 * np.square(sigmas)), len(centers))])).unbind(1)
    return torch.exp(((pixels.x - x).square_() + (pixels.y - y).square_()) * factor)
