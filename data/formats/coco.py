"""COCO annotation files: the category that has a skeleton's keypoints, and its people."""

from __future__ import annotations

import contextlib
import io
import reprlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from config import Skeleton, UserError
from config.files import existing_folder, read_json
from config.load import check_keypoint_names, first_names
from data.formats.cleanup import AnnotationFixes, clean_annotations

LARGEST = 1e15  # largest number; products of box sides stay finite in float32
Size = tuple[int | None, int | None]  # listed height and width; None: own annotation files may omit them


@dataclass(frozen=True)
class AnnotationFile:
    """A file to be read by one of the formats; see `data.formats.load_annotations`."""

    path: Path
    images: tuple[Path, ...] = ()
    split: str = "train"
    fixes: AnnotationFixes = field(default_factory=AnnotationFixes)

    @cached_property
    def content(self) -> Any:
        """The file's content. Raise UserError if it is not JSON."""
        return read_json(self.path, "annotation file")

    def entries(self, key: str) -> list[dict]:
        """Return the entries of one of its lists, empty if there is none; formats recognize their files by them."""
        entries = self.content.get(key) if isinstance(self.content, dict) else None
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def load(file: AnnotationFile) -> dict[str, Any]:
    """Return the cleaned content. Raise UserError where it is of another format."""
    return clean_annotations(file.content, file.path, file.fixes)


def indexed(dataset: dict) -> COCO:
    """Return pycocotools' index of a COCO file's content."""
    coco = COCO()
    coco.dataset = {"info": {}, **dataset}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


# Keypoints


def keypoint_category(coco: COCO, skeleton: Skeleton, path: str | Path) -> tuple[int, np.ndarray]:
    """Return the id of the category with most of the skeleton's keypoints, and the index of each in the file's order (D,); -1: not there.

    Raise UserError where no category has any of them, or it and the skeleton overlap only in part.
    """
    expected = list(skeleton.dataset)
    categories = [(category, category.get("keypoints") or []) for category in coco.dataset["categories"]]
    category, names = max(categories, key=lambda pair: len(set(expected) & set(pair[1])), default=({}, []))
    if set(expected) & set(names):
        check_keypoint_names(names, skeleton, f"annotation file {path}")
        return category["id"], np.array([names.index(name) if name in names else -1 for name in expected])
    found = [f"{category.get('name')} ({first_names(names) or 'no keypoints'})" for category, names in categories]
    raise UserError(
        f"annotation file {path}: no category has the keypoints of skeleton {skeleton.name!r} ({first_names(expected)});"
        f" categories found: {', '.join(found) or 'none'}; name them as the skeleton's 'dataset' does (COCO: its person_keypoints_*.json)"
    )


# Images


def image_files(coco: COCO, path: str | Path, folder: Path | None, limit: int | None = None) -> dict[int, Path]:
    """Return the files of the images, or of the first `limit`, by their ids in ascending order; without a folder, the names listed.

    Raise UserError where the annotation file lists none or one is missing in the folder.
    """
    names = {image_id: coco.imgs[image_id]["file_name"] for image_id in sorted(coco.imgs)[:limit]}
    if not names:
        raise UserError(f"annotation file {path}: lists no image")
    if folder is None:
        return {image_id: Path(name) for image_id, name in names.items()}
    files = {image_id: existing_folder(folder, "image folder") / name for image_id, name in names.items()}
    missing = [names[image_id] for image_id, file in files.items() if not file.is_file()]
    if missing:
        raise UserError(f"image folder {folder}: lacks {len(missing)} of the {len(files)} images listed, such as {missing[0]}")
    return files


def listed_size(image: dict) -> Size:
    """Return height and width in pixels of an image's entry; None if it lists none."""
    return image.get("height"), image.get("width")


def check_size(path: Path, height: int, width: int, listed: Size) -> None:
    """Raise UserError if an image's size differs from the listed one."""
    expected = tuple(own if side is None else side for own, side in zip((height, width), listed))
    if (height, width) != expected:
        raise UserError(f"image {path}: is {width} x {height}, but the annotation file says {expected[1]} x {expected[0]}")


