"""The place that people are drawn into: its background, things that stand about, and the camera's part in the picture."""

from __future__ import annotations

import cv2
import numpy as np

from data.drawn.figure import SKIN, Cloth, Part, random_colour, random_colours


def noise(rng: np.random.Generator, height: int, width: int, most: int) -> np.ndarray:
    """(H, W) uint8, evenly distributed within `most` of 128."""
    return rng.integers(128 - most, 128 + most, (height, width), np.uint8, endpoint=True)


def added(image: np.ndarray, layer: np.ndarray, gain: float = 1.0, brightness: float = 0.0) -> np.ndarray:
    """gain * image + layer, both (H, W, 3) uint8, where 128 in the layer changes nothing."""
    return cv2.addWeighted(image, gain, layer, 1.0, brightness - 128)


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: a wall or sky over a floor, with blotches, grain, panels and lines; muted, so that people stand out."""
    horizon = int(height * rng.uniform(0.35, 0.85))
    colours = random_colours(rng, 2, (5, 110), (80, 235))
    steps = np.linspace(0.8, 1.15, height)[:, None] if rng.random() < 0.5 else np.ones((height, 1))
    rows = np.where(np.arange(height)[:, None] < horizon, colours[0], colours[1]) * steps
    image = np.repeat(np.clip(rows, 0, 255).astype(np.uint8)[:, None], width, 1)
    blotches = rng.normal(0, rng.uniform(2, 14), (7, 9, 1)) + rng.normal(0, rng.uniform(1, 5), (7, 9, 3))
    image = added(image, cv2.resize(np.clip(blotches + 128, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC))
    grain = cv2.resize(noise(rng, height // 2, width // 2, int(rng.integers(18))), (width, height))
    image = added(image, cv2.merge([grain] * 3))
    if rng.random() < 0.4:  # floor boards or tiles in rough perspective
        line = (colours[1] * 0.75).tolist()
        for x in range(-width, 2 * width, int(width * rng.uniform(0.1, 0.25))):
            cv2.line(image, (width // 2 + (x - width // 2) // 3, horizon), (x, height), line, 1, cv2.LINE_AA)
    for _ in range(rng.integers(0, 6)):  # furniture, windows, doors
        x, y, w, h = (rng.uniform([-0.1, -0.1, 0.08, 0.08], [0.9, 0.8, 0.35, 0.5]) * [width, height, width, height]).astype(int).tolist()
        colour = random_colour(rng, (5, 140), (40, 235))
        cv2.rectangle(image, (x, y), (x + w, y + h), colour.tolist(), -1)
        if rng.random() < 0.6:
            cv2.rectangle(image, (x, y), (x + w, y + h), (colour * 0.6).tolist(), int(rng.integers(1, 4)), cv2.LINE_AA)
    return image


def clutter(rng: np.random.Generator, width: float, height: float) -> tuple[Part, np.ndarray]:
    """A thing that is no person: a pole or bough like a limb, a ball or balloon like a head, a box. Sizes are in picture heights."""
    kind = rng.choice(["limb", "ball", "box"], p=[0.5, 0.3, 0.2])
    angle, length = rng.uniform(0, np.pi), rng.uniform(0.1, 0.35)
    end = length * np.array([np.cos(angle), np.sin(angle)])
    radius = rng.uniform(0.012, 0.035) if kind == "limb" else rng.uniform(0.025, 0.07)
    turns = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = radius * np.stack([np.cos(turns), np.sin(turns) * rng.uniform(0.7, 1.3)], 1)
    if kind == "limb":
        outline = cv2.convexHull(np.concatenate([ring, ring * rng.uniform(0.5, 1) + end]).astype(np.float32))[:, 0]
    else:
        outline = ring if kind == "ball" else ring[[2, 7, 12, 17]] * rng.uniform(0.7, 1.8, 2)
    colour = SKIN[rng.integers(len(SKIN))] if rng.random() < 0.15 else random_colour(rng, (10, 200), (40, 240))
    cloth = Cloth(colour, colour * 0.6, str(rng.choice(["plain", "stripes", "checks"], p=[0.7, 0.2, 0.1])), 0.05)
    return Part(0, outline, np.stack([0 * end, end]), radius * 1.3, 0.0, cloth), rng.uniform([0, 0], [width, height])


def photographed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Blur, noise and exposure of a camera."""
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9))
    grain = cv2.merge([noise(rng, *image.shape[:2], int(rng.integers(13)))] * 3)
    return added(image, grain, rng.uniform(0.8, 1.15), rng.uniform(-8, 12))
