"""demo_image.py with a pose system that must be told where people are."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from needing_boxes import registered, write_checkpoint
from torchvision.models import get_model

from data.images import read_image

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.fixture(scope="module", autouse=True)
def system():
    with registered():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.pth")


@pytest.fixture(scope="module")
def torchvisions(tmp_path_factory) -> tuple[object, ...]:
    """Options that name a detector that sees people everywhere."""
    torch.manual_seed(1)
    network = get_model(NAME, weights=None, weights_backbone=None)
    torch.nn.init.constant_(network.roi_heads.box_predictor.cls_score.bias[1:2], 9)
    path = tmp_path_factory.mktemp("detector") / "weights.pth"
    torch.save(network.state_dict(), path)
    return "--detector", NAME, "--detector-weights", path


def people(path: Path) -> list[dict]:
    return json.loads(path.read_text())["people"]


def test_a_torchvision_detector_finds_the_boxes(run, checkpoint, torchvisions, images, tmp_path):
    """Of a folder's pictures, and of a video's frames."""
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 128))
    for path in sorted(images.iterdir())[:2]:
        writer.write(read_image(path))
    writer.release()
    command = ("demo_image.py", "--checkpoint", checkpoint, "--output", tmp_path / "demo", "--min-score", 0, *torchvisions)
    for source in (images, tmp_path / "clip.avi"):
        ended = run(*command, "--input", source, "--limit", 2)
        assert ended.status == 0, ended.err
    found = [people(tmp_path / "demo" / f"{n:012d}.jpg.json") for n in (1, 2)]
    found += [frame["people"] for frame in json.loads((tmp_path / "demo" / "clip.json").read_text())]
    assert len(found) == 4
    assert all(of_image and np.shape(of_image[0]["keypoints"]) == (17, 3) for of_image in found)
    drawn = cv2.imread(str(tmp_path / "demo" / "000000000001.jpg")).astype(int)
    assert np.abs(drawn - read_image(images / "000000000001.jpg")).max() > 100
    assert run(*command, "--input", images, "--limit", 1, "--detector-score", 1).status == 0
    assert people(tmp_path / "demo" / "000000000001.jpg.json") == []


def test_another_pose_system_finds_the_boxes(run, checkpoint, trained, images, tmp_path, monkeypatch):
    monkeypatch.setattr("utils.detectors.boxes_around", lambda keypoints, scores, least: np.array([[10.0, 20, 60, 70, least]]))
    command = ("demo_image.py", "--checkpoint", checkpoint, "--detector", trained / "best.pth", "--detector-score", 0.5)
    ended = run(*command, "--input", images, "--limit", 2, "--output", tmp_path / "demo")
    assert ended.status == 0, ended.err
    for n in (1, 2):
        (person,) = people(tmp_path / "demo" / f"{n:012d}.jpg.json")
        places = np.array(person["keypoints"])
        assert ((places[:, :2] >= [9, 19]) & (places[:, :2] <= [71, 91])).all()
        assert person["score"] == pytest.approx(0.5 * places[:, 2].mean(), abs=1e-2)


def test_without_a_detector_it_says_what_to_give(fails, checkpoint, trained, images, tmp_path):
    usual = ("demo_image.py", "--input", images, "--output", tmp_path / "demo", "--checkpoint")
    message = fails(*usual, checkpoint)
    assert "system 'tiny' must be told where people are; give --detector, a checkpoint of a system that finds people by itself" in message
    assert "must be told where people are" in fails(*usual, checkpoint, "--detector-weights", trained / "best.pth")
    assert "give its weights" in fails(*usual, checkpoint, "--detector", NAME)
    assert "system 'simplepose' finds people by itself; leave it out" in fails(*usual, trained / "best.pth", "--detector", NAME)
