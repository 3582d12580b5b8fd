"""Annotation files as other tools write them: what can only mean one thing is mended or left out, and counted; the rest is refused later.

It is COCO's content as JSON has it, before it is indexed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from config import UserError
from config.skeleton import UNLABELLED

IDS = ("id", "image_id", "category_id")
FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "": 0}


@dataclass
class Repairs:
    """What was mended or left out: for each kind of damage, where. strict: the first is an error."""

    strict: bool = False
    found: dict[str, list[str]] = field(default_factory=dict)

    def note(self, damage: str, where: str) -> None:
        """Count one. Raises UserError where it must not be mended."""
        if self.strict:
            raise UserError(f"{where}: {damage} (--strict; nothing was written)")
        self.found.setdefault(damage, []).append(where)

    def lines(self) -> list[str]:
        """One for each kind."""
        return [f"{len(where)} x {damage} (first: {where[0]})" for damage, where in self.found.items()]


def mended(content: Any, path: str | Path, repairs: Repairs) -> Any:
    """A JSON file's content with every entry mended; what is not as in COCO's format at all is left as it is."""
    if not isinstance(content, dict) or not all(isinstance(content.get(kind), list) for kind in ("images", "annotations")):
        return content
    images = _entries(content["images"], "image", _mended_image, path, repairs)
    images = _without_copies(images, "image", ("id", "file_name"), path, repairs)
    people = _entries(content["annotations"], "annotation", _mended_annotation, path, repairs)
    people = _without_copies(people, "annotation", None, path, repairs)
    known = {image["id"] for image in images if isinstance(image, dict) and type(image.get("id")) is int}
    listed = []
    for person in people:
        if isinstance(person, dict) and type(person.get("image_id")) is int and person["image_id"] not in known:
            repairs.note("left out: its image is not listed", f"annotation file {path}: annotation {person.get('id')}")
        else:
            listed.append(person)
    return {**content, "images": images, "annotations": listed}


def check_in_pixels(annotation: dict, joints: np.ndarray, box: np.ndarray) -> None:
    """Raise UserError where somebody's joints (D, 3) or box (4,) are parts of the picture, from 0 to 1; whole numbers are not."""
    points = joints[joints[:, 2] != UNLABELLED, :2]
    parts = len(points) > 1 and ((points >= 0) & (points <= 1)).all() and (points % 1).any()
    if parts or (len(points) and (box >= 0).all() and (box <= 1).all() and (box[2:] > 0).all() and (box % 1).any()):
        what = "keypoints" if parts else "bbox"
        raise UserError(f"annotation {annotation['id']}: its {what!r} is within 0 and 1, as if in parts of the picture; expected pixels")


def _entries(entries: list, kind: str, mend: Callable[[dict, Callable[[str], None]], None], path: str | Path, repairs: Repairs) -> list:
    """Each entry as `mend` leaves a copy of it."""
    copies = []
    for entry in entries:
        if isinstance(entry, dict):
            entry = dict(entry)
            where = f"annotation file {path}: {kind} {entry.get('id')}"
            mend(entry, lambda damage, where=where: repairs.note(damage, where))
        copies.append(entry)
    return copies


def _without_copies(entries: list, kind: str, keys: tuple[str, ...] | None, path: str | Path, repairs: Repairs) -> list:
    """Entries but those that are the same, in these keys, as an earlier one of that id. Others of the same id are refused later."""
    first: dict[int, dict] = {}
    kept = []
    for entry in entries:
        if isinstance(entry, dict) and type(entry.get("id")) is int:
            earlier = first.setdefault(entry["id"], entry)
            same = entry == earlier if keys is None else all(entry.get(key) == earlier.get(key) for key in keys)
            if earlier is not entry and same:
                repairs.note("left out: listed a second time", f"annotation file {path}: {kind} {entry['id']}")
                continue
        kept.append(entry)
    return kept


def _mended_image(image: dict, note: Callable[[str], None]) -> None:
    _mend_ids(image, note)
    for key in ("width", "height"):
        if key not in image:
            continue
        given = image[key]
        size = _number(given) if isinstance(given, str) else given
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 < size < math.inf:
            note(f"its {key!r} makes no sense: the picture's own is taken")
            del image[key]
        elif isinstance(given, str):
            note(f"its {key!r} is written as a text")
            image[key] = size


def _mended_annotation(annotation: dict, note: Callable[[str], None]) -> None:
    _mend_ids(annotation, note)
    for key in ("bbox", "keypoints", "area"):
        given = annotation.get(key)
        if isinstance(given, list) and any(isinstance(value, str) for value in given):
            values = [_number(value) if isinstance(value, str) else value for value in given]
        else:
            values = _number(given) if isinstance(given, str) else given
        if values is not given and not (values is None or isinstance(values, list) and None in values):  # else it is refused later
            note(f"its {key!r} is written as text")
            annotation[key] = values
    _mend_box(annotation, note)
    if _is_number(annotation.get("area")) and annotation["area"] < 0:
        note("its 'area' is below 0: the box's is taken")
        annotation["area"] = None
    crowd = annotation.get("iscrowd")
    if isinstance(crowd, str) and crowd.strip().lower() in FLAGS:
        note("its 'iscrowd' is written as a text")
        annotation["iscrowd"] = FLAGS[crowd.strip().lower()]
    outline = annotation.get("segmentation")
    if isinstance(outline, list) and outline and all(map(_is_number, outline)):
        note("its 'segmentation' is one polygon, not a list of them")
        annotation["segmentation"] = [outline]


def _mend_box(annotation: dict, note: Callable[[str], None]) -> None:
    """One that was drawn from the lower right, and one without numbers of somebody who needs none."""
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return
    if all(map(_is_number, box)):
        x, y, width, height = box
        if width < 0 or height < 0:
            note("its 'bbox' has a side below 0: turned round")
            annotation["bbox"] = [min(x, x + width), min(y, y + height), abs(width), abs(height)]
        return
    keypoints = annotation.get("keypoints") or []
    if isinstance(keypoints, list) and not any(keypoints[2::3]):
        note("its 'bbox' holds what is no number, and it has no keypoints: taken for nobody's")
        annotation["bbox"] = None


def _mend_ids(entry: dict, note: Callable[[str], None]) -> None:
    for key in IDS:
        if isinstance(entry.get(key), float) and entry[key].is_integer():
            note(f"its {key!r} is written with a decimal point")
            entry[key] = int(entry[key])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(text: str) -> float | None:
    """None where the text is no finite number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
