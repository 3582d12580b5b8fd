"""Convert predictions to the formats of other programs: OpenPose's and PoseTrack18's JSON, CSV, MOTChallenge's and YOLO's text.

`PosePredictions` has those of one image. A missing keypoint is 0 0 0, or empty in CSV. CSV has the skeleton's order of keypoints.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from config import Skeleton, UserError
from utils.predictions import PosePredictions, round_keypoints

COCO_18 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
    "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
FEET = "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"
OPENPOSE = {"COCO_18": COCO_18, "BODY_25": (*COCO_18[:8], "mid_hip", *COCO_18[8:], *FEET)}
MIDPOINTS = {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")}  # as OpenPose defines them
OPENPOSE_FIELDS = [f"{part}_keypoints_{axes}" for axes in ("2d", "3d") for part in ("pose", "face", "hand_left", "hand_right")]
FIRST_POSETRACK_ID = 10**10  # an image's id: this + 10,000 times its video's number + its own number in the video

PoseTrackFrame = tuple[PurePath, PosePredictions]  # name of the image, and its people, with ids
ImagePeople = tuple[str | int, PosePredictions]  # an image's name or a frame's number, and its people


def image_ids(names: Sequence[str | int]) -> list[int]:
    """Return an id for each image or frame: the number at the end of its name, as in COCO's, where all differ; else 0, 1, ..."""
    matches = [re.search(r"\d+$", str(name).rpartition("/")[2].partition(".")[0]) for name in names]
    numbers = [int(match[0]) for match in matches if match]
    return numbers if len(set(numbers)) == len(names) else list(range(len(names)))


def to_openpose(people: PosePredictions, layout: str = "COCO_18") -> dict[str, Any]:
    """Return one image's people in OpenPose's format, which has no boxes; "keypoints" additionally names the keypoints in order.

    A skeleton whose data set lacks some of COCO's keypoints keeps its own order. Neck and middle of the hips are the skeleton's own, or the
    midpoint of left and right where both are present. Feet, which COCO lacks, are missing.
    """
    skeleton, ordered, names = people.skeleton, np.asarray(people.keypoints, float), people.names
    if set(COCO_18) - {"neck"} <= set(skeleton.dataset):
        columns = {name: ordered[:, skeleton.index(own_name)] for name, own_name in skeleton.dataset.items()}
        for name, (left, right) in MIDPOINTS.items():
            ends = np.stack([columns[left], columns[right]], 1)
            midpoint = np.concatenate([ends[..., :2].mean(1), ends[..., 2:].min(1)], 1) * (ends[..., 2:] > 0).all(1)
            columns.setdefault(name, ordered[:, skeleton.index(name)] if name in skeleton.keypoints else midpoint)
        names = OPENPOSE[layout]
        ordered = np.stack([columns.get(name, np.zeros_like(columns["nose"])) for name in names], 1)
    numbers = [-1] * len(ordered) if people.ids is None else people.ids.tolist()
    values = round_keypoints(ordered).reshape(len(ordered), 3 * len(names)).tolist()
    empty = {field: list[float]() for field in OPENPOSE_FIELDS}
    entries = [{"person_id": [number], **empty, "pose_keypoints_2d": person} for number, person in zip(numbers, values)]
    return {"version": 1.3, "people": entries, "keypoints": list(names)}


def to_posetrack(frames: Iterable[PoseTrackFrame], skeleton: Skeleton) -> dict[str, Any]:
    """Return the tracked people of a video's frames as PoseTrack18's evaluation takes them; keypoints that the skeleton lacks are 0 0 0.

    Names of images are relative to the data set's root.
    """
    from data.formats.posetrack import KEYPOINTS as POSETRACK  # all formats take 30 ms, which the demo has no use for

    present = np.array([name in skeleton.dataset for name in POSETRACK])
    if not present.any():
        raise UserError(f"skeleton {skeleton.name!r}: has none of PoseTrack's keypoints ({POSETRACK[0]}, {POSETRACK[1]}, ...)")
    order = [skeleton.index(skeleton.dataset[name]) if name in skeleton.dataset else 0 for name in POSETRACK]
    images, annotations = list[dict](), list[dict]()
    for number, (name, people) in enumerate(frames):
        image_id = posetrack_image_id(name, number)
        images.append({"file_name": name.as_posix(), "id": image_id, "frame_id": image_id})
        ordered = np.asarray(people.keypoints, float)[:, order] * present[:, None]
        for person, box, track in zip(ordered, people.rounded_boxes(), people.ids.tolist()):
            if track >= 0:
                values = np.round(person * [1, 1, 0] + [0, 0, 1] * (person[:, 2:] > 0), 2).ravel().tolist()
                scores = np.round(person[:, 2], 4).tolist()
                person_ids = {"id": len(annotations), "category_id": 1, "image_id": image_id, "track_id": track}
                annotations.append({**person_ids, "keypoints": values, "scores": scores, "bbox": box})
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(POSETRACK)}
    return {"images": images, "annotations": annotations, "categories": [category]}


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


def to_csv(images: Iterable[ImagePeople], skeleton: Skeleton) -> str:
    """Return a table with one row for each person of each image; the fields of a missing keypoint are empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    columns = [f"{name}_{part}" for name in skeleton.keypoints for part in ("x", "y", "score")]
    table.writerow(["image", "person", "id", "score", "box_x", "box_y", "box_width", "box_height", *columns])
    for image, people in images:
        for number, (person, box) in enumerate(zip(round_keypoints(people.keypoints), people.rounded_boxes())):
            values = [value if keypoint[2] > 0 else "" for keypoint in person.tolist() for value in keypoint]
            identity = "" if people.ids is None else int(people.ids[number])
            table.writerow([image, number, identity, round(float(people.scores[number]), 4), *box, *values])
    return text.getvalue().encode("utf-8", "backslashreplace").decode()  # a file name may hold bytes that are no text


def to_yolo(people: PosePredictions, size: tuple[int, int]) -> str:
    """Return a line for each person: class 0, center x, y, width, height of the box, then x, y, score of each keypoint.

    Positions are fractions of the image's sides. Keypoints are in the order of the skeleton's data set; a missing one is 0 0 0. The box is
    the part that lies in the image. size: height, width in pixels.
    """
    sides = np.array(size[::-1], float)
    keypoints = round_keypoints(people.skeleton.to_dataset(people.keypoints)) / [*sides, 1]
    boxes = np.asarray(people.boxes, float).reshape(-1, 2, 2)
    low, high = ((corner / sides).clip(0, 1) for corner in (boxes[:, 0], boxes.sum(1)))
    values = np.concatenate([(low + high) / 2, high - low, keypoints.reshape(len(people), 3 * keypoints.shape[1])], 1)
    return "".join(f"0 {' '.join(f'{value:.6f}' for value in person)}\n" for person in values)


def to_mot(frames: Iterable[tuple[int, PosePredictions]]) -> str:
    """Return the boxes of a video's tracked people in MOTChallenge's text: frame, id, x, y, width, height, score, -1, -1, -1.

    frames: numbers, from 1 in MOTChallenge, and people with ids. People without a track (-1) are excluded.
    """
    return "".join(
        ",".join(map(str, (number, identity, *box, round(float(score), 4), -1, -1, -1))) + "\n"
        for number, people in frames
        for identity, box, score in zip(people.ids.tolist(), people.rounded_boxes(), people.scores)
        if identity >= 0
    )
