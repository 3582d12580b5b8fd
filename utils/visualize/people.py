"""Draw people over images."""

import colorsys
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from config import Skeleton

Color = tuple[int, int, int]  # BGR
LINE_SCALE, MAX_LINE = 1 / 150, 1 / 100  # half a line's width, of the person's extent; at most, of the image's shorter side
OPAQUE_SCORE, MIN_OPACITY = 0.4, 0.25  # the score from which on a keypoint is opaque, and the opacity of score 0
MAX_POSITION = 30_000  # pixels from the corner; OpenCV cannot draw much farther
WHITE, BLACK, GRAY, LIGHT_GRAY = (255, 255, 255), (0, 0, 0), (120, 120, 120), (150, 150, 150)
LEFT, RIGHT = (0, 130, 255), (230, 110, 0)  # orange, blue


def draw_people(image: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton, ids: np.ndarray | None = None) -> np.ndarray:
    """Return a copy of the image (H, W, 3) uint8 BGR with the people drawn; keypoints (P, K, 3) x, y, score, score 0 where missing.

    Each person has a color. Lines are wider for larger people and fainter for lower scores. ids (P,): identities in a video, which
    determine colors and are written above the people; negative: none, gray.
    """
    out = image.copy()
    keypoint_colors = side_colors(skeleton)
    for number, person in enumerate(keypoints):
        present = person[:, 2] > 0
        if not present.any():
            continue
        identity = number if ids is None else int(ids[number])
        points = np.rint(np.nan_to_num(person[:, :2]).clip(-MAX_POSITION, MAX_POSITION)).astype(int)
        extent = np.ptp(points[present], 0).max()
        size = int(np.clip(round(extent * LINE_SCALE), 1, max(1, round(min(image.shape[:2]) * MAX_LINE))))
        color = person_color(identity)
        opacity = MIN_OPACITY + (1 - MIN_OPACITY) * np.clip(person[:, 2] / OPAQUE_SCORE, 0, 1)
        for a, b in skeleton.drawn_ends:
            if present[a] and present[b]:
                with _blended(out, points[[a, b]], 2 * size, min(opacity[a], opacity[b])) as (part, ends):
                    cv2.line(part, *ends, color, 2 * size, cv2.LINE_AA)
        for k in np.flatnonzero(present):
            with _blended(out, points[[k]], 2 * size + 2, opacity[k]) as (part, (center,)):
                cv2.circle(part, center, 2 * size, WHITE, -1, cv2.LINE_AA)
                cv2.circle(part, center, max(1, round(1.4 * size)), keypoint_colors[k], -1, cv2.LINE_AA)
        if ids is not None and identity >= 0:
            x, y = points[present][points[present, 1].argmin()].tolist()
            for ink, width in ((BLACK, 3 * size), (color, size)):
                corner, scale = (x, y - 6 * size), 0.35 * (1 + size)
                cv2.putText(out, str(identity), corner, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, width, cv2.LINE_AA)
    return out


def person_color(identity: int) -> Color:
    """Return the BGR color of an identity, far from those of the next ones; gray below 0."""
    if identity < 0:
        return LIGHT_GRAY
    hue = identity * (5**0.5 - 1) / 2 % 1  # steps of the golden ratio never repeat and spread evenly
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.85 if identity % 2 else 0.6, 1.0))
    return blue, green, red


def side_colors(skeleton: Skeleton) -> list[Color]:
    """Return a color for each keypoint: of a left-right pair LEFT for the first and RIGHT for the second, else GRAY."""
    colors = [GRAY] * skeleton.num_keypoints
    for left, right in skeleton.flip_pairs:
        colors[skeleton.index(left)], colors[skeleton.index(right)] = LEFT, RIGHT
    return colors


@contextmanager
def _blended(out: np.ndarray, points: np.ndarray, margin: int, opacity: float) -> Iterator[tuple[np.ndarray, list[list[int]]]]:
    """Yield a copy of the part of the image around points (n, 2), and the points in it; blend what is drawn in with an opacity."""
    low = np.clip(points.min(0) - margin, 0, np.subtract(out.shape[1::-1], 1))
    high = np.clip(points.max(0) + margin + 1, low + 1, out.shape[1::-1])
    part = out[low[1] : high[1], low[0] : high[0]]
    changed = part.copy()
    yield changed, (points - low).tolist()
    part[:] = cv2.addWeighted(changed, opacity, part, 1 - opacity, 0)
