"""Small COCO data sets and their training HDF5 files, for tests."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import h5py
import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from config import Config
from config.load import load_skeleton
from config.skeleton import UNLABELED
from data.coco_masks_hdf5 import BuildReport, build_hdf5
from data.datasets import PoseDataset, collate
from data.formats import load_annotations
from data.formats.coco import indexed
from data.hdf5 import TrainingHDF5
from utils.predictions import PosePredictions
from utils.training.step import to_device

SKELETON = load_skeleton("coco")
CPU = torch.device("cpu")
NAMES = list(SKELETON.dataset)
TO_FILE = np.random.default_rng(5).permutation(17)  # any other order
UPPER_BODY = {
    "name": "upper body",
    "keypoints": ["head", "left", "right"],
    "limbs": [],
    "flip_pairs": [["left", "right"]],
    "sigmas": {"head": 0.03, "left": 0.06, "right": 0.06},
    "dataset": {"nose": "head", "left_shoulder": "left", "right_shoulder": "right"},
    "drawn": [["head", "left"], ["head", "right"]],
}  # a skeleton of three keypoints and no limbs, as in a YAML file


def person(x: float, y: float, side: float = 60, visible: int = 17, **more) -> dict:
    """Return an annotation of a person in a square, keypoint k at (x + k, y + k)."""
    keypoints = [v for k in range(17) for v in ((x + k, y + k, 2) if k < visible else (0, 0, 0))]
    polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {
        "category_id": 1, "iscrowd": 0, "keypoints": keypoints, "num_keypoints": visible, "bbox": [x, y, side, side],
        "area": side * side, "segmentation": [polygon], **more,
    }  # fmt: skip


def write_coco(folder: Path, *people: list[dict], names: list[str] = NAMES) -> tuple[Path, Path]:
    """Write one image of 200 x 160 pixels for each list of people; return the annotation file and the image folder."""
    images, annotations = [], []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i, persons in enumerate(people):
        image = np.random.default_rng(i).integers(0, 255, (160, 200, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{i}.jpg"), image)
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 160, "width": 200})
        annotations += [{**p, "image_id": i, "id": len(annotations) + n + 1} for n, p in enumerate(persons)]
    file = folder / "annotations.json"
    category = {"id": 1, "name": "person", "keypoints": names}
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return file, folder / "images"


def build(folder: Path, *people: list[dict], names: list[str] = NAMES, **options) -> BuildReport:
    """Build folder/out.h5 with one image for each list of people."""
    return build_hdf5(*write_coco(folder, *people, names=names), folder / "out.h5", SKELETON, workers=1, **options)


def read_back(folder: Path) -> TrainingHDF5:
    """Open the file of `build`."""
    return TrainingHDF5(folder / "out.h5", SKELETON)


def labeled_people(path: Path, noise: float = 0) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return the annotated poses as predictions, with noise in pixels: image id -> keypoints (P, K, 3), scores (P,)."""
    annotated = load_annotations(path, SKELETON)
    coco = annotated.coco
    rng, predictions = np.random.default_rng(0), {}
    for image_id in sorted(coco.imgs):
        joints = annotated.joints([a for a in coco.imgToAnns[image_id] if not a["iscrowd"] and any(a["keypoints"])])
        joints[..., 2] = 2 - joints[..., 2]  # COCO's v 0 (unlabeled) becomes 2
        keypoints = SKELETON.from_dataset(joints)
        keypoints[..., 2] = keypoints[..., 2] != UNLABELED
        keypoints[..., :2] += rng.normal(0, noise, keypoints[..., :2].shape) if noise else 0
        predictions[image_id] = keypoints * keypoints[..., 2:], rng.uniform(0.5, 1, len(keypoints))
    return predictions


def assert_same_people(predictions: Iterable[PosePredictions], expected: Iterable[PosePredictions]) -> None:
    for (keypoints, scores), (its_keypoints, its_scores) in zip(predictions, expected, strict=True):
        np.testing.assert_allclose(keypoints, its_keypoints, atol=1e-2)
        np.testing.assert_allclose(scores, its_scores, atol=1e-4)


