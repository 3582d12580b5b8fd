"""Build the people file, which training reads, from a COCO or CrowdPose annotation file and its image folder.

    python data/coco_masks_hdf5.py --annotations A.json --images DIR --output F.h5

What is inside: data/people_file.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in data/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import os
import shutil
from dataclasses import dataclass

import h5py
import numpy as np

from config import Skeleton, UserError
from config.errors import run_script
from config.files import existing_folder, output_folder, written_whole
from config.load import load_skeleton
from config.progress import Progress
from config.skeleton import UNLABELLED
from data.formats import load_annotations
from data.formats.coco import (
    annotated_joints,
    box_and_area,
    has_outline,
    keypoint_category,
    naming_file,
    outline_mask,
    person_track,
)
from data.images import check_image
from data.people_file import MASKS, ImageRecord, PeopleFileWriter, boxes_mask, pack_mask
from data.processes import in_processes

SHOWN = 10  # complaints of one kind that are printed


@dataclass(frozen=True)
class Built:
    """What became of an annotation file. left_out: why, for each image; boxed: why, for each person masked by the box."""

    images: int
    people: int  # with keypoints
    left_out: list[str]
    boxed: list[str]


def image_record(
    image: dict, annotations: list[dict], folder: Path, order: np.ndarray, masks: bool
) -> tuple[ImageRecord | None, list[str]]:
    """One image's record and what is wrong with its people's outlines; None and why where the image cannot be used.

    order (D,): where each keypoint stands in the file. masks: whether the data set has outlines.
    """
    path = folder / image["file_name"]
    try:
        data = path.read_bytes()
        height, width = check_image(data, path)
    except OSError as error:
        return None, [f"image {path}: {error.strerror}"]
    except UserError as error:
        return None, [str(error)]
    described = image.get("width", width), image.get("height", height)  # own files may leave them out
    if (width, height) != described:
        return None, [f"image {path}: is {width} x {height}, but the annotation file says {described[0]} x {described[1]}"]
    joints = np.stack([annotated_joints(a, order) for a in annotations])
    for annotation, points in zip(annotations, joints):
        points = points[points[:, 2] != UNLABELLED, :2]
        if len(points) and not ((points >= 0) & (points <= (width, height))).all(1).any() and not annotation.get("iscrowd"):
            return None, [f"image {path}: is {width} x {height}, and no keypoint of annotation {annotation['id']} lies in it"]
    crowd = np.array([bool(a.get("iscrowd")) for a in annotations])
    boxes, areas = zip(*(box_and_area(a, order) for a in annotations))
    unlabelled = (joints[..., 2] == UNLABELLED).all(1)
    packed, boxed = people_masks(annotations, np.array(boxes), unlabelled, crowd, height, width) if masks else ({}, [])
    return ImageRecord(
        image_id=image["id"],
        size=(height, width),
        file=np.frombuffer(data, np.uint8),
        masks=packed,
        joints=joints,
        boxes=np.array(boxes, np.float32),
        areas=np.array(areas, np.float32),
        tracks=np.array([person_track(a) for a in annotations], np.int64),
        crowd=crowd,
    ), boxed


def people_masks(
    annotations: list[dict], boxes: np.ndarray, unlabelled: np.ndarray, crowd: np.ndarray, height: int, width: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The packed masks of everybody, of people without keypoints and of crowd regions, and whose outlines cannot be decoded.

    boxes (P, 4); unlabelled, crowd (P,) bool. Where there is no outline, or none that can be decoded, the box is the best that is known.
    """
    masks = dict(zip(MASKS, np.zeros((len(MASKS), height, width), bool)))
    boxed = []
    for annotation, box, without_keypoints, is_crowd in zip(annotations, boxes, unlabelled, crowd):
        where = None
        if has_outline(annotation):
            try:
                where = outline_mask(annotation, height, width)
            except UserError as error:
                boxed.append(str(error))
        if where is None:
            where = boxes_mask(box[None], height, width)
        masks["crowd" if is_crowd else "people"] |= where
        if without_keypoints and not is_crowd:
            masks["unlabelled"] |= where
    return {name: pack_mask(mask) for name, mask in masks.items()}, boxed


