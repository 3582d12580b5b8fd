"""MPII Human Pose's annotations, turned into COCO's: the JSON lists of people (train, valid, test) and the official .mat file; and the
ground truth of PCKh (`gt_valid.mat`).

The first pixel is 1 in these files, as in Matlab, and 0 here. They have no boxes, but a person's center x, y and scale (200 pixels are 1).
The published crop is a square around x - 1, y - 1 + 15 scale with sides of 200 * 1.25 * scale. Simple
Baselines crops 1.25 times a box. So a person's box is the square around x - 1, y - 1 + 15 scale with sides of 200 scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from config import UserError
from config.files import existing_file
from data.formats.coco import AnnotationFile, finite_numbers

KEYPOINTS = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck", "head_top"),
    *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
)
PCKH_KEYPOINTS = (  # the same in the ground truth of PCKh
    *("rank", "rkne", "rhip", "lhip", "lkne", "lank", "pelv", "thor", "neck", "head"),
    *("rwri", "relb", "rsho", "lsho", "lelb", "lwri"),
)
COUNT = len(KEYPOINTS)
BOX_SIDE, BOX_SHIFT = 200, 15  # pixels per scale: side of a person's box, and how far its middle is below the center


@dataclass(frozen=True)
class PckhTruth:
    """The ground truth of PCKh for N people, in the layout of MPII's arrays; the first pixel is 1."""

    joints: np.ndarray  # (16, 2, N)
    missing: np.ndarray  # (16, N) 1 where not labeled, else 0
    head_boxes: np.ndarray  # (2, 2, N) corner, x or y, person

    def __len__(self) -> int:
        return self.missing.shape[1]

    def of(self, rows: np.ndarray) -> PckhTruth:
        """Return the ground truth of some people."""
        return PckhTruth(self.joints[..., rows], self.missing[:, rows], self.head_boxes[..., rows])


def matches(file: AnnotationFile) -> bool:
    """Return whether a file is the official Matlab file or a list of people."""
    return file.path.suffix == ".mat" or isinstance(file.content, list)


