"""What stands before people, and the shadows below them."""

from __future__ import annotations

import cv2
import numpy as np

from data.drawn.looks import random_colour, random_colours
from data.drawn.paint import Placed
from data.drawn.shade import Light


def put_before(rng: np.random.Generator, image: np.ndarray, ids: np.ndarray) -> None:
    """A post, a table, a rail, leaves or a box in the image (H, W, 3) uint8; in `ids` (H, W) it is nobody."""
    mask = np.zeros(ids.shape, np.uint8)
    height, width = ids.shape
    kind = rng.choice(["post", "table", "rail", "leaves", "box"], p=[0.25, 0.3, 0.12, 0.15, 0.18])
    x, colour = rng.uniform(0, 1) * width, random_colour(rng, (5, 140), (25, 225))
    if kind == "post":
        w = width * rng.uniform(0.012, 0.07)
        _fill(mask, np.array([[x, -1], [x + w, -1], [x + w * rng.uniform(0.9, 1.2), height], [x - w * 0.1, height]]))
    elif kind == "table":
        y, half = height * rng.uniform(0.72, 0.95), width * rng.uniform(0.15, 0.6)
        _fill(mask, np.array([[x - 0.8 * half, y], [x + 0.8 * half, y], [x + half, height], [x - half, height]]))
        for _ in range(rng.integers(0, 4)):  # cups and bottles
            h, at = height * rng.uniform(0.03, 0.12), x + rng.uniform(-0.7, 0.7) * half
            _fill(mask, np.array([[at, y - h], [at + 0.4 * h, y - h], [at + 0.4 * h, y + 4], [at, y + 4]]))
    elif kind == "rail":
        y, step = height * rng.uniform(0.5, 0.8), width * rng.uniform(0.04, 0.15)
        cv2.line(mask, (0, int(y)), (width, int(y + rng.normal(0, 0.05) * height)), 255, max(int(0.012 * height), 1), cv2.LINE_AA)
        for at in np.arange(0, width, step):
            cv2.line(mask, (int(at), int(y)), (int(at), height), 255, max(int(0.005 * height), 1), cv2.LINE_AA)
    elif kind == "leaves":
        centre = np.array([x, height * rng.choice([rng.uniform(0, 0.2), rng.uniform(0.85, 1.0)])])
        for dx, dy in rng.normal(0, 0.13 * height, (int(rng.integers(8, 40)), 2)):
            axes = (max(int(height * rng.uniform(0.012, 0.05)), 1), max(int(0.012 * height), 1))
            cv2.ellipse(mask, (int(centre[0] + dx), int(centre[1] + dy)), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
        colour = np.array([30, 90, 60]) * rng.uniform(0.5, 1.5)
    else:
        w, h = width * rng.uniform(0.08, 0.3), height * rng.uniform(0.1, 0.4)
        y = height * rng.uniform(0.6, 0.95)
        _fill(mask, np.array([[x, y], [x + w, y + rng.normal(0, 0.05) * h], [x + w * 1.05, y + h], [x - 0.05 * w, y + h]]))
    _lay(rng, image, ids, mask, colour)


def _fill(mask: np.ndarray, corners: np.ndarray) -> None:
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 255, cv2.LINE_AA)


def _lay(rng: np.random.Generator, image: np.ndarray, ids: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    height, width = ids.shape
    if rng.random() < 0.3:  # nearer than the camera's focus
        mask = cv2.GaussianBlur(mask, (0, 0), height / 256 * rng.uniform(0.6, 2))
    second = random_colours(rng, 1, (0, 120), (40, 220))[0] if rng.random() < 0.3 else colour * rng.uniform(0.6, 1.2)
    grid = np.clip(colour + (second - colour) * rng.random((5, 6, 1)) + rng.normal(0, 6, (5, 6, 3)), 0, 255).astype(np.float32)
    paint = cv2.resize(grid, (width, height))
    alpha = mask[..., None] * np.float32(1 / 255)
    image[:] = image * (1 - alpha) + paint * alpha
    ids[mask > 127] = 0


def cast_shadow(image: np.ndarray, person: Placed, light: Light, elevation: float) -> None:
    """Darken the ground (H, W, 3) where a person keeps the light off, seen from so many radians above."""
    figure, stature, origin = person
    height, width = image.shape[:2]
    points = figure.mesh.points
    floor = points[:, 1].max()
    slope = light.direction / max(-light.direction[1], 0.25)
    above = floor - points[:, 1]
    tilt = max(float(np.sin(elevation)), 0.07)
    feet = figure.extent()[3] * stature + origin[1]
    x = (points[:, 0] - above * slope[0]) * stature + origin[0]
    y = (points[:, 2] - above * slope[2]) * tilt * stature + feet - 0.01 * stature
    soft = float(np.clip(light.ambient.mean() - 0.35, 0, 0.5)) * 2  # under clouds only what is near the ground keeps light off
    near = above < 1.2 - soft
    step = max(int(0.022 * stature), 1)
    reach = 3 * step
    x, y = x[near], y[near]
    x0, y0 = max(int(x.min()) - reach, 0), max(int(y.min()) - reach, 0)
    x1, y1 = min(int(x.max()) + reach, width), min(int(y.max()) + reach, height)
    if x1 - x0 < step or y1 - y0 < step:
        return
    mask = np.zeros(((y1 - y0) // step + 1, (x1 - x0) // step + 1), np.float32)
    rows, columns = ((y - y0) // step).astype(int), ((x - x0) // step).astype(int)
    inside = (rows >= 0) & (columns >= 0) & (rows < mask.shape[0]) & (columns < mask.shape[1])
    mask[rows[inside], columns[inside]] = 1
    mask = cv2.blur(cv2.dilate(mask, np.ones((3, 3), np.uint8)), (3, 3))
    mask = cv2.resize(mask, (x1 - x0, y1 - y0))
    target = image[y0:y1, x0:x1]
    target[:] = target * (1 - (0.55 - 0.3 * soft) * mask)[..., None]
