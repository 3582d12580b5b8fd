"""Build the HDF5 training file from a COCO annotation file and its image folder.

    python data/coco_masks_hdf5.py --annotations A.json --images DIR --output F.h5

Images keep their own JPEG bytes and masks are packed bits, compressed, so COCO's file is several times smaller
than raw arrays. What is inside:

    images/file     (N,) bytes of each image that holds a main person     images/id          (N,)
    images/miss     (N,) mask, 0 where no loss may be counted             images/all         (N,) mask, 1 over every person and crowd
    images/people   (N + 1,) where each image's people begin in people/*
    people/joints   (P, D, 3) x, y, v in the data set's order             people/box         (P, 4) x, y, w, h
    samples/image, samples/person  (S,) the image and its main person, as a number among the image's people
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in data/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import os
import shutil
import zlib
from dataclasses import dataclass

import h5py
import numpy as np

from config import Skeleton, UserError
from config.errors import run_script
from config.files import existing_folder, output_folder, written_whole
from config.load import load_skeleton
from config.progress import Progress
from config.skeleton import UNLABELLED
from data.coco_annotations import (
    annotated_joints,
    check_labelled,
    keypoint_category,
    load_coco,
    naming_file,
    person_area,
    person_box,
    region,
)
from data.images import check_image, decode_image
from data.processes import in_processes

FORMAT_VERSION = 1
MIN_KEYPOINTS = 5  # of a main person; all of them where the data set has fewer
MIN_AREA = 32 * 32  # of a main person's segment, pixels
MIN_DISTANCE = 0.3  # of a main person's centre to an earlier one's, in that one's longer box side


@dataclass(frozen=True)
class ImageRecord:
    """One image's part of the file; see the module's text."""

    image_id: int
    file: np.ndarray  # (bytes,) uint8
    miss: np.ndarray  # (bytes,) uint8
    all: np.ndarray  # (bytes,) uint8
    joints: np.ndarray  # (P, D, 3) float32
    boxes: np.ndarray  # (P, 4) float32
    main: list[int]  # main persons among the P


def main_people(joints: np.ndarray, boxes: np.ndarray, areas: np.ndarray) -> list[int]:
    """Which people a sample is made around: well labelled, large enough, with a box to cut out, and not on top of an earlier one.

    joints (P, D, 3), boxes (P, 4) x, y, w, h in pixels, areas (P,) in pixels squared.
    """
    labelled = (joints[..., 2] != UNLABELLED).sum(1)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    usable = (labelled >= min(MIN_KEYPOINTS, joints.shape[1])) & (areas >= MIN_AREA) & (boxes[:, 2:] > 0).all(1)
    chosen: list[int] = []
    for p in np.flatnonzero(usable).tolist():
        near = (np.linalg.norm(centres[p] - centres[q]) < MIN_DISTANCE * boxes[q, 2:].max() for q in chosen)
        if not any(near):
            chosen.append(p)
    return chosen


def loss_masks(annotations: list[dict], labelled: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """mask_miss and mask_all, each (height, width) bool. labelled (A,): whether each annotation has keypoints.

    mask_miss is false over people without keypoints, and over crowd regions but for the people in them: those are known.
    """
    people, unlabelled, crowds = np.zeros((3, height, width), bool)
    for annotation, has_keypoints in zip(annotations, labelled):
        where = region(annotation, height, width)
        if annotation.get("iscrowd"):
            crowds |= where
            continue
        people |= where
        if not has_keypoints:
            unlabelled |= where
    return ~(unlabelled | (crowds & ~people)), people | crowds


def pack_mask(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool to compressed bytes (n,) uint8: half of a PNG's size here, and six times as fast to read back."""
    return np.frombuffer(zlib.compress(np.packbits(mask)), np.uint8)


def unpack_mask(packed: np.ndarray, height: int, width: int) -> np.ndarray:
    """What `pack_mask` packed, as (height, width) uint8 of 0 and 255."""
    bits = np.frombuffer(zlib.decompress(packed), np.uint8)
    return np.unpackbits(bits, count=height * width).reshape(height, width) * np.uint8(255)


def image_record(image: dict, annotations: list[dict], folder: Path, order: np.ndarray) -> ImageRecord | str | None:
    """One image's record; None where it has no main person; a text that says why where the image cannot be used."""
    joints = np.stack([annotated_joints(a, order) for a in annotations])
    labelled = (joints[..., 2] != UNLABELLED).any(1)
    people = [i for i, a in enumerate(annotations) if labelled[i] and not a.get("iscrowd")]
    boxes = np.array([person_box(annotations[i]) for i in people], np.float32).reshape(-1, 4)
    areas = np.array([person_area(annotations[i]) for i in people])
    main = main_people(joints[people], boxes, areas)
    if not main:
        return None
    path = folder / image["file_name"]
    try:
        data = path.read_bytes()
        check_image(data, path)
        height, width = decode_image(data, path).shape[:2]
    except OSError as error:
        return f"image {path}: {error.strerror}"
    except UserError as error:
        return str(error)
    described = image.get("width", width), image.get("height", height)  # own files may leave them out
    if (width, height) != described:
        return f"image {path}: is {width} x {height}, but the annotation file says {described[0]} x {described[1]}"
    miss, everyone = map(pack_mask, loss_masks(annotations, labelled, height, width))
    return ImageRecord(image["id"], np.frombuffer(data, np.uint8), miss, everyone, joints[people], boxes, main)


