"""MoveNet as DEKR's network: the published weights predict people, and DEKR's loss trains it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from places import ROOT, SHARED

from config import load_config
from config.load import load_skeleton
from data.datasets import collate
from data.datasets.dekr import DekrDataset
from data.hdf5 import TrainingHDF5
from data.images import read_image
from data.targets import render_batch
from losses import build_loss
from models import build_model
from utils.checkpoint import config_for
from utils.inference import PoseEstimator
from utils.oks import object_keypoint_similarity

SMALL = ["model.width=0.25", "data.input_size=[64, 64]", "targets.min_area=0"]
WEIGHTS = SHARED / "movenet" / "multipose.safetensors"


@pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no published weights: there is no file {WEIGHTS}")
def test_the_published_file_alone_finds_the_person_of_a_photograph(shared):
    """Its recipe is known by its tensors."""
    folder, number = shared / "data" / "coco_mini", 153797
    content = json.loads((folder / "annotations" / "person_keypoints_val2017.json").read_text())
    (person,) = (a for a in content["annotations"] if a["image_id"] == number and a["num_keypoints"])
    joints, box = np.reshape(person["keypoints"], (1, 17, 3)).astype(float), np.array([person["bbox"]])
    config = config_for(WEIGHTS, overrides=["inference.flip=false", "inference.scales=[1]"])
    keypoints, _ = PoseEstimator(config, WEIGHTS, "cpu", min_score=0)(read_image(folder / "val2017" / f"{number:012}.jpg"))
    oks = object_keypoint_similarity(keypoints[:1], joints, np.array([person["area"]]), box, load_skeleton("coco17").oks_sigmas)
    assert oks[0, 0] > 0.8


def test_the_loss_falls(hdf5):
    config = load_config(ROOT / "config" / "dekr_small.yaml", SMALL)
    torch.manual_seed(0)
    network, loss = build_model(config), build_loss(config)
    dataset = DekrDataset(TrainingHDF5(hdf5, config.skeleton), config)
    batch = collate([dataset.get(index, None) for index in range(4)])
    images, targets = batch.image.permute(0, 3, 1, 2).float() / 255, render_batch(batch, config, torch.device("cpu"))
    optimizer, losses = torch.optim.Adam(network.parameters(), 3e-3), []
    for _ in range(8):
        losses.append(loss(network(images), **targets._asdict()))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
