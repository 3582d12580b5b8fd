"""The people of an annotation file, read and checked here only: builder, evaluation, boxes and rescoring take these."""

from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from config import Skeleton, UserError
from config.load import check_keypoint_names, first_names, fitting_skeleton
from data.formats.cleanup import AnnotationFixes
from data.formats.coco import finite_numbers, indexed
from data.formats.segmentation import FARTHEST

BOX_MARGIN = 0.15  # of the keypoints' extent, on each side of a box that is made of them: that of PoseTrack's own boxes
LEAST_AREA, LEAST_PART = 1, 0.01  # pixels squared, and of the box: a smaller area of a person with keypoints is a mistake
CORNERS_AREA = 3  # times: how much larger a box of x, y, width, height is than one of x1, y1, x2, y2 that has all keypoints
CORNERS_SLACK = 0.1  # of the keypoints' extent, around such a box
CORNERS_PART, CORNERS_LEAST = 0.3, 3  # of the people, and people, from which on such boxes are no chance


@dataclass(frozen=True)
class AnnotatedPeople:
    """The images and people of an annotation file.

    Each person of `coco` has keypoints (3 * K,) x, y, v of the K `names` (v 2 visible, 1 occluded, 0 unlabeled), and bbox, area, iscrowd
    and num_keypoints; all are of `category`. Zeros fill box and area of people without keypoints who lack them. Ids are new, since
    pycocotools takes an id of 0 for "not matched". `file_id` of people, images and categories is the file's own.
    """

    coco: COCO
    format: str
    skeleton: Skeleton
    orders: dict[int, np.ndarray]  # categories of people -> (D,) the index of each of the skeleton's keypoints in the file; -1: none
    category: int  # the one with most people: results name it
    containers: list[Path] = field(default_factory=list)  # folders and zip files of the images: the given ones, or those the file names

    @property
    def file_index(self) -> np.ndarray:
        """Return the order (D,) of results' keypoints."""
        return self.orders[self.category]

    @property
    def num_keypoints(self) -> int:
        """Return how many keypoints results have."""
        return len(self.coco.cats.get(self.category, {}).get("keypoints") or self.file_index)

    @cached_property
    def ids(self) -> dict[str, dict[Any, int]]:
        """Return the ids here of the file's own ids, of images and of categories of people."""
        categories = [self.coco.cats[number] for number in self.orders if number in self.coco.cats] or [{"id": 1, "file_id": 1}]
        lists = {"image_id": self.coco.dataset["images"], "category_id": categories}
        return {key: {entry["file_id"]: entry["id"] for entry in entries} for key, entries in lists.items()}

    @cached_property
    def names(self) -> list[str]:
        """The skeleton's keypoints that the file labels, by their names in the data set."""
        return [name for name, index in zip(self.skeleton.dataset, self.file_index) if index >= 0]

    def joints(self, people: list[dict]) -> np.ndarray:
        """Return (P, D, 3) x, y, v of people, zeros where the file has no such keypoint."""
        joints = np.zeros((len(people), len(self.file_index), 3))
        for row, person in enumerate(people):
            joints[row, self.file_index >= 0] = np.reshape(person["keypoints"], (-1, 3))
        return joints


