"""Person detections in COCO's results format: a list of {image_id, category_id, bbox, score}."""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from config import UserError
from config.files import read_json
from data.formats.coco import finite_numbers

KEYS = ("image_id", "category_id", "bbox", "score")


def load_detections(
    path: str | Path, images: Mapping[Any, dict], categories: Collection[Any] = (1,), least_score: float = 0.0
) -> dict[Any, np.ndarray]:
    """Return each image's boxes (B, 5) x, y, width, height in pixels, and a score above `least_score`; only images with such boxes.

    images: id -> an entry of the annotation file; categories: of people; both by the file's own ids. Unusable boxes are skipped, and
    counted on stderr, one line a reason. Raise UserError if the file is not of the format, or no box is usable.
    """
    entries = read_json(path, "boxes file")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and entry.keys() >= set(KEYS) for entry in entries):
        raise UserError(f"boxes file {path}: not a file of detections; expected a list of {{{', '.join(KEYS)}}}")
    boxes, skipped = defaultdict(list), Counter()
    for entry in entries:
        reason = _skip_reason(entry, images, categories)
        if reason is not None:
            skipped[reason] += 1
        elif entry["score"] > least_score:
            boxes[entry["image_id"]].append([*entry["bbox"], entry["score"]])
    if entries and skipped.total() == len(entries):
        raise UserError(f"boxes file {path}: no box can be used: {', '.join(f'{count} {reason}' for reason, count in skipped.items())}")
    for reason, count in skipped.items():
        print(f"boxes file {path}: {count} of {len(entries)} boxes were skipped: {reason}", file=sys.stderr)
    return {image_id: np.array(rows, float) for image_id, rows in boxes.items()}


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
