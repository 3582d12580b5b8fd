"""The people of annotated photographs who can be cut out, and the parts of these photographs that show nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from config.errors import UserError
from config.load import load_skeleton
from data.formats.coco import (
    Size,
    box_and_area,
    check_size,
    file_keypoints,
    has_outline,
    image_files,
    keypoint_category,
    listed_size,
    load_coco,
    naming_file,
    outline_runs,
    runs_mask,
)
from data.images import read_image, warn_left_out

HEAD, SHOULDERS, ELBOWS, WRISTS, HIPS, KNEES, ANKLES = slice(0, 5), [5, 6], [7, 8], [9, 10], [11, 12], [13, 14], [15, 16]  # COCO's order
BODY = slice(5, 17)
# What each bone measures in lengths of an upright torso seen from the front; whichever are foreshortened, some bones are not
BONES = [(5, 11, 1.0), (6, 12, 1.0), (5, 6, 0.72), (11, 13, 0.9), (12, 14, 0.9), (13, 15, 0.85), (14, 16, 0.85), (5, 7, 0.62), (6, 8, 0.62),
         (7, 9, 0.55), (8, 10, 0.55)]  # fmt: skip
LEAST_UNIT = 12.0  # pixels of `Person.unit`: of who is smaller too little is to be seen
LONGEST_BONE = 1.75  # times what the others say
EVERYWHERE = np.array([0, 0, 1e6, 1e6])  # a box, larger than any photograph


@dataclass(frozen=True, eq=False)  # each is itself alone, and can be looked up as such
class Person:
    """Somebody in a photograph. keypoints (17, 3): x, y, v of a file, in COCO's order; others (O, 17, 3): everybody else's there."""

    image: Path
    keypoints: np.ndarray
    others: np.ndarray
    annotation: dict | None  # where it has an outline
    listed: list[Size]  # the photograph's

    @property
    def unit(self) -> float:
        """Length of the torso in pixels, had it been seen from the front; of wrong labels, a few do not matter."""
        return float(np.percentile(self._bones, 70))

    @property
    def credible(self) -> bool:
        """Whether no bone is far longer than the others say."""
        return bool(self._bones.max() < LONGEST_BONE * self.unit)

    @property
    def _bones(self) -> np.ndarray:
        """(B,) the length of a torso in pixels, as each bone tells it."""
        a, b, length = zip(*BONES)
        return np.linalg.norm(self.keypoints[list(a), :2] - self.keypoints[list(b), :2], axis=1) / length

    @property
    def uprightness(self) -> float:
        """1 where the shoulders are right above the hips, -1 right below."""
        spine = self.keypoints[HIPS, :2].mean(0) - self.keypoints[SHOULDERS, :2].mean(0)
        return float(spine[1] / max(np.linalg.norm(spine), 1e-6))


@dataclass(frozen=True)
class Photograph:
    """A picture and where it shows somebody, or may: boxes (B, 4) x, y, width, height, of crowds too.

    keypoints (P, 17, 3): x, y, v of a file, in COCO's order, of who is no crowd; outlines: their annotations, where they have one.
    """

    image: Path
    boxes: np.ndarray
    keypoints: np.ndarray
    outlines: list[dict | None]
    listed: list[Size]  # by each entry in an annotation file

    @property
    def people(self) -> Iterator[Person]:
        """Those with a whole body."""
        for number in np.flatnonzero((self.keypoints[:, BODY, 2] > 0).all(1)).tolist():
            others = np.delete(self.keypoints, number, 0)
            yield Person(self.image, self.keypoints[number], others, self.outlines[number], self.listed)


@dataclass(frozen=True)
class Sources:
    """All that pictures are put together from. labelled (K,): places in COCO's order of the keypoints that the files label."""

    people: list[Person]
    sizes: np.ndarray  # (P,) `Person.unit` of each
    uprightness: np.ndarray  # (P,) `Person.uprightness` of each
    photographs: list[Photograph]
    labelled: np.ndarray
    names: list[str]  # of the labelled keypoints


@lru_cache(maxsize=1)  # each process reads them once
def read_sources(annotations: tuple[Path, ...], folders: tuple[Path, ...]) -> Sources:
    """Read annotation files and find their images; people with a shorter `unit` than LEAST_UNIT are left out.

    Raises UserError where a file or an image is missing, the files label different keypoints or not all from shoulders to ankles, or
    nobody can be used.
    """
    if len(folders) not in (1, len(annotations)):
        raise UserError(f"--images: {len(folders)} for {len(annotations)} annotation files; expected one for all, or one for each")
    entries: list[Photograph] = []
    labelled: np.ndarray | None = None
    for path, folder in zip(annotations, folders if len(folders) == len(annotations) else folders * len(annotations)):
        of_file, places = _read_file(path, folder)
        if labelled is not None and not np.array_equal(labelled, places):
            raise UserError(f"annotation file {path}: labels other keypoints than {annotations[0]}; compose pictures of each")
        labelled = places
        entries += of_file
    photographs = _merged(entries)
    people = [person for photograph in photographs for person in photograph.people if person.unit >= LEAST_UNIT and person.credible]
    if not people:
        raise UserError(
            f"annotation file {annotations[0]}: nobody in it is labelled from shoulders to ankles and large enough to be cut out"
        )
    names = list(load_skeleton("coco").dataset)
    sizes, uprightness = np.array([person.unit for person in people]), np.array([person.uprightness for person in people])
    return Sources(people, sizes, uprightness, photographs, labelled, [names[k] for k in labelled])


