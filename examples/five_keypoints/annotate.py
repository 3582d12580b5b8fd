"""Simulate an annotation tool: annotate the people of a COCO file with five own keypoints.

    python examples/five_keypoints/annotate.py --annotations COCO.json --output F.json [--annotator N]

The keypoints are head, hands and feet of the category "figure". People have a box, but no segmentation and no area, as many tools write
them. Each annotator has other random errors. Keypoints that the COCO file does not label stay unlabeled.
"""

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a script, Python looks in this folder first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse

import numpy as np

from config.errors import check_minimum, run_cli
from config.files import check_outputs, write_json
from config.load import load_skeleton
from data.formats import load_annotations
from data.formats.people import AnnotatedPeople

# The COCO keypoints whose mean each one is, and the annotator's error: standard deviation in x and in y, over the square root of the
# box's area
KEYPOINTS = {
    "head": (("nose", "left_eye", "right_eye", "left_ear", "right_ear"), 0.02),
    "left hand": (("left_wrist",), 0.03),
    "right hand": (("right_wrist",), 0.03),
    "left foot": (("left_ankle",), 0.03),
    "right foot": (("right_ankle",), 0.03),
}
CATEGORY = 3


def five_keypoints(joints: np.ndarray, names: list[str], size: float, rng: np.random.Generator) -> np.ndarray:
    """Return (5, 3) x, y, v of one person. joints (D, 3), v as in COCO's file: 0 unlabeled, 1 occluded, 2 visible; size in pixels."""
    keypoints = np.zeros((len(KEYPOINTS), 3))
    for keypoint, (parts, spread) in zip(keypoints, KEYPOINTS.values()):
        labeled = joints[[names.index(part) for part in parts]]
        labeled = labeled[labeled[:, 2] > 0]
        shift = rng.normal(0, spread * size, 2)
        if len(labeled):
            keypoint[:] = *np.round(labeled[:, :2].mean(0) + shift, 1), labeled[:, 2].max()
    return keypoints


def annotate(annotated: AnnotatedPeople, annotator: int) -> dict[str, Any]:
    """Return the content of the annotation file."""
    people, originals = [], annotated.coco.dataset["annotations"]
    for person, joints in zip(originals, annotated.joints(originals)):
        rng = np.random.default_rng([annotator, person["file_id"]])
        size = float(np.sqrt(np.prod(person["bbox"][2:])))
        keypoints = five_keypoints(joints, list(annotated.skeleton.dataset), size, rng)
        people.append({
            "id": person["file_id"],
            "image_id": person["image_id"],
            "category_id": CATEGORY,
            "bbox": person["bbox"],
            "iscrowd": person["iscrowd"],
            "keypoints": keypoints.ravel().tolist(),
        })  # fmt: skip
    categories = [{"id": CATEGORY, "name": "figure", "keypoints": list(KEYPOINTS)}]
    images = [{key: image[key] for key in ("id", "file_name")} for image in annotated.coco.dataset["images"]]
    return {"images": images, "annotations": people, "categories": categories}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--annotations", type=Path, required=True, help="COCO annotations of the 17 keypoints")
    parser.add_argument("--output", type=Path, required=True, help="the annotation file to write")
    parser.add_argument("--annotator", type=int, default=1, metavar="N", help="number of the annotator (1)")
    options = parser.parse_args()
    check_minimum(0, annotator=options.annotator)
    check_outputs([options.output], [options.annotations])
    content = annotate(load_annotations(options.annotations, load_skeleton("coco")), options.annotator)
    write_json(options.output, content)
    print(f"{options.output}: {len(content['annotations'])} people in {len(content['images'])} images")


if __name__ == "__main__":
    run_cli(main)
