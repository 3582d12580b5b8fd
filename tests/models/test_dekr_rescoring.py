"""DEKR's rescoring network against reference numbers, and for poses without extent."""

import numpy as np
import pytest
import torch
from reference import FIXTURES, fill_weights, needs_fixtures

from config.load import load_skeleton
from models.dekr_rescoring import RescoringNet, features, rescore


@needs_fixtures
@pytest.mark.parametrize(("name", "skeleton"), [("coco", "coco17"), ("crowd_pose", "crowdpose")])
def test_features_and_oks_are_the_published_ones(name, skeleton):
    net = RescoringNet(load_skeleton(skeleton)).eval()
    net.load_state_dict(fill_weights(net.state_dict(), name))
    with np.load(FIXTURES / "dekr_rescore.npz") as reference:
        poses, expected, oks = (torch.from_numpy(reference[f"{name}_{array}"]) for array in ("poses", "features", "oks"))
    torch.testing.assert_close(features(poses, net.limb_ends).float(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(net(poses), oks[:, 0], atol=1e-5, rtol=1e-5)
    scores = torch.linspace(0.1, 0.9, len(poses))
    torch.testing.assert_close(rescore(net, poses, scores), oks[:, 0] * scores, atol=1e-5, rtol=1e-5)
    assert oks.min() < 0  # not clamped


def test_the_size_of_few_limbs_is_their_mean_length():
    pose = torch.tensor([[[0, 0, 1], [30, 40, 1], [30, 190, 1]]])
    assert features(pose.float(), torch.tensor([[1, 0], [2, 1]]))[0].tolist() == pytest.approx([0.3, 0.4, 0, 1.5, 0.5, 1.5, 1, 1, 1])
    assert features(pose.float(), torch.zeros(0, 2, dtype=torch.long)).tolist() == [[1, 1, 1]]


def test_missing_keypoints_give_finite_scores():
    net = RescoringNet(load_skeleton("coco17"))
    missing = torch.zeros(2, 17, 3)
    missing[1, :3] = torch.tensor([40.0, 50.0, 0.9])
    half = rescore(net, missing.half(), torch.ones(2).half())
    assert half.dtype == torch.float16 and half.isfinite().all()
    assert rescore(net, missing[:0], torch.zeros(0)).shape == (0,)
