#!/usr/bin/env python
"""Draw pictures of people with COCO annotations: a data set for trying everything out without COCO's 20 GB.

    python data/synthetic.py --output DIR --count N --seed S
    python data/synthetic.py --output DIR --video FRAMES --people P --seed S

writes DIR/images/000000000001.jpg ... and DIR/annotations.json. Picture i depends on the seed and on i alone. With --video they are the
frames 000000.jpg ... of people who walk to and fro and cross each other, also as DIR/video.avi, and a person's annotations have one
track_id.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np

from config.errors import UserError, run_script
from config.files import output_folder, write_json, written_whole
from config.progress import track
from data.drawn.annotate import CROWD, annotate
from data.drawn.figure import KEYPOINTS, random_figure
from data.drawn.paint import Placed, paint, paint_person
from data.drawn.place import background, clutter, photographed
from data.drawn.walkers import draw_frame, random_walkers
from data.processes import in_processes

# COCO's own list: pairs of keypoint numbers, counted from 1.
SKELETON = [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11], [2, 3], [1, 2],
            [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]]  # fmt: skip
PEOPLE = (0.42, 0.28, 0.13, 0.07, 0.04, 0.03, 0.02, 0.01)  # shares of pictures with 1, 2, ... people
LEAST_SIDE = 64
FRAME_RATE, FRAME_QUALITY = 25, 92  # of videos: frames a second, JPEG


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


def draw_picture(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """An image (H, W, 3) uint8 BGR and its COCO annotations, still without ids.

    Everything is painted from back to front into the image and into a buffer of ids, which afterwards tells what is hidden by what.
    """
    image, ids = background(rng, height, width), np.zeros((height, width), np.int32)
    light = rng.uniform(-1, 1)
    for _ in range(rng.integers(1, 7)):
        part, origin = clutter(rng, width, height)
        paint(image, ids, part, 0, height, origin, light)
    if rng.random() < 0.1:
        _paint_crowd(rng, image, ids, light)
    people, painted = _place_people(rng, image), []
    for number, person in enumerate(people, start=1):
        painted.append(paint_person(image, ids, person, number, light))
        if rng.random() < 0.06:  # something in front of this person
            part, place = clutter(rng, width, height)
            paint(image, ids, part, 0, height * rng.uniform(1, 1.6), place, light)
    annotations = annotate(rng, people, painted, ids)
    return photographed(rng, image), annotations


# The files


def _draw_one(index: int, seed: int, size: tuple[int, int], folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write picture `index` (from 1); give back its image entry and its annotations, without their ids."""
    rng = np.random.default_rng([seed, index])
    image, annotations = draw_picture(rng, *size)
    return _written(folder, f"{index:012d}.jpg", index, image, int(rng.integers(75, 96)), annotations)


def _draw_walkers(frame: int, seed: int, people: int, size: tuple[int, int], folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write a frame (from 0) of a video; give back its image entry and its annotations, without their ids."""
    rng = np.random.default_rng(seed)
    place, light = background(rng, *size), rng.uniform(-1, 1)
    image, annotations = draw_frame(place, random_walkers(rng, people, place), frame, light)
    return _written(folder, f"{frame:06d}.jpg", frame + 1, image, FRAME_QUALITY, annotations)


def _written(
    folder: Path, name: str, number: int, image: np.ndarray, quality: int, annotations: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    with written_whole(folder / name) as path:
        path.write_bytes(encoded.tobytes())
    entry = {"id": number, "file_name": name, "height": image.shape[0], "width": image.shape[1], "license": 1}
    return entry, [{"image_id": number, **annotation} for annotation in annotations]


def write_synthetic(output: Path, count: int, seed: int, size: tuple[int, int] = (256, 320), workers: int = 1) -> Path:
    """Write `count` pictures of `size` (height, width) and their annotations below `output`; the path of the annotation file.

    The annotation file comes last and whole: where it is, every picture it names is there.
    """
    _check(count=count, seed=seed, size=size, workers=workers)
    folder = _image_folder(output)
    jobs = ((index, seed, size, folder) for index in range(1, count + 1))
    return _write_all(_draw_one, jobs, count, workers, output, f"drawn people, seed {seed}")


def write_video(output: Path, frames: int, people: int, seed: int, size: tuple[int, int] = (256, 320), workers: int = 1) -> Path:
    """Write a video of `people` who walk, its frames and their annotations below `output`; the path of the annotation file."""
    _check(video=frames, people=people, seed=seed, size=size, workers=workers)
    folder = _image_folder(output)
    jobs = ((frame, seed, people, size, folder) for frame in range(frames))
    annotation_file = _write_all(_draw_walkers, jobs, frames, workers, output, f"{people} drawn people who walk, seed {seed}")
    with written_whole(output / "video.avi") as path:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FRAME_RATE, size[::-1])
        for frame in range(frames):
            writer.write(cv2.imread(str(folder / f"{frame:06d}.jpg")))
        writer.release()
    return annotation_file


def _check(size: tuple[int, int], **values: int) -> None:
    for name, value in {**values, "size": min(size)}.items():
        least = {"seed": 0, "size": LEAST_SIDE}.get(name, 1)
        if value < least:
            raise UserError(f"{name} {value}: must be at least {least}")


def _image_folder(output: Path) -> Path:
    (output_folder(output) / "annotations.json").unlink(missing_ok=True)  # an earlier one does not describe the pictures from here on
    return output_folder(output / "images")


def _write_all(draw: Callable[..., tuple], jobs: Iterable[tuple], count: int, workers: int, output: Path, description: str) -> Path:
    """Have every job drawn and write the annotation file, which comes last and whole; its path."""
    images, annotations = [], []
    drawn = in_processes(draw, jobs, min(workers, count))
    for image, of_image in track(drawn, count, "drawing", unit="pictures"):
        images.append(image)
        annotations += [{"id": len(annotations) + i, **annotation} for i, annotation in enumerate(of_image, start=1)]
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(KEYPOINTS), "skeleton": SKELETON}
    annotation_file = output / "annotations.json"
    write_json(annotation_file, {
        "info": {"description": description, "version": "1.0"},
        "licenses": [{"id": 1, "name": "public domain", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": [category],
    })  # fmt: skip
    return annotation_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for images/ and annotations.json")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--count", type=int, metavar="N", help="how many pictures")
    kind.add_argument("--video", type=int, metavar="FRAMES", help="instead, so many frames of a video of people who walk")
    parser.add_argument("--people", type=int, default=4, metavar="P", help="how many people walk in the video (4)")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="the same seed draws the same files")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 320), metavar=("H", "W"), help="height and width in pixels (256 320)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (one per core)")
    options = parser.parse_args()
    size = tuple(options.size)
    if options.video is not None:
        path = write_video(options.output, options.video, options.people, options.seed, size, options.workers)
        print(f"{options.video} frames: {path}")
    else:
        path = write_synthetic(options.output, options.count, options.seed, size, options.workers)
        print(f"{options.count} pictures: {path}")


if __name__ == "__main__":
    run_script(main)
