"""COCO annotation files: the category that has a skeleton's keypoints, and its people."""

from __future__ import annotations

import contextlib
import io
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from config import Skeleton, UserError
from config.files import existing_folder, read_json
from config.load import check_keypoint_names, first_names
from data.formats.cleanup import AnnotationFixes, fix_annotations

LARGEST = 1e15  # largest number; products of box sides stay finite in float32
ENTRIES = {"images": ("id", "file_name"), "annotations": ("id", "image_id", "category_id"), "categories": ("id",)}
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


def matches(_: AnnotationFile) -> bool:
    """Match every file: `load` refuses files of other formats."""
    return True


def load(file: AnnotationFile) -> dict[str, Any]:
    """Return the content with its fixes. Raise UserError where pycocotools would fail, or silently give wrong results."""
    content, path = fix_annotations(file.content, file.path, file.fixes), file.path
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"annotation file {path}: not in COCO's format, it has no list 'images'")
    for key, needed in ENTRIES.items():
        _check_entries(content.setdefault(key, []), key, needed, path)
    for category in content["categories"]:
        keypoint_names(category, path)
    return content


def indexed(dataset: dict) -> COCO:
    """Return pycocotools' index of a COCO file's content."""
    coco = COCO()
    coco.dataset = {"info": {}, **dataset}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


@contextlib.contextmanager
def naming_file(path: str | Path) -> Iterator[None]:
    """Name the file of an annotation in the error about it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"annotation file {path}: {error}") from error


def _check_entries(entries: object, kind: str, needed: tuple[str, ...], path: str | Path) -> None:
    """Raise UserError unless all entries have what is needed, and ids are whole numbers, each once."""
    where = f"annotation file {path}: not in COCO's format,"
    if not isinstance(entries, list):
        raise UserError(f"{where} {kind!r} is not a list")
    ids = set()
    for entry in entries:
        for key in needed:
            if not isinstance(entry, dict) or key not in entry:
                raise UserError(f"{where} an entry of {kind!r} lacks {key!r}")
            if key.endswith("id") and (type(entry[key]) is not int or abs(entry[key]) >= 2**62):
                raise UserError(f"{where} the {key} {entry[key]!r} in {kind!r} is not a whole number")
            if key == "file_name" and not isinstance(entry[key], str):
                raise UserError(f"{where} the {key} {entry[key]!r} in {kind!r} is not a text")
        if entry.get("iscrowd") not in (None, 0, 1):  # Python would take the text "0" for a crowd
            raise UserError(f"{where} the iscrowd {entry['iscrowd']!r} in {kind!r} is neither 0 nor 1")
        if entry["id"] in ids:
            raise UserError(f"{where} two {kind} have the id {entry['id']}")
        ids.add(entry["id"])


# Keypoints


def keypoint_category(coco: COCO, skeleton: Skeleton, path: str | Path) -> tuple[int, np.ndarray]:
    """Return the id of the category with most of the skeleton's keypoints, and the index of each in the file's order (D,); -1: not there.

    Raise UserError where no category has any of them, or it and the skeleton overlap only in part.
    """
    expected = list(skeleton.dataset)
    categories = [(category["id"], keypoint_names(category, path)) for category in coco.dataset["categories"]]
    number, names = max(categories, key=lambda pair: len(set(expected) & set(pair[1])), default=(0, []))
    if set(expected) & set(names):
        check_keypoint_names(names, skeleton, f"annotation file {path}")
        return number, np.array([names.index(name) if name in names else -1 for name in expected])
    pairs = zip(coco.dataset["categories"], categories)
    found = [f"{category.get('name')} ({first_names(names) or 'no keypoints'})" for category, (_, names) in pairs]
    raise UserError(
        f"annotation file {path}: no category has the keypoints of skeleton {skeleton.name!r} ({first_names(expected)});"
        f" categories found: {', '.join(found) or 'none'}; name them as the skeleton's 'dataset' does (COCO: its person_keypoints_*.json)"
    )


def keypoint_names(category: dict, path: str | Path) -> list[str]:
    """Return the names of a category's keypoints, if it has any. Raise UserError where they are not texts, each once."""
    names = category.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"annotation file {path}: the 'keypoints' of category {category.get('name')!r} are not a list of names")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"annotation file {path}: category {category.get('name')!r} has two keypoints {twice!r}")
    return names


# Images


