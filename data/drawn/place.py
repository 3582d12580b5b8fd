"""The place that people are drawn into: rooms, streets, fields, courts and clutter, or a photograph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from data.drawn.looks import random_colour, random_colours
from data.drawn.shade import SIDE, noise_banks
from data.images import any_image

SIZE_OF_DETAIL = 256  # pixels of picture height for which there are as many details as the numbers below say


def noise(rng: np.random.Generator, height: int, width: int, most: int) -> np.ndarray:
    """(H, W) uint8, evenly distributed within `most` of 128."""
    return rng.integers(128 - most, 128 + most, (height, width), np.uint8, endpoint=True)


def added(image: np.ndarray, layer: np.ndarray, gain: float = 1.0, brightness: float = 0.0) -> np.ndarray:
    """gain * image + layer, both (H, W, 3) uint8, where 128 in the layer changes nothing."""
    return cv2.addWeighted(image, gain, layer, 1.0, brightness - 128)


def background(rng: np.random.Generator, height: int, width: int, horizon: float | None = None) -> np.ndarray:
    """(H, W, 3) uint8 of a place of a random kind; horizon: the row of the eye level, wherever it is."""
    horizon = height * rng.uniform(0.3, 0.75) if horizon is None else horizon
    level = int(np.clip(horizon, 0.08 * height, 0.8 * height))
    kind: Callable = _KINDS[rng.choice(len(_KINDS), p=[0.34, 0.22, 0.24, 0.12, 0.08])]
    image = np.empty((height, width, 3), np.uint8)
    kind(rng, image, level)
    return textured(rng, image)


def textured(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Blotches of light, dirt and grain of all sizes over an image; some places are out of focus."""
    height, width = image.shape[:2]
    grid = rng.normal(128, rng.uniform(2, 9), (4, 5)).clip(0, 255).astype(np.uint8)
    light = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    rough = cv2.resize(_rough(rng, rng.uniform(2, 12)), (width, height))
    image = added(image, cv2.merge([cv2.addWeighted(light, 1, rough, 1, -128)] * 3))
    if rng.random() < 0.45:
        image = cv2.GaussianBlur(image, (0, 0), max(rng.uniform(0.4, 1.8) ** 2 * height / SIZE_OF_DETAIL, 0.3))
    return image


