"""Place thumbnails of many images on one sheet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from data.images import encode_image, write_image

COLUMNS, HEIGHT = 4, 240  # images in a row, and their height in pixels


class ContactSheet:
    """Thumbnails of images in order, for the image file `path`. Of more than `limit` images it keeps some, spread evenly over all."""

    def __init__(self, path: Path, limit: int | None = None):
        encode_image(path, np.zeros((1, 1, 3), np.uint8))  # fail early where the format is unknown
        self.path, self.limit, self.thumbnails = path, limit, []
        self._step, self._count = 1, 0  # every `_step`-th of `_count` images is kept

    def add(self, image: np.ndarray) -> None:
        """Add an image (H, W, 3) uint8 BGR."""
        if self._count % self._step == 0:
            self.thumbnails.append(thumbnail(image, HEIGHT))
        self._count += 1
        if self.limit is not None and len(self.thumbnails) > self.limit:
            self.thumbnails, self._step = self.thumbnails[::2], 2 * self._step

    def write(self) -> None:
        """Write the sheet unless it is empty."""
        if self.thumbnails:
            write_image(self.path, contact_sheet(self.thumbnails, COLUMNS))


def thumbnail(image: np.ndarray, height: int) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 to a height; a very wide one to twice the height in width, with white below."""
    scale = min(height / image.shape[0], 2 * height / image.shape[1])
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return _padded(small, height, size[0])


def contact_sheet(images: list[np.ndarray], columns: int) -> np.ndarray:
    """Place images (H, W, 3) uint8 in rows, padded with white."""
    groups = [images[start : start + columns] for start in range(0, len(images), columns)]
    rows = [np.hstack([_padded(image, max(map(len, group)), image.shape[1]) for image in group]) for group in groups]
    return np.vstack([_padded(row, len(row), max(row.shape[1] for row in rows)) for row in rows])


def _padded(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, 0, height - image.shape[0], 0, width - image.shape[1], cv2.BORDER_CONSTANT, value=(255,) * 3)
