"""The entries of COCO's format as other tools write them: cleaned up and checked here only, for builder and evaluation.

A defect with only one meaning is fixed, or its entry omitted, and counted. What has several meanings is refused. `coco.read_person` reads
the numbers of a person.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from config import UserError


@dataclass
class AnnotationFixes:
    """The entries that were fixed or omitted, by problem. strict: the first one is an error."""

    strict: bool = False
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, problem: str, place: str) -> None:
        """Count one fix. Raise UserError if `strict`."""
        if self.strict:
            raise UserError(f"{place}: {problem} (--strict; nothing was written)")
        self.found.setdefault(problem, []).append(place)

    def report(self) -> None:
        """Print one line for each problem on stderr, if there are any."""
        lines = [f"{len(places)} x {problem} (first: {places[0]})" for problem, places in self.found.items()]
        if lines:
            print("fixed or omitted in the annotations:", *lines, sep="\n  ", file=sys.stderr)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _parse_text(entry: dict, *keys: str) -> Iterator[str]:
    """Convert a number that is written as text, or a list with such numbers; leave other texts."""
    for key in keys:
        value = entry.get(key)
        if isinstance(value, str) or (isinstance(value, list) and str in map(type, value)):
            try:
                entry[key] = np.array(value, float).tolist()
            except (TypeError, ValueError):
                continue
            yield f"its {key!r} is written as text"


def _fix_ids(entry: dict, place: str, keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        value = entry.get(key)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            yield f"its {key!r} is written with a decimal point"
            entry[key] = int(value)
        elif type(value) is not int or abs(value) >= 2**62:
            raise UserError(f"{place}: its {key!r} is {value!r}, expected a whole number")


def _fix_image(image: dict, place: str) -> Iterator[str]:
    if not isinstance(image.get("file_name"), str):
        raise UserError(f"{place}: its 'file_name' is {image.get('file_name')!r}, expected a text")
    yield from _parse_text(image, "width", "height")
    for key in [key for key in ("width", "height") if key in image]:
        size = image.pop(key)
        if _is_number(size) and 1 <= size < 2**31 and float(size).is_integer():
            image[key] = int(size)
        else:
            yield f"its {key!r} makes no sense: the image's own size is used"


def _fix_person(person: dict, place: str) -> Iterator[str]:
    yield from _parse_text(person, "bbox", "keypoints", "area", "iscrowd")
    if person.get("iscrowd") not in (None, 0, 1):
        raise UserError(f"{place}: its 'iscrowd' is {person['iscrowd']!r}, expected 0 or 1")
    box, area, outline = map(person.get, ("bbox", "area", "segmentation"))
    if isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) < 0:
        yield "its 'bbox' has a side below 0: the corners are swapped"
        x, y, width, height = box
        person["bbox"] = [min(x, x + width), min(y, y + height), abs(width), abs(height)]
    if _is_number(area) and area < 0:
        yield "its 'area' is below 0: the box's area is used"
        person["area"] = None
    if isinstance(outline, list) and outline and all(map(_is_number, outline)):
        yield "its 'segmentation' is one polygon, not a list of them"
        person["segmentation"] = [outline]


def _fix_category(category: dict, place: str) -> Iterator[str]:
    names = category.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{place}: its 'keypoints' are not a list of names")
    if len(set(names)) < len(names):
        raise UserError(f"{place}: two of its keypoints are {next(name for name in names if names.count(name) > 1)!r}")
    yield from ()


KINDS = {  # of entries: what one is called, the ids that it must have, and what fixes it
    "images": ("image", ("id",), _fix_image),
    "annotations": ("annotation", ("id", "image_id", "category_id"), _fix_person),
    "categories": ("category", ("id",), _fix_category),
}


def clean_annotations(content: Any, path: str | Path, fixes: AnnotationFixes) -> dict[str, Any]:
    """Return a COCO file's content; its entries are fixed in place. Raise UserError where it is of another format, or ambiguous."""
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"annotation file {path}: not in COCO's format, it has no list 'images'")
    content |= {kind: _entries(content.get(kind, []), kind, path, fixes) for kind in KINDS}
    listed, people = {image["id"] for image in content["images"]}, []
    for person in content["annotations"]:
        if person["image_id"] in listed:
            people.append(person)
        else:
            fixes.add("omitted: its image is not listed", f"annotation file {path}: annotation {person['id']}")
    return {**content, "annotations": people}


def _entries(entries: object, kind: str, path: str | Path, fixes: AnnotationFixes) -> list[dict]:
    """Return the entries of a list, each id once."""
    refused, (name, ids, fix), by_id = f"annotation file {path}: not in COCO's format,", KINDS[kind], {}
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{refused} {kind!r} is not a list of objects")
    for entry in entries:
        place = f"annotation file {path}: {name} {entry.get('id')}"
        for problem in (*_fix_ids(entry, place, ids), *fix(entry, place)):
            fixes.add(problem, place)
        first = by_id.setdefault(entry["id"], entry)
        if first is not entry:
            keys = ("file_name",) if kind == "images" else {**entry, **first}  # an image is its file, whatever else is said about it
            if any(entry.get(key) != first.get(key) for key in keys):
                raise UserError(f"{refused} two {kind} have the id {entry['id']}")
            fixes.add("omitted: listed a second time", place)
    return list(by_id.values())
