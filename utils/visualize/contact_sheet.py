"""Many pictures on one sheet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from data.images import write_image

COLUMNS, HEIGHT = 4, 240  # pictures in a row, and their height in pixels


class ContactSheet:
    """Thumbnails of pictures, in their order; of more than `most` only some, spread evenly over all, however many come."""

    def __init__(self, most: int | None = None):
        self.most, self.thumbnails = most, []
        self._step, self._seen = 1, 0  # every so many are kept, of so many

    def add(self, picture: np.ndarray) -> None:
        """picture: (H, W, 3) uint8 BGR."""
        if self._seen % self._step == 0:
            self.thumbnails.append(thumbnail(picture, HEIGHT))
        self._seen += 1
        if self.most is not None and len(self.thumbnails) > self.most:
            self.thumbnails, self._step = self.thumbnails[::2], 2 * self._step

    def write(self, path: Path) -> None:
        """Write the sheet, unless there is nothing on it."""
        if self.thumbnails:
            write_image(path, contact_sheet(self.thumbnails, COLUMNS))


def thumbnail(image: np.ndarray, height: int) -> np.ndarray:
    """The image (H, W, 3) uint8 brought to this height; a very wide one to twice the height in width, with white below."""
    scale = min(height / image.shape[0], 2 * height / image.shape[1])
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(small, 0, height - size[1], 0, 0, cv2.BORDER_CONSTANT, value=(255,) * 3)


def contact_sheet(images: list[np.ndarray], columns: int) -> np.ndarray:
    """Images (H, W, 3) uint8 of one height side by side; rows padded with white."""
    rows = [np.hstack(images[start : start + columns]) for start in range(0, len(images), columns)]
    width = max(row.shape[1] for row in rows)
    return np.vstack([cv2.copyMakeBorder(r, 0, 0, 0, width - r.shape[1], cv2.BORDER_CONSTANT, value=(255,) * 3) for r in rows])
