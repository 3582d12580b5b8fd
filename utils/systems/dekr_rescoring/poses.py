"""What DEKR's rescoring network learns from: poses that a pose network found in a training set, and how good each of them is.

The file is an .npz without pickles. For N poses of K keypoints in it:

    keypoints (N, K, 3) x, y, score in image pixels     scores (N,) of each pose, as found
    oks (N,) the best with anybody annotated             images (N,) the id of each pose's image
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

MATCH = 0.5  # the least OKS at which COCO's evaluation takes a pose and a person for one
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
    """The images of a COCO or CrowdPose annotation file, or the first so many, and how good a pose in one of them is.

    Raises UserError where an annotation makes no sense, an image is missing or nobody has keypoints: better now than after an hour.
    """

    def __init__(self, path: Path, folder: Path, skeleton: Skeleton, limit: int | None = None):
        coco = load_annotations(path)
        category, order = keypoint_category(coco, skeleton, path)
        self.skeleton, self.there = skeleton, order >= 0
        self.files = image_files(coco, path, folder, limit)
        self.sizes = {image_id: listed_size(coco.imgs[image_id]) for image_id in self.files}
        self._people: dict[int, _People] = {}
        with naming_file(path):
            for image_id in self.files:
                people = coco.loadAnns(coco.getAnnIds(image_id, catIds=[category]))
                self._people[image_id] = _people(people, order[self.there])
        if not any((~people.ignored).any() for people in self._people.values()):
            of_images = f" in its first {limit} images" if limit is not None else ""
            raise UserError(f"annotation file {path}: nobody{of_images} has a keypoint of the skeleton {skeleton.name!r}")

    def rated(self, image_id: int, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """keypoints (P, K, 3) in image pixels -> (P,) the best OKS with anybody who has keypoints, 0 where there is nobody; (P,) bool
        whether it can be told.

        As in COCO's evaluation, crowd regions and people without keypoints count for nothing: a pose that matches one of them, and
        nobody with keypoints, may be a good one of somebody who was not annotated.
        """
        people = self._people[image_id]
        poses, sigmas = self.skeleton.to_dataset(keypoints)[:, self.there], self.skeleton.oks_sigmas[self.there]
        oks = object_keypoint_similarity(poses.astype(float), people.joints, people.areas, people.boxes, sigmas)
        best, beside = (oks[:, which].max(1, initial=0) for which in (~people.ignored, people.ignored))
        return best, (best >= MATCH) | (beside < MATCH)


@dataclass(frozen=True)
class _People:
    """Those of one image: as `object_keypoint_similarity` wants them, and who is not to be found."""

    joints: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray  # (G,) bool


def _people(annotations: Sequence[dict], order: np.ndarray) -> _People:
    """order (D,): where each keypoint stands in the file."""
    joints, boxes, areas = zip(*(read_person(a, order) for a in annotations)) if annotations else ((), (), ())
    joints = np.array(joints).reshape(-1, len(order), 3)
    # Whoever has no keypoints by the file's own count has none: CrowdPose's leaves out head and neck
    uncounted = np.array([bool(a.get("iscrowd")) or a.get("num_keypoints") == 0 for a in annotations], bool)
    ignored = uncounted | ~(joints[..., 2] > 0).any(1)
    return _People(joints, np.array(areas, float), np.array(boxes, float).reshape(-1, 4), ignored)


def write_poses(path: Path, poses: PredictedPoses) -> None:
    """Write the file whole or not at all."""
    arrays = {name: getattr(poses, name) for name in ARRAYS}
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, skeleton=np.array(poses.skeleton.model_dump_json()), **arrays)


def read_poses(path: Path) -> PredictedPoses:
    """Raises UserError where the file is missing, cut short, of another kind, without poses, or holds what no pose can be."""
    path = existing_file(path, "training data")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
            skeleton = Skeleton.model_validate_json(str(file["skeleton"]))
    except ValidationError as error:
        raise UserError(f"training data {path}: its skeleton makes no sense ({error.errors()[0]['msg']}); {REMAKE}") from error
    except Exception as error:  # a damaged archive can raise anything
        raise UserError(f"training data {path}: cut short, or not a file of poses found; {REMAKE}") from error
    count = len(arrays["scores"]) if arrays["scores"].ndim else 0
    if not count:
        raise UserError(f"training data {path}: holds nobody; {REMAKE} with another checkpoint or other images")
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
        raise UserError(f"training data {path}: all its poses are of one image, so that none can be held out; {REMAKE} with more images")
    return PredictedPoses(skeleton, **arrays)
