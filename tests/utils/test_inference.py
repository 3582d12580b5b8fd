"""PoseEstimator: one photograph or several, with a network that is ready for use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from config import UserError, load_config
from data.images import read_image
from models import build_model
from utils.inference import PoseEstimator


@pytest.fixture
def estimator(tiny, trained) -> PoseEstimator:
    """Of a network that has hardly been trained, and is taken at its faintest word."""
    faint = ["assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=2"]
    return PoseEstimator(load_config(tiny, faint), trained / "best.pth")


def test_the_network_is_not_in_training(estimator, images):
    """Else what is found would depend on what else is in the batch, and change the network."""
    assert not any(module.training for module in estimator.network.modules())
    before = {name: tensor.clone() for name, tensor in estimator.network.state_dict().items()}
    estimator(read_image(min(images.iterdir())))
    assert all(torch.equal(tensor, before[name]) for name, tensor in estimator.network.state_dict().items())
    assert any(isinstance(module, nn.BatchNorm2d) for module in build_model(estimator.config).modules())  # which would have changed


def test_photographs_of_a_batch_do_not_matter_to_each_other(estimator, images):
    pictures = [read_image(path) for path in sorted(images.iterdir())[:3]]
    pictures += [np.ascontiguousarray(pictures[0][:, :90]), np.ascontiguousarray(pictures[1][:70])]
    together = estimator.batch(pictures)
    assert len(together) == 5
    assert sum(len(scores) for _, scores in together) > 0
    for picture, (keypoints, scores) in zip(pictures, together):
        alone, its_scores = estimator(picture)
        np.testing.assert_allclose(keypoints, alone, atol=1e-2)
        np.testing.assert_allclose(scores, its_scores, atol=1e-4)
    assert estimator.batch([]) == []


@pytest.mark.parametrize(("shape", "kind"), [((9, 9), np.uint8), ((9, 9, 4), np.uint8), ((9, 9, 3), float), ((0, 9, 3), np.uint8)])
def test_what_is_no_photograph_is_refused(estimator, shape, kind):
    with pytest.raises(UserError, match=r"expected \(H, W, 3\) uint8, BGR"):
        estimator.batch([np.zeros((9, 9, 3), np.uint8), np.zeros(shape, kind)])
