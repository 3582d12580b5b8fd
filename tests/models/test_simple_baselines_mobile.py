"""MoveNet SinglePose as Simple Baselines' network: the person in the middle answers, and pixels stand in the middle of theirs."""

import numpy as np
import pytest
import torch
from photograph import person_on_photograph
from places import ROOT, SHARED

from config import load_config
from data.targets.simple_baselines import render_targets
from models import build_model
from models.simple_baselines_mobile import SimpleBaselinesMobile, nearness
from utils.checkpoint import config_for
from utils.inference import PoseEstimator
from utils.systems.simple_baselines import average_flip, decode

WEIGHTS = SHARED / "movenet" / "thunder.safetensors"
SMALL = ["model.width=0.25", "data.input_size=[64, 96]"]


def config_of(*overrides: str):
    return load_config(ROOT / "config" / "simple_baselines_small.yaml", [*SMALL, *overrides])


@pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no published weights: there is no file {WEIGHTS}")
def test_the_published_file_alone_finds_the_person_of_a_box(shared):
    """Its recipe is known by its tensors."""
    person = person_on_photograph(shared)
    estimator = PoseEstimator(config_for(WEIGHTS, overrides=["inference.flip=false"]), WEIGHTS, "cpu", min_score=0)
    assert isinstance(estimator.network, SimpleBaselinesMobile)
    keypoints, _ = estimator(person.image, person.box)
    assert person.oks(keypoints[0]) > 0.85


def test_heatmaps_are_weighted_by_the_nearness_to_the_middle_persons_keypoint(monkeypatch):
    network, first = build_model(config_of()).eval(), torch.zeros(1, 1, 16, 24)
    first[0, 0, 2, 3], first[0, 0, 9, 11] = 5, 4  # the stronger center is at the border
    regression = torch.zeros(1, 34, 16, 24)
    regression[0, 2:4, 9, 11] = torch.tensor([-4.0, 7])  # of the left eye: y, x
    heads = {"center": first * 4 - 8, "keypoint_heatmap": torch.zeros(1, 17, 16, 24), "keypoint_regression": regression}
    for name, maps in heads.items():
        monkeypatch.setattr(network.heads[name], "forward", lambda _, maps=maps: maps)
    (heatmaps,) = network(torch.rand(1, 3, 64, 96))
    assert heatmaps[0].argmax() == 9 * 24 + 11 and heatmaps[1].argmax() == (9 - 4) * 24 + 11 + 7
    assert heatmaps.max().item() == pytest.approx(0.5, abs=1e-3)
    assert nearness(torch.tensor([[[0, 0.0]]]), 1, 3)[0, 0, 0].tolist() == pytest.approx([1, 1.8 / 2.8, 1.8 / 3.8], abs=1e-3)


def test_every_layer_is_trained():
    """Also the center's: only a maximum of it counts, and training on several devices waits for each gradient."""
    network = build_model(config_of())
    network(torch.rand(2, 3, 64, 96)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.heads["center"].output.weight.grad.any()


def test_targets_decoding_and_flip_agree_on_where_pixels_stand():
    """In the middle of their input pixels: a keypoint there is decoded exactly, and so in the flipped crop."""
    config = config_of()
    joints = np.random.default_rng(0).integers(2, 14, (17, 2)) * 4.0 + 2
    partner, width = config.skeleton.flip_keypoints, 96
    flipped = (joints * (-1, 1) + (width, 0))[partner]
    heatmaps = torch.from_numpy(np.stack([render_targets(points, np.ones(17), (64, 96), config)[0] for points in (joints, flipped)]))
    crop = np.array([[width / 2, 32]]), np.array([[width, 64]])
    decoded = decode(average_flip(heatmaps, config), *crop, "parabola", config.model.pixel_center)
    np.testing.assert_allclose(decoded[0, :, :2], joints, atol=1e-3)
    assert decoded[0, :, 2] == pytest.approx(1, abs=1e-6)
