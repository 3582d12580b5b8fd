"""Person detectors: torchvision's networks, here with random weights, and bottom-up pose systems."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from top_down_system import registered, write_checkpoint
from torchvision.models import get_model

from config import UserError
from data.images import read_image
from utils.detectors import TorchvisionDetector, load_detector
from utils.predictions import PosePredictions

NAME = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """Return a network that takes most of an image for people."""
    torch.manual_seed(1)
    network = get_model(NAME, weights=None, weights_backbone=None).eval()
    for layer in network.head.classification_head.module_list:
        torch.nn.init.constant_(layer[1].bias.view(-1, 91)[:, 1], 6)
    return network


@pytest.fixture(scope="module")
def files(network, tmp_path_factory) -> list[Path]:
    """Write the weights alone, as torchvision's trainer does, and as .safetensors."""
    folder = tmp_path_factory.mktemp("detector")
    torch.save(network.state_dict(), folder / "weights.pth")
    torch.save({"model": network.state_dict(), "epoch": 3}, folder / "trained.pth")
    save_file(network.state_dict(), folder / "weights.safetensors")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def weights(files) -> Path:
    return files[0]


@pytest.fixture
def photographs(images) -> list[np.ndarray]:
    """Return images of two sizes."""
    first, second = (read_image(path) for path in sorted(images.iterdir())[:2])
    return [first, second[:90, ::-1]]


def test_torchvisions_boxes_are_those_of_its_network(network, files, photographs):
    """The network takes RGB in [0, 1] and returns corners."""
    with torch.inference_mode():
        expected = network([torch.from_numpy(image[..., ::-1].transpose(2, 0, 1) / np.float32(255)) for image in photographs])
    for detect in (load_detector(NAME, path, 0.3, "cpu") for path in files):
        for boxes, output in zip(detect(photographs), expected, strict=True):
            people = (output["labels"] == 1) & (output["scores"] > 0.3)
            left, top, right, bottom = output["boxes"][people].T
            assert len(boxes) > 9
            np.testing.assert_allclose(boxes, torch.stack([left, top, right - left, bottom - top, output["scores"][people]], 1), atol=1e-3)


def test_torchvisions_own_weights_are_kept_where_it_keeps_them(files, tmp_path, monkeypatch):
    """They are used without a connection, which a closed proxy stands for."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    address = "https://download.pytorch.org/models/ssdlite320_mobilenet_v3_large_coco-a79551df.pth"
    folder = tmp_path / "hub" / "checkpoints"
    failure = rf"^detector {NAME}: {address} cannot be downloaded \(.*\); download it elsewhere and name the file with --detector-weights$"
    with pytest.raises(UserError, match=failure):
        load_detector(NAME, device="cpu")
    assert not list(tmp_path.iterdir())
    folder.mkdir(parents=True)
    shutil.copyfile(files[1], folder / address.rpartition("/")[2])
    weights = torch.load(files[1], weights_only=True)
    loaded = load_detector(NAME, device="cpu").network.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in weights.items())


def test_only_people_above_the_least_score_count(weights, photographs, monkeypatch):
    detect = TorchvisionDetector(NAME, weights, 0.5, "cpu")
    output = {
        "boxes": torch.tensor([[1, 2, 11, 22], [1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 9, 9.5]]),
        "labels": torch.tensor([1, 2, 1, 1]),
        "scores": torch.tensor([0.9, 0.8, 0.75, 0.5]),
        "masks": torch.zeros(4),  # an output of networks for other tasks
    }
    monkeypatch.setattr(detect.network, "forward", lambda pixels: [output for _ in pixels])
    first, second = detect(photographs)
    np.testing.assert_allclose(first, [[1, 2, 10, 20, 0.9], [5, 6, 2, 2, 0.75]])
    detect.least_score = 1.0
    assert [of_image.shape for of_image in detect(photographs)] == [(0, 5)] * 2
    assert detect([]) == []


def test_boxes_around_people_have_a_margin(trained, photographs, monkeypatch):
    """Missing keypoints lie at 0, 0. Improbable people and isolated keypoints get no box. A box's score is the root of the person's."""
    keypoints = np.zeros((4, 18, 3))
    keypoints[0, :2] = keypoints[3, :2] = [[100, 50, 0.9], [120, 90, 0.1]]
    keypoints[1, :3] = [[10, 10, 1], [40, 10, 1], [25, 10, 1]]
    keypoints[2, 1] = [30, 40, 0.9]
    detect = load_detector(trained / "best.pth", least_score=0.5, device="cpu")
    people = PosePredictions(keypoints, np.array([0.81, 0.64, 0.5, 0.24]), detect.estimator.config.skeleton)
    predictions = [people, people.select(np.zeros(4, bool))]
    monkeypatch.setattr(detect.estimator, "batch", lambda images: predictions[: len(images)])
    boxes, none = detect(photographs)
    np.testing.assert_allclose(boxes, [[96, 46, 28, 48, 0.9], [7, 7, 36, 6, 0.8]], rtol=1e-6)
    assert none.shape == (0, 5)


def test_unusable_detectors_are_errors(trained, weights, tmp_path):
    with registered():
        tiny = write_checkpoint(tmp_path / "tiny.pth")
        torch.save({"model": [1, 2]}, tmp_path / "other.pth")
        for arguments, message in (
            (("a.pth",), "detector a.pth: not found; use --detector, a bottom-up system's checkpoint or network's name, or a torch"),
            (("dekr_w32_coco",), "detector's name; did you mean 'dekr_w32_coco_mmpose'?"),
            (("fasterrcnn_resnet51", weights), "detector fasterrcnn_resnet51: unknown to torchvision; did you mean 'fasterrcnn_"),
            ((NAME, tmp_path / "nowhere.pth"), "nowhere.pth: not found"),
            ((NAME, tmp_path / "other.pth"), "other.pth: has no 'weights', a dictionary of tensors"),
            ((NAME, trained / "best.pth"), f"best.pth: not those of torchvision's {NAME}: "),
            ((tiny,), "tiny.pth: system 'tiny' needs person boxes itself"),
        ):
            with pytest.raises(UserError) as error:
                load_detector(*arguments)
            assert message in str(error.value)
            assert len(str(error.value)) < 1200
