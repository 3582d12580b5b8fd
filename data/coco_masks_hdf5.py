"""Build the people file, which training reads, from COCO's, CrowdPose's, MPII's or PoseTrack18's annotations and their images.

    python data/coco_masks_hdf5.py --annotations A.json [B.json ...] --images DIR|ZIP [...] --output F.h5

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
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from config import Skeleton, UserError
from config.errors import run_script
from config.files import output_folder, written_whole
from config.load import load_skeleton
from config.progress import Progress
from config.skeleton import UNLABELLED
from data.formats import load_annotations
from data.formats.coco import (
    annotated_joints,
    box_and_area,
    check_size,
    has_outline,
    keypoint_category,
    listed_size,
    mask_runs,
    naming_file,
    outline_runs,
    person_track,
    runs_mask,
)
from data.formats.mending import Repairs, check_in_pixels
from data.images import check_image
from data.people_file import MASKS, ImageRecord, PeopleFileWriter, boxes_mask, pack_mask
from data.picture_source import Pictures, Place
from data.processes import in_processes

SHOWN = 10  # complaints of one kind that are printed


@dataclass(frozen=True)
class Built:
    """What became of an annotation file. left_out: why, for each image; boxed: why, for each person masked by the box."""

    images: int
    people: int  # with keypoints
    left_out: list[str]
    boxed: list[str]
    repairs: Repairs


@dataclass(frozen=True)
class Job:
    """An image that somebody is in. place: where it is; joints (P, D, 3), boxes (P, 4), areas (P,): the people's."""

    source: Path  # annotation file
    image: dict
    people: list[dict]
    place: Place
    joints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray


def image_record(job: Job, masks: bool, box_masks: bool = True) -> tuple[ImageRecord | None, list[str]]:
    """One image's record and what is wrong with its people's outlines; None and why where the image cannot be used.

    masks: whether there are any; box_masks: of people without outlines too.
    """
    image, path = job.image, job.place.path
    try:
        data = job.place.read()
        height, width = check_image(data, path)
        check_size(path, height, width, listed_size(image))
    except UserError as error:
        return None, [str(error)]
    crowd = np.array([bool(person.get("iscrowd")) for person in job.people])
    points, labelled = job.joints[..., :2], job.joints[..., 2] != UNLABELLED
    inside = labelled & ((points >= 0) & (points <= (width, height))).all(2)
    astray = labelled.any(1) & ~inside.any(1) & ~crowd
    if astray.any():
        person = job.people[astray.argmax()]
        return None, [f"image {path}: is {width} x {height}, and no keypoint of annotation {person['id']} lies in it"]
    given = job.people, job.boxes, ~labelled.any(1), crowd, height, width
    packed, boxed = people_masks(*given, box_masks) if masks else ({}, [])
    return ImageRecord(
        image_id=image["id"],
        size=(height, width),
        file=np.frombuffer(data, np.uint8),
        masks=packed,
        joints=job.joints,
        boxes=job.boxes.astype(np.float32),
        areas=job.areas.astype(np.float32),
        tracks=np.array([person_track(person) for person in job.people], np.int64),
        crowd=crowd,
    ), boxed


