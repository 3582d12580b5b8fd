"""Annotation files that none of the formats reads: what each is, and which export of its program to choose, by the file's content."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from config import UserError
from config.files import existing_file
from config.load import known_skeletons

START = 2**14  # bytes by which a text is recognized
POSES = "export COCO keypoints or YOLO pose"
NO_PEOPLE = "it has single points, no people; group the points of each person, as a skeleton, and export COCO keypoints or YOLO pose"
LEAST_NAMES = 3  # categories with names of keypoints, from which on they are no chance

TEXTS = (  # patterns of the beginning, what the file is, and what to do
    (r"<\?xml[^>]*>\s*<annotations\b|<annotations\b", "CVAT's XML", "export 'COCO Keypoints' or 'Ultralytics YOLO Pose' from CVAT"),
    (r"<\?xml[^>]*>\s*<annotation\b|<annotation\b", "Pascal VOC's XML, which has boxes only", "annotate keypoints, and " + POSES),
    (r"<", "XML or HTML", POSES + " from your annotation tool"),
    (r"#?\s*filename,file_size,file_attributes,", "CSV of VIA (VGG Image Annotator)", NO_PEOPLE),
    (r"scorer,", "DeepLabCut's CSV", "convert it to COCO's format, as docs/own_data.md has it"),
    (r"(?:\d+ +)(?:-?[\d.]+(?:e-?\d+)?[ \t]+){4,}-?[\d.]", "the label file of one image of a YOLO data set", "give its data.yaml"),
    (r'\{[^\n]*\}\s*\n\s*\{"', "one JSON object a line (NDJSON)", POSES + " from your annotation tool"),
    (r"[^\s\[{]", "of no known format", "expected COCO's, MPII's, or a YOLO data.yaml; " + POSES + " from your annotation tool"),
)


def refuse_text(path: Path) -> None:
    """Raise UserError, with the way out, where a text's beginning is not that of one JSON value. Empty and packed files pass."""
    with existing_file(path, "annotation file").open("rb") as file:
        start = file.read(START)
    if start.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        return
    text = start.decode(json.detect_encoding(start), errors="replace").lstrip("\ufeff \t\r\n")
    for pattern, kind, remedy in TEXTS:
        if re.match(pattern, text):
            raise UserError(f"annotation file {path}: is {kind}; {remedy}")


def _has(content: Any, *keys: str) -> bool:
    return isinstance(content, dict) and content.keys() >= {*keys}


def _first(content: Any) -> Any:
    """Return the first entry of a list or an object; None if there is none."""
    values = content if isinstance(content, list) else content.values() if isinstance(content, dict) else ()
    return next(iter(values), None)


def _has_points_as_categories(content: Any) -> bool:
    """Return whether the categories of a file in COCO's format are keypoints, not people with keypoints."""
    categories = content.get("categories") if _has(content, "images", "annotations", "categories") else None
    if not isinstance(categories, list) or any(not isinstance(one, dict) or one.get("keypoints") for one in categories):
        return False
    names = [str(category.get("name")) for category in categories]
    return any(len({*one.own_names(names)} & {*one.dataset}) >= LEAST_NAMES for one in known_skeletons())


KINDS: tuple[tuple[Callable[[Any], bool], str, str], ...] = (  # of JSON
    (lambda c: _has(c, "shapes", "imagePath"), "labelme's JSON of one image", POSES + " of the folder, for example by X-AnyLabeling"),
    (lambda c: _has(c, "_via_img_metadata") or _has(_first(c), "filename", "regions"), "JSON of VIA (VGG Image Annotator)", NO_PEOPLE),
    (lambda c: _has(c, "objects", "size") or _has(c, "classes", "tags"), "Supervisely's JSON", POSES + " from Supervisely"),
    (lambda c: _has(_first(c), "data", "annotations"), "Label Studio's JSON", "export 'COCO' or 'YOLO' from Label Studio"),
    (lambda c: _has(c, "items", "categories"), "Datumaro's JSON", "export 'COCO Keypoints' instead"),
    (
        lambda c: isinstance(c, list) and _has(_first(c), "image_id", "keypoints", "score"),
        "predictions in COCO's format for results, no annotations",
        "evaluate.py takes them by --detections",
    ),
    (_has_points_as_categories, "in COCO's format, but its categories are keypoints", NO_PEOPLE),
)


def refuse_json(content: Any, path: Path) -> None:
    """Raise UserError, with the way out, where a file's content is of a known program, but of none of the formats."""
    for is_it, kind, remedy in KINDS:
        if is_it(content):
            raise UserError(f"annotation file {path}: is {kind}; {remedy}")
