"""Measure the sigmas of a skeleton's keypoints on images that two people annotated.

    python examples/five_keypoints/sigmas.py --annotations FIRST.json SECOND.json --skeleton S.yaml

As for COCO, a sigma is the standard deviation of an annotator's positions about the true one, over the square root of the person's area.
The mean squared distance of two annotators is twice the mean squared distance of one annotator from the truth.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in this folder first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse

import numpy as np
from pycocotools import mask as coco_mask

from config import Skeleton, UserError
from config.errors import run_cli
from config.load import load_skeleton
from data.formats import load_annotations

MIN_IOU = 0.5  # of two boxes of the same person
AnnotatedPoses = tuple[np.ndarray, np.ndarray, np.ndarray]  # keypoints (P, D, 3) x, y, v as in the file, boxes (P, 4), areas (P,)


def people_of_images(path: Path, skeleton: Skeleton) -> dict[str, AnnotatedPoses]:
    """Return the people with keypoints of each image, by its file name."""
    annotated = load_annotations(path, skeleton)
    poses = {}
    for image_id, image in annotated.coco.imgs.items():
        people = [person for person in annotated.coco.imgToAnns[image_id] if person["num_keypoints"] and not person["iscrowd"]]
        if people:
            boxes, areas = (np.array([person[key] for person in people]) for key in ("bbox", "area"))
            poses[image["file_name"]] = annotated.joints(people), boxes, areas
    return poses


def squared_distances(first: AnnotatedPoses, second: AnnotatedPoses) -> np.ndarray:
    """Return (P, D) between the keypoints of people in both, over the mean of their areas; NaN if one annotator did not label it."""
    overlaps = np.asarray(coco_mask.iou(first[1], second[1], [0] * len(second[1])))
    matches = [(i, int(row.argmax())) for i, row in enumerate(overlaps) if row.max() >= MIN_IOU]
    rows, columns = np.array(matches, int).reshape(-1, 2).T
    a, b = first[0][rows], second[0][columns]
    squared = ((a[..., :2] - b[..., :2]) ** 2).sum(2) / ((first[2][rows] + second[2][columns]) / 2)[:, None]
    return np.where((a[..., 2] > 0) & (b[..., 2] > 0), squared, np.nan)


def print_sigmas(first: dict[str, AnnotatedPoses], second: dict[str, AnnotatedPoses], skeleton: Skeleton) -> None:
    """Print sigma and the number of measured people of each keypoint, by the skeleton's names."""
    both = [squared_distances(first[name], second[name]) for name in first if name in second]
    squared = np.concatenate([np.zeros((0, len(skeleton.dataset))), *both])
    for (name, keypoint), column in zip(skeleton.dataset.items(), squared.T):
        measured = column[np.isfinite(column)]
        if not len(measured):
            raise UserError(f"keypoint {name!r}: no person has it in both annotation files")
        print(f"{keypoint}: {np.sqrt(measured.mean() / 2):.3f}  # {len(measured)} people")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--annotations", type=Path, nargs=2, required=True, metavar="FILE", help="of the same images, by two people")
    parser.add_argument("--skeleton", required=True, help="name in config/skeletons, or path of a YAML file")
    options = parser.parse_args()
    skeleton = load_skeleton(options.skeleton)
    first, second = (people_of_images(path, skeleton) for path in options.annotations)
    print_sigmas(first, second, skeleton)


if __name__ == "__main__":
    run_cli(main)
