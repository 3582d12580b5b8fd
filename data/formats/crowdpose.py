"""CrowdPose's annotation files: COCO's, with how crowded each image is (`crowdIndex`, 0 to 1) and people without areas."""

from __future__ import annotations

import contextlib
import math
import reprlib
from pathlib import Path

from pycocotools.coco import COCO

from config import UserError
from data.formats.coco import person_box

AREA_OF_BOX = 0.53  # a person's share of the box, as CrowdPose's evaluation code has it


def is_crowdpose(coco: COCO) -> bool:
    """Whether an annotation file is CrowdPose's: its images say how crowded they are."""
    return any("crowdIndex" in image for image in coco.dataset["images"])


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
