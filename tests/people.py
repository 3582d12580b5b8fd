"""Small COCO data sets, and the training HDF5 files that are made of them, for the tests of the data's way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import h5py
import numpy as np
import torch
from torch import Tensor

from config import Config
from config.load import load_skeleton
from config.skeleton import UNLABELED
from data.coco_masks_hdf5 import BuildReport, build_hdf5
from data.datasets import PoseDataset, collate
from data.formats import load_annotations
from data.formats.coco import file_keypoints, keypoint_category
from data.hdf5 import TrainingHDF5
from utils.training.step import to_device

SKELETON = load_skeleton("coco")
CPU = torch.device("cpu")
NAMES = list(SKELETON.dataset)
TO_FILE = np.random.default_rng(5).permutation(17)  # an order that is nobody's
UPPER_BODY = {
    "name": "upper body",
    "keypoints": ["head", "left", "right"],
    "limbs": [],
    "flip_pairs": [["left", "right"]],
    "sigmas": {"head": 0.03, "left": 0.06, "right": 0.06},
    "dataset": {"nose": "head", "left_shoulder": "left", "right_shoulder": "right"},
    "drawn": [["head", "left"], ["head", "right"]],
}  # a skeleton of three keypoints and no limbs, as a YAML file has it


def person(x: float, y: float, side: float = 60, visible: int = 17, **more) -> dict:
    """An annotation of somebody in a square, whose keypoint k is at (x + k, y + k)."""
    keypoints = [v for k in range(17) for v in ((x + k, y + k, 2) if k < visible else (0, 0, 0))]
    polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {
        "category_id": 1, "iscrowd": 0, "keypoints": keypoints, "num_keypoints": visible, "bbox": [x, y, side, side],
        "area": side * side, "segmentation": [polygon], **more,
    }  # fmt: skip


def write_coco(folder: Path, *people: list[dict], names: list[str] = NAMES) -> tuple[Path, Path]:
    """An annotation file and an image folder with one 200 x 160 picture for each list of people."""
    images, annotations = [], []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i, persons in enumerate(people):
        picture = np.random.default_rng(i).integers(0, 255, (160, 200, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{i}.jpg"), picture)
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 160, "width": 200})
        annotations += [{**p, "image_id": i, "id": len(annotations) + n + 1} for n, p in enumerate(persons)]
    file = folder / "annotations.json"
    category = {"id": 1, "name": "person", "keypoints": names}
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return file, folder / "images"


def build(folder: Path, *people: list[dict], names: list[str] = NAMES, **options) -> BuildReport:
    """folder/out.h5 of one picture for each list of people."""
    return build_hdf5(*write_coco(folder, *people, names=names), folder / "out.h5", SKELETON, workers=1, **options)


def read_back(folder: Path) -> TrainingHDF5:
    """What `build` wrote."""
    return TrainingHDF5(folder / "out.h5", SKELETON)


def labeled_people(path: Path, noise: float = 0) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """What an estimator would find that knows the annotations: image id -> keypoints (P, K, 3), scores (P,)."""
    coco = load_annotations(path)
    category, order = keypoint_category(coco, SKELETON, path)
    rng, found = np.random.default_rng(0), {}
    for image_id in sorted(coco.imgs):
        people = [a for a in coco.loadAnns(coco.getAnnIds(image_id, catIds=[category])) if not a.get("iscrowd")]
        joints = np.array([file_keypoints(a, order) for a in people if any(a["keypoints"])]).reshape(-1, 17, 3)
        joints[..., 2] = 2 - joints[..., 2]  # enough to tell who is labeled: v 0 becomes 2
        keypoints = SKELETON.from_dataset(joints)
        keypoints[..., 2] = keypoints[..., 2] != UNLABELED
        keypoints[..., :2] += rng.normal(0, noise, keypoints[..., :2].shape) if noise else 0
        found[image_id] = keypoints * keypoints[..., 2:], rng.uniform(0.5, 1, len(keypoints))
    return found


def own_file(annotations: Path, path: Path) -> Path:
    """The same people as somebody else would write them down.

    Keypoints in another order, with one that the skeleton does not have; another category before; only what is needed of each person,
    ids from 0; images in sub-folders.
    """
    content = json.loads(annotations.read_text())
    (category,) = content["categories"]
    names = [category["keypoints"][k] for k in TO_FILE]
    category.update(id=7, keypoints=[*names[:5], "tail", *names[5:]])
    content["categories"].insert(0, {"id": 1, "name": "dog", "keypoints": ["nose", "tail"]})
    dog = {"id": 10**6, "image_id": 1, "category_id": 1, "bbox": [1, 1, 50, 50], "keypoints": [9, 9, 2, 0, 0, 0]}
    people = []
    for number, annotation in enumerate(a for a in content["annotations"] if not a["iscrowd"]):
        keypoints = np.reshape(annotation["keypoints"], (17, 3))[TO_FILE].tolist()
        kept = {key: annotation[key] for key in ("image_id", "bbox", "area")}
        people.append({**kept, "id": number, "category_id": 7, "keypoints": sum([*keypoints[:5], [5, 5, 2], *keypoints[5:]], [])})
    content["annotations"] = [*people, dog]
    path.write_text(json.dumps(content))
    return path


def crowd_file(annotations: Path, path: Path) -> Path:
    """The same people as CrowdPose would write them down.

    Its 14 keypoints, the nose as the head; no areas; images that are easy, medium and hard in turn.
    """
    content = json.loads(annotations.read_text())
    names = list(load_skeleton("crowdpose").dataset)
    content["categories"][0]["keypoints"] = names
    for number, image in enumerate(content["images"]):
        image["crowdIndex"] = (0.1, 0.5, 0.9)[number % 3]
    content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"]]
    for annotation in content["annotations"]:
        known = dict(zip(NAMES, np.reshape(annotation["keypoints"], (17, 3)).tolist()))
        left, right = known["left_shoulder"], known["right_shoulder"]
        neck = [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2, 1] if left[2] and right[2] else [0, 0, 0]
        keypoints = [(known | {"head": known["nose"], "neck": neck})[name] for name in names]
        annotation.update(keypoints=sum(keypoints, []), num_keypoints=sum(v > 0 for *_, v in keypoints[:12]))
        for key in ("area", "segmentation"):
            del annotation[key]
    path.write_text(json.dumps(content))
    return path


def rendered_sample(samples: PoseDataset, config: Config, index: int, rng: np.random.Generator | None = None) -> tuple[Tensor, NamedTuple]:
    """Return a sample's image (3, H, W) float32 and its targets, as the network and the loss get them, without the batch's axis."""
    images, targets = to_device(CPU, collate([samples.get(index, rng)]), config)
    return images[0], targets._make(target[0] for target in targets)


def damage(path: Path, number: int, part: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace an image's file (part 0) or one of its packed masks in a training HDF5 by what a function makes of its bytes."""
    with h5py.File(path, "r+") as file:
        ends = file["images/ends"][:]
        parts = np.split(file["images/bytes"][:], ends.ravel()[:-1])
        place = number * ends.shape[1] + part
        parts[place] = change(parts[place])
        for name, values in (("bytes", np.concatenate(parts)), ("ends", np.cumsum([len(p) for p in parts]).reshape(ends.shape))):
            del file["images"][name]
            file["images"][name] = values
