"""The training data of DEKR's rescoring network: poses that a pose network predicted for a training set, with the OKS of each.

The file is an .npz without pickles. For N poses of K keypoints in it:

    keypoints (N, K, 3) x, y, score in image pixels     scores (N,) of each pose, predicted
    oks (N,) the best with an annotated person           images (N,) the id of each pose's image
    skeleton  the skeleton as JSON
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from config import Skeleton, UserError
from config.files import atomic_write, existing_file
from data.formats import load_annotations
from data.formats.coco import image_files, keypoint_category, listed_size, naming_file, read_person
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
        coco = load_annotations(path)
        category, order = keypoint_category(coco, skeleton, path)
        self.skeleton, self.present = skeleton, order >= 0
        self.files = image_files(coco, path, folder, limit)
        self.sizes = {image_id: listed_size(coco.imgs[image_id]) for image_id in self.files}
        self._people: dict[int, _People] = {}
        with naming_file(path):
            for image_id in self.files:
                people = coco.loadAnns(coco.getAnnIds(image_id, catIds=[category]))
                self._people[image_id] = _people(people, order[self.present])
        if not any((~people.ignored).any() for people in self._people.values()):
            of_images = f" in its first {limit} images" if limit is not None else ""
            raise UserError(f"annotation file {path}: no person{of_images} has a keypoint of the skeleton {skeleton.name!r}")

    def best_oks(self, image_id: int, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """keypoints (P, K, 3) in image pixels -> (P,) best OKS with a person who has keypoints, else 0; (P,) bool: this OKS is known.

        As in COCO's evaluation, crowd regions and people without keypoints are ignored: a pose that matches one of them, and no person
        with keypoints, may be right for a person who was not annotated.
        """
        people = self._people[image_id]
        poses, sigmas = self.skeleton.to_dataset(keypoints)[:, self.present], self.skeleton.oks_sigmas[self.present]
        oks = object_keypoint_similarity(poses.astype(float), people.joints, people.areas, people.boxes, sigmas)
        best, best_ignored = (oks[:, which].max(1, initial=0) for which in (~people.ignored, people.ignored))
        return best, (best >= MATCH) | (best_ignored < MATCH)


@dataclass(frozen=True)
class _People:
    """The people of one image, as arguments of `object_keypoint_similarity`; ignored: crowd regions and people without keypoints."""

    joints: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray  # (G,) bool


def _people(annotations: Sequence[dict], order: np.ndarray) -> _People:
    """order (D,): each keypoint's index in the file."""
    joints, boxes, areas = zip(*(read_person(a, order) for a in annotations)) if annotations else ((), (), ())
    joints = np.array(joints).reshape(-1, len(order), 3)
    # The file's own count decides: CrowdPose's excludes head and neck
    uncounted = np.array([bool(a.get("iscrowd")) or a.get("num_keypoints") == 0 for a in annotations], bool)
    ignored = uncounted | ~(joints[..., 2] > 0).any(1)
    return _People(joints, np.array(areas, float), np.array(boxes, float).reshape(-1, 4), ignored)


def write_poses(path: Path, poses: PredictedPoses) -> None:
    """Write the file atomically."""
    arrays = {name: getattr(poses, name) for name in ARRAYS}
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, skeleton=np.array(poses.skeleton.model_dump_json()), **arrays)


def read_poses(path: Path) -> PredictedPoses:
    """Read a file. Raises UserError where it is missing, cut short, of another kind, without poses, or holds impossible values."""
    path = existing_file(path, "training data")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
            skeleton = Skeleton.model_validate_json(str(file["skeleton"]))
    except ValidationError as error:
        raise UserError(f"training data {path}: its skeleton is invalid ({error.errors()[0]['msg']}); {REMAKE}") from error
    except Exception as error:  # a damaged archive can raise anything
        raise UserError(f"training data {path}: cut short, or not a file of poses; {REMAKE}") from error
    count = len(arrays["scores"]) if arrays["scores"].ndim else 0
    if not count:
        raise UserError(f"training data {path}: holds no poses; {REMAKE} with another checkpoint or other images")
    shapes = {"keypoints": (count, skeleton.num_keypoints, 3), "oks": (count,), "images": (count,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            what = f"its {name!r} are {arrays[name].shape}, expected {shape} with the skeleton {skeleton.name!r}"
            raise UserError(f"training data {path}: {what}; {REMAKE}")
    for name, values in arrays.items():
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise UserError(f"training data {path}: its {name!r} are not all finite numbers; {REMAKE}")
    if arrays["oks"].min() < 0 or arrays["oks"].max() > 1:
        raise UserError(f"training data {path}: its 'oks' are not all within 0 and 1; {REMAKE}")
    if len(np.unique(arrays["images"])) < 2:
        raise UserError(f"training data {path}: all its poses are of one image, none is left for validation; {REMAKE} with more images")
    return PredictedPoses(skeleton, **arrays)