def _rough(rng: np.random.Generator, strength: float) -> np.ndarray:
    """(h, w) uint8 about 128: a part of a bank of noise of all sizes, squeezed or stretched at random."""
    bank = noise_banks()[0]
    h, w = rng.integers(SIDE // 3, SIDE, 2, endpoint=True)
    y, x = rng.integers(SIDE - h + 1), rng.integers(SIDE - w + 1)
    part = bank[y : y + h, x : x + w][:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    return cv2.convertScaleAbs(part, alpha=1.6 * strength, beta=128)


def _cells(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    """(H, W) uint8 about 128: bricks, tiles, planks or panels, each of its own brightness, with joints."""
    rows, columns = int(rng.integers(4, 24)), int(rng.integers(2, 20))
    shades = rng.normal(128, strength, (rows, columns))
    large = cv2.resize(shades.clip(0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.5:  # every second row is shifted by half a brick
        for r in range(1, rows, 2):
            part = slice(r * height // rows, (r + 1) * height // rows)
            large[part] = np.roll(large[part], width // columns // 2, 1)
    joint = int(np.clip(128 - rng.uniform(5, 45), 0, 255))
    for r in range(rows):
        cv2.line(large, (0, r * height // rows), (width, r * height // rows), joint, 1)
    for c in range(columns * (rng.random() < 0.6)):
        cv2.line(large, (c * width // columns, 0), (c * width // columns, height), joint, 1)
    return large


def _ground_texture(rng: np.random.Generator, image: np.ndarray, level: int, strength: float, paved: bool) -> None:
    """Texture of what lies flat, from the level down: the nearer, the coarser."""
    height, width = image.shape[:2]
    deep = height - level
    if deep < 6:
        return
    side = SIDE
    texture = _cells(rng, side, side, strength) if paved else cv2.resize(_rough(rng, strength), (side, side))
    near, far = rng.uniform(0.7, 2.2) * width, rng.uniform(5, 14) * width  # how much of the ground a row shows
    middle, scale = rng.uniform(0.3, 0.7) * width, side / width / (rng.uniform(0.8, 2.0) if paved else rng.uniform(0.25, 0.7))
    corners = np.array([[-far / 2, 0], [far / 2, 0], [near / 2, 3 * width], [-near / 2, 3 * width]]) * scale + side / 2
    seen = np.array([[middle - width, 0], [middle + width, 0], [middle + width, deep], [middle - width, deep]])
    way = cv2.getPerspectiveTransform(corners.astype(np.float32), seen.astype(np.float32))
    layer = cv2.warpPerspective(texture, way, (width, deep), borderMode=cv2.BORDER_WRAP)
    image[level:] = added(image[level:], cv2.merge([layer] * 3))


def _clutter(rng: np.random.Generator, image: np.ndarray, x: float, y: float, w: float, h: float, palette: np.ndarray) -> None:
    """Small things of many shapes and colours in a part of the image, as on a shelf, a stall, a desk."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = max(int(x), 0), max(int(y), 0), min(int(x + w), width), min(int(y + h), height)
    if x1 - x0 < 6 or y1 - y0 < 6:
        return
    part = image[y0:y1, x0:x1]
    count = int(rng.integers(12, 45))
    at, size = rng.uniform(0, 1, (count, 2)) * [x1 - x0, y1 - y0], height * rng.uniform(0.01, 0.05, (count, 2))
    colours = np.clip(palette[rng.integers(len(palette), size=count)] * rng.uniform(0.4, 1.3, (count, 1)), 0, 255)
    for (px, py), (sx, sy), colour, kind in zip(at, size, colours.tolist(), rng.random(count)):
        if kind < 0.6:
            cv2.rectangle(part, (int(px - sx), int(py - sy)), (int(px + sx), int(py + sy)), colour, -1)
        else:
            cv2.ellipse(part, (int(px), int(py)), (int(sx) + 1, int(sy) + 1), 180 * kind, 0, 360, colour, -1, cv2.LINE_AA)


def _gradient(image: np.ndarray, top: int, bottom: int, first: np.ndarray, last: np.ndarray) -> None:
    """Fill the rows from top to bottom of an image (H, W, 3) with colours from the first (3,) to the last (3,), BGR."""
    if bottom > top:
        rows = np.linspace(0, 1, bottom - top)[:, None]
        image[top:bottom] = np.clip(first * (1 - rows) + last * rows, 0, 255)[:, None]


def _quad(image: np.ndarray, corners: np.ndarray, colour: np.ndarray) -> None:
    """Fill what is within corners (4, 2) x, y of an image (H, W, 3) with a colour (3,), BGR."""
    cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], np.asarray(colour).tolist(), cv2.LINE_AA)


def _rectangle(image: np.ndarray, x: float, y: float, w: float, h: float, colour: np.ndarray, line: int = -1) -> None:
    cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), np.asarray(colour).tolist(), line)


def _muted(rng: np.random.Generator, count: int) -> np.ndarray:
    """(N, 3) BGR as walls, floors and houses have them: from brown to beige, grey, and now and then of any hue."""
    tint = np.array([[0.8, 0.95, 1.08], [0.66, 0.85, 1.08], [1, 1, 1], [1.06, 1.0, 0.92]])[rng.choice(4, count, p=[0.4, 0.2, 0.3, 0.1])]
    muted = tint * rng.uniform(60, 235, (count, 1)) + rng.normal(0, 5, (count, 3))
    any_hue = rng.random((count, 1)) < 0.18
    return np.clip(np.where(any_hue, random_colours(rng, count, (20, 110), (75, 240)), muted), 0, 255)


def _floor(rng: np.random.Generator, image: np.ndarray, level: int, colour: np.ndarray) -> None:
    """From the level down: planks or tiles in perspective, or plain."""
    height, width = image.shape[:2]
    _gradient(image, level, height, colour * 0.82, colour * 1.08)
    if rng.random() < 0.8:
        _ground_texture(rng, image, level, rng.uniform(3, 16), rng.random() < 0.7)


def _box_of_furniture(rng: np.random.Generator, image: np.ndarray, x: float, floor: float, w: float, h: float, colour: np.ndarray) -> None:
    """Front, side and top of a cupboard, a table, a sofa, with doors, drawers or shelves."""
    aside, up = 0.25 * w * rng.choice([-1, 1]), 0.12 * w
    edge = x if aside < 0 else x + w
    _quad(image, np.array([[edge, floor - h], [edge + aside, floor - h - up], [edge + aside, floor - up], [edge, floor]]), colour * 0.65)
    _quad(image, np.array([[x, floor - h], [x + w, floor - h], [x + w + aside, floor - h - up], [x + aside, floor - h - up]]),
          np.minimum(colour * 1.2, 255))  # fmt: skip
    _rectangle(image, x, floor - h, w, h, colour)
    rows, columns = rng.integers(1, 5, 2)
    shelf = rng.random() < 0.35
    for r in range(rows):
        for c in range(columns):
            cell = (x + w * (c + 0.08) / columns, floor - h + h * (r + 0.08) / rows, 0.84 * w / columns, 0.84 * h / rows)
            _rectangle(image, *cell, colour * (0.45 if shelf else 0.85), -1 if shelf else 1)
            if shelf:
                many = int(rng.integers(2, 8))
                for i, book in enumerate(random_colours(rng, many, (20, 200), (40, 220))):
                    tall = cell[3] * rng.uniform(0.5, 0.95)
                    _rectangle(image, cell[0] + cell[2] * i / many, cell[1] + cell[3] - tall, cell[2] / many - 1, tall, book)


def _room(rng: np.random.Generator, image: np.ndarray, level: int) -> None:
    height, width = image.shape[:2]
    wall, floor = _muted(rng, 2)
    foot = int(min(level + height * rng.uniform(0.08, 0.3), 0.95 * height))  # where the wall ends
    image[:] = 0
    _gradient(image, 0, foot, wall * rng.uniform(0.8, 1.1), wall)
    corner = rng.random()
    if corner < 0.5:  # a second wall
        x, slope = width * rng.uniform(0.1, 0.9), height * rng.uniform(0, 0.2)
        side = 0 if rng.random() < 0.5 else width
        _quad(image, np.array([[x, 0], [side, 0], [side, foot + slope], [x, foot]]), wall * rng.uniform(0.7, 0.92))
    if rng.random() < 0.35 and foot > 10:
        image[:foot] = added(image[:foot], cv2.merge([_cells(rng, foot, width, rng.uniform(1, 14))] * 3))
    _floor(rng, image, foot, floor)
    cv2.line(image, (0, foot), (width, foot), (wall * 0.6).tolist(), int(rng.integers(1, 4)))
    for _ in range(rng.integers(0, 4)):  # windows, doors, pictures
        w, h = width * rng.uniform(0.08, 0.3), height * rng.uniform(0.12, 0.4)
        x, y = rng.uniform(-0.1, 0.95) * width, rng.uniform(-0.05, 0.5) * foot
        _rectangle(image, x, y, w, h, _muted(rng, 1)[0] * 0.8)
        inner = random_colours(rng, 2, (0, 120), (90, 255))
        _rectangle(image, x + 3, y + 3, w - 6, h - 6, inner[0])
        if rng.random() < 0.5:
            _rectangle(image, x + 3, y + 3 + 0.5 * h, w - 6, 0.5 * h - 6, inner[1])
            _rectangle(image, x + 0.48 * w, y, 0.04 * w, h, wall * 0.7)
    for _ in range(rng.integers(0, 5)):
        w, h = width * rng.uniform(0.08, 0.35), height * rng.uniform(0.1, 0.5)
        floor_at = foot + rng.uniform(0.02, 0.25) * height
        x = rng.uniform(-0.15, 0.95) * width
        _box_of_furniture(rng, image, x, floor_at, w, h, _muted(rng, 1)[0] * rng.uniform(0.4, 1))
        if rng.random() < 0.5:
            _clutter(rng, image, x, floor_at - h - 0.12 * height, w, 0.13 * height, random_colours(rng, 5, (0, 200), (20, 250)))
    if rng.random() < 0.3:
        x, y, w, h = rng.uniform([-0.1, 0, 0.2, 0.1], [0.7, 0.5, 0.7, 0.4]) * [width, height, width, height]
        _clutter(rng, image, x, y, w, h, random_colours(rng, 6, (0, 170), (20, 250)))


def _sky(rng: np.random.Generator, image: np.ndarray, level: int) -> None:
    height, width = image.shape[:2]
    blue = np.array([235, 190, 140]) * rng.uniform(0.65, 1.08) if rng.random() < 0.6 else np.array([232, 228, 224]) * rng.uniform(0.6, 1.1)
    _gradient(image, 0, max(level, 1), blue * rng.uniform(0.75, 1.0), blue * 0.35 + 160)
    if rng.random() < 0.5 and level > 4:
        clouds = cv2.resize(rng.normal(0, 1, (6, 5)).astype(np.float32), (width, level), interpolation=cv2.INTER_CUBIC)
        share = np.clip(clouds * 0.5 - 0.1, 0, 0.8)[..., None]
        image[:level] = image[:level] * (1 - share) + 240 * share


def _foliage(rng: np.random.Generator, image: np.ndarray, x: float, y: float, size: float, colour: np.ndarray) -> None:
    """The crown of a tree or a bush around a point, `size` in pixels across: leaves light above and dark below, with holes."""
    side = max(int(1.3 * size), 6)
    x0, y0 = int(x - side / 2), int(y - side / 2)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x0 + side, image.shape[1]), min(y0 + side, image.shape[0])
    if left >= right or top >= bottom:
        return
    coarse, fine = (cv2.resize(rng.normal(0, 1, (n, n)).astype(np.float32), (side, side)) for n in (6, max(side // 3, 4)))
    at = np.linspace(-1, 1, side, dtype=np.float32)
    inside = 0.75 - (at**2 + at[:, None] ** 2) + 0.3 * coarse + 0.22 * fine
    shade = 1 - 0.3 * at[:, None] + 0.22 * fine + 0.2 * coarse
    alpha = np.clip(inside * 6, 0, 1)[..., None]
    paint = np.clip(np.asarray(colour, np.float32) * np.clip(shade, 0.25, 1.9)[..., None], 0, 255)
    cut = slice(top - y0, bottom - y0), slice(left - x0, right - x0)
    target = image[top:bottom, left:right]
    target[:] = target * (1 - alpha[cut]) + paint[cut] * alpha[cut]


def _green(rng: np.random.Generator) -> np.ndarray:
    return np.array([rng.uniform(20, 60), rng.uniform(65, 125), rng.uniform(45, 105)])


def _street(rng: np.random.Generator, image: np.ndarray, level: int) -> None:
    height, width = image.shape[:2]
    _sky(rng, image, height)
    x = -0.1 * width
    while x < width:  # houses
        w, top = width * rng.uniform(0.12, 0.45), level * rng.uniform(-0.3, 0.7)
        colour = _muted(rng, 1)[0] * rng.uniform(0.5, 1)
        _rectangle(image, x, top, w, height, colour)
        rows, columns = int(rng.integers(2, 9)), int(rng.integers(2, 7))
        pane = random_colour(rng, (0, 90), (25, 230))
        if rng.random() < 0.85:
            for r in range(rows):
                for c in range(columns):
                    at = x + w * (c + 0.25) / columns, top + (level - top) * (r + 0.25) / rows
                    _rectangle(image, *at, 0.5 * w / columns, 0.55 * (level - top) / rows, pane * rng.uniform(0.7, 1.1))
        x += w * rng.uniform(0.8, 1.15)
    ground = np.full(3, rng.uniform(70, 190)) + rng.normal(0, 8, 3)
    _floor(rng, image, min(level + int(0.05 * height), height - 1), ground)
    if rng.random() < 0.5:
        x, w = rng.uniform(-0.1, 0.8) * width, rng.uniform(0.2, 0.8) * width
        _clutter(rng, image, x, level - 0.1 * height, w, 0.17 * height, _muted(rng, 8))
    for _ in range(rng.integers(0, 4)):  # cars
        w = width * rng.uniform(0.1, 0.4)
        x, foot, colour = rng.uniform(-0.2, 0.9) * width, level + height * rng.uniform(0.06, 0.2), random_colour(rng, (0, 230), (25, 235))
        h = 0.36 * w
        _rectangle(image, x, foot - 0.7 * h, w, 0.5 * h, colour)
        _quad(image, np.array([[x + 0.15 * w, foot - 0.7 * h], [x + 0.28 * w, foot - 1.1 * h], [x + 0.72 * w, foot - 1.1 * h],
                               [x + 0.88 * w, foot - 0.7 * h]]), colour * 0.45)  # fmt: skip
        for wheel in (0.22, 0.78):
            cv2.circle(image, (int(x + wheel * w), int(foot - 0.2 * h)), max(int(0.2 * h), 1), (28, 28, 28), -1, cv2.LINE_AA)
    for _ in range(rng.integers(0, 3)):
        size = height * rng.uniform(0.25, 0.6)
        x, y = rng.uniform(0, 1) * width, level - 0.8 * size
        _rectangle(image, x, y, max(0.06 * size, 1), 1.1 * size, (45, 60, 75))
        _foliage(rng, image, x, y, size, _green(rng))
    for _ in range(rng.integers(0, 4)):
        x = rng.uniform(0, 1) * width
        _rectangle(
            image, x, level - height * rng.uniform(0.2, 0.8), max(0.008 * width, 1), height * rng.uniform(0.5, 1), _muted(rng, 1)[0] * 0.6
        )


def _field(rng: np.random.Generator, image: np.ndarray, level: int) -> None:
    height, width = image.shape[:2]
    _sky(rng, image, height)
    if rng.random() < 0.5:  # hills
        edge = np.cumsum(rng.normal(0, 1, 9))
        hills = level - height * 0.06 * (2 + np.interp(np.linspace(0, 8, width), range(9), edge - edge.min()))
        outline = np.concatenate([np.stack([np.arange(width), hills], 1), [[width, height], [0, height]]])
        _quad(image, outline, random_colour(rng, (20, 110), (70, 190)))
    ground = [_green(rng) * 1.25, np.array([150, 185, 205]), np.array([228, 226, 222]), np.array([150, 125, 95]), np.array([95, 120, 140])]
    colour = ground[rng.choice(5, p=[0.5, 0.15, 0.1, 0.1, 0.15])] * rng.uniform(0.75, 1.1)
    _gradient(image, level, height, colour * 0.9, colour * rng.uniform(0.75, 1.1))
    for _ in range(rng.integers(0, 11)):  # trees and bushes
        size = height * rng.uniform(0.1, 0.6)
        _foliage(rng, image, rng.uniform(0, 1) * width, level - rng.uniform(0.1, 0.5) * size, size, _green(rng) * rng.uniform(0.5, 1))
    _ground_texture(rng, image, level, rng.uniform(6, 22), paved=False)


def _court(rng: np.random.Generator, image: np.ndarray, level: int) -> None:
    """A playing field with lines, boards and rows of spectators."""
    height, width = image.shape[:2]
    ground = random_colour(rng, (40, 150), (90, 210)) if rng.random() < 0.6 else _green(rng) * 1.3
    foot = int(min(level + rng.uniform(0, 0.2) * height, 0.9 * height))
    _gradient(image, 0, foot, *_muted(rng, 2) * 0.6)
    if rng.random() < 0.7:
        size = height * rng.uniform(0.012, 0.035)
        for y in np.arange(0.1 * height, foot - 2 * size, 2.6 * size):
            colours = random_colours(rng, int(width / (2.2 * size)) + 1, (0, 190), (30, 235))
            for i, colour in enumerate(colours):
                if rng.random() < 0.8:
                    x = 2.2 * size * i + rng.normal(0, 0.4 * size)
                    _rectangle(image, x - 0.8 * size, y + 0.8 * size, 1.6 * size, 1.8 * size, colour)
                    cv2.circle(image, (int(x), int(y)), max(int(0.6 * size), 1), (110, 140, 185), -1)
    board = height * rng.uniform(0.03, 0.1)
    for x in np.arange(0, width, width * rng.uniform(0.1, 0.4)):
        colour = random_colour(rng, (0, 230), (30, 235))
        _rectangle(image, x, foot - board, width, board, colour)
        for i in range(rng.integers(0, 7)):
            _rectangle(image, x + (0.6 + 0.8 * i) * board, foot - 0.75 * board, 0.4 * board, 0.5 * board, 255 - colour)
    _gradient(image, foot, height, ground * 0.85, ground * 1.1)
    _ground_texture(rng, image, foot, rng.uniform(2, 10), paved=rng.random() < 0.15)
    for _ in range(rng.integers(1, 6)):
        ends = (
            rng.uniform([-0.3, 0, -0.3, 0], [1.3, 1, 1.3, 1]) * [width, height - foot, width, height - foot] + [0, foot, 0, foot]
        ).astype(int)
        cv2.line(image, tuple(ends[:2].tolist()), tuple(ends[2:].tolist()), (235, 238, 240), int(rng.integers(1, 4)), cv2.LINE_AA)


def _jumble(rng: np.random.Generator, image: np.ndarray, level: int) -> None:
    """Shapes of all sizes over each other, as edges lie in photographs of anything."""
    height, width = image.shape[:2]
    palette = np.concatenate([_muted(rng, 6), random_colours(rng, 2, (40, 160), (20, 240))])
    image[:] = palette[0]
    sizes = np.sort(np.clip(0.05 / rng.random(int(rng.integers(30, 130))) ** 0.7, 0, 0.6))[::-1] * height
    for size in sizes:
        x, y = rng.uniform([0, 0], [width, height])
        colour = np.clip(palette[rng.integers(len(palette))] * rng.uniform(0.6, 1.2) + rng.normal(0, 10, 3), 0, 255).tolist()
        kind = rng.random()
        if kind < 0.35:
            axes = (max(int(size * rng.uniform(0.3, 1)), 1), max(int(size * 0.6), 1))
            cv2.ellipse(image, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        elif kind < 0.75:
            corners = size * rng.uniform(0.5, 1.2, 4)[:, None] * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [rng.uniform(0.3, 1), 1]
            turn = rng.choice([0, rng.uniform(0, 3)])
            spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
            _quad(image, corners @ spin + [x, y], colour)
        else:
            end = (int(x + rng.normal(0, 3 * size)), int(y + rng.normal(0, 3 * size)))
            cv2.line(image, (int(x), int(y)), end, colour, max(int(0.2 * size), 1), cv2.LINE_AA)


_KINDS = (_room, _street, _field, _court, _jumble)


def photograph(rng: np.random.Generator, paths: Sequence[Path], height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: a part of one of the photographs, as large as fits or smaller, turned over sideways now and then."""
    image = any_image(rng, paths)
    scale = min(image.shape[0] / height, image.shape[1] / width) * rng.uniform(0.6, 1)
    h, w = max(int(height * scale), 1), max(int(width * scale), 1)
    y, x = rng.integers(image.shape[0] - h + 1), rng.integers(image.shape[1] - w + 1)
    part = cv2.resize(image[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR)
    return part[:, ::-1].copy() if rng.random() < 0.5 else part
