"""Fixes of annotation files in COCO's format as other tools write them, before they are indexed.

A defect with only one meaning is fixed, or its entry omitted, and counted. The rest stays, and is refused where it is read.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config import UserError

FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "": 0}


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

    def lines(self) -> list[str]:
        """Return one line for each problem."""
        return [f"{len(places)} x {problem} (first: {places[0]})" for problem, places in self.found.items()]

    def report(self) -> None:
        """Print the lines on stderr, if there are any."""
        if self.found:
            print("fixed or omitted in the annotations:", *self.lines(), sep="\n  ", file=sys.stderr)


def fix_annotations(content: Any, path: str | Path, fixes: AnnotationFixes) -> Any:
    """Return a COCO file's content with fixed copies of its entries; other content as it is."""
    if not isinstance(content, dict) or not all(isinstance(content.get(kind), list) for kind in ("images", "annotations")):
        return content
    images = list(_fixed(content["images"], f"annotation file {path}: image", _fix_image, ("id", "file_name"), fixes))
    listed = {image["id"] for image in images if isinstance(image, dict) and type(image.get("id")) is int}
    people = []
    for person in _fixed(content["annotations"], f"annotation file {path}: annotation", _fix_person, (), fixes):
        if isinstance(person, dict) and type(person.get("image_id")) is int and person["image_id"] not in listed:
            fixes.add("omitted: its image is not listed", f"annotation file {path}: annotation {person.get('id')}")
        else:
            people.append(person)
    return {**content, "images": images, "annotations": people}


def _fixed(
    entries: list, place: str, fix: Callable[[dict], Iterator[str]], identity: tuple[str, ...], fixes: AnnotationFixes
) -> Iterator[Any]:
    """Yield fixed copies of the entries, without those that equal an earlier one of the same id in the keys `identity`, or in all keys.

    fix: changes an entry and yields what it fixes.
    """
    first: dict[int, dict] = {}
    for entry in entries:
        if isinstance(entry, dict):
            where, entry = f"{place} {entry.get('id')}", dict(entry)
            for problem in fix(entry):
                fixes.add(problem, where)
            if type(entry.get("id")) is int:
                earlier = first.setdefault(entry["id"], entry)
                if earlier is not entry and all(entry.get(key) == earlier.get(key) for key in identity or {**entry, **earlier}):
                    fixes.add("omitted: listed a second time", where)
                    continue
        yield entry


def _fix_image(image: dict) -> Iterator[str]:
    yield from _fix_ids(image)
    for key in ("width", "height"):
        size = _parsed(image.get(key))
        if key in image and (not _is_number(size) or size <= 0):
            yield f"its {key!r} makes no sense: the image's own size is used"
            del image[key]
        elif size is not image.get(key):
            yield f"its {key!r} is written as text"
            image[key] = size


def _fix_person(person: dict) -> Iterator[str]:
    yield from _fix_ids(person)
    for key in ("bbox", "keypoints", "area"):
        values = _parsed(person.get(key))
        if values is not person.get(key):
            yield f"its {key!r} is written as text"
            person[key] = values
    box, keypoints = person.get("bbox"), person.get("keypoints")
    if isinstance(box, list) and len(box) == 4:
        if not all(map(_is_number, box)):
            if not keypoints or (isinstance(keypoints, list) and not any(keypoints[2::3])):
                yield "its 'bbox' holds what is no number, and it has no keypoints: the box is dropped"
                person["bbox"] = None
        elif min(box[2:]) < 0:
            yield "its 'bbox' has a side below 0: the corners are swapped"
            x, y, width, height = box
            person["bbox"] = [min(x, x + width), min(y, y + height), abs(width), abs(height)]
    if _is_number(person.get("area")) and person["area"] < 0:
        yield "its 'area' is below 0: the box's area is used"
        person["area"] = None
    crowd, outline = person.get("iscrowd"), person.get("segmentation")
    if isinstance(crowd, str) and crowd.strip().lower() in FLAGS:
        yield "its 'iscrowd' is written as text"
        person["iscrowd"] = FLAGS[crowd.strip().lower()]
    if isinstance(outline, list) and outline and all(map(_is_number, outline)):
        yield "its 'segmentation' is one polygon, not a list of them"
        person["segmentation"] = [outline]


def _fix_ids(entry: dict) -> Iterator[str]:
    for key in ("id", "image_id", "category_id"):
        if isinstance(entry.get(key), float) and entry[key].is_integer():
            yield f"its {key!r} is written with a decimal point"
            entry[key] = int(entry[key])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _parsed(value: Any) -> Any:
    """Return the number that a text is, or a list with those of its texts; what has none of them itself."""
    if isinstance(value, list):
        return [_parsed(one) for one in value] if any(isinstance(one, str) for one in value) else value
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return value
    return (int(number) if number.is_integer() else number) if math.isfinite(number) else value