def _read_file(path: Path, folder: Path) -> tuple[list[Photograph], np.ndarray]:
    """The photographs of one annotation file and the keypoints that it labels."""
    coco = load_coco(path)
    category, order = keypoint_category(coco, load_skeleton("coco"), path)
    if (order[BODY] < 0).any():
        raise UserError(f"annotation file {path}: does not label everything from shoulders to ankles, which people are cut out by")
    photographs = []
    for image_id, image in image_files(coco, path, folder).items():
        of_image = coco.loadAnns(coco.getAnnIds(image_id, catIds=[category]))
        listed = listed_size(coco.imgs[image_id])
        with naming_file(path):
            boxes = np.array([_place(annotation, order, listed) for annotation in of_image]).reshape(-1, 4)
            single = [annotation for annotation in of_image if not annotation.get("iscrowd")]
            points = np.array([file_keypoints(annotation, order) for annotation in single]).reshape(-1, len(order), 3)
        outlines = [annotation if has_outline(annotation) else None for annotation in single]
        photographs.append(Photograph(image, boxes, points, outlines, [listed]))
    return photographs, np.flatnonzero(order >= 0)


def _merged(entries: list[Photograph]) -> list[Photograph]:
    """Each picture once, with the people of all of its entries: who is annotated in one file is in the photograph for another, too."""
    alike: dict[Path, Photograph] = {}
    for entry in entries:
        path = entry.image.resolve()
        alike[path] = _joined(alike[path], entry) if path in alike else entry
    return list(alike.values())


def _joined(first: Photograph, second: Photograph) -> Photograph:
    boxes, keypoints = np.concatenate([first.boxes, second.boxes]), np.concatenate([first.keypoints, second.keypoints])
    return Photograph(first.image, boxes, keypoints, first.outlines + second.outlines, first.listed + second.listed)


def _place(annotation: dict, order: np.ndarray, size: Size) -> np.ndarray:
    """(4,) x, y, width, height of where somebody or a crowd is: the box, or the outline's; where it says neither, that may be anywhere.

    size: the image's. Raises UserError where a labelled person has no box.
    """
    box = box_and_area(annotation, order)[0]
    if (box[2:] > 0).all():
        return box
    if has_outline(annotation) and None not in size:
        try:
            box = np.array(cv2.boundingRect(runs_mask(outline_runs(annotation, *size), *size).view(np.uint8)))
        except UserError:
            return EVERYWHERE
    return box if (box[2:] > 0).all() else EVERYWHERE


def whole_image(path: Path, listed: list[Size]) -> np.ndarray | None:
    """A photograph (H, W, 3) uint8 BGR; None where it is damaged, or not as large as listed: its people would be elsewhere.

    One of thousands does not end a run. Each process says so once.
    """
    try:
        image = read_image(path)
        for size in listed:
            check_size(path, *image.shape[:2], size)
    except UserError as error:
        warn_left_out(str(error))
        return None
    return image


def free_part(height: int, width: int, boxes: np.ndarray, grown: float = 0.12, cells: int = 24) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the largest rectangle of an image, in cells of a grid, that no box (B, 4) reaches, grown by a part of its size."""
    taken = np.zeros((cells, cells), bool)
    steps = np.array([width, height, width, height]) / cells
    for x, y, w, h in np.asarray(boxes).tolist():
        margin = grown * max(w, h)
        x0, y0, x1, y1 = np.array([x - margin, y - margin, x + w + margin, y + h + margin]) / steps
        taken[max(int(y0), 0) : max(int(np.ceil(y1)), 0), max(int(x0), 0) : max(int(np.ceil(x1)), 0)] = True
    best, found = 0, (0, 0, 0, 0)
    for left in range(cells):
        blocked = np.zeros(cells, bool)
        for right in range(left, cells):
            blocked |= taken[:, right]
            edges = np.flatnonzero(np.concatenate([[True], blocked, [True]]))
            runs = np.diff(edges) - 1
            longest = int(runs.argmax())
            if runs[longest] * (right + 1 - left) > best:
                best = int(runs[longest]) * (right + 1 - left)
                found = left, int(edges[longest]), right + 1, int(edges[longest] + runs[longest])
    return tuple(int(v) for v in np.array(found) * steps)


def reach(keypoints: np.ndarray) -> np.ndarray:
    """(4,) x0, y0, x1, y1 around those of the keypoints (17, 3) that are labelled."""
    points = keypoints[keypoints[:, 2] > 0, :2]
    return np.concatenate([points.min(0), points.max(0)])
