#!/usr/bin/env python
"""Draw pictures of people with COCO annotations: a data set for trying everything out without COCO's 20 GB.

    python data/synthetic.py --output DIR --count N --seed S [--backgrounds PHOTOGRAPHS | --plain]
    python data/synthetic.py --output DIR --video FRAMES --people P --seed S

writes DIR/images/000000000001.jpg ... and DIR/annotations.json. Picture i depends on the seed, on the photographs and on i alone. With
--backgrounds PHOTOGRAPHS the people stand in parts of the photographs in that folder, in which nobody should be; with --plain they are few,
mostly whole, and turned to the viewer on a plain ground, so that a small network learns them in minutes. With --video they are
the frames 000000.jpg ... of people who walk to and fro and cross each other, also as DIR/video.avi, and a person's annotations have one
track_id.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np

from config.errors import UserError, at_least, run_script
from config.files import check_apart, output_folder, write_json, written_whole
from config.progress import track
from data.drawn.figure import KEYPOINTS
from data.drawn.place import background
from data.drawn.scene import draw_picture, draw_plain_picture
from data.drawn.walkers import draw_frame, random_walkers
from data.images import picture_files
from data.processes import in_processes

# COCO's own list: pairs of keypoint numbers, counted from 1.
SKELETON = [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11], [2, 3], [1, 2],
            [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]]  # fmt: skip
LEAST_SIDE = 64
FRAME_RATE, FRAME_QUALITY, FRAME_NAME = 25, 92, "{:06d}.jpg"  # of videos: frames a second, JPEG


def _draw_one(
    index: int, seed: int, size: tuple[int, int], folder: Path, backgrounds: Path | None = None, plain: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write picture `index` (from 1); give back its image entry and its annotations, without their ids."""
    rng = np.random.default_rng([seed, index])
    image, annotations = draw_plain_picture(rng, *size) if plain else draw_picture(rng, *size, _photographs(backgrounds))
    return _written(folder, f"{index:012d}.jpg", index, image, int(rng.integers(45, 96)), annotations)


def _photographs(backgrounds: Path | None) -> tuple[Path, ...]:
    """Of a folder, or none. Raises UserError where that is none, or without pictures."""
    return picture_files(backgrounds, "--backgrounds") if backgrounds is not None else ()


