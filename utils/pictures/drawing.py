"""Pictures of people."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from config import Skeleton


def draw_people(image: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton, ids: np.ndarray | None = None) -> np.ndarray:
    """A copy of the image (H, W, 3) uint8 BGR with people drawn in; keypoints (P, K, 3) x, y, score, score 0 where missing.

    ids (P,): who they are in a video: each has a colour and a number; grey where nobody knows (< 0).
    """
    out = image.copy()
    size = max(1, round(min(image.shape[:2]) / 200))
    colours = _hues(len(skeleton.drawn_ends))
    sides = _side_colours(skeleton)
    for number, person in enumerate(keypoints):
        if ids is not None:
            colours = [person_colour(int(ids[number]))] * len(skeleton.drawn_ends)
        points, present = np.rint(person[:, :2]).astype(int), person[:, 2] > 0
        for (a, b), colour in zip(skeleton.drawn_ends, colours):
            if present[a] and present[b]:
                cv2.line(out, points[a].tolist(), points[b].tolist(), colour, 2 * size, cv2.LINE_AA)
        for k in np.flatnonzero(present):
            cv2.circle(out, points[k].tolist(), 2 * size, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(out, points[k].tolist(), max(1, round(1.4 * size)), sides[k], -1, cv2.LINE_AA)
        if ids is not None and ids[number] >= 0 and present.any():
            highest = points[present][points[present, 1].argmin()]
            place = (int(highest[0]), int(highest[1]) - 6 * size)
            for colour, width in (((0, 0, 0), 3 * size), (colours[0], size)):
                cv2.putText(out, str(ids[number]), place, cv2.FONT_HERSHEY_SIMPLEX, 0.35 * (1 + size), colour, width, cv2.LINE_AA)
    return out


def person_colour(number: int) -> tuple[int, int, int]:
    """BGR of the person with this number, far from those of the next ones; grey below 0."""
    if number < 0:
        return 150, 150, 150
    hue = number * (5**0.5 - 1) / 2 % 1  # steps of the golden ratio come nowhere twice, and never close soon after
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.85 if number % 2 else 0.6, 1.0)[::-1])


def _hues(count: int) -> list[tuple[int, int, int]]:
    """Colours of even brightness round the circle, BGR."""
    return [tuple(round(255 * c) for c in colorsys.hsv_to_rgb(i / max(count, 1), 0.85, 1.0)[::-1]) for i in range(count)]


def _side_colours(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """One colour for each keypoint: the first of a left-right pair orange, the second blue, the others grey."""
    colours = [(120, 120, 120)] * skeleton.num_keypoints
    for first, second in skeleton.flip_pairs:
        colours[skeleton.index(first)], colours[skeleton.index(second)] = (0, 130, 255), (230, 110, 0)
    return colours