def build_hdf5(
    annotations: Path, images: Path, output: Path, skeleton: Skeleton, workers: int = 2, strict: bool = False
) -> tuple[int, list[str]]:
    """Write the file whole or not at all. Returns the number of samples and, for each image left out, why.

    strict: the first missing or undecodable image is an error.
    """
    coco = load_coco(annotations)
    category, order = keypoint_category(coco, skeleton, annotations)
    existing_folder(images, "image folder")
    jobs = []
    for image_id, image in sorted(coco.imgs.items()):
        people = coco.loadAnns(coco.getAnnIds(image_id, catIds=[category]))
        with naming_file(annotations):
            for person in people:
                check_labelled(person, order)
        if people:
            jobs.append((image, people, images, order))
    if not jobs:
        raise UserError(f"annotation file {annotations}: no image has a person in it")
    there = [file for file in (images / image["file_name"] for image, *_ in jobs) if file.is_file()]
    if not there:
        raise UserError(f"image folder {images}: has none of the images of {annotations}, such as {jobs[0][0]['file_name']}")
    _check_space(there, output)

    failures: list[str] = []
    with written_whole(output) as partial, h5py.File(partial, "w") as file:
        writer = _Writer(file, skeleton)
        with Progress(len(jobs), "images", "image") as progress:
            for record in in_processes(image_record, jobs, workers):
                if isinstance(record, str):
                    if strict:
                        raise UserError(f"{record} (--strict; nothing was written)")
                    failures.append(record)
                elif record is not None:
                    writer.add(record)
                progress.advance(note=f"{writer.samples} samples" + (f", {len(failures)} images failed" if failures else ""))
            if not writer.samples:
                needed = f"{min(MIN_KEYPOINTS, len(order))} keypoints, an area of {MIN_AREA} pixels and a box with width and height"
                reason = failures[0] if failures else f"nobody has {needed}"
                raise UserError(f"annotation file {annotations}: no sample can be made: {reason}")
        writer.finish()
    return writer.samples, failures


def _check_space(files: list[Path], output: Path) -> None:
    """Better now than after an hour: and HDF5 can crash the process where it cannot write."""
    needed = sum(file.stat().st_size for file in files)
    free = shutil.disk_usage(output_folder(output.parent)).free
    if free < needed:
        raise UserError(f"training file {output}: needs about {needed / 2**20:.0f} MiB, the disk has {free / 2**20:.0f} MiB left")


class _Writer:
    """Appends records to an open HDF5 file; the small arrays are kept and written at the end."""

    def __init__(self, file: h5py.File, skeleton: Skeleton):
        self.file = file
        file.attrs.update(format="simplepose", version=FORMAT_VERSION, keypoints=list(skeleton.dataset))
        bytes_type = h5py.vlen_dtype(np.uint8)
        self.blobs = {name: file.create_dataset(f"images/{name}", (0,), bytes_type, maxshape=(None,)) for name in ("file", "miss", "all")}
        self.ids: list[int] = []
        self.joints: list[np.ndarray] = []
        self.boxes: list[np.ndarray] = []
        self.main: list[tuple[int, int]] = []

    @property
    def samples(self) -> int:
        return len(self.main)

    def add(self, record: ImageRecord) -> None:
        number = len(self.ids)
        for name, blobs in self.blobs.items():
            blobs.resize((number + 1,))
            blobs[number] = getattr(record, name)
        self.ids.append(record.image_id)
        self.joints.append(record.joints)
        self.boxes.append(record.boxes)
        self.main += [(number, person) for person in record.main]

    def finish(self) -> None:
        samples = np.array(self.main, np.int32)
        arrays = {
            "images/id": np.array(self.ids, np.int64),
            "images/people": np.cumsum([0] + [len(joints) for joints in self.joints]),
            "people/joints": np.concatenate(self.joints),
            "people/box": np.concatenate(self.boxes),
            "samples/image": samples[:, 0],
            "samples/person": samples[:, 1],
        }
        for name, values in arrays.items():
            self.file.create_dataset(name, data=values)
        self.file.attrs["complete"] = True


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the HDF5 training file from a COCO annotation file and its images.")
    parser.add_argument("--annotations", type=Path, required=True, help="person_keypoints_*.json, or your own in the same format")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="the HDF5 file to write")
    parser.add_argument("--skeleton", default="coco", help="name in config/skeletons, or path of a YAML file")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 16), help="processes")
    parser.add_argument("--strict", action="store_true", help="stop at the first image that is missing or cannot be decoded")
    options = parser.parse_args()
    samples, failures = build_hdf5(
        options.annotations, options.images, options.output, load_skeleton(options.skeleton), options.workers, options.strict
    )
    if failures:
        print(f"{len(failures)} images were left out:", *failures, sep="\n  ", file=sys.stderr)
    print(f"{options.output}: {samples} samples, {options.output.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_script(main)