def _draw_walkers(frame: int, seed: int, people: int, size: tuple[int, int], folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write a frame (from 0) of a video; give back its image entry and its annotations, without their ids."""
    rng = np.random.default_rng(seed)
    place, light = background(rng, *size), rng.uniform(-1, 1)
    image, annotations = draw_frame(place, random_walkers(rng, people, place), frame, light)
    return _written(folder, FRAME_NAME.format(frame), frame + 1, image, FRAME_QUALITY, annotations)


def _written(
    folder: Path, name: str, number: int, image: np.ndarray, quality: int, annotations: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    with written_whole(folder / name) as path:
        path.write_bytes(encoded.tobytes())
    entry = {"id": number, "file_name": name, "height": image.shape[0], "width": image.shape[1], "license": 1}
    return entry, [{"image_id": number, **annotation} for annotation in annotations]


def write_synthetic(
    output: Path,
    count: int,
    seed: int,
    size: tuple[int, int] = (256, 320),
    workers: int = 1,
    backgrounds: Path | None = None,
    plain: bool = False,
) -> Path:
    """Write `count` pictures of `size` (height, width) and their annotations below `output`; the path of the annotation file.

    backgrounds: a folder of photographs without people, to draw people into. Those that are damaged are named and left out.
    plain: easy pictures. Raises UserError where no photograph can be read, or where both are asked for.
    The annotation file comes last and whole: where it is, every picture it names is there.
    """
    at_least(1, count=count, workers=workers)
    _check(seed, size)
    if plain and backgrounds is not None:
        raise UserError("--plain: on a plain ground, not in photographs; leave --backgrounds out")
    picture_files.cache_clear()
    if backgrounds is not None:
        check_apart(output, [backgrounds])
    _photographs(backgrounds)  # what is wrong with them is told before anything is written
    folder = _image_folder(output)
    jobs = ((index, seed, size, folder, backgrounds, plain) for index in range(1, count + 1))
    return _write_annotations(output, *_draw_all(_draw_one, jobs, count, workers), f"drawn people, seed {seed}")


def write_video(output: Path, frames: int, people: int, seed: int, size: tuple[int, int] = (256, 320), workers: int = 1) -> Path:
    """Write a video of `people` who walk, its frames and their annotations below `output`; the path of the annotation file.

    The annotation file comes last and whole, and an earlier video's frames are gone before the first is drawn. Raises UserError where
    OpenCV cannot write videos.
    """
    at_least(1, video=frames, people=people, workers=workers)
    _check(seed, size)
    folder, video = _image_folder(output), output / "video.avi"
    video.unlink(missing_ok=True)
    for earlier in reversed(_frames(folder)):  # from the last on, so that those that an interrupt leaves are found again
        earlier.unlink()
    jobs = ((frame, seed, people, size, folder) for frame in range(frames))
    drawn = _draw_all(_draw_walkers, jobs, frames, workers)
    _write_frames(video, [folder / FRAME_NAME.format(frame) for frame in range(frames)], size)
    return _write_annotations(output, *drawn, f"{people} drawn people who walk, seed {seed}")


def _frames(folder: Path) -> list[Path]:
    """Those of a video, as many as follow each other from the first on."""
    return list(itertools.takewhile(Path.exists, (folder / FRAME_NAME.format(frame) for frame in itertools.count())))


def _write_frames(video: Path, frames: list[Path], size: tuple[int, int]) -> None:
    """Write a video of pictures of a size (height, width), whole or not at all."""
    with written_whole(video) as path:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FRAME_RATE, size[::-1])
        try:
            if not writer.isOpened():
                raise UserError(f"video {video}: OpenCV cannot write AVI of {size[1]} x {size[0]} pixels here")
            for frame in frames:
                writer.write(cv2.imread(str(frame)))
        finally:
            writer.release()


def _check(seed: int, size: tuple[int, int]) -> None:
    at_least(0, seed=seed)
    at_least(LEAST_SIDE, size=min(size))


def _image_folder(output: Path) -> Path:
    (output_folder(output) / "annotations.json").unlink(missing_ok=True)  # an earlier one does not describe the pictures from here on
    return output_folder(output / "images")


def _draw_all(draw: Callable[..., tuple], jobs: Iterable[tuple], count: int, workers: int) -> tuple[list[dict], list[dict]]:
    """Have every job drawn; the entries of the images and of their annotations."""
    images, annotations = [], []
    drawn = in_processes(draw, jobs, min(workers, count))
    for image, of_image in track(drawn, count, "drawing", unit="pictures"):
        images.append(image)
        annotations += [{"id": len(annotations) + i, **annotation} for i, annotation in enumerate(of_image, start=1)]
    return images, annotations


def _write_annotations(output: Path, images: list[dict], annotations: list[dict], description: str) -> Path:
    """Write the annotation file whole; its path."""
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
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="folder of photographs without people, to draw people into")
    parser.add_argument("--plain", action="store_true", help="few people, mostly whole and turned to the viewer, on a plain ground")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (one per core)")
    options = parser.parse_args()
    size = tuple(options.size)
    if options.video is not None:
        for option, given in (("--backgrounds", options.backgrounds is not None), ("--plain", options.plain)):
            if given:
                raise UserError(f"{option}: only of pictures, --count; who walks through a --video does so in a drawn place")
        path = write_video(options.output, options.video, options.people, options.seed, size, options.workers)
        print(f"{options.video} frames: {path}")
    else:
        path = write_synthetic(options.output, options.count, options.seed, size, options.workers, options.backgrounds, options.plain)
        print(f"{options.count} pictures: {path}")


if __name__ == "__main__":
    run_script(main)
