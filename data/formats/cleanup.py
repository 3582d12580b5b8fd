"""The entries of COCO's format as other tools write them: cleaned up and checked here only, for builder and evaluation.

A defect with only one meaning is fixed, or its entry omitted, and counted. What has several meanings is refused. people.py reads the
people, and fixes and checks their numbers.
"""

import re
import reprlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from config import UserError

LARGEST_ID = 2**62
FIRST_NAME = 2**40  # the number of the first id that is a name


@dataclass
class AnnotationFixes:
    """The entries that were fixed, omitted or look wrong, by problem. strict: the first one is an error."""

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
            print("fixed, omitted or doubtful:", *lines, sep="\n  ", file=sys.stderr)


def _parse_text(entry: dict, *keys: str) -> Iterator[str]:
    """Convert a number that is written as text, or a list with such numbers; leave other texts."""
    for key in keys:
        value = entry.get(key)
        if isinstance(value, str) or (isinstance(value, list) and str in map(type, value)):
            try:
                entry[key] = np.array(value, float).tolist()
            except (TypeError, ValueError, OverflowError):
                continue
            yield f"its {key!r} is written as text"


def _fix_image(image: dict, place: str) -> Iterator[str]:
    if not isinstance(image.get("file_name"), str):
        raise UserError(f"{place}: its 'file_name' is {image.get('file_name')!r}, expected a text")
    yield from _parse_text(image, "width", "height")
    for key in [key for key in ("width", "height") if key in image]:
        size = image.pop(key)
        if type(size) in (int, float) and 1 <= size < 2**31 and float(size).is_integer():
            image[key] = int(size)
        else:
            yield f"its {key!r} makes no sense: the image's own size is used"


def _fix_category(category: dict, place: str) -> Iterator[str]:
    names = category.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{place}: its 'keypoints' are not a list of names")
    if len(set(names)) < len(names):
        raise UserError(f"{place}: two of its keypoints are {next(name for name in names if names.count(name) > 1)!r}")
    yield from ()


KINDS = {  # of entries: what one is called, the ids that it must have and the list that each is of, and what fixes it
    "images": ("image", {"id": "images"}, _fix_image),
    "categories": ("category", {"id": "categories"}, _fix_category),
    "annotations": (
        *("annotation", {"id": "annotations", "image_id": "images", "category_id": "categories"}),
        lambda person, _: _parse_text(person, "bbox", "keypoints", "area", "iscrowd", "num_keypoints"),
    ),
}


class IdNumbers:
    """The whole numbers that ids become. An id is a whole number, perhaps written as 139.0 or "139", or a name."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}

    def number(self, value: object) -> tuple[int, str | None]:
        """Return an id's number, and how else it is written. Raise ValueError where it is none."""
        if isinstance(value, str) and (text := value.strip()):
            if re.fullmatch(r"-?\d{1,18}(\.0*)?", text):
                return int(text.partition(".")[0]), "as text"
            return self._names.setdefault(text, FIRST_NAME + len(self._names)), "as a name: it becomes a number here"
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return int(value), "with a decimal point"
        if type(value) is int and abs(value) < LARGEST_ID:
            return value, None
        raise ValueError


def clean_annotations(content: Any, path: str | Path, fixes: AnnotationFixes) -> dict[str, Any]:
    """Return a COCO file's content; its entries are fixed in place. Raise UserError where it is of another format, or ambiguous.

    All ids are whole numbers; `file_id` of an entry is the file's own. Each image and category that an annotation names is listed.
    """
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"annotation file {path}: not in COCO's format, it has no list 'images'")
    numbers = {kind: IdNumbers() for kind in KINDS}
    clean = {kind: _entries(content.get(kind, []), kind, numbers, path, fixes) for kind in KINDS}
    listed, categories, people = {image["id"] for image in clean["images"]}, {c["id"]: c for c in clean["categories"]}, []
    for person in clean["annotations"]:
        if person["image_id"] in listed:
            people.append(person)
            categories.setdefault(person["category_id"], {"id": person["category_id"], "file_id": person["category_id"]})
        else:
            fixes.add("omitted: its image is not listed", f"annotation file {path}: annotation {person['file_id']}")
    return {**content, **clean, "annotations": people, "categories": [*categories.values()]}


def _entries(entries: object, kind: str, numbers: dict[str, IdNumbers], path: str | Path, fixes: AnnotationFixes) -> list[dict]:
    """Return the entries of a list, each id once."""
    refused, (name, ids, fix) = f"annotation file {path}: not in COCO's format,", KINDS[kind]
    by_id: dict[int, dict[str, Any]] = {}
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{refused} {kind!r} is not a list of objects")
    for entry in entries:
        own = entry.get("id")
        place = f"annotation file {path}: {name} {reprlib.repr(own) if type(own) is int else own}"
        for key, kind_of_id in ids.items():
            try:
                entry[key], written = numbers[kind_of_id].number(entry.get(key))
            except ValueError:
                raise UserError(f"{place}: its {key!r} is {reprlib.repr(entry.get(key))}, expected a whole number or a name") from None
            if written:
                fixes.add(f"its {key!r} is written {written}", place)
        for problem in fix(entry, place):
            fixes.add(problem, place)
        first = by_id.setdefault(entry["id"], entry)
        if first is entry:
            entry["file_id"] = own
            continue
        keys = (
            ("file_name",) if kind == "images" else {**first, **entry}.keys() - {"file_id"}
        )  # an image is its file, whatever else is said
        if any(entry.get(key) != first.get(key) for key in keys):
            raise UserError(f"{refused} two {kind} have the id {own}")
        fixes.add("omitted: listed a second time", place)
    return list(by_id.values())
