"""Where people are: torchvision's detectors, with randomly drawn weights, and pose systems that find people by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from top_down_system import VALUES, registered, write_checkpoint
from torchvision.models import get_model

from config import UserError
from config.load import parse_config
from data.images import read_image
from utils.detectors import TorchvisionDetector, boxes_around, load_detector
from utils.inference import PoseEstimator

NAME, OTHER = "fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module", autouse=True)
def system():
    with registered():
        yield


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """Everything in an image is to it most likely a person."""
    torch.manual_seed(1)
    network = get_model(NAME, weights=None, weights_backbone=None).eval()
    torch.nn.init.constant_(network.roi_heads.box_predictor.cls_score.bias[1:2], 6)
    return network


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def pictures(images) -> list[np.ndarray]:
    """Of two sizes."""
    first, second = (read_image(path) for path in sorted(images.iterdir())[:2])
    return [first, second[:90, ::-1]]


def test_torchvisions_boxes_are_those_of_its_network(network, weights, pictures):
    """Which wants RGB in [0, 1] and tells corners."""
    with torch.inference_mode():
        expected = network([torch.from_numpy(image[..., ::-1].transpose(2, 0, 1) / np.float32(255)) for image in pictures])
    for boxes, found, image in zip(TorchvisionDetector(NAME, weights, 0.3, "cpu")(pictures), expected, pictures, strict=True):
        left, top, right, bottom = found["boxes"].T
        assert len(boxes) > 9
        np.testing.assert_allclose(boxes, torch.stack([left, top, right - left, bottom - top, found["scores"]], 1), atol=1e-3)
        assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:4] <= np.array(image.shape[1::-1]) + 1e-3).all()


def test_only_likely_people_count(weights, pictures, monkeypatch):
    detect = TorchvisionDetector(NAME, weights, 0.5, "cpu")
    found = {
        "boxes": torch.tensor([[1, 2, 11, 22], [1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 9, 9.5]]),
        "labels": torch.tensor([1, 2, 1, 1]),
        "scores": torch.tensor([0.9, 0.8, 0.75, 0.5]),
        "masks": torch.zeros(4),  # as networks for other tasks have them
    }
    monkeypatch.setattr(detect.network, "forward", lambda pixels: [found for _ in pixels])
    for boxes in detect(pictures):
        np.testing.assert_allclose(boxes, [[1, 2, 10, 20, 0.9], [5, 6, 2, 2, 0.75]])
    assert len(detect(pictures)) == 2
    assert detect([]) == []


def test_where_nobody_is_there_are_no_boxes(weights, pictures):
    assert [boxes.shape for boxes in TorchvisionDetector(NAME, weights, 1.0, "cpu")(pictures)] == [(0, 5)] * 2


def test_files_of_torchvisions_trainer_and_safetensors_are_read_too(network, pictures, weights, tmp_path):
    torch.save({"model": network.state_dict(), "epoch": 3}, tmp_path / "trained.pth")
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    paths = (weights, tmp_path / "trained.pth", tmp_path / "weights.safetensors")
    one, other, third = (load_detector(NAME, path, device="cpu")(pictures[:1])[0] for path in paths)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, third)


def test_boxes_around_people():
    """A little larger than their keypoints, of which those that are missing lie at 0, 0; unlikely people and lone keypoints have none."""
    keypoints = np.zeros((4, 3, 3), np.float32)
    keypoints[0, :2] = [[100, 50, 0.9], [120, 90, 0.1]]
    keypoints[1] = [[10, 10, 1], [40, 10, 1], [25, 10, 1]]
    keypoints[2, 1] = [30, 40, 0.9]
    keypoints[3, :2] = [[100, 50, 0.9], [120, 90, 0.1]]
    boxes = boxes_around(keypoints, np.array([0.9, 0.8, 0.7, 0.3]), 0.3)
    np.testing.assert_allclose(boxes, [[96, 46, 28, 48, 0.9], [7, 7, 36, 6, 0.8]], rtol=1e-6)
    assert boxes_around(keypoints[:0], np.zeros(0), 0.3).shape == (0, 5)


def test_a_pose_system_that_finds_people_is_a_detector(trained, pictures, monkeypatch):
    detect = load_detector(trained / "best.pth", least_score=0.5, device="cpu")
    assert [boxes.shape for boxes in detect(pictures)] == [(0, 5)] * 2  # it has hardly been trained
    keypoints = np.zeros((2, 18, 3))
    keypoints[:, :2] = [[100, 50, 0.9], [120, 90, 0.1]]
    found = [(keypoints, np.array([0.9, 0.4])), (keypoints[:0], np.zeros(0))]
    monkeypatch.setattr(detect.estimator, "batch", lambda images: found[: len(images)])
    boxes, of_nobody = detect(pictures)
    np.testing.assert_allclose(boxes, [[96, 46, 28, 48, 0.9]])
    assert of_nobody.shape == (0, 5)


def test_an_estimator_asks_its_detector(tmp_path):
    """About all pictures of a batch at once, unless boxes are given."""
    asked = []

    def detect(images):
        asked.append(len(images))
        return [np.array([[0, 0, 20, 30, 0.5]]), np.zeros((0, 5))][: len(images)]

    estimator = PoseEstimator(parse_config(VALUES, "tiny"), write_checkpoint(tmp_path / "tiny.pth"), "cpu", detect)
    pictures = [np.zeros((40, 50, 3), np.uint8)] * 2
    assert [len(scores) for _, scores in estimator.batch(pictures)] == [1, 0]
    assert len(estimator(pictures[0])[1]) == 1
    assert asked == [2, 1]
    assert len(estimator(pictures[0], np.array([[0, 0, 9, 9], [5, 5, 9, 9]]))[1]) == 2
    assert asked == [2, 1]


def test_detectors_that_are_none(trained, weights, tmp_path):
    tiny = write_checkpoint(tmp_path / "tiny.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"model": [1, 2]}, tmp_path / "other.pth")
    for arguments, said in (
        ((tmp_path / "nowhere.pth",), "nowhere.pth: not found; give --detector, a checkpoint"),
        ((NAME,), f"detector {NAME}: give its weights, a file, with --detector-weights"),
        (("fasterrcnn_resnet51", weights), "torchvision has none of that name; it has fasterrcnn_mobilenet"),
        ((NAME, tmp_path / "nowhere.pth"), "nowhere.pth: not found"),
        ((NAME, tmp_path / "list.pth"), "list.pth: holds a list"),
        ((NAME, tmp_path / "other.pth"), f"other.pth: not those of torchvision's {NAME}"),
        ((NAME, trained / "best.pth"), f"best.pth: not those of torchvision's {NAME}: Missing key(s)"),
        ((OTHER, weights), f"weights.pth: not those of torchvision's {OTHER}"),
        ((tiny,), "tiny.pth: system 'tiny' must be told where people are itself"),
    ):
        with pytest.raises(UserError) as error:
            load_detector(*arguments)
        assert said in str(error.value)
        assert len(str(error.value)) < 600
