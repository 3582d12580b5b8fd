"""What a camera, its flash and its files do to a picture."""

from __future__ import annotations

import cv2
import numpy as np

from data.drawn.place import added, noise


def photographed(rng: np.random.Generator, image: np.ndarray, contrast: float = 1.0) -> np.ndarray:
    """Exposure, colour cast, blur and noise; one picture in five has something strong: dark, grey, grainy, shaken."""
    height, width = image.shape[:2]
    pixel = height / 256
    strong = rng.choice(["", "dark", "grey", "cast", "grain", "shaken", "soft", "hazy"], p=[0.78, 0.04, 0.04, 0.04, 0.03, 0.02, 0.03, 0.02])
    sigma = rng.uniform(1.0, 1.9) * pixel if strong == "soft" else rng.uniform(0.3, 0.75) * pixel if rng.random() < 0.6 else 0
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    if strong == "shaken":
        image = cv2.filter2D(image, -1, _smear(rng, rng.uniform(2, 5) * pixel))
    grain = rng.integers(14, 34) if strong == "grain" else rng.integers(1, 10)
    layer = cv2.merge([noise(rng, height, width, int(grain))] * 3)
    if rng.random() < 0.4:  # of the colours too
        layer = added(layer, cv2.merge([noise(rng, height, width, int(grain) // 2) for _ in range(3)]))
    image = added(image, layer)
    cast = rng.normal(0, 0.11 if strong == "cast" else 0.035, 3)
    gain = np.exp(cast - cast.mean() + rng.normal(0.09, 0.08)) * (rng.uniform(0.3, 0.55) if strong == "dark" else 1)
    gamma, lift = np.exp(rng.normal(0, 0.13)), rng.uniform(30, 70) if strong == "hazy" else max(rng.normal(0, 5), 0)
    levels = np.arange(256)[:, None] / 255
    steeper = np.clip(contrast * rng.normal(1, 0.12) - 1, -0.4, 0.7)  # in the middle, and flatter in lights and shadows
    levels = levels**gamma - steeper * np.sin(2 * np.pi * levels**gamma) / (2 * np.pi)
    curve = lift + (255 - lift) * np.clip(levels * gain, 0, 1) if strong != "hazy" else lift + 0.7 * 255 * levels
    image = cv2.LUT(image, np.clip(curve, 0, 255).astype(np.uint8)[:, None])
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    pale = float(rng.uniform(0, 0.35))
    image = cv2.addWeighted(image, 1 - pale, cv2.merge([grey] * 3), pale, 0)
    if strong == "grey":
        tone = np.array([0.85, 0.97, 1.1]) if rng.random() < 0.3 else np.ones(3)
        image = np.clip(grey[..., None] * tone, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:  # darker corners
        x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        image = (image * (1 - np.float32(rng.uniform(0.1, 0.4)) * (x * x + y * y) / 2)[..., None]).astype(np.uint8)
    return image


def _smear(rng: np.random.Generator, length: float) -> np.ndarray:
    """(K, K) kernel of a camera that moves by `length` pixels."""
    side = 2 * int(np.ceil(length / 2)) + 1
    angle, middle = rng.uniform(0, np.pi), side // 2
    reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    kernel = np.zeros((side, side), np.float32)
    start, end = np.rint([middle, middle] - reach).astype(int), np.rint([middle, middle] + reach).astype(int)
    cv2.line(kernel, tuple(start.tolist()), tuple(end.tolist()), 1.0)
    return kernel / kernel.sum()
