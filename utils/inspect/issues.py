"""Find label issues in a training HDF5 from its small arrays and its images' bytes.

No issue is a proof: people stand on their heads, and images cut people in half.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np

from config import Skeleton
from config.progress import progress_bar
from config.skeleton import UNLABELED
from data.formats.people import boxes_as_corners, keypoints_at_zero
from data.hdf5 import CorruptImageError, TrainingHDF5

SIDED = r"(?:left|right|l|r)[ _-]?(eye|ear|shoulder|hip)s?"  # pairs that point the same way in any person
OPPOSITE = -0.7  # cosine between two such pairs, from left to right, below which one of them is swapped
WIDE = 0.7  # of a pair's usual length relative to its person: a shorter one, of a person seen from the side, points anywhere
SAME = 0.03  # of the person's extent, mean distance of two people's keypoints that are duplicates
FEW = 3  # keypoints that two people share, from which on they can be duplicates


class LabelIssue(NamedTuple):
    """One image by its number in the file, a person in it by the row in people/* (None: the image itself), and the issue."""

    image: int
    row: int | None
    message: str


class PersonTable:
    """The people of a file with keypoints, without crowd regions.

    rows (P,) in people/*; image (P,) numbers; boxes (P, 4); points (P, K, 2) x, y; labeled (P, K) bool; annotated (P, K) bool, without
    midpoints; extent (P,) the longer side of the box or of the keypoints, whichever is more, image pixels.
    """

    def __init__(self, people: TrainingHDF5):
        self.people, self.names = people, people.skeleton.keypoints
        self.rows = np.flatnonzero(~people.crowd & (people.num_labeled > 0))
        self.image, self.boxes, joints = people.image_of[self.rows], people.boxes[self.rows], people.joints(self.rows)
        self.points, self.labeled = joints[..., :2], joints[..., 2] != UNLABELED
        self.annotated = self.labeled & ~np.isin(self.names, list(people.skeleton.midpoints))
        low, high = (np.where(self.labeled[..., None], self.points, limit) for limit in (np.inf, -np.inf))
        spread = (high.max(1, initial=-np.inf) - low.min(1, initial=np.inf)).max(1, initial=0)
        self.extent = np.maximum(spread, self.boxes[:, 2:].max(1, initial=0)).clip(1)

    def issue(self, n: int, message: str) -> LabelIssue:
        """Return an issue of the n-th of these people."""
        return LabelIssue(int(self.image[n]), int(self.rows[n]), message)


def outside_image(table: PersonTable) -> Iterator[LabelIssue]:
    """Yield the people with a keypoint outside the image."""
    sizes = table.people.sizes[table.image]
    out = table.annotated & ~((table.points >= 0) & (table.points <= sizes[:, None, ::-1])).all(2)
    for n in np.flatnonzero(out.any(1)).tolist():
        k, (height, width) = int(out[n].argmax()), sizes[n]
        more = f" and {out[n].sum() - 1} more" if out[n].sum() > 1 else ""
        x, y = table.points[n, k]
        yield table.issue(n, f"{table.names[k]} at {x:.0f}, {y:.0f}{more}; the image is {width} x {height}")


def outside_box(table: PersonTable) -> Iterator[LabelIssue]:
    """Yield the people whose box has none of the keypoints in it."""
    low, sides = table.boxes[:, None, :2], table.boxes[:, None, 2:]
    inside = ((table.points >= low) & (table.points <= low + sides)).all(2)
    for n in np.flatnonzero(~(inside & table.annotated).any(1)).tolist():
        yield table.issue(n, f"none of {table.annotated[n].sum()} keypoints is in the box")


def corner_boxes(table: PersonTable) -> Iterator[LabelIssue]:
    """Yield the people whose box looks like x1, y1, x2, y2, where there are several."""
    doubtful = boxes_as_corners(table.boxes, table.points, table.labeled, table.people.sizes[table.image][:, ::-1])
    for n in np.flatnonzero(doubtful).tolist():
        yield table.issue(n, "all keypoints are in the box if its last two numbers are x2, y2")


def zero_keypoints(table: PersonTable) -> Iterator[LabelIssue]:
    """Yield the people with several labeled keypoints at 0, 0."""
    counts = keypoints_at_zero(table.points, table.annotated).sum(1)
    for n in np.flatnonzero(counts).tolist():
        yield table.issue(n, f"{counts[n]} keypoints, of {counts.sum()} in the file")


def sided_pairs(skeleton: Skeleton) -> list[tuple[int, int]]:
    """Return the pairs of left and right eyes, ears, shoulders and hips, by the names that the data set gives them."""
    dataset_name = {own: name for name, own in skeleton.dataset.items()}
    pairs = []
    for pair in skeleton.flip_pairs:
        first, second = sorted(pair, key=lambda own: dataset_name.get(own, own).lower())  # left is before right
        if re.fullmatch(SIDED, dataset_name.get(first, first).lower()):
            pairs.append((skeleton.index(first), skeleton.index(second)))
    return pairs


def swapped_sides(table: PersonTable) -> Iterator[LabelIssue]:
    """Yield the people whose shoulders and hips, or eyes and ears, disagree about which side is left."""
    directions = {}
    for a, b in sided_pairs(table.people.skeleton):
        present, vector = table.labeled[:, [a, b]].all(1), table.points[:, b] - table.points[:, a]
        length = np.hypot(*vector.T)
        if present.any():
            wide = present & (length > 0) & (length >= WIDE * np.median((length / table.extent)[present]) * table.extent)
            directions[a, b] = vector / length.clip(1e-6)[:, None], wide
    opposite: dict[int, list[str]] = {}
    for (first, (one, one_wide)), (second, (other, other_wide)) in combinations(directions.items(), 2):
        for n in np.flatnonzero(one_wide & other_wide & ((one * other).sum(1) < OPPOSITE)).tolist():
            opposite.setdefault(n, [table.names[k] for k in (*first, *second)])
    for n, (a, b, c, d) in sorted(opposite.items()):
        yield table.issue(n, f"{a}-{b} and {c}-{d} point opposite ways")


def duplicate_people(table: PersonTable) -> Iterator[LabelIssue]:
    """Yield the people with nearly the same keypoints as an earlier one in the image."""
    first = np.searchsorted(table.image, np.arange(len(table.people) + 1))
    for image in np.flatnonzero(np.diff(first) > 1).tolist():
        own = slice(first[image], first[image + 1])
        points, annotated = table.points[own], table.annotated[own]
        both = annotated[:, None] & annotated[None]
        shared = both.sum(2)
        mean = (np.linalg.norm(points[:, None] - points[None], axis=3) * both).sum(2) / shared.clip(1)
        least, extent = (np.minimum.outer(values, values) for values in (annotated.sum(1), table.extent[own]))
        same = (shared >= np.minimum(least, FEW)) & (2 * shared > least) & (mean < SAME * extent) & (least > 1)
        for later, earlier in np.argwhere(np.tril(same, -1)).tolist():
            other = describe_person(table.people, table.rows[own][earlier])
            message = f"{shared[later, earlier]} keypoints are {mean[later, earlier]:.1f} pixels from those of {other}"
            yield table.issue(first[image] + later, message)


def unusable_images(table: PersonTable) -> Iterator[LabelIssue]:
    """Yield the corrupt images, and those with the id, or the bytes, of an earlier one. Nothing is decoded."""
    people, ids, files = table.people, set[int](), dict[bytes, int]()
    for number in progress_bar(range(len(people)), len(people), "files", "image"):
        image_id = int(people.image_ids[number])
        try:
            digest = hashlib.blake2b(people.file_bytes(number), digest_size=16).digest()
        except CorruptImageError as error:
            yield LabelIssue(number, None, f"is corrupt: {error.__cause__}")
            continue
        if digest in files:
            yield LabelIssue(number, None, f"is the same file as image {files[digest]}")
        elif image_id in ids:
            yield LabelIssue(number, None, "another image has the same id")
        ids.add(image_id)
        files.setdefault(digest, image_id)


def describe_person(people: TrainingHDF5, row: int) -> str:
    """Describe a person by the box, as an annotation tool shows it."""
    x, y, width, height = people.boxes[row]
    return f"the person in {x:.0f}, {y:.0f}, {width:.0f} x {height:.0f}"


CHECKS: dict[str, Callable[[PersonTable], Iterator[LabelIssue]]] = {
    "keypoints outside the image": outside_image,
    "boxes without any of their keypoints": outside_box,
    "left and right probably swapped": swapped_sides,
    "two people with nearly the same keypoints": duplicate_people,
    "images that are corrupt, or in the file twice": unusable_images,
    "boxes that are probably x1, y1, x2, y2": corner_boxes,
    "people with unlabeled keypoints that are written as labeled at 0, 0": zero_keypoints,
}


def find_label_issues(people: TrainingHDF5) -> dict[str, list[LabelIssue]]:
    """Return the possible issues of each kind."""
    table = PersonTable(people)
    return {kind: [*check(table)] for kind, check in CHECKS.items()}
