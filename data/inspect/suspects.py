"""What in a people file looks like a mistake. Only the small arrays are read, and for images that come twice their files' bytes.

Each check looks at a file as a whole and returns whom it suspects. None is a proof: people stand on their heads, and are cut in half.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from config import Skeleton
from config.progress import track
from config.skeleton import UNLABELLED
from data.people_file import PeopleFile

SIDED = r"(?:left|right|l|r)?[ _-]?(eye|ear|sho|shoulder|hip)s?[ _-]?(?:left|right|l|r)?"  # pairs that point the same way in anybody
OPPOSITE = -0.7  # cosine between two such pairs, from left to right, below which one of them is exchanged
WIDE = 0.7  # of a pair's usual length beside its person: a shorter one, of somebody seen from the side, points anywhere
LONG = 3.0  # times as long, beside the person's other limbs, as it is in most people
LONG_REACH = 0.5  # of the person's extent, least length of a limb that is absurd
ALIKE = 0.03  # of the person's extent, mean distance of two people's keypoints who are one
FEW = 3  # limbs or keypoints of which a person's own measure can be taken


@dataclass(frozen=True)
class Suspect:
    """One image, by its number in the file, a person in it, by the row in people/*, and what is wrong."""

    image: int
    row: int | None
    what: str


@dataclass(frozen=True)
class Everybody:
    """The annotated people of a file, without crowd regions: rows (P,), their images (P,), joints (P, K, 3), labelled (P, K) bool,
    and extents (P,), the longer side of the box or of the keypoints, whichever is more, image pixels."""

    people: PeopleFile
    rows: np.ndarray
    image: np.ndarray
    joints: np.ndarray
    labelled: np.ndarray
    extent: np.ndarray

    @classmethod
    def of(cls, people: PeopleFile) -> Everybody:
        rows = np.flatnonzero(~people.crowd & (people.num_labelled > 0))
        joints = people.joints(rows)
        labelled = joints[..., 2] != UNLABELLED
        low, high = (np.where(labelled[..., None], joints[..., :2], limit) for limit in (np.inf, -np.inf))
        spread = (high.max(1, initial=-np.inf) - low.min(1, initial=np.inf)).max(1, initial=0)
        extent = np.maximum(spread, people.boxes[rows, 2:].max(1, initial=0)).clip(1)
        return cls(people, rows, people.image_of[rows], joints, labelled, extent)

    @property
    def annotated(self) -> np.ndarray:
        """(P, K) bool: labelled by somebody, not the middle of two that are."""
        return self.labelled & ~np.isin(self.people.skeleton.keypoints, list(self.people.skeleton.midpoints))

    def suspects(self, places: np.ndarray, what: Callable[[int], str]) -> list[Suspect]:
        """Those at these places of the rows; what(place) says why."""
        return [Suspect(int(self.image[n]), int(self.rows[n]), what(n)) for n in places.tolist()]


def outside(everybody: Everybody) -> list[Suspect]:
    """Who has a keypoint outside the picture."""
    points, sizes = everybody.joints[..., :2], everybody.people.sizes[everybody.image]
    out = everybody.annotated & ~((points >= 0) & (points <= sizes[:, None, ::-1])).all(2)

    def what(n: int) -> str:
        height, width = sizes[n]
        k = int(out[n].argmax())
        more = f" and {out[n].sum() - 1} more" if out[n].sum() > 1 else ""
        name, (x, y) = everybody.people.skeleton.keypoints[k], points[n, k]
        return f"{name} at {x:.0f}, {y:.0f}{more}; the picture is {width} x {height}"

    return everybody.suspects(np.flatnonzero(out.any(1)), what)


def empty_boxes(everybody: Everybody) -> list[Suspect]:
    """Whose box has none of the keypoints in it."""
    boxes, points, annotated = everybody.people.boxes[everybody.rows, None], everybody.joints[..., :2], everybody.annotated
    inside = (points >= boxes[..., :2]) & (points <= boxes[..., :2] + boxes[..., 2:])
    strangers = np.flatnonzero(~(inside.all(2) & annotated).any(1))
    return everybody.suspects(strangers, lambda n: f"none of {annotated[n].sum()} keypoints is in the box")


def sided_pairs(skeleton: Skeleton) -> list[tuple[int, int]]:
    """The left-right pairs of eyes, ears, shoulders and hips, as far as the keypoints' names, or the data set's, tell."""
    called = {ours: theirs for theirs, ours in skeleton.dataset.items()}
    named = [(a, b) for a, b in skeleton.flip_pairs if any(re.fullmatch(SIDED, name.lower()) for name in (a, called.get(a, a)))]
    return [(skeleton.index(a), skeleton.index(b)) for a, b in named]


def exchanged(everybody: Everybody) -> list[Suspect]:
    """Whose shoulders and hips, or eyes and ears, disagree about which side is which: left and right are probably exchanged in one."""
    skeleton, pairs = everybody.people.skeleton, sided_pairs(everybody.people.skeleton)
    across, wide = {}, {}
    for a, b in pairs:
        there = everybody.labelled[:, [a, b]].all(1)
        way = everybody.joints[:, b, :2] - everybody.joints[:, a, :2]
        length = np.hypot(*way.T)
        if there.any():
            wide[a, b] = there & (length > 0) & (length >= WIDE * np.median((length / everybody.extent)[there]) * everybody.extent)
            across[a, b] = _one_way(way / length.clip(1e-6)[:, None], a, b, skeleton, pairs)
    found = {}
    for n, (p, first) in enumerate(across.items()):
        for q, second in list(across.items())[n + 1 :]:
            against = wide[p] & wide[q] & ((first * second).sum(1) < OPPOSITE)
            for place in np.flatnonzero(against).tolist():
                found.setdefault(place, (p, q))
    names = skeleton.keypoints

    def what(n: int) -> str:
        (a, b), (c, d) = found[n]
        return f"{names[a]}-{names[b]} and {names[c]}-{names[d]} point opposite ways"

    return everybody.suspects(np.array(sorted(found), np.intp), what)


def _one_way(way: np.ndarray, a: int, b: int, skeleton: Skeleton, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Ways (P, 2) from a to b, turned round where the skeleton names this pair from the other side than the first one."""
    return way if _is_left(skeleton, a) == _is_left(skeleton, pairs[0][0]) else -way


def _is_left(skeleton: Skeleton, keypoint: int) -> bool:
    name = skeleton.keypoints[keypoint]
    called = next((theirs for theirs, ours in skeleton.dataset.items() if ours == name), name)
    return any(text.lower().startswith("l") for text in (name, called))


def long_limbs(everybody: Everybody) -> list[Suspect]:
    """Who has a limb that is absurdly long beside the other limbs, which tell how large the person is."""
    skeleton, ends = everybody.people.skeleton, everybody.people.skeleton.drawn_ends
    there = everybody.labelled[:, ends].all(2)  # (P, limbs)
    ways = everybody.joints[:, ends[:, 1], :2] - everybody.joints[:, ends[:, 0], :2]
    lengths = np.where(there, np.hypot(ways[..., 0], ways[..., 1]), np.nan)
    usual = np.array([np.nanmedian((l / everybody.extent)[t]) if t.any() else np.nan for l, t in zip(lengths.T, there.T)])
    beside = lengths / np.where(usual > 0, usual, np.nan)
    enough = np.flatnonzero(np.isfinite(beside).sum(1) >= FEW)
    own = np.full(len(lengths), np.nan)
    own[enough] = np.nanmedian(beside[enough], 1) if len(enough) else 0
    with np.errstate(invalid="ignore"):
        absurd = (beside > LONG * own[:, None]) & (lengths > LONG_REACH * everybody.extent[:, None])

    def what(n: int) -> str:
        limb = int(np.where(absurd[n], beside[n], 0).argmax())
        a, b = (skeleton.keypoints[k] for k in ends[limb])
        times = beside[n, limb] / max(own[n], 1e-6)
        return f"{a}-{b} is {lengths[n, limb]:.0f} pixels long, {min(times, 999):.0f} times what the other limbs say"

    return everybody.suspects(np.flatnonzero(absurd.any(1)), what)


def duplicates(everybody: Everybody) -> list[Suspect]:
    """Who has nearly the same keypoints as somebody before in the image."""
    found = []
    first = np.searchsorted(everybody.image, np.arange(len(everybody.people) + 1))
    several, annotated = np.flatnonzero(np.diff(first) > 1).tolist(), everybody.annotated
    for image in track(several, len(several), "people who are twice", "image"):
        places = np.arange(first[image], first[image + 1])
        points, labelled = everybody.joints[places, :, :2], annotated[places]
        both = labelled[:, None] & labelled[None]
        distance = np.linalg.norm(points[:, None] - points[None], axis=3)
        mean = (distance * both).sum(2) / both.sum(2).clip(1)
        least = np.minimum(labelled.sum(1)[:, None], labelled.sum(1)[None])
        extent = np.minimum(everybody.extent[places][:, None], everybody.extent[places][None])
        alike = (both.sum(2) >= np.minimum(least, FEW)) & (2 * both.sum(2) > least) & (mean < ALIKE * extent) & (least > 1)
        for later, earlier in zip(*np.nonzero(np.tril(alike, -1))):
            same = int(both[later, earlier].sum())
            other = box_of(everybody.people, everybody.rows[places[earlier]])
            what = f"{same} keypoints are {mean[later, earlier]:.1f} pixels from those of {other}"
            found.append(Suspect(int(image), int(everybody.rows[places[later]]), what))
    return found


def twice(people: PeopleFile, digests: list[bytes]) -> list[Suspect]:
    """Images whose id, or the bytes of whose file (`read_files`), an earlier one has."""
    found = []
    ids: dict[int, int] = {}
    files: dict[bytes, int] = {}
    for number, digest in enumerate(digests):
        image_id = int(people.image_ids[number])
        if digest in files:
            found.append(Suspect(number, None, f"is the same file as image {people.image_ids[files[digest]]}"))
        elif image_id in ids:
            found.append(Suspect(number, None, "another image has the same id"))
        ids.setdefault(image_id, number)
        files.setdefault(digest, number)
    return found


def read_files(people: PeopleFile) -> tuple[list[bytes], np.ndarray]:
    """A digest of each image's file, and how many bytes it has (N,). Nothing is decoded."""
    digests, sizes = [], []
    for number in track(range(len(people)), len(people), "files", "image"):
        data = people.file_bytes(number)
        digests.append(hashlib.blake2b(data, digest_size=16).digest())
        sizes.append(len(data))
    return digests, np.array(sizes, np.int64)


def box_of(people: PeopleFile, row: int) -> str:
    """A person by the box, as an annotation tool shows it."""
    x, y, width, height = people.boxes[row]
    return f"the person in {x:.0f}, {y:.0f}, {width:.0f} x {height:.0f}"


CHECKS: dict[str, Callable[[Everybody], list[Suspect]]] = {
    "keypoints outside the picture": outside,
    "boxes without any of their keypoints": empty_boxes,
    "left and right probably exchanged": exchanged,
    "limbs absurdly long for the person": long_limbs,
    "two people with nearly the same keypoints": duplicates,
}


def find_suspects(people: PeopleFile, digests: list[bytes]) -> dict[str, list[Suspect]]:
    """Of each kind of mistake, whoever may be one."""
    everybody = Everybody.of(people)
    return {kind: check(everybody) for kind, check in CHECKS.items()} | {"images that are in the file twice": twice(people, digests)}
