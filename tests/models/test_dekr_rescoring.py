"""DEKR's rescoring network against reference numbers, and for poses without extent."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from places import SHARED

from config.load import load_skeleton
from models.dekr_rescoring import RescoringNet, features, num_features, rescored

FIXTURE = SHARED / "fixtures" / "dekr_rescore.npz"
needs_reference = pytest.mark.skipif(not FIXTURE.is_file(), reason="no reference numbers: there is no shared/fixtures/dekr_rescore.npz")
SKELETONS = pytest.mark.parametrize(("name", "skeleton"), [("coco", "coco17"), ("crowd_pose", "crowdpose")])


def filled(name: str, skeleton: str) -> RescoringNet:
    """The reference network, whose weights follow from their names."""
    spec = importlib.util.spec_from_file_location("fill_weights", FIXTURE.with_name("fill_weights.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = RescoringNet(load_skeleton(skeleton))
    net.load_state_dict(module.fill(net.state_dict(), name))
    return net.eval()


@needs_reference
@SKELETONS
def test_features_and_oks_are_the_published_ones(name, skeleton):
    net = filled(name, skeleton)
    with np.load(FIXTURE) as reference:
        poses, expected, oks = (torch.from_numpy(reference[f"{name}_{array}"]) for array in ("poses", "features", "oks"))
    torch.testing.assert_close(features(poses, net.limb_ends).float(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(net(poses), oks[:, 0], atol=1e-5, rtol=1e-5)
    scores = torch.linspace(0.1, 0.9, len(poses))
    torch.testing.assert_close(rescored(net, poses, scores), oks[:, 0] * scores, atol=1e-5, rtol=1e-5)
    assert oks.min() < 0  # not clamped


@SKELETONS
def test_keys_and_shapes_are_the_published_ones(name, skeleton):
    config_skeleton = load_skeleton(skeleton)
    shapes = {tensor: tuple(value.shape) for tensor, value in RescoringNet(config_skeleton).state_dict().items()}
    count = {"coco": 74, "crowd_pose": 59}[name]
    assert num_features(config_skeleton) == count
    assert shapes == {
        "l1.weight": (256, count), "l1.bias": (256,), "l2.weight": (256, 256), "l2.bias": (256,), "l3.weight": (1, 256), "l3.bias": (1,),
    }  # fmt: skip


def test_the_size_of_few_limbs_is_their_mean_length():
    pose = torch.tensor([[[0, 0, 1], [30, 40, 1], [30, 190, 1]]])
    assert features(pose.float(), torch.tensor([[1, 0], [2, 1]]))[0].tolist() == pytest.approx([0.3, 0.4, 0, 1.5, 0.5, 1.5, 1, 1, 1])
    assert features(pose.float(), torch.zeros(0, 2, dtype=torch.long)).tolist() == [[1, 1, 1]]


@SKELETONS
def test_missing_keypoints_give_finite_scores(name, skeleton):
    config_skeleton = load_skeleton(skeleton)
    net = RescoringNet(config_skeleton)
    missing = torch.zeros(2, config_skeleton.num_keypoints, 3)
    missing[1, :3] = torch.tensor([40.0, 50.0, 0.9])
    assert rescored(net, missing, torch.ones(2)).isfinite().all()
    assert rescored(net, missing[:0], torch.zeros(0)).shape == (0,)
    half = rescored(net, missing.half(), torch.ones(2).half())
    assert half.dtype == torch.float16 and half.isfinite().all()
