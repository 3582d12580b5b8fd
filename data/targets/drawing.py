"""Drawing in boxes of maps, those of a whole batch at once: the places are worked out here, where joints are, the pixels on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Pixels:
    """All pixels of M boxes, one box after the other: T of them."""

    box: Tensor  # (T,) int64, which box
    x: Tensor  # (T,) float32, in map pixels
    y: Tensor
    place: Tensor  # (T,) int64, in the maps (..., h, w) seen as one row

    @classmethod
    def of(cls, low: np.ndarray, high: np.ndarray, maps: np.ndarray, size: tuple[int, int], device: torch.device) -> Pixels:
        """The part of each box that lies in its map. low, high (M, 2): x, y of its first pixel, and of the one after its last.

        maps (M,): the number of each one's map. size: height and width of the maps. Nothing waits for the device.
        """
        height, width = size
        low = np.clip(low, 0, (width, height)).astype(np.int64)
        sides = np.clip(np.clip(high, 0, (width, height)).astype(np.int64) - low, 0, None)
        counts = sides.prod(1)
        start = np.cumsum(counts) - counts
        table = on_device(np.column_stack([counts, start, sides[:, 0], low, maps]), device)
        total = int(counts.sum())
        box = torch.repeat_interleave(torch.arange(len(counts), device=device), table[:, 0], output_size=total)
        start, side, left, top, number = table[box, 1:].unbind(1)
        within = torch.arange(total, device=device) - start
        y = within.div(side, rounding_mode="floor")
        x = within - y * side + left
        y += top
        return cls(box, x.float(), y.float(), (number * height + y) * width + x)

    def each(self, values: np.ndarray) -> Tensor:
        """What belongs to the boxes (M, ...) at each of their pixels (T, ...), float32."""
        return on_device(values.astype(np.float32), self.box.device)[self.box]

    def largest(self, maps: Tensor, values: Tensor) -> None:
        """Have the maps hold the largest of what they hold and values (T,)."""
        maps.view(-1).scatter_reduce_(0, self.place, values, "amax")


def on_device(values: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor over there, sent without waiting for what the device is busy with."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def gaussians(pixels: Pixels, centres: np.ndarray, sigmas: np.ndarray | float) -> Tensor:
    """(T,) the Gaussian of each box's centre (M, 2) and sigma, all in map pixels."""
    x, y, factor = pixels.each(np.column_stack([centres, np.broadcast_to(-1 / (2 * np.square(sigmas)), len(centres))])).unbind(1)
    return torch.exp(((pixels.x - x).square_() + (pixels.y - y).square_()) * factor)
