"""Compare SimplePose's network, loss and training samples with the published ones."""

import json

import numpy as np
import pytest
import torch
from places import ROOT
from reference import FIXTURES, assert_near, case_arrays, needs_fixtures, reference_weights

from config import load_config
from data.augment import Augmentation
from data.datasets.simplepose import SimplePoseDataset
from data.hdf5 import TrainingHDF5
from data.targets import render_targets
from data.transforms import affine_matrix
from losses import build_loss
from models import build_model
from utils.checkpoint import load_weights

RECIPE = ROOT / "config" / "simplepose_coco_512.yaml"


@pytest.fixture(scope="module")
def network():
    return build_model(load_config(RECIPE)).eval()


def test_network_has_the_published_size(network):
    assert sum(p.numel() for p in network.parameters()) == 128_998_760


@needs_fixtures
@pytest.mark.slow
@torch.inference_mode()
def test_network_with_a_published_checkpoint(network, tmp_path):
    weights = {f"module.{name}": tensor for name, tensor in reference_weights("simplepose").items()}
    content = {"weights": weights, "train_loss": 100.0, "epoch": 52, "optimizer_weight": {"state": {}, "param_groups": []}}
    torch.save(content, tmp_path / "published.pth", _use_new_zipfile_serialization=False)
    load_weights(network, tmp_path / "published.pth")  # takes every published tensor as one of ours
    with np.load(FIXTURES / "simplepose_forward.npz") as record:
        outputs = network(torch.from_numpy(record["image_nhwc"]).permute(0, 3, 1, 2).contiguous())
        names = [name for name in record if name.startswith("stack")]
        assert len(names) == 2 * 5  # first and last stage, all scales
        for name in names:
            stage, scale = int(name[5]), int(name[-1])
            assert_near(f"network, stage {stage}, scale {scale}", outputs[stage][scale], record[name], 1e-4)


@needs_fixtures
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("focal_l2_gamma1", []),
        ("focal_l2_gamma2", ["loss.gamma=2"]),
        ("focal_l2_gamma2_alpha0.1_beta0.02", ["loss.gamma=2", "loss.alpha=0.1", "loss.beta=0.02"]),
        ("l2", ["loss.focal=false"]),
    ],
)
def test_loss(name, overrides):
    with np.load(FIXTURES / "simplepose_losses.npz") as record:
        tensors = {key: torch.from_numpy(record[key]) for key in record}
    predictions = [[tensors[f"pred_stack{stage}_scale{scale}"] for scale in range(5)] for stage in range(4)]
    value = build_loss(load_config(RECIPE, overrides))(predictions, tensors["heatmaps"], tensors["mask_miss"])
    assert_near(f"loss, {name}", value.item(), tensors[name].item(), 1e-5, relative=True)


@needs_fixtures
@pytest.mark.parametrize("number", range(4))
def test_training_sample(number, coco_mini_hdf5, coco_mini_annotations):
    config = load_config(RECIPE)
    with np.load(FIXTURES / "simplepose_targets.npz") as record:
        case, reference = json.loads(str(record["cases"]))[number], case_arrays(record, number)
    dataset = SimplePoseDataset(TrainingHDF5(coco_mini_hdf5, config.skeleton), config)
    boxes = [person["bbox"] for person in coco_mini_annotations["annotations"] if person["image_id"] == case["image_id"]]
    in_image = np.flatnonzero(dataset.people.image_ids[dataset.image_of] == case["image_id"]).tolist()
    (index,) = (n for n in in_image if np.allclose(dataset.people.boxes[dataset.main[n]], boxes[case["people_index"]]))
    source, box = dataset.people.joints(dataset.rows(index)), dataset.people.boxes[dataset.main[index]]
    augmentation = Augmentation(case["degree"], case["scale"], tuple(case["shift"]), case["flip"])
    sample = dataset.crop(index, augmentation)
    visibility = np.where(sample.labeled, reference["joints"][..., 2] % 2, 2)  # a sample does not hold which ones are occluded
    joints = np.concatenate([sample.keypoints, visibility[..., None]], 2)
    mask_miss, mask_all = (mask.numpy().astype(np.float32) / 255 for mask in (sample.mask_miss, sample.mask_all))
    maps, expected, channels = render_targets(joints, mask_all, config), reference["heatmaps"], config.channels
    # The HDF5 keeps the box as float32; the reference computes from the annotation's own digits.
    affine = affine_matrix(case["objpos"][0], case["scale_provided"], case["flip"], case["degree"], case["shift"], case["scale"], config)
    assert_near("sample: person's center, px", box[:2].astype(float) + box[2:].astype(float) / 2, case["objpos"][0], 1e-3)
    assert_near("sample: person's height, px", box[3], case["scale_provided"] * config.data.input_size[0], 1e-3)
    assert_near("sample: affine", affine, reference["affine"], 1e-9)
    assert_near("sample: keypoints in the image, px", source, reference["joints_source"], 1e-3)
    assert_near("sample: keypoints in the input, px", joints, reference["joints"], 1e-2)
    assert_near("sample: mask_miss", mask_miss, reference["mask_miss"], 0.02)
    assert_near("sample: mask_all", mask_all, reference["mask_all"], 0.02)
    assert_near("sample: limb maps", maps[channels.limbs], expected[channels.limbs], 2e-3)
    assert_near("sample: keypoint maps", maps[channels.keypoints], expected[channels.keypoints], 2e-3)
    assert_near("sample: person mask map", maps[channels.person], expected[channels.person], 0.02)
    assert_near("sample: maximum map", maps[-1], expected[-1], 2e-3)