def image_files(coco: COCO, path: str | Path, folder: Path, limit: int | None = None) -> dict[int, Path]:
    """Return the files of the images, or of the first `limit`, by their ids in ascending order.

    Raise UserError where the annotation file lists none or one is missing.
    """
    existing_folder(folder, "image folder")
    files = {image_id: folder / coco.imgs[image_id]["file_name"] for image_id in sorted(coco.imgs)[:limit]}
    if not files:
        raise UserError(f"annotation file {path}: lists no image")
    missing = [coco.imgs[image_id]["file_name"] for image_id, file in files.items() if not file.is_file()]
    if missing:
        raise UserError(f"image folder {folder}: lacks {len(missing)} of the {len(files)} images listed, such as {missing[0]}")
    return files


def listed_size(image: dict) -> Size:
    """Return height and width in pixels of an image's entry; None if it lists none."""
    height, width = (side if type(side) is int and side > 0 else None for side in (image.get("height"), image.get("width")))
    return height, width


def check_size(path: Path, height: int, width: int, listed: Size) -> None:
    """Raise UserError if an image's size differs from the listed one."""
    expected = tuple(own if side is None else side for own, side in zip((height, width), listed))
    if (height, width) != expected:
        raise UserError(f"image {path}: is {width} x {height}, but the annotation file says {expected[1]} x {expected[0]}")


# People


def read_person(annotation: dict, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return `file_keypoints`, `person_box` and `person_area`; zeros if a person without keypoints lacks the latter two.

    Raise UserError for invalid values, such as coordinates from 0 to 1: fractions of the image, not pixels.
    """
    keypoints = file_keypoints(annotation, order)
    points = keypoints[keypoints[:, 2] > 0, :2]
    needed = len(points) and not annotation.get("iscrowd")
    try:
        box, area = person_box(annotation), person_area(annotation)
    except UserError:
        if needed:
            raise
        return keypoints, np.zeros(4), 0.0
    for key, values in (("keypoints", points), ("bbox", box)):
        if needed and len(points) > 1 and ((values >= 0) & (values <= 1)).all() and (values % 1).any():
            what = f"its {key!r} is within 0 and 1, as if in parts of the image; expected pixels"
            raise UserError(f"annotation {annotation['id']}: {what}")
    return keypoints, box, area


def comparable(annotations: COCO, category: int, file_index: np.ndarray) -> COCO:
    """Return the people of an annotation file as pycocotools compares them. Raises UserError where an annotation is invalid.

    Keypoints are in the order of the sigmas, and omitted values are filled in. Ids are new: pycocotools takes an id of 0 for "not
    matched". A person without keypoints by the file's own count is ignored: CrowdPose does not count head and neck. file_index (D,): the
    index of each of the data set's keypoints in the file; -1: none.
    """
    people = []
    for person in annotations.dataset["annotations"]:
        if person["category_id"] == category:
            keypoints, box, area = read_person(person, file_index)
            keypoints = keypoints[file_index >= 0]
            count = 0 if person.get("num_keypoints") == 0 else int((keypoints[:, 2] > 0).sum())
            shape = {"bbox": box.tolist(), "area": area, "iscrowd": int(bool(person.get("iscrowd")))}
            people.append({**person, "id": len(people) + 1, **shape, "keypoints": keypoints.ravel(), "num_keypoints": count})
    return indexed({**annotations.dataset, "annotations": people})


def file_keypoints(annotation: dict, order: np.ndarray) -> np.ndarray:
    """Return (D, 3) x, y, v as in the file (v 2 visible, 1 occluded, 0 unlabeled), in the data set's order; zeros where it has none.

    order (D,): index of each keypoint in the file; -1: not there. Raise UserError where the list is too short, or holds anything but
    finite numbers, or another v.
    """
    if not annotation.get("keypoints"):
        return np.zeros((len(order), 3))
    values = finite_numbers(annotation, "keypoints", "x, y, v of each keypoint", f"annotation {annotation['id']}")
    if values.size % 3 or values.size <= 3 * order.max():
        raise UserError(f"annotation {annotation['id']}: {values.size} keypoint numbers, expected 3 for each of the category's keypoints")
    unknown = set(values.ravel()[2::3].tolist()) - {0, 1, 2}
    if unknown:
        raise UserError(
            f"annotation {annotation['id']}: a keypoint's v is {unknown.pop():g}, expected 0 unlabeled, 1 occluded or 2 visible"
        )
    return np.where(order[:, None] >= 0, values.reshape(-1, 3)[order], 0)


def person_box(annotation: dict) -> np.ndarray:
    """Return (4,) x, y, width, height in pixels. Raise UserError where there is none."""
    return finite_numbers(annotation, "bbox", "x, y, width, height", f"annotation {annotation['id']}", (4,))


def person_area(annotation: dict) -> float:
    """Return pixels squared; the box's where the file does not say. Raise UserError where it is not a finite number."""
    if annotation.get("area") is None:
        return float(person_box(annotation)[2:].prod())
    return float(finite_numbers(annotation, "area", "a number", f"annotation {annotation['id']}", ()))


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
