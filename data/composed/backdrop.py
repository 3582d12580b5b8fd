"""What composed pictures show behind their people, and in front of them: parts of photographs that show nobody."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from data.composed.people import Photograph, free_part, whole_image
from data.drawn.place import background

Pieces = Callable[[np.random.Generator], np.ndarray | None]  # some part of a photograph without people, (h, w, 3) uint8 BGR
DRAWN = 0.08  # of the pictures have a drawn background
TWO_PIECES = 0.35  # are put together from two
LEAST_PART, LEAST_SIDE = 0.06, 40  # of a photograph that is of use: part of its area, pixels
TRIES = 6  # photographs that are looked at for a free part


def free_piece(rng: np.random.Generator, photographs: list[Photograph]) -> np.ndarray | None:
    """A part of one of the photographs outside of everybody's boxes; None where a few of them, tried by chance, have none."""
    for number in rng.integers(len(photographs), size=TRIES).tolist():
        piece = largest_piece(photographs[number])
        if piece is not None:
            return piece
    return None


def largest_piece(photograph: Photograph) -> np.ndarray | None:
    """(h, w, 3) uint8 BGR, the largest part outside of everybody's boxes; None where that is too small, or the photograph of no use."""
    image = whole_image(photograph.image, photograph.listed)
    if image is None:
        return None
    height, width = image.shape[:2]
    x0, y0, x1, y1 = free_part(height, width, photograph.boxes)
    if (x1 - x0) * (y1 - y0) < LEAST_PART * height * width or min(x1 - x0, y1 - y0) < LEAST_SIDE:
        return None
    return image[y0:y1, x0:x1]


def covered(rng: np.random.Generator, piece: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width, 3): a piece enlarged by chance, mirrored at its edges until it fills the picture."""
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    fitting = max(height / piece.shape[0], width / piece.shape[1])
    scale = fitting * float(np.exp(rng.uniform(np.log(0.75), np.log(1.7))))
    scale = max(min(scale, 3.5), 1.05 * LEAST_SIDE / min(piece.shape[:2]), 0.35 * fitting)
    inter = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    piece = cv2.resize(np.ascontiguousarray(piece), None, fx=scale, fy=scale, interpolation=inter)
    rows, columns = (_mirrored(rng, have, need) for have, need in zip(piece.shape[:2], (height, width)))
    return piece[rows][:, columns]


def _mirrored(rng: np.random.Generator, have: int, need: int) -> np.ndarray:
    """(need,) places in a row of so many that runs to and fro."""
    to_and_fro = np.concatenate([np.arange(have), np.arange(have)[::-1]])
    start = int(rng.integers(max(have - need, 0) + 1)) if have >= need else int(rng.integers(2 * have))
    return to_and_fro[(start + np.arange(need)) % len(to_and_fro)]


def backdrop(rng: np.random.Generator, pieces: Pieces, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 BGR without people: of one piece or two, or drawn where there are none; now and then out of focus."""
    piece = pieces(rng)
    if piece is None or rng.random() < DRAWN:
        return background(rng, height, width)
    image = covered(rng, piece, height, width)
    other = pieces(rng) if rng.random() < TWO_PIECES else None
    if other is not None:
        image = joined(rng, image, covered(rng, other, height, width))
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 3.0))
    return cv2.convertScaleAbs(image, alpha=rng.uniform(0.75, 1.2), beta=rng.uniform(-12, 12)) if rng.random() < 0.5 else image


def joined(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two pictures of one size along an edge that lies anyhow, as a wall meets a floor."""
    height, width = first.shape[:2]
    angle = rng.choice([0.0, np.pi / 2], p=[0.75, 0.25]) + rng.normal(0, 0.06)
    x, y = (
        np.arange(width, dtype=np.float32) - width * rng.uniform(0.3, 0.7),
        np.arange(height, dtype=np.float32) - height * rng.uniform(0.3, 0.7),
    )
    across = y[:, None] * np.float32(np.cos(angle)) + x * np.float32(np.sin(angle))
    share = np.clip(across / np.float32(rng.uniform(0.5, 6)) + 0.5, 0, 1)
    return blended(first, second, share)


def blended(under: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of two such, share (H, W) float32 of 0..1 of the upper one."""
    return np.round(under + (over.astype(np.float32) - under) * share[..., None]).astype(np.uint8)


def blob(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size) uint8 of 0..255, the mask of a thing of any shape: a round or jagged outline, or a bar."""
    kind = rng.choice(["round", "jagged", "bar", "box"], p=[0.35, 0.25, 0.25, 0.15])
    if kind in ("bar", "box"):
        sides = (size * (rng.uniform(0.06, 0.2) if kind == "bar" else rng.uniform(0.4, 0.75)), size * rng.uniform(0.6, 0.95))
        outline = cv2.boxPoints(((size / 2, size / 2), sides, float(rng.normal(0, 20) + 90 * rng.integers(2))))
    else:
        corners = int(rng.integers(5, 12))
        turns = np.sort(rng.uniform(0, 2 * np.pi, corners)) if kind == "jagged" else np.linspace(0, 2 * np.pi, 40, endpoint=False)
        waves = rng.normal(0, 0.09, 3)
        radii = (
            rng.uniform(0.2, 0.48, corners)
            if kind == "jagged"
            else 0.35 + sum(w * np.sin((i + 1) * turns + i) for i, w in enumerate(waves))
        )
        outline = size / 2 + size * np.clip(radii, 0.08, 0.5)[:, None] * np.stack([np.cos(turns), np.sin(turns) * rng.uniform(0.5, 1)], 1)
    mask = cv2.fillPoly(np.zeros((size, size), np.uint8), [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 1.2))
