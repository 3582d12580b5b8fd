"""People as other programs take them: COCO's results, OpenPose's JSON, PoseTrack18's JSON, a CSV table, supervision's KeyPoints.

Pure functions on arrays. The skeleton decides the order of keypoints: its data set's own order in COCO's results, its own in tables and
KeyPoints, and OpenPose's orders only for skeletons that have all of COCO's keypoints by name. Scores stay what they are; a keypoint that
is missing is 0 0 0 everywhere.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from config import Skeleton, UserError
from data.formats.posetrack import KEYPOINTS as POSETRACK

LEAST_SHOWN = 1e-4  # of a score: less would be written as 0, which is "missing"
COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
OPENPOSE = {
    "COCO_18": (
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
        "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear",
    ),
    "BODY_25": (
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "mid_hip", "right_hip",
        "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear",
        "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
    ),
}  # fmt: skip
MIDDLES = {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")}  # as OpenPose trains them
FIRST_POSETRACK_ID = 10**10  # an image's id: this + 10,000 times its video's number + its own number in the video

PoseTrackFrame = tuple[PurePath, np.ndarray, np.ndarray]  # name of the image, keypoints (P, K, 3) x, y, score in its pixels, ids (P,)


def rounded(keypoints: np.ndarray) -> np.ndarray:
    """keypoints (..., 3) x, y, score as files have them: hundredths of a pixel, scores to four places, but never 0 where there is one."""
    keypoints = np.asarray(keypoints, float)
    scores = np.where(keypoints[..., 2] > 0, np.maximum(np.round(keypoints[..., 2], 4), LEAST_SHOWN), 0)
    return np.concatenate([np.round(keypoints[..., :2], 2), scores[..., None]], -1)


# COCO


def image_ids(names: Sequence[str | int]) -> list[int]:
    """(N,) a number for each file or frame: the one at the end of its name, as COCO's files have it, if all have one of their own.

    Else their places, from 0.
    """
    found = [re.search(r"\d+$", str(name).rpartition("/")[2].partition(".")[0]) for name in names]
    numbers = [int(match[0]) for match in found if match]
    return numbers if len(set(numbers)) == len(names) else list(range(len(names)))


def coco_results(image_id: int, keypoints: np.ndarray, scores: np.ndarray, skeleton: Skeleton) -> list[dict[str, Any]]:
    """One image's people as COCO's results, for pycocotools' `loadRes`; without those who have none of the data set's keypoints.

    keypoints (P, K, 3) x, y, score in image pixels; scores (P,). In each: D times x, y, score, in the data set's order.
    """
    ordered = rounded(skeleton.to_dataset(keypoints))
    return [
        {"image_id": image_id, "category_id": 1, "keypoints": person.ravel().tolist(), "score": float(score)}
        for person, score in zip(ordered, scores)
        if person[:, 2].any()
    ]


# OpenPose


def openpose_layout(keypoints: np.ndarray, skeleton: Skeleton, layout: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """People (P, K, 3) in an order of OpenPose, or the skeleton's own where its names do not fit: (P, J, 3), and the J names.

    It fits a skeleton whose data set has COCO's keypoints. Neck and middle of the hips are those of the skeleton, or lie between their two
    sides where both are there; feet, which COCO does not have, are missing.
    """
    keypoints = np.asarray(keypoints, float)
    if not set(COCO) <= set(skeleton.dataset):
        return keypoints, skeleton.keypoints
    known = {name: keypoints[:, skeleton.index(ours)] for name, ours in skeleton.dataset.items()}
    for name, (left, right) in MIDDLES.items():
        ends = np.stack([known[left], known[right]], 1)
        middle = np.concatenate([ends[..., :2].mean(1), ends[..., 2:].min(1)], 1) * (ends[..., 2:] > 0).all(1)
        known.setdefault(name, keypoints[:, skeleton.index(name)] if name in skeleton.keypoints else middle)
    names = OPENPOSE[layout]
    missing = np.zeros((len(keypoints), 3))
    return np.stack([known.get(name, missing) for name in names], 1), names


def openpose_json(keypoints: np.ndarray, skeleton: Skeleton, layout: str = "COCO_18", ids: np.ndarray | None = None) -> dict[str, Any]:
    """One image's people as OpenPose writes them, and beside it the names of the keypoints in the order they are in.

    keypoints (P, K, 3) x, y, score in image pixels; ids (P,) who they are, -1 where nobody knows.
    """
    ordered, names = openpose_layout(keypoints, skeleton, layout)
    numbers = [-1] * len(ordered) if ids is None else [int(number) for number in ids]
    others = ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d")
    others += ("pose_keypoints_3d", "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d")
    people = [
        {"person_id": [number], "pose_keypoints_2d": rounded(person).ravel().tolist(), **{name: [] for name in others}}
        for number, person in zip(numbers, ordered)
    ]
    return {"version": 1.3, "people": people, "keypoints": list(names)}


# PoseTrack18


def to_posetrack(frames: Iterable[PoseTrackFrame], skeleton: Skeleton) -> dict[str, Any]:
    """Return the tracked people of a video's frames as PoseTrack18's evaluation takes them; keypoints that the skeleton lacks are 0 0 0.

    Names of images are relative to the data set's root.
    """
    present = np.array([name in skeleton.dataset for name in POSETRACK])
    if not present.any():
        raise UserError(f"skeleton {skeleton.name!r}: has none of PoseTrack's keypoints ({POSETRACK[0]}, {POSETRACK[1]}, ...)")
    order = [skeleton.index(skeleton.dataset[name]) if name in skeleton.dataset else 0 for name in POSETRACK]
    images, people = [], []
    for number, (name, keypoints, ids) in enumerate(frames):
        image_id = posetrack_image_id(name, number)
        images.append({"file_name": name.as_posix(), "id": image_id, "frame_id": image_id})
        for person, track in zip(np.asarray(keypoints, float)[:, order] * present[:, None], ids.tolist()):
            if track >= 0:
                values = np.round(person * [1, 1, 0] + [0, 0, 1] * (person[:, 2:] > 0), 2).ravel().tolist()
                scores = np.round(person[:, 2], 4).tolist()
                known = {"id": len(people), "category_id": 1, "image_id": image_id, "track_id": track}
                people.append({**known, "keypoints": values, "scores": scores})
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(POSETRACK)}
    return {"images": images, "annotations": people, "categories": [category]}


def posetrack_image_id(name: PurePath, number: int) -> int:
    """Return PoseTrack18's id of an image such as images/val/012834_mpii_test/000042.jpg: 10128340042.

    number: the frame's in the video, from 0, used where the name is no number.
    """
    video = re.match(r"\d{1,6}", name.parent.name)
    frame = int(name.stem) if name.stem.isdecimal() else number
    return FIRST_POSETRACK_ID + 10**4 * int(video[0] if video else 0) + frame % 10**4


def posetrack_image_name(path: Path) -> PurePath:
    """Return the path relative to the data set's root, which holds the folder `images`; else the image's folder and its own name."""
    parts = path.resolve().parts
    roots = [number for number, part in enumerate(parts[:-1]) if part == "images"]
    return PurePath(*(parts[roots[-1] :] if roots else parts[-2:]))


# Tables


def csv_header(skeleton: Skeleton) -> list[str]:
    """Names of the columns of `csv_rows`."""
    return ["image", "person", "id", "score", *(f"{name}_{part}" for name in skeleton.keypoints for part in ("x", "y", "score"))]


def csv_rows(image: str | int, keypoints: np.ndarray, scores: np.ndarray, ids: np.ndarray | None = None) -> list[list[Any]]:
    """A row for each person of an image; what is missing is empty.

    keypoints (P, K, 3) x, y, score in image pixels; scores (P,); ids (P,) who they are.
    """
    rows = []
    for number, (person, score) in enumerate(zip(rounded(keypoints), scores)):
        values = [value if place[2] > 0 else "" for place in person.tolist() for value in place]
        rows.append([image, number, "" if ids is None else int(ids[number]), round(float(score), 4), *values])
    return rows


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as a CSV file has them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace").decode()  # a file's name may be no text


# supervision


def to_supervision(keypoints: np.ndarray, scores: np.ndarray, skeleton: Skeleton, ids: np.ndarray | None = None) -> Any:
    """People as `supervision.KeyPoints`, in the skeleton's order, with their score and, if given, their id in its `data`.

    keypoints (P, K, 3) x, y, score in image pixels; scores (P,); ids (P,). Raises UserError where supervision is not installed.
    """
    try:
        supervision = import_module("supervision")
    except ImportError as error:
        raise UserError("people as supervision.KeyPoints: supervision is not installed; pip install supervision") from error
    keypoints = np.asarray(keypoints, np.float32).reshape(-1, skeleton.num_keypoints, 3)
    data = {"score": np.asarray(scores, float)} | ({} if ids is None else {"id": np.asarray(ids, int)})
    # by place, since the third argument's name has changed from version to version
    return supervision.KeyPoints(keypoints[..., :2], np.zeros(len(keypoints), int), keypoints[..., 2], data=data)