# People


def read_people(coco: COCO, category: int, file_index: np.ndarray, path: str | Path) -> COCO:
    """Return the people of a category for builder and evaluation, as pycocotools compares them. Raise UserError where one is invalid.

    Keypoints (D, 3) are those of `file_index` (D,), see `keypoint_category`, that the file has; omitted values are filled in. Ids are new,
    since pycocotools takes an id of 0 for "not matched"; the file's are `file_id`. A person without keypoints by the file's own count is
    ignored: CrowdPose does not count head and neck.
    """
    people = []
    for person in coco.dataset["annotations"]:
        if person["category_id"] == category:
            keypoints, box, area = read_person(person, file_index, path)
            keypoints = keypoints[file_index >= 0]
            count = 0 if person.get("num_keypoints") == 0 else int((keypoints[:, 2] > 0).sum())
            ids = {"id": len(people) + 1, "file_id": person["id"]}
            shape = {"bbox": box.tolist(), "area": area, "iscrowd": int(bool(person.get("iscrowd")))}
            people.append({**person, **ids, **shape, "keypoints": keypoints.ravel(), "num_keypoints": count})
    return indexed({**coco.dataset, "annotations": people})


def read_person(annotation: dict, file_index: np.ndarray, path: str | Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Return keypoints, box x, y, width, height and area of a person, in pixels; zeros if one without keypoints lacks the latter two.

    keypoints (D, 3) x, y, v as in the file (v 2 visible, 1 occluded, 0 unlabeled), zeros where the file has none. Raise UserError for
    invalid values, such as coordinates from 0 to 1: fractions of the image, not pixels.
    """
    place = f"annotation file {path}: annotation {annotation['id']}"
    keypoints = np.zeros((len(file_index), 3))
    if annotation.get("keypoints"):
        values = finite_numbers(annotation, "keypoints", "x, y, v of each keypoint", place).ravel()
        if values.size % 3 or values.size <= 3 * file_index.max():
            raise UserError(f"{place}: {values.size} keypoint numbers, expected 3 for each of the category's keypoints")
        unknown = set(values[2::3].tolist()) - {0, 1, 2}
        if unknown:
            raise UserError(f"{place}: a keypoint's v is {unknown.pop():g}, expected 0 unlabeled, 1 occluded or 2 visible")
        keypoints = np.where(file_index[:, None] >= 0, values.reshape(-1, 3)[file_index], 0)
    points = keypoints[keypoints[:, 2] > 0, :2]
    needed = len(points) and not annotation.get("iscrowd")
    try:
        box, area = person_box(annotation, place), annotation.get("area")
        area = float(box[2:].prod() if area is None else finite_numbers(annotation, "area", "a number", place, ()))
    except UserError:
        if needed:
            raise
        return keypoints, np.zeros(4), 0.0
    for key, values in (("keypoints", points), ("bbox", box)):
        if needed and len(points) > 1 and ((values >= 0) & (values <= 1)).all() and (values % 1).any():
            raise UserError(f"{place}: its {key!r} is within 0 and 1, as if in parts of the image; expected pixels")
    return keypoints, box, area


def person_box(annotation: dict, place: str) -> np.ndarray:
    """Return (4,) x, y, width, height in pixels. Raise UserError where there is none."""
    return finite_numbers(annotation, "bbox", "x, y, width, height", place, (4,))


def finite_numbers(entry: dict, key: str, expected: str, place: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return an entry's value as float64. Raise UserError where it is not of that shape or not all of it are finite numbers."""
    value = entry.get(key)
    try:
        values = np.asarray(value)
    except ValueError:  # lists of several lengths
        values = np.asarray(None)
    if values.dtype.kind not in "iuf" or not (np.abs(values) < LARGEST).all() or (shape is not None and values.shape != shape):
        raise UserError(f"{place}: its {key!r} is {reprlib.repr(value)}, expected {expected}")
    return values.astype(float)
