"""CrowdPose's annotation files: COCO's, with how crowded each image is (`crowdIndex`, 0 to 1) and people without areas."""

from typing import Any

from data.formats import coco
from data.formats.coco import AnnotationFile, finite_numbers

AREA_OF_BOX = 0.53  # a person's share of the box, as CrowdPose's evaluation code has it


def matches(file: AnnotationFile) -> bool:
    """Whether the images say how crowded they are."""
    return any("crowdIndex" in image for image in file.entries("images"))


def load(file: AnnotationFile) -> dict[str, Any]:
    """Return the content with the areas that CrowdPose's evaluation code takes; it ignores those in the file, and people by their count.

    Raise UserError where an image's crowdIndex is not a finite number.
    """
    content = coco.load(file)
    for image in content["images"]:
        finite_numbers(image, "crowdIndex", "a number", f"annotation file {file.path}: image {image['id']} ({image['file_name']})", ())
    for annotation in content["annotations"]:
        # CrowdPose does not count head and neck
        annotation.update(area=None, ignored=annotation.pop("num_keypoints", None) == 0)
    return {**content, "area_of_box": AREA_OF_BOX}
