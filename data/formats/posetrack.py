"""PoseTrack18's files, one a video: COCO's with a track_id for each person, and regions of images in which not everybody is annotated.

The other direction, what PoseTrack's evaluation takes, is in utils/output_formats.py.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from config import UserError
from data.formats.coco import indexed, raw_entries
from data.formats.coco import load as load_coco

KEYPOINTS = (
    "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
NEVER_LABELLED = ("left_ear", "right_ear")
BOX_MARGIN = 0.15  # of the keypoints' extent, on each side: that of PoseTrack's own boxes


def matches(content: object, path: Path) -> bool:
    """Tell whether a file is PoseTrack18's: its images say of which video they are, and it has the ends of heads."""
    has_head_ends = any("head_bottom" in str(category.get("keypoints")) for category in raw_entries(content, "categories"))
    return has_head_ends and any("vid_id" in image for image in raw_entries(content, "images"))


def load(content: object, path: Path, test_split: bool = False) -> COCO:
    """Index a file's content as COCO's. Raises UserError where a list makes no sense."""
    return indexed(as_coco(load_coco(content, path).dataset, path))


def as_coco(dataset: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """A PoseTrack18 file's content as COCO's: labelled keypoints are visible ones, ears none of them, and ignore regions crowds.

    Without this the ears would be taken for what the data set labels and nobody has. Raises UserError where a list makes no sense.
    """
    names = {category["id"]: list(category.get("keypoints") or []) for category in dataset["categories"]}
    categories = [{**c, "keypoints": [name for name in names[c["id"]] if name not in NEVER_LABELLED]} for c in dataset["categories"]]
    people = [_person(person, names.get(person["category_id"], []), path) for person in dataset["annotations"]]
    regions = [region for image in dataset["images"] for region in _regions(image, path)]
    first = max((person["id"] for person in people), default=0) + 1
    crowds = [{"id": first + n, "category_id": categories[0]["id"], **region} for n, region in enumerate(regions)]
    return {**dataset, "categories": categories, "annotations": [*people, *crowds]}


def _person(annotation: dict[str, Any], names: list[str], path: str | Path) -> dict[str, Any]:
    """With a box around the keypoints where the file has none, as for some people."""
    given = annotation.get("keypoints")
    if not given:
        return annotation
    if not isinstance(given, list) or len(given) != 3 * len(names):
        problem = f"its 'keypoints' is {reprlib.repr(given)}, expected x, y, v of {len(names)} keypoints"
        raise UserError(f"annotation file {path}: annotation {annotation['id']}: {problem}")
    keypoints = [given[3 * k : 3 * k + 3] for k, name in enumerate(names) if name not in NEVER_LABELLED]
    keypoints = [[x, y, 2 if v else 0] for x, y, v in keypoints]
    person = {**annotation, "keypoints": sum(keypoints, [])}
    labelled = [(x, y) for x, y, v in keypoints if v]
    if annotation.get("bbox") is None and labelled and np.array(labelled).dtype.kind in "iuf":
        (left, top), (right, bottom) = np.min(labelled, 0), np.max(labelled, 0)
        width, height = right - left, bottom - top
        box = left - BOX_MARGIN * width, top - BOX_MARGIN * height, (1 + 2 * BOX_MARGIN) * width, (1 + 2 * BOX_MARGIN) * height
        person["bbox"] = [float(value) for value in box]
    return person


def _regions(image: dict[str, Any], path: str | Path) -> list[dict[str, Any]]:
    """The ignore regions of an image as annotations without an id; none of one that nobody annotated."""
    across, down = (image.get(key) or [] for key in ("ignore_regions_x", "ignore_regions_y"))
    if not image.get("is_labeled", True):
        return []
    try:
        outlines = [np.array([x, y], float).T for x, y in zip(across, down, strict=True)]
        boxes = [[*outline.min(0), *np.ptp(outline, 0)] for outline in outlines if len(outline)]
    except (TypeError, ValueError) as error:
        problem = "'ignore_regions_x' and 'ignore_regions_y' are not lists of as many numbers"
        raise UserError(f"annotation file {path}: image {image['id']} ({image['file_name']}): {problem}") from error
    regions = zip([outline for outline in outlines if len(outline)], boxes)
    region = {"image_id": image["id"], "iscrowd": 1}
    return [
        {**region, "segmentation": [outline.ravel().tolist()], "bbox": [float(value) for value in box]}
        for outline, box in regions
        if len(outline) >= 3
    ]