def read_people(
    content: dict[str, Any], skeleton: Skeleton | None, path: Path, fixes: AnnotationFixes, names_from_skeleton: bool = False
) -> AnnotatedPeople:
    """Return the people of cleaned content in COCO's format. Raise UserError where one is invalid, or no category is of people.

    skeleton: None is the known one that fits best. names_from_skeleton: a category without names of its keypoints has the skeleton's.
    """
    for entry in (*content["images"], *content["categories"], *content["annotations"]):
        entry.setdefault("file_id", entry["id"])
    categories, annotations = {category["id"]: category for category in content["categories"]}, content["annotations"]
    names = {number: category.get("keypoints") or [] for number, category in categories.items()}
    skeleton = skeleton or fitting_skeleton(max(names.values(), key=len, default=[]))
    if annotations or any(names.values()):
        if names_from_skeleton or not any(set(skeleton.own_names(of_category)) & set(skeleton.dataset) for of_category in names.values()):
            names |= _names_from_skeleton(names, annotations, skeleton, path, names_from_skeleton)
        orders = keypoint_orders(names, categories, skeleton, path, fixes)
    else:  # what COCO's server expects for test-dev
        orders = {1: np.arange(len(skeleton.dataset))}
    people, of_category = list[dict](), dict.fromkeys(orders, 0)
    for annotation in annotations:
        place, number = f"annotation file {path}: annotation {annotation['file_id']}", annotation["category_id"]
        if number not in orders:
            fixes.add(f"omitted: its category {categories[number].get('name', number)!r} has not the skeleton's keypoints", place)
            continue
        add = partial(fixes.add, place=place)
        person = _read_person(annotation, orders[number], len(names[number]), content.get("area_of_box", 1), place, add)
        people.append({**person, "id": len(people) + 1})
        of_category[number] += 1
    category = max(of_category, key=of_category.get)
    for person in people:
        person["category_id"] = category
    listed = [{**entry, "keypoints": names[number]} for number, entry in categories.items()]
    annotated = AnnotatedPeople(
        indexed({**content, "annotations": people, "categories": listed}), content["format"], skeleton, orders, category, content["folders"]
    )
    _name_doubts(annotated, path, fixes)
    return annotated


# Categories


def _names_from_skeleton(
    names: dict[int, list[str]], annotations: list[dict], skeleton: Skeleton, path: Path, allowed: bool
) -> dict[int, list[str]]:
    """Return the skeleton's names for each category that has none and people with as many keypoints. Raise UserError unless allowed."""
    found, problem = {}, None
    for annotation in annotations:
        number, keypoints = annotation["category_id"], annotation.get("keypoints")
        if names[number] or not isinstance(keypoints, list) or not keypoints:
            continue
        place = f"annotation file {path}: annotation {annotation['file_id']}"
        if len(keypoints) == 3 * len(skeleton.dataset):
            found[number] = list(skeleton.dataset)
        else:
            problem = f"{place}: {len(keypoints)} keypoint numbers without names, the skeleton has {len(skeleton.dataset)} keypoints"
    if problem and not found:
        raise UserError(problem)
    if found and not allowed:
        raise UserError(
            f"annotation file {path}: category {[*found][0]} has no names of its keypoints; if they are those of skeleton"
            f" {skeleton.name!r} ({first_names(list(skeleton.dataset))}) in its order, add --names-from-skeleton"
        )
    return found


def keypoint_orders(
    names: dict[int, list[str]], categories: dict[int, dict], skeleton: Skeleton, path: Path, fixes: AnnotationFixes
) -> dict[int, np.ndarray]:
    """Return the categories of people, those with most of the skeleton's keypoints, and the order (D,) of these in each; -1: none.

    Raise UserError where no category has any of them, or one and the skeleton overlap only in part.
    """
    expected, own, orders = list(skeleton.dataset), {number: skeleton.own_names(of) for number, of in names.items()}, {}
    most = max(({*of} & {*expected} for of in own.values()), key=len, default=set())
    if not most:
        found = [f"{categories[number].get('name')} ({first_names(of) or 'no keypoints'})" for number, of in names.items()]
        remedy = "name them as the skeleton's 'dataset' does (COCO: its person_keypoints_*.json)"
        raise UserError(
            f"annotation file {path}: no category has the keypoints of skeleton {skeleton.name!r} ({first_names(expected)});"
            f" categories found: {', '.join(found) or 'none'}; {remedy}"
        )
    for number, of_category in own.items():
        if {*of_category} & {*expected} != most:
            continue
        twice = [name for name, known in zip(names[number], of_category) if of_category.count(known) > 1]
        if twice:
            raise UserError(f"annotation file {path}: category {number}: its keypoints {twice[0]!r} and {twice[1]!r} are the same one")
        if of_category != names[number]:
            spelled = next(name for name, known in zip(names[number], of_category) if name != known)
            fixes.add(f"has keypoints in another spelling, such as {spelled!r}", f"annotation file {path}: category {number}")
        check_keypoint_names(of_category, skeleton, f"annotation file {path}")
        orders[number] = np.array([of_category.index(name) if name in most else -1 for name in expected])
    return orders


