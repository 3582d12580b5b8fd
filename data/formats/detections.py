"""Person detections in COCO's results format: a list of {image_id, category_id, bbox, score}."""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from config import UserError
from config.files import read_json

KEYS = ("image_id", "category_id", "bbox", "score")


def load_detections(path: str | Path, images: Mapping[int, dict], category: int = 1, least_score: float = 0.0) -> dict[int, np.ndarray]:
    """Return each image's boxes (B, 5) x, y, width, height in pixels, and a score above `least_score`; only images with such boxes.

    images: id -> an annotation file's entry. Unusable boxes are skipped, and counted on stderr, one line a reason. Raise UserError if
    the file is not of the format, or no box is usable.
    """
    entries = _read_entries(path)
    boxes, skipped = defaultdict(list), Counter()
    for entry in entries:
        reason = _skip_reason(entry, images, category)
        if reason is not None:
            skipped[reason] += 1
        elif entry["score"] > least_score:
            boxes[entry["image_id"]].append([*entry["bbox"], entry["score"]])
    if entries and skipped.total() == len(entries):
        raise UserError(f"boxes file {path}: no box can be used: {', '.join(f'{count} {reason}' for reason, count in skipped.items())}")
    for reason, count in skipped.items():
        print(f"boxes file {path}: {count} of {len(entries)} boxes were skipped: {reason}", file=sys.stderr)
    return {image_id: np.array(rows, float) for image_id, rows in boxes.items()}


def _read_entries(path: str | Path) -> list[dict]:
    """Return the file's content. Raise UserError if it is not a list of boxes."""
    entries = read_json(path, "boxes file")
    expected = f"expected a list of {{{', '.join(KEYS)}}}"
    if not isinstance(entries, list):
        raise UserError(f"boxes file {path}: not a file of detections; {expected}")
    for number, entry in enumerate(entries, start=1):
        lacking = [key for key in KEYS if not isinstance(entry, dict) or key not in entry]
        if lacking:
            raise UserError(f"boxes file {path}: not a file of detections, entry {number} lacks {lacking[0]!r}; {expected}")
    return entries


def _skip_reason(entry: dict, images: Mapping[int, dict], category: int) -> str | None:
    """Return why a box is unusable; None if it is usable."""
    box, image_id = entry["bbox"], entry["image_id"]
    if entry["category_id"] != category:
        return f"of another category than people ({category})"
    if type(image_id) is not int or image_id not in images:
        return "of images that the annotation file does not list"
    if not isinstance(box, list) or len(box) != 4:
        return "not four numbers x, y, width, height"
    if not all(map(_is_finite, box)):
        return "not finite numbers"
    if not _is_finite(entry["score"]):
        return "with a score that is not a finite number"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return "without width or height"
    # Annotation files may omit the image's size
    right, bottom = (side if _is_finite(side) else math.inf for side in map(images[image_id].get, ("width", "height")))
    if x + width <= 0 or y + height <= 0 or x >= right or y >= bottom:
        return "outside of their image"
    return None


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max