def people_masks(
    annotations: list[dict],
    boxes: np.ndarray,
    unlabelled: np.ndarray,
    crowd: np.ndarray,
    height: int,
    width: int,
    box_masks: bool = True,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The packed masks of everybody, of people without keypoints and of crowd regions, and whose outlines cannot be decoded.

    boxes (P, 4); unlabelled, crowd (P,) bool. Where there is no outline, or none that can be decoded, the box is the best that is known;
    without box_masks, they have no mask.
    """
    runs: dict[str, list[dict]] = {name: [] for name in MASKS}
    boxed = []
    for annotation, box, without_keypoints, is_crowd in zip(annotations, boxes, unlabelled, crowd):
        where = []
        if has_outline(annotation):
            try:
                where = outline_runs(annotation, height, width)
            except UserError as error:
                boxed.append(str(error))
        if not where and box_masks:
            where = [mask_runs(boxes_mask(box[None], height, width))]
        runs["crowd" if is_crowd else "people"] += where
        if without_keypoints and not is_crowd:
            runs["unlabelled"] += where
    return {name: pack_mask(runs_mask(where, height, width)) for name, where in runs.items()}, boxed


def build_hdf5(
    annotations: Path | Sequence[Path],
    images: Path | Sequence[Path],
    output: Path,
    skeleton: Skeleton,
    workers: int = 2,
    strict: bool = False,
    box_masks: bool = True,
) -> Built:
    """Write the file whole or not at all.

    annotations: one file or more; images: a folder or zip file of each, or some for all. strict: the first missing or undecodable image,
    undecodable outline, or entry to be mended is an error. box_masks: people without outlines are masked by their boxes.
    """
    files, containers = ([paths] if isinstance(paths, (str, Path)) else list(paths) for paths in (annotations, images))
    repairs, left_out, boxed, people = Repairs(strict), [], [], 0
    several = len(files) > 1 and len(containers) == len(files)
    if len(files) > 1 and len(containers) not in (1, len(files)):
        raise UserError(f"--images: {len(containers)} for {len(files)} annotation files; expected one for all, or one for each")
    jobs: list[Job] = []
    names, used = None, set()
    for number, file in enumerate(files):
        pictures = Pictures([Path(containers[number])] if several else list(map(Path, containers)))
        found, labelled = _jobs_of(Path(file), pictures, skeleton, repairs, used)
        if names not in (None, labelled):
            raise UserError(f"annotation file {file}: labels other keypoints than {files[0]}; build a people file of each")
        names = labelled
        jobs += found
    _check_space(sum(max(job.place.size, 0) for job in jobs), output)

    everybody = [person for job in jobs for person in job.people]
    has_masks = any(map(has_outline, everybody)) or not box_masks
    outlines = any(has_outline(person) for person in everybody if not person.get("iscrowd"))
    with written_whole(output) as partial, h5py.File(partial, "w") as file:
        writer = PeopleFileWriter(file, names, has_masks, outlines)
        with Progress(len(jobs), "images", "image") as progress:
            work = ((job, has_masks, box_masks) for job in jobs)
            for job, (record, complaints) in zip(jobs, in_processes(image_record, work, workers)):
                named = complaints if record is None else [f"annotation file {job.source}: {complaint}" for complaint in complaints]
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
            raise UserError(f"annotation file {files[0]}: no image with keypoints can be used: {left_out[0]}")
        writer.finish()
    return Built(len(writer.records), people, left_out, boxed, repairs)


def _jobs_of(path: Path, pictures: Pictures, skeleton: Skeleton, repairs: Repairs, used: set[int]) -> tuple[list[Job], list[str]]:
    """An annotation file's images with a person in them, and the keypoints that it labels.

    used: the image ids of the files before, above which these are raised where they would meet; they are added.
    """
    coco = load_annotations(path, repairs=repairs)
    category, order = keypoint_category(coco, skeleton, path)
    wanted, keypoints = [], 0
    for _, image in sorted(coco.imgs.items()):
        people = coco.loadAnns(coco.getAnnIds(image["id"], catIds=[category]))
        if not people:
            continue
        with naming_file(path):  # better now than after an hour of images
            boxes, areas = zip(*(box_and_area(person, order) for person in people))
            joints = [annotated_joints(person, order) for person in people]
            for person, points, box in zip(people, joints, boxes):
                if not person.get("iscrowd"):
                    check_in_pixels(person, points, box)
                    keypoints += int((points[:, 2] != UNLABELLED).sum())
        wanted.append((image, people, np.stack(joints)[:, order >= 0], np.array(boxes), np.array(areas)))
    if not wanted:
        raise UserError(f"annotation file {path}: no image has a person in it, who would be of category {category}")
    if not keypoints:
        raise UserError(f"annotation file {path}: nobody in it has a keypoint of the skeleton {skeleton.name!r}")
    places = found_pictures([image for image, *_ in wanted], path, pictures, repairs)
    if all(place.size < 0 for place in places):
        raise UserError(f"image folder {pictures}: has none of the images of {path}, such as {wanted[0][0]['file_name']}")
    lift = 0
    if not used.isdisjoint(coco.imgs):
        lift = 10 ** len(str(max(used) - min(0, *coco.imgs)))
        print(f"annotation file {path}: its image ids are raised by {lift}, to be others than those before", file=sys.stderr)
    found = zip(wanted, places)
    jobs = [Job(path, {**image, "id": image["id"] + lift}, people, place, *arrays) for (image, people, *arrays), place in found]
    names = [name for name, place in zip(skeleton.dataset, order) if place >= 0]
    used.update(image_id + lift for image_id in coco.imgs)
    return jobs, names


def found_pictures(images: list[dict], source: Path, pictures: Pictures, repairs: Repairs) -> list[Place]:
    """Where each image is. No picture is taken for that of two names."""
    exact = [pictures.exact(image["file_name"]) for image in images]
    taken, places = {place.path for place in exact if place}, []
    for image, place in zip(images, exact):
        if place is None:
            place = pictures.similar(image["file_name"])
            if place is None or place.path in taken:
                place = Place(pictures.containers[0], image["file_name"], -1)
            elif not place.name.endswith(f"/{image['file_name']}"):  # which is no damage
                repairs.note("found under another path", f"annotation file {source}: image {image['id']} ({image['file_name']})")
            taken.add(place.path)
        places.append(place)
    return places


def _check_space(needed: int, output: Path) -> None:
    """Better now than after an hour: and HDF5 can crash the process where it cannot write. needed: bytes."""
    free = shutil.disk_usage(output_folder(output.parent)).free
    if free < needed:
        raise UserError(f"training file {output}: needs about {needed / 2**20:.0f} MiB, the disk has {free / 2**20:.0f} MiB left")


def _complain(complaints: list[str], what: str) -> None:
    if complaints:
        more = [f"... and {len(complaints) - SHOWN} more"] if len(complaints) > SHOWN else []
        print(f"{len(complaints)} {what}:", *complaints[:SHOWN], *more, sep="\n  ", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Build the people file from annotations (COCO's, CrowdPose's, MPII's, PoseTrack18's) and images."
    )
    parser.add_argument(
        "--annotations",
        type=Path,
        nargs="+",
        required=True,
        help="person_keypoints_*.json, CrowdPose's, MPII's lists or .mat, PoseTrack18's, or your own in COCO's format",
    )
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folder or zip file of the images, of each file or for all")
    parser.add_argument("--output", type=Path, required=True, help="the HDF5 file to write")
    parser.add_argument("--skeleton", default="coco", help="name in config/skeletons, or path of a YAML file")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 16), help="processes")
    parser.add_argument("--strict", action="store_true", help="stop at the first image, outline or entry that is not as it should be")
    parser.add_argument("--no-box-masks", action="store_true", help="people without outlines are not masked, instead of by their boxes")
    options = parser.parse_args()
    skeleton = load_skeleton(options.skeleton)
    given = options.annotations, options.images, options.output, skeleton, options.workers, options.strict, not options.no_box_masks
    built = build_hdf5(*given)
    _complain(built.left_out, "images were left out")
    masked = "not masked" if options.no_box_masks else "masked by their boxes"
    _complain(built.boxed, f"people are {masked}, since their outlines cannot be decoded")
    if built.repairs.found:
        print("mended or left out in the annotations:", *built.repairs.lines(), sep="\n  ", file=sys.stderr)
    print(f"{options.output}: {built.people} people in {built.images} images, {options.output.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_script(main)