# People


def _read_person(person: dict, order: np.ndarray, count: int, area_of_box: float, place: str, add: partial) -> dict:
    """Return a person of a category with `count` keypoints. Raise UserError for invalid values, such as fractions of the image.

    order: see `keypoint_orders`. add: counts a problem that is fixed.
    """
    if person.get("iscrowd") not in (None, 0, 1):
        raise UserError(f"{place}: its 'iscrowd' is {person['iscrowd']!r}, expected 0 or 1")
    crowd, keypoints, outline = bool(person.get("iscrowd")), np.zeros((count, 3)), person.get("segmentation")
    if person.get("keypoints"):
        values = finite_numbers(person, "keypoints", "x, y, v of each keypoint", place).ravel()
        if values.size != keypoints.size:
            raise UserError(f"{place}: {values.size} keypoint numbers, expected 3 for each of the category's {count} keypoints")
        unknown = set(values[2::3].tolist()) - {0, 1, 2}
        if unknown:
            raise UserError(f"{place}: a keypoint's v is {unknown.pop():g}, expected 0 unlabeled, 1 occluded or 2 visible")
        keypoints = values.reshape(-1, 3)
    points = keypoints[keypoints[:, 2] > 0, :2]
    if isinstance(outline, list) and outline and all(type(value) in (int, float) for value in outline):
        add("its 'segmentation' is one polygon, not a list of them")
        person = {**person, "segmentation": [outline]}
    if type(person.get("num_keypoints")) in (int, float) and person["num_keypoints"] != len(points):
        add("its 'num_keypoints' is not the number of its labeled keypoints: these are counted")
    try:
        box, area = _box_and_area(person, [] if crowd else points, area_of_box, place, add)
    except UserError:
        if len(points) and not crowd:
            raise
        box, area = np.zeros(4), 0.0
    keypoints = keypoints[order[order >= 0]]
    labeled = 0 if person.get("ignored") else int((keypoints[:, 2] > 0).sum())
    shape = {"bbox": box.tolist(), "area": area, "iscrowd": int(crowd)}
    return {**person, **shape, "keypoints": keypoints.ravel(), "num_keypoints": labeled}


def _box_and_area(person: dict, points: np.ndarray, area_of_box: float, place: str, add: partial) -> tuple[np.ndarray, float]:
    """Return box x, y, width, height and area in pixels. Without a box in the file it is that of the outline, or made of points (N, 2)."""
    given, area, around, margin = person.get("bbox"), person.get("area"), np.zeros((0, 2)), 0.0
    if not given or (isinstance(given, list) and 0 in given[2:]):
        around = _outline_points(person.get("segmentation"))
        if not len(around):
            around, margin = points, BOX_MARGIN
    box = np.zeros(4) if len(around) and not given else finite_numbers(person, "bbox", "x, y, width, height", place, (4,))
    if box[2:].min() < 0:
        add("its 'bbox' has a side below 0: the corners are swapped")
        box = np.concatenate([np.minimum(box[:2], box[:2] + box[2:]), np.abs(box[2:])])
    if len(around) and not box[2:].all():
        add("its 'bbox' is missing or empty: a box is made of its outline or keypoints")
        extent = np.ptp(around, 0)
        size = (1 + 2 * margin) * extent.clip(1)  # of one keypoint, too
        box = np.concatenate([around.min(0) - (size - extent) / 2, size])
    of_box = float(area_of_box * box[2:].prod())
    area = of_box if area is None else float(finite_numbers(person, "area", "a number", place, ()))
    if area < 0 or (len(points) and area < min(max(LEAST_AREA, LEAST_PART * of_box), of_box)):
        add("its 'area' makes no sense beside its box: the box's area is used")
        area = of_box
    for key, values in (("keypoints", points), ("bbox", box)):
        if len(points) > 1 and ((values >= 0) & (values <= 1)).all() and (values % 1).any():
            raise UserError(f"{place}: its {key!r} is within 0 and 1, as if in parts of the image; expected pixels")
    return box, area


