"""Person detections in COCO's results format: a list of {image_id, category_id, bbox, score}."""

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from config import UserError
from config.files import read_json
from data.formats.cleanup import AnnotationFixes
from data.formats.coco import finite_numbers

KEYS = ("image_id", "category_id", "bbox", "score")


def load_detections(
    path: str | Path, images: Mapping[Any, dict], categories: Collection[Any] = (1,), fixes: AnnotationFixes | None = None
) -> dict[Any, np.ndarray]:
    """Return each image's boxes (B, 5) x, y, width, height in pixels, and a score above 0; only images with such boxes.

    images: id -> an entry of the annotation file; categories: of people; both by the file's own ids. Unusable boxes are skipped, and
    counted on stderr, one line a reason. fixes: counts ids of other tools, see `settle_ids`. Raise UserError if the file is not of the
    format, or no box is usable.
    """
    entries = read_json(path, "boxes file")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and entry.keys() >= set(KEYS) for entry in entries):
        raise UserError(f"boxes file {path}: not a file of detections; expected a list of {{{', '.join(KEYS)}}}")
    settle_ids(entries, images, categories, f"boxes file {path}", AnnotationFixes() if fixes is None else fixes)
    boxes, skipped = defaultdict[int, list](list), Counter[str]()
    for entry in entries:
        reason = _skip_reason(entry, images, categories)
        if reason is not None:
            skipped[reason] += 1
        elif entry["score"] > 0:
            boxes[entry["image_id"]].append([*entry["bbox"], entry["score"]])
    if entries and skipped.total() == len(entries):
        raise UserError(f"boxes file {path}: no box can be used: {', '.join(f'{count} {reason}' for reason, count in skipped.items())}")
    for reason, count in skipped.items():
        print(f"boxes file {path}: {count} of {len(entries)} boxes were skipped: {reason}", file=sys.stderr)
    return {image_id: np.array(rows, float) for image_id, rows in boxes.items()}


def settle_ids(entries: list[dict], images: Mapping[Any, dict], categories: Collection[Any], place: str, fixes: AnnotationFixes) -> None:
    """Give results the annotation file's ids in place where another tool wrote them; count these.

    An id is the listed one, or that written as text, or the stem of the image's file name, or this as a whole number; the same in all
    entries, whichever lists most of their images. Category 0 is people where it is the only one and not listed. Others stay.
    """
    stems = _unique((PureWindowsPath(image.get("file_name", "")).stem, file_id) for file_id, image in images.items())  # takes / and \\
    readings = {
        "": {file_id: file_id for file_id in images},
        "an id as text": _unique((str(file_id), file_id) for file_id in images),
        "the stem of a file name": _unique((int(stem), file_id) for stem, file_id in stems.items() if stem.isdecimal()) | stems,
    }
    given = [entry.get("image_id") for entry in entries]
    given = [value if type(value) in (int, float, str) else None for value in given]
    meaning = max(readings, key=lambda name: sum(value in readings[name] for value in given))
    only_zero = {type(entry.get("category_id")) in (int, float) and entry["category_id"] == 0 for entry in entries} == {True}
    for number, (entry, value) in enumerate(zip(entries, given), start=1):
        if meaning and value in readings[meaning]:
            entry["image_id"] = readings[meaning][value]
            fixes.add(f"its 'image_id' is {meaning}: taken for that image", f"{place}: entry {number}")
        if only_zero and 0 not in categories:
            entry["category_id"] = next(iter(categories), 1)
            fixes.add("its 'category_id' is 0: taken for people", f"{place}: entry {number}")


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return the pairs whose first value occurs once."""
    pairs = list(pairs)
    counts = Counter(key for key, _ in pairs)
    return {key: value for key, value in pairs if counts[key] == 1}


def _skip_reason(entry: dict, images: Mapping[Any, dict], categories: Collection[Any]) -> str | None:
    """Return why a box is unusable; None if it is usable."""
    image_id = entry["image_id"]
    if entry["category_id"] not in categories:
        return f"of another category than people ({', '.join(map(str, categories))})"
    if type(image_id) not in (int, float, str) or image_id not in images:
        return "of images that the annotation file does not list"
    try:
        x, y, width, height = finite_numbers(entry, "bbox", "", "", (4,))
        finite_numbers(entry, "score", "", "", ())
    except UserError:
        return "not finite numbers x, y, width, height and score"
    if width <= 0 or height <= 0:
        return "without width or height"
    right, bottom = (images[image_id].get(side) or math.inf for side in ("width", "height"))
    if x + width <= 0 or y + height <= 0 or x >= right or y >= bottom:
        return "outside of their image"
    return None
