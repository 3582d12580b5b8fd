#!/usr/bin/env python
"""Draw pictures of people with COCO annotations: a data set for trying everything out without COCO's 20 GB.

    python data/synthetic.py --output DIR --count N --seed S

writes DIR/images/000000000001.jpg ... and DIR/annotations.json. Picture i depends on the seed and on i alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from config.errors import UserError, run_script
from config.files import output_folder, write_json, written_whole
from config.progress import track
from data.drawn.figure import KEYPOINTS, SKIN, Cloth, Figure, Part, random_colour, random_colours, random_figure
from data.drawn.paint import paint
from data.processes import in_processes

# COCO's own list: pairs of keypoint numbers, counted from 1.
SKELETON = [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11], [2, 3], [1, 2],
            [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]]  # fmt: skip
PEOPLE = (0.42, 0.28, 0.13, 0.07, 0.04, 0.03, 0.02, 0.01)  # shares of pictures with 1, 2, ... people
LEAST_SIDE = 64
PERSON_STEP = 32  # ids: part label + PERSON_STEP * (person's number from 1); 0 is no person
CROWD = -1
Placed = tuple[Figure, float, np.ndarray]  # figure, pixels per stature, pelvis in pixels


# The place


def _noise(rng: np.random.Generator, height: int, width: int, most: int) -> np.ndarray:
    """(H, W) uint8, evenly distributed within `most` of 128."""
    return rng.integers(128 - most, 128 + most, (height, width), np.uint8, endpoint=True)


def _added(image: np.ndarray, layer: np.ndarray, gain: float = 1.0, brightness: float = 0.0) -> np.ndarray:
    """gain * image + layer, both (H, W, 3) uint8, where 128 in the layer changes nothing."""
    return cv2.addWeighted(image, gain, layer, 1.0, brightness - 128)


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: a wall or sky over a floor, with blotches, grain, panels and lines; muted, so that people stand out."""
    horizon = int(height * rng.uniform(0.35, 0.85))
    colours = random_colours(rng, 2, (5, 110), (80, 235))
    steps = np.linspace(0.8, 1.15, height)[:, None] if rng.random() < 0.5 else np.ones((height, 1))
    rows = np.where(np.arange(height)[:, None] < horizon, colours[0], colours[1]) * steps
    image = np.repeat(np.clip(rows, 0, 255).astype(np.uint8)[:, None], width, 1)
    blotches = rng.normal(0, rng.uniform(2, 14), (7, 9, 1)) + rng.normal(0, rng.uniform(1, 5), (7, 9, 3))
    image = _added(image, cv2.resize(np.clip(blotches + 128, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC))
    grain = cv2.resize(_noise(rng, height // 2, width // 2, int(rng.integers(18))), (width, height))
    image = _added(image, cv2.merge([grain] * 3))
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


def _clutter(rng: np.random.Generator, width: float, height: float) -> tuple[Part, np.ndarray]:
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


# The people


def _statures(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(P,) pixels per stature: large where few, and now and then somebody far away."""
    people = 1 + rng.choice(len(PEOPLE), p=PEOPLE)
    reference = min(height, 0.9 * width)
    largest = np.interp(people, [1, 3, 8], [0.92, 0.85, 0.6])
    statures = reference * rng.uniform(0.62 * largest, largest, people)
    far = rng.random(people)
    statures[far < 0.08] *= 0.6
    statures[far < 0.035] = reference * rng.uniform(0.09, 0.14)
    return statures


def _position(rng: np.random.Generator, box: np.ndarray, height: int, width: int, taken: list[np.ndarray]) -> np.ndarray:
    """(2,) where to put a figure whose box (4,) is around its pelvis: mostly inside the frame and beside the others."""
    frame, size = np.array([width, height], float), box[2:] - box[:2]
    places = []
    for _ in range(7):
        corner = rng.uniform(0, 1, 2) ** [1.0, 0.6] * np.maximum(frame - size, 0) + np.minimum(frame - size, 0) / 2
        if rng.random() < 0.08:  # cut by the frame; less often above, since the head tells left from right
            side, part = rng.choice(4, p=[0.3, 0.3, 0.33, 0.07]), rng.uniform(0.15, 0.5)
            ends = (-part * size[0], width - (1 - part) * size[0], height - (1 - part) * size[1], -part * size[1])
            corner[int(side > 1)] = ends[side]
        others = [np.minimum(corner + size, b[2:]) - np.maximum(corner, b[:2]) for b in taken]
        areas = [min(np.prod(size), np.prod(b[2:] - b[:2])) for b in taken]
        overlap = sum((np.prod(np.maximum(o, 0)) / area for o, area in zip(others, areas)), 0.0)
        places.append((overlap, corner))
    corner = places[0][1] if rng.random() < 0.12 else min(places, key=lambda place: place[0])[1]
    return corner - box[:2]


def _place_people(rng: np.random.Generator, image: np.ndarray) -> list[Placed]:
    """From far to near: who stands lower in the picture is nearer."""
    height, width = image.shape[:2]
    placed, taken = [], []
    colour = np.array(cv2.mean(image)[:3])
    for stature in _statures(rng, height, width):
        figure = random_figure(rng, colour)
        box = figure.extent() * stature
        origin = _position(rng, box, height, width, taken)
        taken.append(box + np.tile(origin, 2))
        placed.append((figure, float(stature), origin))
    order = sorted(range(len(placed)), key=lambda i: taken[i][3])
    return [placed[i] for i in order]


def _paint_crowd(rng: np.random.Generator, image: np.ndarray, ids: np.ndarray, light: float) -> None:
    """A group of tiny people, all under the id CROWD."""
    height, width = image.shape[:2]
    stature, x, y = min(height, width) * rng.uniform(0.07, 0.11), rng.uniform(0.1, 0.7) * width, rng.uniform(0.25, 0.6) * height
    colour = np.array(cv2.mean(image)[:3])
    for i in range(rng.integers(6, 13)):
        figure = random_figure(rng, colour)
        origin = np.array([x + i * 0.42 * stature + rng.uniform(-4, 4), y + rng.uniform(-0.2, 0.2) * stature])
        for part in figure.parts:
            paint(image, ids, part, CROWD, stature, origin, light)


# The annotations


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines of a mask (H, W) uint8, without holes, as COCO's are: [x1, y1, x2, y2, ...] in pixels from the picture's corner."""
    x, y, w, h = cv2.boundingRect(mask)
    # at twice the size, so that the outline runs near the pixels' borders, not through their centres
    doubled = cv2.resize(mask[y : y + h, x : x + w], None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST) if w else mask
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(2 * x, 2 * y))
    outlines = [cv2.approxPolyDP(contour, 1.5, True)[:, 0] for contour in contours if cv2.contourArea(contour) > 12]
    return [((outline + 0.5) / 2).ravel().tolist() for outline in outlines if len(outline) >= 3]


def _run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed RLE: lengths of runs of 0, 1, 0, ... down the columns."""
    flat = np.concatenate([[0], mask.T.ravel() != 0, [0]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    counts = counts[:-1] if counts[-1] == 0 else counts
    return {"counts": counts.tolist(), "size": list(mask.shape)}


def _annotation(segmentation: list | dict, mask_rle: dict, keypoints: np.ndarray, crowd: bool) -> dict[str, Any]:
    """Box and area are those of the segmentation as pycocotools decodes it."""
    return {
        "category_id": 1,
        "iscrowd": int(crowd),
        "segmentation": segmentation,
        "area": float(coco_mask.area(mask_rle)),
        "bbox": [float(v) for v in coco_mask.toBbox(mask_rle)],
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "keypoints": [int(v) if float(v).is_integer() else round(float(v), 1) for v in keypoints.ravel()],
    }


def _labelled_keypoints(rng: np.random.Generator, person: Placed, number: int, ids: np.ndarray, unhidden: float) -> np.ndarray:
    """(17, 3) x, y, v in pixels. What turns away from the viewer in a face is not labelled; what something covers is, mostly.

    `unhidden` is the share of the person that nothing covers: the less there is, the less an annotator would guess.
    """
    figure, stature, origin = person
    height, width = ids.shape
    points = np.round(figure.keypoints * stature + origin, 1)
    keypoints = np.zeros((len(points), 3))
    reach = max(1, round(0.012 * stature))
    guessed = rng.random(len(points)) < 1.6 * unhidden - 0.25
    for k, (x, y) in enumerate(points):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        column, row = round(x), round(y)
        near = ids[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
        seen = any((near == number * PERSON_STEP + label).any() for label in figure.labels[k])
        if seen or (guessed[k] and figure.labels[k]):
            keypoints[k] = x, y, 2 if seen else 1
    return keypoints


def _annotate(rng: np.random.Generator, people: list[Placed], painted: list[int], ids: np.ndarray) -> list[dict[str, Any]]:
    """`painted[i]` is how many pixels person i had when painted, before anything covered them."""
    annotations = []
    owners = ids // PERSON_STEP
    for number, (person, before) in enumerate(zip(people, painted), start=1):
        mask = (owners == number).astype(np.uint8)
        polygons = _polygons(mask)
        if not polygons:
            continue
        unhidden = np.count_nonzero(mask) / before
        keypoints = _labelled_keypoints(rng, person, number, ids, unhidden)
        if person[1] < 0.16 * min(ids.shape) or unhidden < 0.15 or (keypoints[:, 2] == 2).sum() < 2:
            keypoints[:] = 0  # too small or too hidden for an annotator
        rle = coco_mask.merge(coco_mask.frPyObjects(polygons, *ids.shape))
        annotations.append(_annotation(polygons, rle, keypoints, crowd=False))
    crowd = (ids == CROWD).astype(np.uint8)
    crowd = cv2.morphologyEx(crowd, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) * (ids <= 0)
    if crowd.sum() > 50:
        runs = _run_lengths(crowd)
        annotations.append(_annotation(runs, coco_mask.frPyObjects(runs, *ids.shape), np.zeros((17, 3)), crowd=True))
    return annotations


def _photographed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Blur, noise and exposure of a camera."""
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9))
    noise = cv2.merge([_noise(rng, *image.shape[:2], int(rng.integers(13)))] * 3)
    return _added(image, noise, rng.uniform(0.8, 1.15), rng.uniform(-8, 12))


def draw_picture(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """An image (H, W, 3) uint8 BGR and its COCO annotations, still without ids.

    Everything is painted from back to front into the image and into a buffer of ids, which afterwards tells what is hidden by what.
    """
    image, ids = _background(rng, height, width), np.zeros((height, width), np.int32)
    light = rng.uniform(-1, 1)
    for _ in range(rng.integers(1, 7)):
        part, origin = _clutter(rng, width, height)
        paint(image, ids, part, 0, height, origin, light)
    if rng.random() < 0.1:
        _paint_crowd(rng, image, ids, light)
    people, painted = _place_people(rng, image), []
    for number, (figure, stature, origin) in enumerate(people, start=1):
        for part in figure.parts:
            paint(image, ids, part, number * PERSON_STEP + part.label, stature, origin, light)
        painted.append(max(np.count_nonzero(ids >= number * PERSON_STEP), 1))
        if rng.random() < 0.06:  # something in front of this person
            part, place = _clutter(rng, width, height)
            paint(image, ids, part, 0, height * rng.uniform(1, 1.6), place, light)
    annotations = _annotate(rng, people, painted, ids)
    return _photographed(rng, image), annotations


# The files


def _draw_one(index: int, seed: int, size: tuple[int, int], folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write picture `index` (from 1); give back its image entry and its annotations, without their ids."""
    rng = np.random.default_rng([seed, index])
    image, annotations = draw_picture(rng, *size)
    name = f"{index:012d}.jpg"
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 96))])
    with written_whole(folder / name) as path:
        path.write_bytes(encoded.tobytes())
    entry = {"id": index, "file_name": name, "height": size[0], "width": size[1], "license": 1}
    return entry, [{"image_id": index, **annotation} for annotation in annotations]


def write_synthetic(output: Path, count: int, seed: int, size: tuple[int, int] = (256, 320), workers: int = 1) -> Path:
    """Write `count` pictures of `size` (height, width) and their annotations below `output`; the path of the annotation file.

    The annotation file comes last and whole: where it is, every picture it names is there.
    """
    for value, least, what in ((count, 1, "count"), (seed, 0, "seed"), (min(size), LEAST_SIDE, "size"), (workers, 1, "workers")):
        if value < least:
            raise UserError(f"{what} {value}: must be at least {least}")
    output = output_folder(output)
    annotation_file = output / "annotations.json"
    annotation_file.unlink(missing_ok=True)  # an earlier one does not describe the pictures from here on
    images, annotations = [], []
    folder = output_folder(output / "images")
    drawn = in_processes(_draw_one, ((index, seed, size, folder) for index in range(1, count + 1)), min(workers, count))
    for image, of_image in track(drawn, count, "drawing", unit="pictures"):
        images.append(image)
        annotations += [{"id": len(annotations) + i, **annotation} for i, annotation in enumerate(of_image, start=1)]
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(KEYPOINTS), "skeleton": SKELETON}
    write_json(annotation_file, {
        "info": {"description": f"drawn people, seed {seed}", "version": "1.0"},
        "licenses": [{"id": 1, "name": "public domain", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": [category],
    })  # fmt: skip
    return annotation_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for images/ and annotations.json")
    parser.add_argument("--count", type=int, required=True, metavar="N", help="how many pictures")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="the same seed draws the same files")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 320), metavar=("H", "W"), help="height and width in pixels (256 320)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (one per core)")
    options = parser.parse_args()
    path = write_synthetic(options.output, options.count, options.seed, tuple(options.size), options.workers)
    print(f"{options.count} pictures: {path}")


if __name__ == "__main__":
    run_script(main)
