"""A picture put together from a backdrop, people who were cut out of photographs, and things; and its annotations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from data.composed.backdrop import Pieces, backdrop, blended, blob, covered
from data.composed.cutout import Cutout
from data.composed.people import BODY, reach
from data.drawn.annotate import person_annotation, polygons
from data.drawn.place import added, noise

PEOPLE = (0.22, 0.2, 0.17, 0.13, 0.1, 0.08, 0.06, 0.04)  # shares of pictures with 1, 2, ... people
SIZES = (1 / 12, 1.25)  # of a person, as a part of the picture's height
USUAL = 0.3  # at least, where all people of a picture are about as far away
LARGEST = np.array([1.25, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.55])  # by how many there are
ENLARGED = 2.2  # at most: what is enlarged more shows nothing but blur
HEIGHT = 4.0  # of somebody who stands, in units: about the longest side of a cut-out
TOGETHER = 0.5  # of the people stand with another
GUESSED, LEFT_OUT = 0.35, 0.1  # parts of a person that must be seen to guess what is hidden, and to label anything
MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]  # COCO's keypoints with left and right exchanged
Find = Callable[[np.random.Generator, float], Cutout | None]  # somebody to be shown with a `unit` of so many pixels


@dataclass
class Shown:
    """Somebody in the picture. keypoints (17, 3) in its pixels; pixels: how many of the mask lie in it, before anything covers them."""

    number: int
    keypoints: np.ndarray
    pixels: int


class Canvas:
    """A picture that things are pasted into from far to near, and a buffer (H, W) that tells whose each pixel is: 0 nobody's."""

    def __init__(self, image: np.ndarray):
        self.image, self.owners = image.copy(), np.zeros(image.shape[:2], np.int32)

    def paste(self, image: np.ndarray, mask: np.ndarray, matrix: np.ndarray, number: int, adapt: float) -> int:
        """Put an image (h, w, 3) under its mask (h, w) where the affine (2, 3) takes it; how many pixels it has in the picture.

        adapt: how much its colours become those of what is behind, 0..1.
        """
        height, width = self.owners.shape
        matrix = matrix.copy()
        scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        if round(scale * min(mask.shape)) < 1:
            return 0
        if scale < 0.7:  # an affine alone would skip pixels
            image, mask = (cv2.resize(layer, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for layer in (image, mask))
            matrix[:, :2] /= scale
            matrix[:, 2] += matrix[:, :2] @ np.full(2, 0.5 - 0.5 * scale)
        h, w = mask.shape
        corners = np.array([[0, 0], [w, 0], [0, h], [w, h]]) @ matrix[:, :2].T + matrix[:, 2]
        x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0).tolist()
        x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, [width, height]).tolist()
        if x0 >= x1 or y0 >= y1:
            return 0
        matrix[:, 2] -= [x0, y0]
        how = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
        over = cv2.warpAffine(image, matrix, (x1 - x0, y1 - y0), **how)
        share = cv2.warpAffine(mask, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        under = self.image[y0:y1, x0:x1]
        solid = share > 127
        if adapt > 0 and solid.sum() > 20:
            over = adapted(over, solid, under, adapt)
        under[:] = blended(under, over, share * np.float32(1 / 255))
        self.owners[y0:y1, x0:x1][solid] = number
        return int(solid.sum())


def adapted(image: np.ndarray, mask: np.ndarray, behind: np.ndarray, share: float) -> np.ndarray:
    """(h, w, 3) uint8 with the mean and spread of its colours under the mask (h, w) bool moved a share of the way to those behind."""
    own, other = (cv2.cvtColor(layer, cv2.COLOR_BGR2LAB).astype(np.float32) for layer in (image, behind))
    inside = own[mask]
    mean, spread = inside.mean(0), inside.std(0) + 4
    target, wide = other.mean((0, 1)), other.std((0, 1)) + 4
    gain = np.clip((wide / spread) ** (0.5 * share), 0.75, 1.25)
    moved = mean + np.clip(target - mean, -60, 60) * share * np.float32([0.5, 0.6, 0.6])
    return cv2.cvtColor(np.clip((own - mean) * gain + moved, 0, 255).astype(np.uint8), cv2.COLOR_LAB2BGR)


def compose(
    rng: np.random.Generator, find: Find, pieces: Pieces, labelled: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """An image (H, W, 3) uint8 BGR and its COCO annotations, still without ids. labelled (K,): places of the keypoints that are known."""
    canvas = Canvas(backdrop(rng, pieces, height, width))
    for _ in range(rng.integers(0, 4)):  # things are pasted as people are, or what is pasted would be people
        put_thing(rng, canvas, pieces, height * rng.uniform(0.1, 0.6), rng.uniform([0, 0], [width, height]))
    shown = []
    for number, (cutout, matrix) in enumerate(placed(rng, find, height, width), start=1):
        keypoints = moved(cutout.keypoints, matrix)
        pixels = canvas.paste(cutout.image, cutout.mask, matrix, number, rng.uniform(0, 0.7))
        shown.append(Shown(number, keypoints, pixels))
        if rng.random() < 0.12:  # something in front of this person
            size = rng.uniform(0.25, 0.7) * np.ptp(keypoints[BODY, :2], axis=0).max()
            put_thing(rng, canvas, pieces, size, keypoints[rng.integers(5, 17), :2] + rng.normal(0, 0.15 * size, 2))
    annotations = [annotation for person in shown if (annotation := annotate(person, canvas.owners, labelled)) is not None]
    return finished(rng, canvas.image), annotations


def put_thing(rng: np.random.Generator, canvas: Canvas, pieces: Pieces, size: float, middle: np.ndarray) -> None:
    """Paste a blob of some texture, so many pixels large, or nothing where there are no textures."""
    piece, side = pieces(rng), int(np.clip(size, 12, 400))
    if piece is None:
        return
    mask, texture = blob(rng, side), covered(rng, piece, side, side)
    matrix = np.array([[1.0, 0, middle[0] - side / 2], [0, 1, middle[1] - side / 2]])
    canvas.paste(texture, mask, matrix, 0, rng.uniform(0, 0.5))


# Where people are


def placed(rng: np.random.Generator, find: Find, height: int, width: int) -> list[tuple[Cutout, np.ndarray]]:
    """People and the affines (2, 3) that take them into the picture, from far to near: who is lower is mostly nearer."""
    people = 1 + int(rng.choice(len(PEOPLE), p=PEOPLE))
    largest = min(SIZES[1], float(LARGEST[people - 1]))
    usual = np.exp(rng.uniform(np.log(USUAL), np.log(largest)))  # of this picture, as its people are about as far away
    alike = rng.random() < 0.7
    found: list[tuple[float, Cutout, np.ndarray]] = []
    boxes: list[np.ndarray] = []
    for _ in range(people):
        size = usual * np.exp(rng.normal(0, 0.2)) if alike else np.exp(rng.uniform(np.log(SIZES[0]), np.log(largest)))
        unit = float(np.clip(size, SIZES[0], largest)) * height / HEIGHT
        cutout = find(rng, unit)
        if cutout is None:
            continue
        matrix = turned(rng, min(unit / cutout.unit, ENLARGED))
        box = reach(moved(cutout.keypoints, matrix))
        origin = position(rng, box, height, width, boxes)
        matrix[:, 2] += origin
        boxes.append(box + np.tile(origin, 2))
        nearness = boxes[-1][3] if rng.random() < 0.8 else rng.uniform(0, height)
        found.append((float(nearness), cutout, matrix))
    return [(cutout, matrix) for _, cutout, matrix in sorted(found, key=lambda entry: entry[0])]


def turned(rng: np.random.Generator, scale: float) -> np.ndarray:
    """(2, 3) an affine that scales, mirrors half of the people and turns them a little, wider or taller by a few percent."""
    angle = np.radians(rng.normal(0, 7))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    stretch = np.diag([np.exp(rng.normal(0, 0.05)) * (-1 if rng.random() < 0.5 else 1), 1.0])
    return np.column_stack([np.array([[cos, -sin], [sin, cos]]) @ stretch, np.zeros(2)])


def moved(keypoints: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(17, 3) through an affine (2, 3); where it mirrors, left and right trade places."""
    out = keypoints.copy()
    out[:, :2] = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return out[MIRRORED] if np.linalg.det(matrix[:, :2]) < 0 else out


def position(rng: np.random.Generator, box: np.ndarray, height: int, width: int, boxes: list[np.ndarray]) -> np.ndarray:
    """(2,) what to add to a box (4,) x0, y0, x1, y1: beside or before another one, anywhere in the picture, or cut by its border."""
    size, frame = box[2:] - box[:2], np.array([width, height], float)
    if boxes and rng.random() < TOGETHER:
        other = boxes[rng.integers(len(boxes))]
        middle = (other[:2] + other[2:]) / 2 + rng.choice([-1, 1]) * np.array([1, 0]) * rng.uniform(0.25, 1.1) * (
            size[0] + other[2] - other[0]
        ) / 2
        feet = other[3] + rng.normal(0, 0.08) * size[1]
        corner = np.array([middle[0] - size[0] / 2, feet - size[1]])
    else:
        corner = rng.uniform(0, 1, 2) ** [1.0, 0.7] * np.maximum(frame - size, 0) + rng.uniform(0, 1, 2) * np.minimum(frame - size, 0)
        if rng.random() < 0.15:
            side, part = rng.choice(4, p=[0.25, 0.25, 0.4, 0.1]), rng.uniform(0.15, 0.6)
            ends = (-part * size[0], width - (1 - part) * size[0], height - (1 - part) * size[1], -part * size[1])
            corner[int(side > 1)] = ends[side]
            return corner - box[:2]
    return np.clip(corner, -0.35 * size, frame - 0.65 * size) - box[:2]  # so much of everybody is to be seen


# The annotations


def annotate(person: Shown, owners: np.ndarray, labelled: np.ndarray) -> dict[str, Any] | None:
    """A person's annotation, from the buffer that tells whose each pixel is; None where nothing is to be seen.

    What is covered has v 1; where most of the person is, 0, as nobody would guess; of whom next to nothing is seen, everything.
    """
    mask = (owners == person.number).astype(np.uint8)
    outlines = polygons(mask)
    if not outlines:
        return None
    unhidden = np.count_nonzero(mask) / max(person.pixels, 1)
    keypoints = np.zeros((17, 3))
    extent = np.ptp(person.keypoints[BODY, :2], axis=0).max()
    kept = cv2.fillPoly(np.zeros_like(mask), [np.round(np.reshape(o, (-1, 2))).astype(np.int32) for o in outlines], 1)  # not single pixels
    near = cv2.dilate(mask & kept, np.ones((3, 3), np.uint8), iterations=max(1, round(0.01 * extent)))
    height, width = owners.shape
    for k, (x, y, v) in enumerate(person.keypoints):
        if v > 0 and 0 <= x <= width - 1 and 0 <= y <= height - 1:
            seen = near[round(y), round(x)]
            if seen or unhidden > GUESSED:
                keypoints[k] = round(x, 1), round(y, 1), v if seen else 1
    if unhidden < LEFT_OUT or not (keypoints[:, 2] == 2).any():
        keypoints[:] = 0
    return person_annotation(outlines, keypoints[labelled], owners.shape)


def finished(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What a camera does to everything alike: a little blur, grain, exposure."""
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9))
    grain = cv2.merge([noise(rng, *image.shape[:2], int(rng.integers(8)))] * 3)
    return added(image, grain, rng.uniform(0.9, 1.1), rng.uniform(-8, 8))