def load(file: AnnotationFile) -> dict[str, Any]:
    """Return the content in COCO's format, without image sizes; annotation ids count from 1 in the file's order."""
    ids: dict[str, int] = {}
    annotations = []
    for number, person in enumerate(_matlab_people(file) if file.path.suffix == ".mat" else _listed_people(file), start=1):
        image_id = ids.setdefault(person.pop("image"), len(ids) + 1)
        annotations.append({"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, **person})
    images = [{"id": number, "file_name": name} for name, number in ids.items()]
    category = {"id": 1, "name": "person", "keypoints": list(KEYPOINTS)}
    return {"images": images, "annotations": annotations, "categories": [category]}


def _person(image: str, center: np.ndarray, scale: float, joints: np.ndarray) -> dict[str, Any]:
    """Convert center (2,) x, y and joints (16, 3) x, y, v as COCO has it, of the first pixel 1, to an annotation of the first pixel 0."""
    labeled, side = joints[:, 2:] > 0, BOX_SIDE * scale
    corner = center - 1 + (0, BOX_SHIFT * scale) - side / 2
    keypoints = np.where(labeled, joints - (1, 1, 0), 0).ravel().tolist()
    return {"image": image, "bbox": [*corner.tolist(), side, side], "keypoints": keypoints, "num_keypoints": int(labeled.sum())}


def _listed_people(file: AnnotationFile) -> Iterator[dict[str, Any]]:
    """Yield the people of a JSON file. Raise UserError where it is not MPII's list of people."""
    for number, entry in enumerate(file.content, start=1):
        place = f"annotation file {file.path}: person {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise UserError(f"{place}: has no name of an 'image'; expected COCO's format, or MPII's list of people")
        place = f"{place} ({entry['image']})"
        center = finite_numbers(entry, "center", "x, y", place, (2,))
        scale = float(finite_numbers(entry, "scale", "a number above 0", place, ()))
        if scale <= 0:
            raise UserError(f"{place}: its 'scale' is {entry['scale']}, expected a number above 0")
        joints = np.zeros((COUNT, 3))
        if "joints" in entry:  # the people of the test set have none
            joints[:, :2] = finite_numbers(entry, "joints", f"x, y of each of the {COUNT} keypoints", place, (COUNT, 2))
            visible = finite_numbers(entry, "joints_vis", f"0 or 1 for each of the {COUNT} keypoints", place, (COUNT,))
            joints[:, 2] = 2 * ((visible > 0) & (joints[:, :2] >= 0).all(1))
        yield _person(entry["image"], center, scale, joints)


# Matlab


def _matlab_people(file: AnnotationFile) -> list[dict[str, Any]]:
    """Return the official file's people with center and scale: of the training set, those with keypoints.

    Of the test set, the separated people (`single_person`); if the file has no test set, those of the training set. Raise UserError if
    the file is not MPII's.
    """
    content = _read_mat(file.path, "annotation file", squeeze_me=True, struct_as_record=False)
    try:
        release = content["RELEASE"]
        images, training = np.atleast_1d(release.annolist), np.atleast_1d(release.img_train)
        separated = [release.single_person] if len(images) == 1 else release.single_person
        entries = [*zip(images, training, separated, strict=True)]
        if file.split == "train":
            return [p for image, trained, _ in entries if trained for p in _people(image) if p["num_keypoints"]]
        singles = [(trained, p) for image, trained, numbers in entries for p in _people(image, np.ravel(numbers))]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"annotation file {file.path}: its RELEASE is not as MPII's is ({error})") from error
    return [p for trained, p in singles if not trained] or [p for _, p in singles if p["num_keypoints"]]


def _people(image: Any, numbers: np.ndarray | None = None) -> Iterator[dict[str, Any]]:
    """Yield an annolist entry's people with center and scale. numbers: which people, counted from 1; None: all."""
    entries = np.atleast_1d(image.annorect)
    for entry in entries if numbers is None else entries[numbers.astype(int) - 1]:
        center = _fields(getattr(entry, "objpos", None), "x", "y")
        scale, head = _fields(entry, "scale"), _fields(entry, "x1", "y1", "x2", "y2")
        if center is not None and scale is not None:
            person = _person(str(image.image.name), center, scale[0], _joints(entry))
            yield person if head is None else {**person, "head_box": head.reshape(2, 2).tolist(), "joints": person["keypoints"]}


def _joints(entry: Any) -> np.ndarray:
    """Return (16, 3) x, y, v of an annorect entry. A point without `is_visible` is visible."""
    joints = np.zeros((COUNT, 3))
    for point in np.ravel(getattr(getattr(entry, "annopoints", None), "point", ())):
        number, *position = _fields(point, "id", "x", "y")
        visible = _fields(point, "is_visible")
        joints[int(number)] = *position, 2 if visible is None or visible[0] else 1
    joints[(joints[:, :2] < 0).any(1)] = 0
    return joints


def _fields(struct: Any, *names: str) -> np.ndarray | None:
    """Return the numbers in these fields; None if one is empty or missing. Raise ValueError if one is no number."""
    values = [np.ravel(getattr(struct, name, ())) for name in names]
    if any(value.size == 0 or value[0] == "" for value in values):
        return None
    return np.array([float(value.item()) for value in values])


def load_ground_truth(path: str | Path) -> PckhTruth:
    """Return the ground truth of PCKh from a file such as `gt_valid.mat`. Raise UserError for any other file."""
    content = _read_mat(path, "head boxes")
    try:
        names = [str(np.squeeze(name)).strip() for name in content["dataset_joints"].ravel()]
        order = [names.index(name) for name in PCKH_KEYPOINTS]
        # Matlab drops a last axis of one person
        boxes = content["headboxes_src"].astype(float).reshape(2, 2, -1)
        missing = content["jnt_missing"].astype(float).reshape(COUNT, boxes.shape[2])[order]
        joints = content["pos_gt_src"].astype(float).reshape(COUNT, 2, boxes.shape[2])[order]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"head boxes {path}: expected a file such as MPII's gt_valid.mat ({error})") from error
    if not (np.isfinite(boxes).all() and np.isfinite(missing).all() and np.isfinite(joints).all(1)[missing == 0].all()):
        raise UserError(f"head boxes {path}: contains a number that is not finite")
    return PckhTruth(joints, missing, boxes)


def annotated_ground_truth(annotations: list[dict]) -> PckhTruth | None:
    """Return the same from `load`'s annotations; None if a person has no head box: only the official .mat file has them."""
    if not annotations or not all("head_box" in annotation for annotation in annotations):
        return None
    joints = np.array([annotation["joints"] for annotation in annotations]).reshape(-1, COUNT, 3)
    boxes = np.array([annotation["head_box"] for annotation in annotations])
    return PckhTruth(joints[..., :2].transpose(1, 2, 0) + 1, (joints[..., 2].T == 0).astype(float), boxes.transpose(1, 2, 0))


def _read_mat(path: str | Path, what: str, **options: bool) -> dict[str, Any]:
    from scipy.io import loadmat  # slow to import, and few files are Matlab's

    path = existing_file(path, what)
    try:
        return loadmat(path, appendmat=False, **options)
    except Exception as error:  # scipy has no error classes of its own
        raise UserError(f"{what} {path}: not a Matlab file that can be read ({error})") from error
