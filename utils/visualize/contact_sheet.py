"""Place thumbnails of many images on one sheet."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from data.images import encode_image, write_image

WIDTH, HEIGHT = 1280, 240  # pixels: of a sheet at most, and of a row about
MAX_IMAGES = 500  # a JPEG has at most 65,535 rows of pixels


class ContactSheet:
    """Thumbnails of images in order, for the image file `path`. Of more than `limit` images it keeps some, spread evenly over all."""

    def __init__(self, path: Path, limit: int = MAX_IMAGES):
        encode_image(path, np.zeros((1, 1, 3), np.uint8))  # fail early where the format is unknown
        self.path, self.limit, self.thumbnails = path, limit, list[np.ndarray]()
        self._step, self._count = 1, 0  # every `_step`-th of `_count` images is kept

    def add(self, image: np.ndarray) -> None:
        """Add an image (H, W, 3) uint8 BGR."""
        if self._count % self._step == 0:
            self.thumbnails.append(thumbnail(image, HEIGHT, WIDTH))
        self._count += 1
        if len(self.thumbnails) > self.limit:
            self.thumbnails, self._step = self.thumbnails[::2], 2 * self._step

    def write(self) -> None:
        """Write the sheet unless it is empty."""
        if self.thumbnails:
            write_image(self.path, contact_sheet(self.thumbnails, HEIGHT, WIDTH))


def thumbnail(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 to fit into a height and a width."""
    scale = min(height / image.shape[0], width / image.shape[1])
    return cv2.resize(image, [max(1, round(scale * side)) for side in image.shape[1::-1]], interpolation=cv2.INTER_AREA)


def contact_sheet(images: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Place images (H, W, 3) uint8 in rows of about one height, in order. Each row fills the width, so that no area stays white.

    Return (rows, W, 3) uint8; W is the width, or that of a single row if all images fit into it.
    """
    ends = height * np.cumsum([image.shape[1] / image.shape[0] for image in images])
    width = max(1, min(width, round(ends[-1])))
    rows = [images[first:last] for first, last in pairwise(_row_starts(np.array([0, *ends]) / width))]
    return np.vstack([_row(row, width) for row in rows])


def _row_starts(edges: np.ndarray) -> list[int]:
    """Return the first image of each row, and the number of images. These rows need the least resizing.

    edges (images + 1,): where each image begins if all stand in one row, and where the last one ends, in widths of the sheet.
    """
    costs, before = np.zeros(len(edges)), np.zeros(len(edges), int)  # of the first images alone, and where their last row begins
    for end in range(1, len(edges)):
        total = costs[:end] + np.log(edges[end] - edges[:end]) ** 2
        before[end], costs[end] = total.argmin(), total.min()
    starts = [len(edges) - 1]
    while starts[-1]:
        starts.append(int(before[starts[-1]]))
    return starts[::-1]


def _row(images: list[np.ndarray], width: int) -> np.ndarray:
    """Resize images to one height at which they fill the width side by side."""
    ends = np.cumsum([image.shape[1] / image.shape[0] for image in images])
    edges, height = np.rint(np.array([0, *ends]) * width / ends[-1]).astype(int), max(1, round(width / ends[-1]))
    widths = np.diff(edges).tolist()
    return np.hstack([cv2.resize(image, (wide, height)) for image, wide in zip(images, widths) if wide])
