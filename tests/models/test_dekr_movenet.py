"""MoveNet as DEKR's network: the published weights predict people, and DEKR's loss trains it."""

import pytest
import torch
from photograph import person_on_photograph
from places import ROOT, SHARED

from config import load_config
from data.datasets import collate
from data.datasets.dekr import DekrDataset
from data.hdf5 import TrainingHDF5
from data.targets import render_batch
from losses import build_loss
from models import build_model
from utils.checkpoint import config_for
from utils.inference import PoseEstimator

SMALL = ["model.width=0.25", "data.input_size=[64, 64]", "targets.min_area=0"]
WEIGHTS = SHARED / "movenet" / "multipose.safetensors"


@pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no published weights: there is no file {WEIGHTS}")
def test_the_published_file_alone_finds_the_person_of_a_photograph(shared):
    """Its recipe is known by its tensors."""
    person = person_on_photograph(shared)
    config = config_for(WEIGHTS, overrides=["inference.flip=false", "inference.scales=[1]"])
    keypoints, _ = PoseEstimator(config, WEIGHTS, "cpu", min_score=0)(person.image)
    assert person.oks(keypoints[0]) > 0.8


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
