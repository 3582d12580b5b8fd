"""How far SimplePose here is from the published one: network, loss and samples against reference numbers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.reference import ROOT, Difference, filled, largest
from config import UserError, load_config
from data.coco_masks_hdf5 import build_hdf5
from data.datasets.simplepose import SimplePoseDataset
from data.people_file import PeopleFile
from data.targets import render_targets
from data.transforms import Augmentation, affine_matrix
from losses import build_loss
from models import build_model
from utils.checkpoint import load_weights

CONFIG = ROOT / "config" / "simplepose_coco_512.yaml"
LOSSES = {
    "focal_l2_gamma1": [],
    "focal_l2_gamma2": ["loss.gamma=2"],
    "focal_l2_gamma2_alpha0.1_beta0.02": ["loss.gamma=2", "loss.alpha=0.1", "loss.beta=0.02"],
    "l2": ["loss.focal=false"],
}


def write_published_checkpoint(path: Path, weights: dict[str, torch.Tensor], prefix: str = "", legacy: bool = True) -> None:
    """A file as the published code writes it. prefix: such as 'module.'; legacy: in the format of PyTorch before 1.6."""
    content = {"weights": {prefix + name: tensor for name, tensor in weights.items()}, "train_loss": 100.0, "epoch": 52}
    content["optimizer_weight"] = {"state": {}, "param_groups": []}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def network_differences(shared: Path) -> list[Difference]:
    """Answers of the network, its weights loaded from a file of the published format, at every stage and scale that is on record."""
    network = build_model(load_config(CONFIG)).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "published.pth"
        write_published_checkpoint(path, filled(shared, "simplepose_state_dict.json"), prefix="module.")
        load_weights(network, path)
    with np.load(shared / "fixtures" / "simplepose_forward.npz") as record, torch.inference_mode():
        answers = network(torch.from_numpy(record["image_nhwc"]).permute(0, 3, 1, 2).contiguous())
        places = [(name, int(name[5]), int(name[-1])) for name in record.files if name.startswith("stack")]
        return [
            Difference("network", f"stage {stage}, scale {scale}", largest(answers[stage][scale], record[name]), 1e-4, "")
            for name, stage, scale in places
        ]


def loss_differences(shared: Path) -> list[Difference]:
    """Each kind of loss, relative to its value on record."""
    differences = []
    with np.load(shared / "fixtures" / "simplepose_losses.npz") as record:
        stages, scales = 4, 5
        tensors = {name: torch.from_numpy(record[name]) for name in record.files}
        predictions = [[tensors[f"pred_stack{s}_scale{i}"] for i in range(scales)] for s in range(stages)]
        for name, overrides in LOSSES.items():
            loss = build_loss(load_config(CONFIG, overrides))
            value = loss(predictions, tensors["heatmaps"], tensors["mask_miss"])
            differences.append(Difference("loss", name, abs(value.item() / tensors[name].item() - 1), 1e-5, "relative"))
    return differences


def sample_differences(shared: Path) -> list[Difference]:
    """Affine, joints, masks and maps of each sample on record, made anew from the photographs through the HDF5 file."""
    coco, config = shared / "data" / "coco_mini", load_config(CONFIG)
    annotations = coco / "annotations" / "person_keypoints_train2017.json"
    boxes: dict[int, list] = {}
    for annotation in json.loads(annotations.read_text())["annotations"]:
        boxes.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    differences = []
    with tempfile.TemporaryDirectory() as folder, np.load(shared / "fixtures" / "simplepose_targets.npz") as record:
        path = Path(folder) / "train.h5"
        build_hdf5(annotations, coco / "train2017", path, config.skeleton, workers=1)
        samples = SimplePoseDataset(PeopleFile(path, config.skeleton), config)
        for number, case in enumerate(json.loads(str(record["cases"]))):
            index = _sample_of(samples, case["image_id"], boxes[case["image_id"]][case["people_index"]])
            reference = {name.partition("_")[2]: record[name] for name in record.files if name.startswith(f"case{number}_")}
            differences += _case_differences(f"case {number}", samples, index, case, reference)
    return differences


def _sample_of(samples: SimplePoseDataset, image_id: int, box: list[float]) -> int:
    ids = samples.people.image_ids[samples.image_of]
    found = [index for index in np.flatnonzero(ids == image_id).tolist() if np.allclose(samples.joints_and_box(index)[1], box)]
    if len(found) != 1:
        raise UserError(f"image {image_id}: {len(found)} samples around the person with the box {box}, expected 1")
    return found[0]


def _case_differences(place: str, samples: SimplePoseDataset, index: int, case: dict, reference: dict) -> list[Difference]:
    augmentation = Augmentation(case["flip"], case["degree"], tuple(case["shift"]), case["scale"])
    config, (source, box) = samples.config, samples.joints_and_box(index)
    _, joints, *masks = samples.crop(index, augmentation)
    miss, everyone = (mask.astype(np.float32) / 255 for mask in masks)
    maps = render_targets(joints, everyone, samples.config)
    objpos, height = box[:2].astype(float) + box[2:].astype(float) / 2, config.data.input_size[0]
    a = augmentation
    # The box is kept as float32 in the file; the reference computes from the annotation's own digits.
    exact = affine_matrix(case["objpos"][0], case["scale_provided"], a.flip, a.degree, a.shift, a.scale, config)
    channels, expected = config.channels, reference["heatmaps"]
    limbs, keypoints, person = channels.limbs, channels.keypoints, channels.person
    measured = [
        ("person's centre", objpos, case["objpos"][0], 1e-3, "px"),
        ("person's height", box[3], case["scale_provided"] * height, 1e-3, "px"),
        ("affine", exact, reference["affine"], 1e-9, ""),
        ("joints in the image", source, reference["joints_source"], 1e-3, "px"),
        ("joints in the input", joints, reference["joints"], 1e-2, "px"),
        ("mask_miss", miss, reference["mask_miss"], 0.02, ""),
        ("mask_all", everyone, reference["mask_all"], 0.02, ""),
        ("limb maps", maps[limbs], expected[limbs], 2e-3, ""),
        ("keypoint maps", maps[keypoints], expected[keypoints], 2e-3, ""),
        ("person mask map", maps[person], expected[person], 0.02, ""),
        ("maximum map", maps[-1], expected[-1], 2e-3, ""),
    ]
    return [Difference(f"sample: {what}", place, largest(ours, theirs), limit, unit) for what, ours, theirs, limit, unit in measured]


PARTS = (network_differences, loss_differences, sample_differences)