def build_hdf5(annotations: Path, images: Path, output: Path, skeleton: Skeleton, workers: int = 2, strict: bool = False) -> Built:
    """Write the file whole or not at all.

    strict: the first missing or undecodable image, or undecodable outline, is an error.
    """
    coco = load_annotations(annotations)
    category, order = keypoint_category(coco, skeleton, annotations)
    existing_folder(images, "image folder")
    jobs, everybody, keypoints = [], [], 0
    for image_id, image in sorted(coco.imgs.items()):
        people = coco.loadAnns(coco.getAnnIds(image_id, catIds=[category]))
        with naming_file(annotations):
            for person in people:  # better now than after an hour of images
                box_and_area(person, order)
                keypoints += int((annotated_joints(person, order)[:, 2] != UNLABELLED).sum()) * (not person.get("iscrowd"))
        everybody += people
        if people:
            jobs.append((image, people, images, order[order >= 0]))
    if not jobs:
        raise UserError(f"annotation file {annotations}: no image has a person in it, who would be of category {category}")
    if not keypoints:
        raise UserError(f"annotation file {annotations}: nobody in it has a keypoint of the skeleton {skeleton.name!r}")
    there = [file for file in (images / image["file_name"] for image, *_ in jobs) if file.is_file()]
    if not there:
        raise UserError(f"image folder {images}: has none of the images of {annotations}, such as {jobs[0][0]['file_name']}")
    _check_space(there, output)

    has_masks = any(map(has_outline, everybody))
    outlines = any(has_outline(person) for person in everybody if not person.get("iscrowd"))
    names = [name for name, place in zip(skeleton.dataset, order) if place >= 0]
    people, left_out, boxed = 0, [], []
    with written_whole(output) as partial, h5py.File(partial, "w") as file:
        writer = PeopleFileWriter(file, names, has_masks, outlines)
        with Progress(len(jobs), "images", "image") as progress:
            for record, complaints in in_processes(image_record, [(*job, has_masks) for job in jobs], workers):
                named = complaints if record is None else [f"annotation file {annotations}: {complaint}" for complaint in complaints]
                if named and strict:
                    raise UserError(f"{named[0]} (--strict; nothing was written)")
                if record is None:
                    left_out += named
                else:
                    writer.add(record)
                    people += int(((record.joints[..., 2] != UNLABELLED).any(1) & ~record.crowd).sum())
                    boxed += named
                progress.advance(note=f"{people} people" + (f", {len(left_out)} images failed" if left_out else ""))
        if not people:
            raise UserError(f"annotation file {annotations}: no image with keypoints can be used: {left_out[0]}")
        writer.finish()
    return Built(len(writer.records), people, left_out, boxed)


def _check_space(files: list[Path], output: Path) -> None:
    """Better now than after an hour: and HDF5 can crash the process where it cannot write."""
    needed = sum(file.stat().st_size for file in files)
    free = shutil.disk_usage(output_folder(output.parent)).free
    if free < needed:
        raise UserError(f"training file {output}: needs about {needed / 2**20:.0f} MiB, the disk has {free / 2**20:.0f} MiB left")


def _complain(complaints: list[str], what: str) -> None:
    if complaints:
        more = [f"... and {len(complaints) - SHOWN} more"] if len(complaints) > SHOWN else []
        print(f"{len(complaints)} {what}:", *complaints[:SHOWN], *more, sep="\n  ", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the people file from a COCO or CrowdPose annotation file and its images.")
    parser.add_argument(
        "--annotations", type=Path, required=True, help="person_keypoints_*.json, CrowdPose's, or your own in COCO's format"
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="the HDF5 file to write")
    parser.add_argument("--skeleton", default="coco", help="name in config/skeletons, or path of a YAML file")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 16), help="processes")
    parser.add_argument("--strict", action="store_true", help="stop at the first image or outline that cannot be decoded")
    options = parser.parse_args()
    skeleton = load_skeleton(options.skeleton)
    built = build_hdf5(options.annotations, options.images, options.output, skeleton, options.workers, options.strict)
    _complain(built.left_out, "images were left out")
    _complain(built.boxed, "people are masked by their boxes, since their outlines cannot be decoded")
    print(f"{options.output}: {built.people} people in {built.images} images, {options.output.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_script(main)
