"""The training data of DEKR's rescoring network: poses that a pose network predicted for a training set, with the OKS of each.

The file is an .npz without pickles. For N poses of K keypoints in it:

    keypoints (N, K, 3) x, y, score in image pixels     scores (N,) of each pose, predicted
    oks (N,) the best with an annotated person           images (N,) the id of each pose's image
    skeleton  the skeleton as JSON
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config import Skeleton, UserError
from config.files import atomic_write, existing_file
from data.formats import load_annotations
from data.formats.coco import image_files, keypoint_category, listed_size, read_people
from utils.oks import object_keypoint_similarity

MATCH = 0.5  # the least OKS at which COCO's evaluation matches a pose with a person
ARRAYS = ("keypoints", "scores", "oks", "images")
REMAKE = "make it again: python -m utils.systems.dekr_rescoring make"


@dataclass(frozen=True)
class PredictedPoses:
    """The content of a file; see above."""

    skeleton: Skeleton
    keypoints: np.ndarray
    scores: np.ndarray
    oks: np.ndarray
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class AnnotatedSet:
    """The images of a COCO or CrowdPose annotation file, or the first `limit` of them, and the OKS of poses in them.

    Fails early: raises UserError where an annotation is invalid, an image is missing or no person has keypoints.
    """

    def __init__(self, path: Path, folder: Path, skeleton: Skeleton, limit: int | None = None):
        annotations = load_annotations(path)
        category, file_index = keypoint_category(annotations, skeleton, path)
        self.skeleton, self.present = skeleton, file_index >= 0
        self.files = image_files(annotations, path, folder, limit)
        self.sizes = {image_id: listed_size(annotations.imgs[image_id]) for image_id in self.files}
        self.people = read_people(annotations, category, file_index, path).imgToAnns
        if not any(map(_counts, (person for image_id in self.files for person in self.people[image_id]))):
            of_images = f" in its first {limit} images" if limit is not None else ""
            raise UserError(f"annotation file {path}: no person{of_images} has a keypoint of the skeleton {skeleton.name!r}")

    def best_oks(self, image_id: int, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """keypoints (P, K, 3) in image pixels -> (P,) best OKS with a person who has keypoints, else 0; (P,) bool: this OKS is known.

        As in COCO's evaluation, crowd regions and people without keypoints are ignored: a pose that matches one of them, and no person
        with keypoints, may be right for a person who was not annotated.
        """
        people, sigmas = self.people[image_id], self.skeleton.oks_sigmas[self.present]
        joints = np.array([person["keypoints"] for person in people], float).reshape(-1, len(sigmas), 3)
        areas, boxes = (np.array([person[key] for person in people], float) for key in ("area", "bbox"))
        poses = self.skeleton.to_dataset(keypoints)[:, self.present].astype(float)
        oks = object_keypoint_similarity(poses, joints, areas, boxes.reshape(-1, 4), sigmas)
        counted = np.array([_counts(person) for person in people], bool)
        best, best_ignored = (oks[:, which].max(1, initial=0) for which in (counted, ~counted))
        return best, (best >= MATCH) | (best_ignored < MATCH)


def _counts(person: dict) -> bool:
    return bool(person["num_keypoints"]) and not person["iscrowd"]


def write_poses(path: Path, poses: PredictedPoses) -> None:
    """Write the file atomically."""
    arrays = {name: getattr(poses, name) for name in ARRAYS}
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, skeleton=np.array(poses.skeleton.model_dump_json()), **arrays)


def read_poses(path: Path) -> PredictedPoses:
    """Read a file. Raises UserError where it is missing, cut short, of another kind, or of less than two images."""
    path = existing_file(path, "training data")
    try:
        with np.load(path, allow_pickle=False) as file:
            poses = PredictedPoses(Skeleton.model_validate_json(str(file["skeleton"])), *(file[name] for name in ARRAYS))
    except Exception as error:  # a damaged archive can raise anything
        raise UserError(f"training data {path}: cut short, or not a file of poses; {REMAKE}") from error
    if len(np.unique(poses.images)) < 2:
        raise UserError(f"training data {path}: all its poses are of one image, none is left for validation; {REMAKE} with more images")
    return poses
