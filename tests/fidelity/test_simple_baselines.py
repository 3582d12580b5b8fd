"""Compare Simple Baselines' networks, loss, training samples and decoding with the published ones."""

import json

import numpy as np
import pytest
import torch
from places import ROOT
from reference import FIXTURES, assert_near, case_arrays, needs_fixtures, reference_weights

from config import Config, load_config
from data.augment import Augmentation
from data.datasets.simple_baselines import SimpleBaselinesDataset
from data.hdf5 import TrainingHDF5
from data.targets.simple_baselines import render_targets
from data.transforms import center_and_crop_size, crop_matrix
from losses import build_loss
from models import build_model
from utils.checkpoint import load_weights
from utils.systems.simple_baselines import decode

NETWORKS = {  # reference -> recipe, skeleton
    "r50_pytorch_17": ("r50_256x192", "coco17"),
    "r101_pytorch_17": ("r101_256x192", "coco17"),
    "r152_pytorch_17": ("r152_256x192", "coco17"),
    "r50_caffe_17": ("r50_caffe_256x192", "coco17"),
    "r50_pytorch_16": ("r50_mpii_256x256", "mpii"),
}


def config_of(recipe: str, *overrides: str) -> Config:
    """The configuration of a recipe such as r50_256x192."""
    return load_config(ROOT / "config" / f"simple_baselines_{recipe}.yaml", overrides)


@needs_fixtures
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_network_with_a_published_checkpoint(name, tmp_path):
    recipe, skeleton = NETWORKS[name]
    network = build_model(config_of(recipe, f"skeleton={skeleton}")).eval()
    weights = {f"module.{key}": tensor for key, tensor in reference_weights(f"simple_baseline_{name}").items()}
    torch.save(weights, tmp_path / "published.pth")
    load_weights(network, tmp_path / "published.pth")  # takes every published tensor as one of ours
    with np.load(FIXTURES / f"simple_baseline_{name}_forward.npz") as record:
        images = torch.from_numpy(record["image"]) * network.normalize.std + network.normalize.mean
        assert_near(f"network {name}", network(images), record["heatmap"], 1e-4, relative=True)


@needs_fixtures
def test_loss_and_decoding():
    with np.load(FIXTURES / "simple_baseline_loss_decode.npz") as record:
        loss = build_loss(config_of("r50_256x192"))(*(torch.from_numpy(record[name]) for name in ("output", "target", "target_weight")))
        keypoints = decode(record["heatmaps"], record["center"], record["scale"] * 200, "quarter")
        assert_near("loss", loss.item(), record["loss"].item(), 1e-5, relative=True)
        assert_near("decoding: keypoints, px", keypoints[..., :2], record["preds"], 1e-3)
        assert_near("decoding: scores", keypoints[..., 2:], record["maxvals"], 1e-6)


@needs_fixtures
@pytest.mark.parametrize("number", range(8))
def test_training_sample(number, coco_mini_hdf5, coco_mini_annotations):
    with np.load(FIXTURES / "simple_baseline_samples.npz") as record:
        case, reference = json.loads(str(record["cases"]))[number], case_arrays(record, number)
    config = config_of("r50_384x288" if case["input_size"] == [384, 288] else "r50_256x192")
    dataset = SimpleBaselinesDataset(TrainingHDF5(coco_mini_hdf5, config.skeleton), config)
    person = next(person for person in coco_mini_annotations["annotations"] if person["id"] == case["annotation"])
    in_image = dataset.people.image_ids[dataset.image_of] == person["image_id"]
    (index,) = np.flatnonzero(in_image & np.isclose(dataset.people.boxes[dataset.chosen], person["bbox"], atol=1e-3).all(1)).tolist()
    augmentation = Augmentation(case["rotation"], case["scale"], flip=case["flip"])
    image, joints, labeled = (tensor.numpy() for tensor in dataset.crop(index, augmentation))
    input_size = image.shape[:2]
    heatmap, weight = render_targets(joints, labeled, input_size, config)
    center, size = center_and_crop_size(dataset.boxes[dataset.chosen[index]], input_size)
    if case["flip"]:
        center = np.array([dataset.people.sizes[dataset.image_of[index], 1] - 1 - center[0], center[1]])
    size, expected = size * case["scale"], reference["labelled"] > 0
    assert_near("sample: center, px", center, reference["center"], 1e-3)
    assert_near("sample: size, px", size, reference["size"], 1e-3)
    assert_near("sample: affine", crop_matrix(center, size[0], input_size, case["rotation"]), reference["affine"], 1e-3)
    assert_near("sample: labeled", labeled, expected, 0)
    assert_near("sample: keypoints, px", joints[expected], reference["joints"][expected], 1e-3)
    assert_near("sample: heatmap", heatmap, reference["heatmap"], 1e-3)
    assert_near("sample: weight", weight, reference["weight"], 0)
