"""SimplePose's input: the image resized by its height, and padded on the right and below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from config.systems.simplepose import SimplePoseConfig

Size = tuple[int, int]  # height, width


def resized_size(height: int, width: int, scale: float, config: SimplePoseConfig) -> Size:
    """Return height and width of the resized image: `scale` times the input height, at most `inference.max_size`."""
    max_height, max_width = config.inference.max_size
    factor = min(scale * config.data.input_size[0] / height, max_height / height, max_width / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def padded_size(size: Size, multiple: int) -> Size:
    return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple


def resize_and_pad(images: list[np.ndarray], sizes: list[Size], config: SimplePoseConfig) -> np.ndarray:
    """Resize the images to their sizes and pad them to one: (N, h, w, 3) uint8."""
    settings = config.inference
    padded = np.full((len(images), *padded_size(sizes[0], settings.pad_multiple), 3), settings.pad_value, np.uint8)
    for canvas, image, (height, width) in zip(padded, images, sizes):
        canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return padded
