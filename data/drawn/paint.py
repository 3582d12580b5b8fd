"""Painting figures, and any other thing, into a picture and into a buffer that tells what is hidden by what."""

from __future__ import annotations

import math

import cv2
import numpy as np

from data.drawn.figure import Figure, Part

PERSON_STEP = 32  # ids: part label + PERSON_STEP * (person's number from 1); 0 is no person
Placed = tuple[Figure, float, np.ndarray]  # figure, pixels per stature, pelvis in pixels


def paint_person(image: np.ndarray, ids: np.ndarray, person: Placed, number: int, light: float) -> int:
    """Draw all parts of a person as `paint` does; how many pixels the person has, before anything covers them, at least 1."""
    figure, stature, origin = person
    for part in figure.parts:
        paint(image, ids, part, number * PERSON_STEP + part.label, stature, origin, light)
    return max(np.count_nonzero(ids // PERSON_STEP == number), 1)


def paint(image: np.ndarray, ids: np.ndarray, part: Part, number: int, scale: float, origin: np.ndarray, light: float) -> None:
    """Draw a part into the image (H, W, 3) uint8 and its `number` into `ids` (H, W) int32.

    `scale` is pixels per stature, `origin` (2,) the pelvis in pixels, `light` in [-1, 1] says from which side it shines.
    """
    sixteenths = np.round((part.outline * scale + origin) * 16).astype(np.int32)
    left, top, width, height = cv2.boundingRect(sixteenths)
    x0, x1 = max(left // 16 - 1, 0), min((left + width) // 16 + 2, image.shape[1])
    y0, y1 = max(top // 16 - 1, 0), min((top + height) // 16 + 2, image.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    cv2.fillPoly(ids, [sixteenths], number, cv2.LINE_8, 4)
    if part.radius * scale < 1.5:  # nothing to shade, or too thin to see it
        cv2.fillPoly(image, [sixteenths], part.cloth.colour.tolist(), cv2.LINE_AA, 4)
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [sixteenths - np.array([16 * x0, 16 * y0], np.int32)], 255, cv2.LINE_AA, 4)
    alpha = mask * np.float32(1 / 255)
    (ax, ay), (dx, dy) = (part.axis[0] * scale + origin).tolist(), (part.axis[1] - part.axis[0]).tolist()
    length = max(math.hypot(dx, dy), 1e-6)
    dx, dy = dx / length, dy / length
    x, y = np.arange(x0 - ax, x1 - ax - 0.5, dtype=np.float32), np.arange(y0 - ay, y1 - ay - 0.5, dtype=np.float32)[:, None]
    across = np.minimum(np.maximum((y * dx - x * dy) / (part.radius * scale), -1.1), 1.1)
    brightest = max(part.cloth.colour.max(), part.cloth.second.max(), 1.0)
    shade = np.minimum(1.05 - across * (0.4 * across + 0.16 * light), 255 / float(brightest))
    colour = part.cloth.colour
    if part.cloth.pattern != "plain":
        colour = np.where(_pattern(part, x, y, (dx, dy), scale)[..., None], part.cloth.second, colour)
    target = image[y0:y1, x0:x1]
    target[:] = target * (1 - alpha)[..., None] + colour * (shade * alpha)[..., None]


def _pattern(part: Part, x: np.ndarray, y: np.ndarray, axis: tuple[float, float], scale: float) -> np.ndarray:
    """(h, w) bool: where the second colour shows. Stripes run across the part, bars along it."""
    period, (dx, dy) = max(part.cloth.period * scale, 4.0), axis
    stripes = np.mod((x * dx + y * dy) / period, 1) < 0.45
    if part.cloth.pattern == "stripes":
        return stripes
    bars = np.mod((y * dx - x * dy) / period + 0.25, 1) < 0.5
    return bars if part.cloth.pattern == "bars" else stripes ^ bars
