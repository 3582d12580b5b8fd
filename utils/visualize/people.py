"""Pictures of people."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

from config import Skeleton

Colour = tuple[int, int, int]  # BGR
SIZE = 1 / 150  # of a person's extent: half the width of the lines
SOLID, FAINTEST = 0.4, 0.25  # the score from which on a keypoint hides what is behind it, and how much one of score 0 does
FARTHEST = 30_000  # pixels from the corner


def draw_people(image: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton, ids: np.ndarray | None = None) -> np.ndarray:
    """A copy of the image (H, W, 3) uint8 BGR with people drawn in; keypoints (P, K, 3) x, y, score, score 0 where missing.

    Each person has a colour; lines are the wider the larger the person is, and the fainter the less sure their ends are. ids (P,): who
    they are in a video: their colours are theirs in all of it, and numbers stand above them; grey where nobody knows (< 0).
    """
    out = image.copy()
    sides = side_colors(skeleton)
    for place, person in enumerate(keypoints):
        colour = person_color(place if ids is None else int(ids[place]))
        size = line_size(person, image.shape[:2])
        points, present, opacity = _pixels(person[:, :2]), person[:, 2] > 0, opacities(person[:, 2])
        for a, b in skeleton.drawn_ends:
            if present[a] and present[b]:
                _line(out, points[a], points[b], colour, 2 * size, min(opacity[a], opacity[b]))
        for k in np.flatnonzero(present):
            _dot(out, points[k], sides[k], size, opacity[k])
        if ids is not None and ids[place] >= 0 and present.any():
            highest = points[present][points[present, 1].argmin()]
            _number(out, int(ids[place]), (int(highest[0]), int(highest[1]) - 6 * size), colour, size)
    return out


def line_size(person: np.ndarray, image_size: tuple[int, int]) -> int:
    """Half the width of a person's lines, in pixels: by the extent of the keypoints (K, 3) that are there, within what suits the image."""
    there = _pixels(person[person[:, 2] > 0, :2])
    extent = np.ptp(there, 0).max() if len(there) else 0
    widest = max(1, round(min(image_size) / 100))
    return int(np.clip(round(extent * SIZE), 1, widest))


def opacities(scores: np.ndarray) -> np.ndarray:
    """(...) in FAINTEST to 1 of scores (...): 1 from SOLID on."""
    return FAINTEST + (1 - FAINTEST) * np.clip(np.asarray(scores) / SOLID, 0, 1)


def _pixels(places: np.ndarray) -> np.ndarray:
    """(K, 2) int of x, y (K, 2), kept within what OpenCV can count."""
    return np.rint(np.nan_to_num(places).clip(-FARTHEST, FARTHEST)).astype(int)


def _line(out: np.ndarray, a: np.ndarray, b: np.ndarray, colour: Colour, width: int, opacity: float) -> None:
    low, high = np.minimum(a, b) - width, np.maximum(a, b) + width + 1
    _blended(out, low, high, opacity, lambda part, at: cv2.line(part, (a - at).tolist(), (b - at).tolist(), colour, width, cv2.LINE_AA))


def _dot(out: np.ndarray, centre: np.ndarray, colour: Colour, size: int, opacity: float) -> None:
    def draw(part: np.ndarray, at: np.ndarray) -> None:
        cv2.circle(part, (centre - at).tolist(), 2 * size, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(part, (centre - at).tolist(), max(1, round(1.4 * size)), colour, -1, cv2.LINE_AA)

    _blended(out, centre - 2 * size - 2, centre + 2 * size + 3, opacity, draw)


def _number(out: np.ndarray, number: int, place: tuple[int, int], colour: Colour, size: int) -> None:
    for ink, width in (((0, 0, 0), 3 * size), (colour, size)):
        cv2.putText(out, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.35 * (1 + size), ink, width, cv2.LINE_AA)


def _blended(out: np.ndarray, low: np.ndarray, high: np.ndarray, opacity: float, draw: Callable[[np.ndarray, np.ndarray], object]) -> None:
    """Have `draw(part, corner)` change the part of the image between x, y `low` and `high`, by its opacity."""
    low, high = np.maximum(low, 0), np.minimum(high, out.shape[1::-1])
    if (low >= high).any():
        return
    part = out[low[1] : high[1], low[0] : high[0]]
    drawn = part.copy()
    draw(drawn, low)
    part[:] = drawn if opacity >= 1 else cv2.addWeighted(drawn, opacity, part, 1 - opacity, 0)


def person_color(number: int) -> Colour:
    """BGR of the person with this number, far from those of the next ones; grey below 0."""
    if number < 0:
        return 150, 150, 150
    hue = number * (5**0.5 - 1) / 2 % 1  # steps of the golden ratio come nowhere twice, and never close soon after
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.85 if number % 2 else 0.6, 1.0)[::-1])


def side_colors(skeleton: Skeleton) -> list[Colour]:
    """One colour for each keypoint: the first of a left-right pair orange, the second blue, the others grey."""
    colours = [(120, 120, 120)] * skeleton.num_keypoints
    for first, second in skeleton.flip_pairs:
        colours[skeleton.index(first)], colours[skeleton.index(second)] = (0, 130, 255), (230, 110, 0)
    return colours
