"""CrowdPose's annotation files: COCO's, with how crowded each image is (`crowdIndex`, 0 to 1) and people without areas."""

from __future__ import annotations

import contextlib
import math
import reprlib
from pathlib import Path

from pycocotools.coco import COCO

from config import UserError
from data.formats.coco import load as load_coco
from data.formats.coco import person_box, raw_entries

AREA_OF_BOX = 0.53  # a person's share of the box, as CrowdPose's evaluation code has it


def matches(content: object, path: Path) -> bool:
    """Tell whether a file is CrowdPose's: its images say how crowded they are."""
    return any("crowdIndex" in image for image in raw_entries(content, "images"))


def load(content: object, path: Path, test_split: bool = False) -> COCO:
    """Index a file's content, with the areas of CrowdPose's evaluation. Raises UserError where an image's crowdIndex makes no sense."""
    coco = load_coco(content, path)
    check_crowd_index(coco, path)
    set_areas(coco)
    return coco


def check_crowd_index(coco: COCO, path: str | Path) -> None:
    """Raise UserError where an image's crowdIndex is not a finite number."""
    for image in coco.dataset["images"]:
        index = image.get("crowdIndex")
        if type(index) not in (int, float) or not abs(index) < math.inf:
            given = f"its 'crowdIndex' is {reprlib.repr(index)}" if "crowdIndex" in image else "it has no 'crowdIndex', as others have"
            raise UserError(f"annotation file {path}: image {image['id']} ({image['file_name']}): {given}; expected a finite number")


def set_areas(coco: COCO) -> None:
    """Give everybody with a box the area that CrowdPose's evaluation code takes: also in place of one in the file, which it ignores."""
    for annotation in coco.dataset["annotations"]:
        with contextlib.suppress(UserError):  # somebody without keypoints may have no box; where one is needed, that is told there
            annotation["area"] = AREA_OF_BOX * float(person_box(annotation)[2:].prod())
