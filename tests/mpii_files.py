"""People as MPII's files have them: the JSON list, the official .mat file and the ground truth of PCKh."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat

NAMES = ["rank", "rkne", "rhip", "lhip", "lkne", "lank", "pelv", "thor", "neck", "head", "rwri", "relb", "rsho", "lsho", "lelb", "lwri"]


def mpii_files(images: list[str], each: int = 2, seed: int = 0) -> list[dict]:
    """Return entries of a JSON list: `each` people an image in small boxes side by side; the first one's left wrist is not labeled."""
    rng, people = np.random.default_rng(seed), []
    for image in images:
        for number in range(each):
            middle = np.array([40.0 + 60 * number, 50.0])
            joints, visible = middle + rng.uniform(-15, 15, (16, 2)).round(1), np.ones(16, int)
            if number == 0:
                joints[15], visible[15] = -1, 0
            person = {"image": image, "center": middle.tolist(), "scale": 0.2, "joints": joints.tolist(), "joints_vis": visible.tolist()}
            people.append(person)
    return people


def write_list(path: Path, people: list[dict]) -> Path:
    path.write_text(json.dumps(people))
    return path


def write_truth(path: Path, people: list[dict], order: Sequence[int] = range(16), **replaced: object) -> Path:
    """Write a file such as gt_valid.mat. order: of its keypoints. Each head is a box of 6 x 8 pixels, so its size is 6."""
    joints = np.array([person["joints"] for person in people]).transpose(1, 2, 0)
    content = {
        "jnt_missing": 1.0 - np.array([person["joints_vis"] for person in people]).T[order],
        "pos_gt_src": joints[order],
        "headboxes_src": np.array([joints[9] - 1, joints[9] + [[5], [7]]]),
        "dataset_joints": np.array([NAMES[k] for k in order], object).reshape(1, -1),
        **replaced,
    }
    savemat(path, {name: value for name, value in content.items() if value is not None})
    return path


def structs(entries: list[dict]) -> np.ndarray:
    """Return a row of Matlab's structs. All have the same fields, empty where an entry lacks one."""
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    row = np.empty((1, len(entries)), [(name, object) for name in names])
    for number, entry in enumerate(entries):
        row[0, number] = tuple(entry.get(name, np.zeros((0, 0))) for name in names)
    return row


def official_person(person: dict, **replaced: object) -> dict:
    """Return an annorect entry with a head box; `is_visible` of the joints takes the forms that the file has, every fifth is 0."""
    is_visible = [1, "1", "", np.zeros((0, 0)), 0]
    points = [
        {"x": x, "y": y, "id": k, "is_visible": is_visible[k % 5]}
        for k, ((x, y), visible) in enumerate(zip(person["joints"], person["joints_vis"]))
        if visible
    ]
    head = dict(zip(("x1", "y1", "x2", "y2"), [10.0, 20.0, 16.0, 28.0]))
    center = {"objpos": dict(zip("xy", person["center"])), "scale": person["scale"]}
    return {**head, **center, "annopoints": {"point": structs(points[::-1])}, **replaced}


def write_official(path: Path, images: list[tuple[str, list[dict], int, list[int]]]) -> Path:
    """Write the official file. images: name, annorect entries, 1 for training, and numbers of the separated people, from 1."""
    annolist = [{"image": {"name": name}, "annorect": structs(entries) if entries else np.zeros((0, 0))} for name, entries, *_ in images]
    separated = np.empty((len(images), 1), object)  # Matlab's cells
    separated[:, 0] = [np.array(image[3]) for image in images]
    training = np.array([image[2] for image in images])
    savemat(path, {"RELEASE": {"annolist": structs(annolist), "img_train": training, "single_person": separated}})
    return path