def _outline_points(segmentation: Any) -> np.ndarray:
    """Return the corners (N, 2) of polygons; none of anything else."""
    try:
        corners = [np.asarray(polygon, float).reshape(-1, 2) for polygon in segmentation]
    except (TypeError, ValueError, OverflowError):
        corners = []
    points = np.concatenate([np.zeros((0, 2)), *corners])
    return points if (np.abs(points) < FARTHEST).all() else points[:0]


# Doubts: what only looks wrong is named, and used as it is


def _name_doubts(annotated: AnnotatedPeople, path: Path, fixes: AnnotationFixes) -> None:
    people = [person for person in annotated.coco.dataset["annotations"] if person["num_keypoints"] and not person["iscrowd"]]
    joints, boxes = annotated.joints(people), np.reshape([person["bbox"] for person in people], (-1, 4))
    points, labeled = joints[..., :2], joints[..., 2] > 0
    images = [annotated.coco.imgs[person["image_id"]] for person in people]
    sizes = np.array([[image.get("width", np.inf), image.get("height", np.inf)] for image in images]).reshape(-1, 2)
    at_zero = keypoints_at_zero(points, labeled)
    doubts = {
        "its 'bbox' looks like x1, y1, x2, y2, not x, y, width, height: used as it is": boxes_as_corners(boxes, points, labeled, sizes),
        f"has keypoints that are labeled at 0, 0, {at_zero.sum()} in all: used as they are": at_zero.any(1),
    }
    for problem, doubtful in doubts.items():
        for row in np.flatnonzero(doubtful):
            fixes.add(problem, f"annotation file {path}: annotation {people[row]['file_id']}")


def keypoints_at_zero(points: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """Return (P, K) bool: the labeled keypoints at 0, 0 of people with at least two of them: other tools write unlabeled ones so.

    points (P, K, 2) x, y; labeled (P, K) bool.
    """
    at_zero = labeled & ~points.any(2)
    return at_zero & (at_zero.sum(1, keepdims=True) > 1)


def boxes_as_corners(boxes: np.ndarray, points: np.ndarray, labeled: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (P,) bool: the boxes that look like x1, y1, x2, y2; none where few do.

    These lie in the image around all keypoints, and as x, y, width, height they leave it or are far larger.
    boxes (P, 4), points (P, K, 2) x, y in image pixels; labeled (P, K) bool; sizes (P, 2) width, height of each person's image.
    """
    low, high = (np.where(labeled[..., None], points, limit) for limit in (np.inf, -np.inf))
    low, high, first, last = low.min(1, initial=np.inf), high.max(1, initial=-np.inf), boxes[:, :2], boxes[:, 2:]
    slack = (CORNERS_SLACK * (high - low).max(1, initial=0, keepdims=True)).clip(1)
    fits = (first < last) & (low >= first - slack) & (high <= last + slack) & (last <= sizes + 1)
    larger = last.prod(1) > CORNERS_AREA * (last - first).prod(1)
    doubtful = fits.all(1) & (larger | (first + last > sizes + 1).any(1))
    return doubtful & (doubtful.sum() >= max(CORNERS_LEAST, CORNERS_PART * len(doubtful)))
