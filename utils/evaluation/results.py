"""Files of people found, in COCO's format for results: a list of {image_id, category_id, keypoints, score}."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Container
from pathlib import Path

from config import UserError
from config.files import read_json

KEYS = ("image_id", "category_id", "keypoints", "score")


def load_results(path: Path, images: Container[int], category: int, count: int, people: Container[int] | None = None) -> list[dict]:
    """The file's entries. Raises UserError, with the number of the first entry that cannot be evaluated.

    images: the ids that the annotation file lists; category: people's; count: of keypoints in its order; people: the ids of the annotated
    people, where each entry is to be somebody's answer.
    """
    entries = read_json(path, "detections")
    expected = f"expected a list of {{{', '.join(KEYS)}}}"
    if not isinstance(entries, list):
        raise UserError(f"detections {path}: not COCO's format for results; {expected}")
    if not entries:
        raise UserError(f"detections {path}: an empty list, there is nothing to evaluate")
    for number, entry in enumerate(entries, start=1):
        fault = _fault(entry, images, category, count, people)
        if fault:
            raise UserError(f"detections {path}: entry {number} {fault}")
    return entries


def _fault(entry: object, images: Container[int], category: int, count: int, people: Container[int] | None) -> str | None:
    """Why an entry cannot be evaluated, if so."""
    keys = (*KEYS, *["annotation_id"] * (people is not None))
    lacking = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if lacking:
        return f"lacks {lacking[0]!r}; expected a list of {{{', '.join(keys)}}}"
    if type(entry["image_id"]) is not int or entry["image_id"] not in images:
        return f"is of image {entry['image_id']!r}, which the annotation file does not list"
    if people is not None and (type(entry["annotation_id"]) is not int or entry["annotation_id"] not in people):
        return f"is of person {entry['annotation_id']!r}, whom the annotation file does not list"
    if type(entry["category_id"]) is not int or entry["category_id"] != category:
        return f"is of category {entry['category_id']!r}; people are {category}"
    keypoints = entry["keypoints"]
    if not isinstance(keypoints, list) or len(keypoints) != 3 * count:
        held = f"{len(keypoints)} numbers" if isinstance(keypoints, list) else reprlib.repr(keypoints)
        return f"has {held} as 'keypoints', expected {3 * count}: x, y, v of the {count} keypoints"
    if not _finite(keypoints):
        return "has 'keypoints' that are not all finite numbers"
    if not _finite([entry["score"]]):
        return f"has the score {entry['score']!r}, expected a finite number"
    return None


def _finite(values: list) -> bool:
    return all(type(value) in (int, float) and abs(value) <= sys.float_info.max for value in values)
