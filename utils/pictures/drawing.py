"""Pictures of people, and sheets of pictures."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from config import Skeleton


def draw_people(image: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """A copy of the image (H, W, 3) uint8 BGR with people drawn in; keypoints (P, K, 3) x, y, score, score 0 where missing."""
    out = image.copy()
    size = max(1, round(min(image.shape[:2]) / 200))
    colours = _hues(len(skeleton.drawn_ends))
    sides = _side_colours(skeleton)
    for person in keypoints:
        points, present = np.rint(person[:, :2]).astype(int), person[:, 2] > 0
        for (a, b), colour in zip(skeleton.drawn_ends, colours):
            if present[a] and present[b]:
                cv2.line(out, points[a].tolist(), points[b].tolist(), colour, 2 * size, cv2.LINE_AA)
        for k in np.flatnonzero(present):
            cv2.circle(out, points[k].tolist(), 2 * size, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(out, points[k].tolist(), max(1, round(1.4 * size)), sides[k], -1, cv2.LINE_AA)
    return out


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


def _hues(count: int) -> list[tuple[int, int, int]]:
    """Colours of even brightness round the circle, BGR."""
    return [tuple(round(255 * c) for c in colorsys.hsv_to_rgb(i / max(count, 1), 0.85, 1.0)[::-1]) for i in range(count)]


def _side_colours(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """One colour for each keypoint: the first of a left-right pair orange, the second blue, the others grey."""
    colours = [(120, 120, 120)] * skeleton.num_keypoints
    for first, second in skeleton.flip_pairs:
        colours[skeleton.index(first)], colours[skeleton.index(second)] = (0, 130, 255), (230, 110, 0)
    return colours