def evaluated(truth: COCO, results: list[dict], sigmas: np.ndarray, images: list[int] | None = None) -> COCOeval:
    """Evaluate COCO's results with pycocotools alone. images: ids; None: all."""
    evaluation = COCOeval(truth, truth.loadRes(results) if results else indexed({**truth.dataset, "annotations": []}), "keypoints")
    evaluation.params.kpt_oks_sigmas, evaluation.params.imgIds = sigmas, images or evaluation.params.imgIds
    evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    return evaluation


def own_file(annotations: Path, path: Path) -> Path:
    """Write the same people as another tool would: keypoints in another order and one more, another category, ids from 0, few keys."""
    content = json.loads(annotations.read_text())
    (category,) = content["categories"]
    names = [category["keypoints"][k] for k in TO_FILE]
    category.update(id=7, keypoints=[*names[:5], "tail", *names[5:]])
    content["categories"].insert(0, {"id": 1, "name": "dog", "keypoints": ["nose", "tail"]})
    dog = {"id": 10**6, "image_id": 1, "category_id": 1, "bbox": [1, 1, 50, 50], "keypoints": [9, 9, 2, 0, 0, 0]}
    people = []
    for number, annotation in enumerate(a for a in content["annotations"] if not a["iscrowd"]):
        keypoints = np.reshape(annotation["keypoints"], (17, 3))[TO_FILE].tolist()
        required = {key: annotation[key] for key in ("image_id", "bbox", "area")}
        people.append({**required, "id": number, "category_id": 7, "keypoints": sum([*keypoints[:5], [5, 5, 2], *keypoints[5:]], [])})
    content["annotations"] = [*people, dog]
    path.write_text(json.dumps(content))
    return path


def crowd_file(annotations: Path, path: Path) -> Path:
    """Write the same people in CrowdPose's format: 14 keypoints (the nose as head), no areas, crowd indices easy, medium, hard in turn."""
    content = json.loads(annotations.read_text())
    names = list(load_skeleton("crowdpose").dataset)
    content["categories"][0]["keypoints"] = names
    for number, image in enumerate(content["images"]):
        image["crowdIndex"] = (0.1, 0.5, 0.9)[number % 3]
    content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"]]
    for annotation in content["annotations"]:
        named = dict(zip(NAMES, np.reshape(annotation["keypoints"], (17, 3)).tolist()))
        left, right = named["left_shoulder"], named["right_shoulder"]
        neck = [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2, 1] if left[2] and right[2] else [0, 0, 0]
        keypoints = [(named | {"head": named["nose"], "neck": neck})[name] for name in names]
        annotation.update(keypoints=sum(keypoints, []), num_keypoints=sum(v > 0 for *_, v in keypoints[:12]))
        for key in ("area", "segmentation"):
            del annotation[key]
    path.write_text(json.dumps(content))
    return path


def rendered_sample(samples: PoseDataset, config: Config, index: int, rng: np.random.Generator | None = None) -> tuple[Tensor, NamedTuple]:
    """Return a sample's image (3, H, W) float32 and its targets, as network and loss take them, without the batch axis."""
    images, targets = to_device(CPU, collate([samples.get(index, rng)]), config)
    return images[0], targets._make(target[0] for target in targets)


def damage(path: Path, number: int, part: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Apply a function to the bytes of an image's file (part 0), or of one of its packed masks, in a training HDF5 without checksums."""
    without_checksums(path)
    with h5py.File(path, "r+") as file:
        ends = file["images/ends"][:]
        parts = np.split(file["images/bytes"][:], ends.ravel()[:-1])
        index = number * ends.shape[1] + part
        parts[index] = change(parts[index])
        for name, values in (("bytes", np.concatenate(parts)), ("ends", np.cumsum([len(p) for p in parts]).reshape(ends.shape))):
            del file["images"][name]
            file["images"][name] = values


def without_checksums(path: Path) -> None:
    """Make a training HDF5 one of those that were built before there were checksums."""
    with h5py.File(path, "r+") as file:
        file.attrs.pop("checksum", None)
        file.pop("images/checksum", None)


def spot(x: float, y: float, size: tuple[int, int] = (160, 200), sigma: float = 3) -> np.ndarray:
    """Return a gray image (H, W) uint8 of a bright spot. size: height, width."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.rint(255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))).astype(np.uint8)


def spot_center(gray: np.ndarray) -> np.ndarray:
    """Return x, y of the centroid of the bright pixels."""
    light = np.maximum(gray.astype(float) - 40, 0)
    rows, columns = np.indices(light.shape)
    return np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
