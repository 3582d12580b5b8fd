"""PoseTrack18's annotation files, one a video: COCO's with a track_id for each person, and ignore regions.

What PoseTrack's evaluation takes is written by utils/output_formats.py.
"""

from pathlib import Path
from typing import Any

import numpy as np

from config import UserError
from data.formats import coco
from data.formats.coco import AnnotationFile, finite_numbers

KEYPOINTS = (
    "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
NEVER_LABELED = ("left_ear", "right_ear")


def matches(file: AnnotationFile) -> bool:
    """Whether the images say of which video they are, and a category has the ends of heads."""
    names = [category.get("keypoints") for category in file.entries("categories")]
    has_heads = any(isinstance(keypoints, list) and "head_bottom" in keypoints for keypoints in names)
    return has_heads and any("vid_id" in image for image in file.entries("images"))


def load(file: AnnotationFile) -> dict[str, Any]:
    """Return the content as COCO's: labeled keypoints are visible ones, ears none of them, and ignore regions crowds.

    Without this the ears would be taken for keypoints that the data set labels and no person has.
    """
    content, path = coco.load(file), file.path
    names = {category["id"]: category.get("keypoints") or [] for category in content["categories"]}
    categories = [{**c, "keypoints": [name for name in names[c["id"]] if name not in NEVER_LABELED]} for c in content["categories"]]
    people = [_person(person, names.get(person["category_id"], []), path) for person in content["annotations"]]
    common = {"category_id": next(number for number, keypoints in names.items() if "head_bottom" in keypoints), "iscrowd": 1}
    regions = [region for image in content["images"] for region in _ignore_regions(image, path)]
    first = max((person["id"] for person in people), default=0) + 1
    crowds = [{"id": number, **common, **region} for number, region in enumerate(regions, first)]
    return {**content, "categories": categories, "annotations": [*people, *crowds]}


def _person(annotation: dict[str, Any], names: list[str], path: Path) -> dict[str, Any]:
    """Return a person without ears, whose labeled keypoints are visible ones."""
    if not annotation.get("keypoints"):
        return annotation
    place = f"annotation file {path}: annotation {annotation['id']}"
    keypoints = finite_numbers(annotation, "keypoints", f"x, y, v of {len(names)} keypoints", place, (3 * len(names),)).reshape(-1, 3)
    keypoints = keypoints[[name not in NEVER_LABELED for name in names]]
    keypoints[:, 2] = np.where(keypoints[:, 2] == 0, 0, 2)
    return {**annotation, "keypoints": keypoints.ravel().tolist(), "num_keypoints": None}


def _ignore_regions(image: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Return outline and box of an image's ignore regions; none of an image that is not annotated."""
    if not image.get("is_labeled", True):
        return []
    try:
        both = zip(image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or [], strict=True)
        outlines = [np.array([x, y], float).T for x, y in both]
    except (TypeError, ValueError) as error:
        problem = "'ignore_regions_x' and 'ignore_regions_y' are not lists of as many numbers"
        raise UserError(f"annotation file {path}: image {image['id']} ({image['file_name']}): {problem}") from error
    return [
        {
            "image_id": image["id"],
            "segmentation": [outline.ravel().tolist()],
            "bbox": [*outline.min(0).tolist(), *np.ptp(outline, 0).tolist()],
        }
        for outline in outlines
        if len(outline) >= 3
    ]
