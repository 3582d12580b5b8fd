"""PoseTrack18's files, one a video: COCO's with a track_id for each person, and regions of images in which not everybody is annotated.

In: annotations. Out: who was found, for PoseTrack's evaluation. Names of images are relative to the data set's root.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from config import Skeleton, UserError

KEYPOINTS = (
    "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
NEVER_LABELLED = ("left_ear", "right_ear")
BOX_MARGIN = 0.15  # of the keypoints' extent, on each side: that of PoseTrack's own boxes
FIRST_ID = 10**10  # an image's id: this + 10,000 times its video's number + its own number in the video

Frame = tuple[PurePath, np.ndarray, np.ndarray]  # name of the image, keypoints (P, K, 3) x, y, score in its pixels, ids (P,)


def is_posetrack(coco: COCO) -> bool:
    """Whether an annotation file is PoseTrack18's: its images say of which video they are, and it has the ends of heads."""
    names = [name for category in coco.dataset["categories"] for name in category.get("keypoints") or []]
    return "head_bottom" in names and any("vid_id" in image for image in coco.dataset["images"])


def as_coco(dataset: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """A PoseTrack18 file's content as COCO's: labelled keypoints are visible ones, ears none of them, and ignore regions crowds.

    Without this the ears would be taken for what the data set labels and nobody has. Raises UserError where a list makes no sense.
    """
    names = {category["id"]: list(category.get("keypoints") or []) for category in dataset["categories"]}
    categories = [{**c, "keypoints": [name for name in names[c["id"]] if name not in NEVER_LABELLED]} for c in dataset["categories"]]
    people = [_person(person, names.get(person["category_id"], []), path) for person in dataset["annotations"]]
    regions = [region for image in dataset["images"] for region in _regions(image, path)]
    first = max((person["id"] for person in people), default=0) + 1
    crowds = [{"id": first + n, "category_id": categories[0]["id"], **region} for n, region in enumerate(regions)]
    return {**dataset, "categories": categories, "annotations": [*people, *crowds]}


def _person(annotation: dict[str, Any], names: list[str], path: str | Path) -> dict[str, Any]:
    """With a box around the keypoints where the file has none, as for some people."""
    given = annotation.get("keypoints")
    if not given:
        return annotation
    if not isinstance(given, list) or len(given) != 3 * len(names):
        problem = f"its 'keypoints' is {reprlib.repr(given)}, expected x, y, v of {len(names)} keypoints"
        raise UserError(f"annotation file {path}: annotation {annotation['id']}: {problem}")
    keypoints = [given[3 * k : 3 * k + 3] for k, name in enumerate(names) if name not in NEVER_LABELLED]
    keypoints = [[x, y, 2 if v else 0] for x, y, v in keypoints]
    person = {**annotation, "keypoints": sum(keypoints, [])}
    labelled = [(x, y) for x, y, v in keypoints if v]
    if annotation.get("bbox") is None and labelled and np.array(labelled).dtype.kind in "iuf":
        (left, top), (right, bottom) = np.min(labelled, 0), np.max(labelled, 0)
        width, height = right - left, bottom - top
        box = left - BOX_MARGIN * width, top - BOX_MARGIN * height, (1 + 2 * BOX_MARGIN) * width, (1 + 2 * BOX_MARGIN) * height
        person["bbox"] = [float(value) for value in box]
    return person


def _regions(image: dict[str, Any], path: str | Path) -> list[dict[str, Any]]:
    """The ignore regions of an image as annotations without an id; none of one that nobody annotated."""
    across, down = (image.get(key) or [] for key in ("ignore_regions_x", "ignore_regions_y"))
    if not image.get("is_labeled", True):
        return []
    try:
        outlines = [np.array([x, y], float).T for x, y in zip(across, down, strict=True)]
        boxes = [[*outline.min(0), *np.ptp(outline, 0)] for outline in outlines if len(outline)]
    except (TypeError, ValueError) as error:
        problem = "'ignore_regions_x' and 'ignore_regions_y' are not lists of as many numbers"
        raise UserError(f"annotation file {path}: image {image['id']} ({image['file_name']}): {problem}") from error
    regions = zip([outline for outline in outlines if len(outline)], boxes)
    region = {"image_id": image["id"], "iscrowd": 1}
    return [
        {**region, "segmentation": [outline.ravel().tolist()], "bbox": [float(value) for value in box]}
        for outline, box in regions
        if len(outline) >= 3
    ]


# Out


def posetrack_answer(frames: Iterable[Frame], skeleton: Skeleton) -> dict[str, Any]:
    """Everybody found in the frames of a video with an id, in PoseTrack18's keypoints; those that the skeleton lacks are 0 0 0."""
    places = [skeleton.index(skeleton.dataset[name]) if name in skeleton.dataset else -1 for name in KEYPOINTS]
    there = np.array(places) >= 0
    if not there.any():
        raise UserError(f"skeleton {skeleton.name!r}: has none of PoseTrack's keypoints ({KEYPOINTS[0]}, {KEYPOINTS[1]}, ...)")
    images, people = [], []
    for place, (name, keypoints, ids) in enumerate(frames):
        number = image_id(name, place)
        images.append({"file_name": name.as_posix(), "id": number, "frame_id": number})
        for person, track in zip(np.asarray(keypoints, float)[:, places] * there[:, None], ids.tolist()):
            if track >= 0:
                found = np.round(person * [1, 1, 0] + [0, 0, 1] * (person[:, 2:] > 0), 2)
                scores = np.round(person[:, 2], 4).tolist()
                people.append({"image_id": number, "track_id": track, "keypoints": found.ravel().tolist(), "scores": scores})
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(KEYPOINTS)}
    people = [{"id": number, "category_id": 1, **person} for number, person in enumerate(people)]
    return {"images": images, "annotations": people, "categories": [category]}


def image_id(name: PurePath, place: int) -> int:
    """PoseTrack18's id of an image such as images/val/012834_mpii_test/000042.jpg: 10128340042.

    place: in the video, from 0, where the name is no number.
    """
    video = re.match(r"\d{1,6}", name.parent.name)
    return FIRST_ID + 10**4 * int(video[0] if video else 0) + (int(name.stem) if name.stem.isdecimal() else place) % 10**4


def image_name(path: Path) -> PurePath:
    """The name of an image relative to the data set's root, which is where the folder `images` is; else its folder and its own name."""
    parts = path.resolve().parts
    above = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    return PurePath(*(parts[above[-1] :] if above else parts[-2:]))
