"""How far Simple Baselines here is from the published one: network, loss, samples, decoding and OKS NMS against reference numbers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.reference import ROOT, Difference, filled, largest
from config import Config, load_config
from data.coco_masks_hdf5 import build_hdf5
from data.datasets.simple_baselines import Augmentation, SimpleBaselinesDataset, centre_and_size, crop_matrix
from data.people_file import PeopleFile
from data.targets.simple_baselines import render_targets
from losses import build_loss
from models import build_model
from models.simple_baselines import SimpleBaselines
from utils.checkpoint import load_weights
from utils.oks import oks_nms
from utils.systems.simple_baselines import decode, person_scores

# Reference answers -> recipe, skeleton
NETWORKS = {
    "r50_pytorch_17": ("r50_256x192", "coco17"),
    "r101_pytorch_17": ("r101_256x192", "coco17"),
    "r152_pytorch_17": ("r152_256x192", "coco17"),
    "r50_caffe_17": ("r50_caffe_256x192", "coco17"),
    "r50_pytorch_16": ("r50_mpii_256x256", "mpii"),
}


def config_of(recipe: str, *overrides: str) -> Config:
    """The configuration of a recipe such as r50_256x192."""
    return load_config(ROOT / "config" / f"simple_baselines_{recipe}.yaml", overrides)


def published_network(shared: Path, name: str) -> SimpleBaselines:
    """The network, its weights loaded from a file of the published format."""
    recipe, skeleton = NETWORKS[name]
    network = build_model(config_of(recipe, f"skeleton={skeleton}")).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "published.pth"
        weights = filled(shared, f"simple_baseline_{name}_state_dict.json")
        torch.save({f"module.{key}": tensor for key, tensor in weights.items()}, path)
        load_weights(network, path)
    return network


@torch.inference_mode()
def network_differences(shared: Path, names: tuple[str, ...] = tuple(NETWORKS)) -> list[Difference]:
    """Answers of the networks, relative to the largest value of each."""
    differences = []
    for name in names:
        network = published_network(shared, name)
        with np.load(shared / "fixtures" / f"simple_baseline_{name}_forward.npz") as record:
            images = torch.from_numpy(record["image"]) * network.normalize.std + network.normalize.mean
            gap = largest(network(images), record["heatmap"]) / np.abs(record["heatmap"]).max()
            differences.append(Difference("network", name, float(gap), 1e-4, "relative"))
    return differences


def loss_and_decoding_differences(shared: Path) -> list[Difference]:
    """The loss of the maps on record, and where they are highest by the published rule."""
    with np.load(shared / "fixtures" / "simple_baseline_loss_decode.npz") as record:
        loss = build_loss(config_of("r50_256x192"))
        value = loss(*(torch.from_numpy(record[name]) for name in ("output", "target", "target_weight")))
        found = decode(record["heatmaps"], record["center"], record["scale"] * 200, "quarter")
        return [
            Difference("loss", "", abs(value.item() / record["loss"].item() - 1), 1e-5, "relative"),
            Difference("decoding: keypoints", "", largest(found[..., :2], record["preds"]), 1e-3, "px"),
            Difference("decoding: responses", "", largest(found[..., 2:], record["maxvals"]), 1e-6, ""),
        ]


def sample_differences(shared: Path) -> list[Difference]:
    """Crop, joints and maps of each sample on record, made anew from the photographs through the people file."""
    coco, differences = shared / "data" / "coco_mini", []
    annotations = coco / "annotations" / "person_keypoints_train2017.json"
    people = {annotation["id"]: annotation for annotation in json.loads(annotations.read_text())["annotations"]}
    with tempfile.TemporaryDirectory() as folder, np.load(shared / "fixtures" / "simple_baseline_samples.npz") as record:
        path = Path(folder) / "train.h5"
        build_hdf5(annotations, coco / "train2017", path, config_of("r50_256x192").skeleton, workers=1)
        for number, case in enumerate(json.loads(str(record["cases"]))):
            config = config_of("r50_384x288" if case["input_size"] == [384, 288] else "r50_256x192")
            samples = SimpleBaselinesDataset(PeopleFile(path, config.skeleton), config)
            reference = {name.partition("_")[2]: record[name] for name in record.files if name.startswith(f"case{number}_")}
            index = _sample_of(samples, people[case["annotation"]])
            augmentation = Augmentation(case["scale"], case["rotation"], case["flip"])
            differences += _case_differences(f"case {number}", samples, index, augmentation, reference)
    return differences


def _sample_of(samples: SimpleBaselinesDataset, annotation: dict) -> int:
    in_image = samples.people.image_ids[samples.image_of] == annotation["image_id"]
    boxes = samples.people.boxes[samples.chosen]
    return int(np.flatnonzero(in_image & np.isclose(boxes, annotation["bbox"], atol=1e-3).all(1))[0])


def _case_differences(
    place: str, samples: SimpleBaselinesDataset, index: int, augmentation: Augmentation, reference: dict
) -> list[Difference]:
    image, joints, labelled = samples.crop(index, augmentation)
    heatmap, weight = render_targets(joints, labelled, image.shape[:2], samples.config)
    centre, size = centre_and_size(samples.boxes[samples.chosen[index]], image.shape[:2])
    if augmentation.flip:
        centre = np.array([samples.people.sizes[samples.image_of[index], 1] - 1 - centre[0], centre[1]])
    known = reference["labelled"] > 0
    measured = [
        ("centre", centre, reference["center"], 1e-3, "px"),
        ("size", size * augmentation.scale, reference["size"], 1e-3, "px"),
        ("affine", crop_matrix(centre, size * augmentation.scale, image.shape[:2], augmentation.rotation), reference["affine"], 1e-3, ""),
        ("joints", joints[known], reference["joints"][known], 1e-3, "px"),
        ("labelled", labelled, known, 0, ""),
        ("heatmap", heatmap, reference["heatmap"], 1e-3, ""),
        ("weight", weight, reference["weight"], 0, ""),
    ]
    return [Difference(f"sample: {what}", place, largest(ours, theirs), limit, unit) for what, ours, theirs, limit, unit in measured]


def nms_differences(shared: Path) -> list[Difference]:
    """Scores of people, and who is left of several detections of one, in order: the difference of order is in places."""
    config, differences = config_of("r50_256x192"), []
    with np.load(shared / "fixtures" / "simple_baseline_oks_nms.npz") as record:
        for case in range(4):
            reference = {name.partition("_")[2]: record[name] for name in record.files if name.startswith(f"case{case}_")}
            keypoints, settings = reference["keypoints"], config.inference
            scores = person_scores(keypoints[..., 2], reference["box_score"], settings.keypoint_threshold)
            kept = oks_nms(keypoints, reference["area"], scores, config.skeleton.oks_sigmas, settings.nms_threshold)
            same = len(kept) == len(reference["keep"])
            order = largest(kept, reference["keep"]) if same else np.inf
            differences.append(Difference("OKS NMS: scores", f"case {case}", largest(scores, reference["score"]), 1e-9, ""))
            differences.append(Difference("OKS NMS: order", f"case {case}", order, 0, ""))
    return differences


PARTS = (network_differences, loss_and_decoding_differences, sample_differences, nms_differences)
