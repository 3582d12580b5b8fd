"""Find label issues in a training HDF5 from its small arrays and its images' bytes.

No issue is a proof: people stand on their heads, and images cut people in half.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from config import Skeleton
from config.progress import progress_bar
from config.skeleton import UNLABELED
from data.hdf5 import TrainingHDF5

SIDED = r"(?:left|right|l|r)?[ _-]?(eye|ear|sho|shoulder|hip)s?[ _-]?(?:left|right|l|r)?"  # pairs that point the same way in any person
OPPOSITE = -0.7  # cosine between two such pairs, from left to right, below which one of them is swapped
WIDE = 0.7  # of a pair's usual length relative to its person: a shorter one, of a person seen from the side, points anywhere
SAME = 0.03  # of the person's extent, mean distance of two people's keypoints that are duplicates
FEW = 3  # keypoints that two people share, from which on they can be duplicates


@dataclass(frozen=True)
class LabelIssue:
    """One image by its number in the file, a person in it by the row in people/* (None: the image itself), and the issue."""

    image: int
    row: int | None
    message: str


@dataclass(frozen=True)
class PersonTable:
    """The people of a file with keypoints, without crowd regions.

    rows (P,) in people/*; image (P,) numbers; joints (P, K, 3); labeled (P, K) bool, without midpoints in `annotated`; extent (P,) the
    longer side of the box or of the keypoints, whichever is more, image pixels.
    """

    people: TrainingHDF5
    rows: np.ndarray
    image: np.ndarray
    joints: np.ndarray
    labeled: np.ndarray
    annotated: np.ndarray
    extent: np.ndarray

    @classmethod
    def of(cls, people: TrainingHDF5) -> PersonTable:
        rows = np.flatnonzero(~people.crowd & (people.num_labeled > 0))
        joints = people.joints(rows)
        labeled = joints[..., 2] != UNLABELED
        annotated = labeled & ~np.isin(people.skeleton.keypoints, list(people.skeleton.midpoints))
        low, high = (np.where(labeled[..., None], joints[..., :2], limit) for limit in (np.inf, -np.inf))
        spread = (high.max(1, initial=-np.inf) - low.min(1, initial=np.inf)).max(1, initial=0)
        extent = np.maximum(spread, people.boxes[rows, 2:].max(1, initial=0)).clip(1)
        return cls(people, rows, people.image_of[rows], joints, labeled, annotated, extent)

    def issues(self, indices: np.ndarray, message: Callable[[int], str]) -> list[LabelIssue]:
        """Return an issue for each of these people; message(index) says why."""
        return [LabelIssue(int(self.image[n]), int(self.rows[n]), message(n)) for n in indices.tolist()]


def outside_image(table: PersonTable) -> list[LabelIssue]:
    """Return the people with a keypoint outside the image."""
    points, sizes = table.joints[..., :2], table.people.sizes[table.image]
    out = table.annotated & ~((points >= 0) & (points <= sizes[:, None, ::-1])).all(2)

    def message(n: int) -> str:
        k, (height, width) = int(out[n].argmax()), sizes[n]
        more = f" and {out[n].sum() - 1} more" if out[n].sum() > 1 else ""
        x, y = points[n, k]
        return f"{table.people.skeleton.keypoints[k]} at {x:.0f}, {y:.0f}{more}; the image is {width} x {height}"

    return table.issues(np.flatnonzero(out.any(1)), message)


def outside_box(table: PersonTable) -> list[LabelIssue]:
    """Return the people whose box has none of the keypoints in it."""
    boxes, points = table.people.boxes[table.rows, None], table.joints[..., :2]
    inside = (points >= boxes[..., :2]) & (points <= boxes[..., :2] + boxes[..., 2:])
    wrong = np.flatnonzero(~(inside.all(2) & table.annotated).any(1))
    return table.issues(wrong, lambda n: f"none of {table.annotated[n].sum()} keypoints is in the box")


def sided_pairs(skeleton: Skeleton) -> list[tuple[int, int]]:
    """Return the pairs of left and right eyes, ears, shoulders and hips, by the keypoints' names, or by those of the data set."""
    dataset_name = {own: name for name, own in skeleton.dataset.items()}
    pairs = []
    for pair in skeleton.flip_pairs:
        names = [(name.lower(), dataset_name.get(name, name).lower()) for name in pair]
        if any(re.fullmatch(SIDED, name) for name in names[0]):
            first, second = map(skeleton.index, pair)
            pairs.append((first, second) if any(name.startswith("l") for name in names[0]) else (second, first))
    return pairs


def swapped_sides(table: PersonTable) -> list[LabelIssue]:
    """Return the people whose shoulders and hips, or eyes and ears, disagree about which side is left."""
    directions = {}
    for a, b in sided_pairs(table.people.skeleton):
        present = table.labeled[:, [a, b]].all(1)
        vector = table.joints[:, b, :2] - table.joints[:, a, :2]
        length = np.hypot(*vector.T)
        if present.any():
            wide = present & (length > 0) & (length >= WIDE * np.median((length / table.extent)[present]) * table.extent)
            directions[a, b] = vector / length.clip(1e-6)[:, None], wide
    opposite = {}
    for (first, (one, one_wide)), (second, (other, other_wide)) in combinations(directions.items(), 2):
        for n in np.flatnonzero(one_wide & other_wide & ((one * other).sum(1) < OPPOSITE)).tolist():
            opposite.setdefault(n, (*first, *second))

    def message(n: int) -> str:
        a, b, c, d = (table.people.skeleton.keypoints[k] for k in opposite[n])
        return f"{a}-{b} and {c}-{d} point opposite ways"

    return table.issues(np.array(sorted(opposite), np.intp), message)


def duplicate_people(table: PersonTable) -> list[LabelIssue]:
    """Return the people with nearly the same keypoints as an earlier one in the image."""
    issues = []
    first = np.searchsorted(table.image, np.arange(len(table.people) + 1))
    for image in np.flatnonzero(np.diff(first) > 1).tolist():
        indices = np.arange(first[image], first[image + 1])
        points, annotated = table.joints[indices, :, :2], table.annotated[indices]
        both = annotated[:, None] & annotated[None]
        shared = both.sum(2)
        mean = (np.linalg.norm(points[:, None] - points[None], axis=3) * both).sum(2) / shared.clip(1)
        least, extent = (np.minimum.outer(values, values) for values in (annotated.sum(1), table.extent[indices]))
        same = (shared >= np.minimum(least, FEW)) & (2 * shared > least) & (mean < SAME * extent) & (least > 1)
        for later, earlier in zip(*np.nonzero(np.tril(same, -1))):
            other = describe_person(table.people, table.rows[indices[earlier]])
            message = f"{shared[later, earlier]} keypoints are {mean[later, earlier]:.1f} pixels from those of {other}"
            issues.append(LabelIssue(image, int(table.rows[indices[later]]), message))
    return issues


def duplicate_images(table: PersonTable) -> list[LabelIssue]:
    """Return the images with the id, or the bytes, of an earlier one. Nothing is decoded."""
    people, issues = table.people, []
    ids: dict[int, int] = {}
    files: dict[bytes, int] = {}
    for number in progress_bar(range(len(people)), len(people), "files", "image"):
        image_id, digest = int(people.image_ids[number]), hashlib.blake2b(people.file_bytes(number), digest_size=16).digest()
        if digest in files:
            issues.append(LabelIssue(number, None, f"is the same file as image {people.image_ids[files[digest]]}"))
        elif image_id in ids:
            issues.append(LabelIssue(number, None, "another image has the same id"))
        ids.setdefault(image_id, number)
        files.setdefault(digest, number)
    return issues


def describe_person(people: TrainingHDF5, row: int) -> str:
    """Describe a person by the box, as an annotation tool shows it."""
    x, y, width, height = people.boxes[row]
    return f"the person in {x:.0f}, {y:.0f}, {width:.0f} x {height:.0f}"


CHECKS: dict[str, Callable[[PersonTable], list[LabelIssue]]] = {
    "keypoints outside the image": outside_image,
    "boxes without any of their keypoints": outside_box,
    "left and right probably swapped": swapped_sides,
    "two people with nearly the same keypoints": duplicate_people,
    "images that are in the file twice": duplicate_images,
}


def find_label_issues(people: TrainingHDF5) -> dict[str, list[LabelIssue]]:
    """Return the possible issues of each kind."""
    table = PersonTable.of(people)
    return {kind: check(table) for kind, check in CHECKS.items()}
