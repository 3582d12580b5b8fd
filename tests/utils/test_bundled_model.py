"""Without a checkpoint, demo, evaluation and PoseEstimator take the network that comes with the project, and say which one that is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from config import UserError
from config.load import parse_config
from config.version import VERSION
from data.images import read_image
from models import build_model
from utils.bundled_model import bundled_checkpoint
from utils.checkpoint import config_for
from utils.inference import PoseEstimator
from utils.safetensors_file import write_safetensors

VALUES = {
    "model": {"stages": 1, "channels": 16, "channels_increase": 0, "depth": 2},
    "data": {"input_size": [64, 64]},
    "loss": {"scale_weights": [1, 1, 1]},
    "inference": {"pad_multiple": 16},
}
SAID = f"network: simplepose_tiny {VERSION}, which comes with the project; no other checkpoint is named\n"


@pytest.fixture(autouse=True)
def default(tmp_path_factory, tmp_path, monkeypatch) -> Path:
    """A tiny network in the real one's place, and a folder far from the project to work in."""
    path, config = tmp_path_factory.mktemp("package") / "network.safetensors", parse_config(VALUES, "tiny")
    about = {"config": config.model_dump(mode="json"), "name": "simplepose_tiny", "version": VERSION}
    write_safetensors(path, build_model(config).state_dict(), about, half=True)
    monkeypatch.setattr("utils.bundled_model.DEFAULT", path)
    monkeypatch.chdir(tmp_path)
    return path


def test_the_demo(run, images, tmp_path, monkeypatch):
    configs, real = [], PoseEstimator.stream
    monkeypatch.setattr(PoseEstimator, "stream", lambda self, *given: configs.append(self.config) or real(self, *given))
    image = min(images.iterdir())
    ended = run("demo_image.py", "--input", image, "inference.flip=false", "assignment.max_peaks=3")
    assert ended.status == 0, ended.err
    assert ended.out.count(SAID) == 1
    assert (tmp_path / "runs" / "demo" / image.name).is_file()
    assert (configs[0].model.channels, configs[0].inference.flip, configs[0].assignment.max_peaks) == (16, False, 3)


def test_the_evaluation(run, annotations, images, default, tmp_path):
    ended = run("evaluate.py", "--annotations", annotations, "--images", images, "--limit", 2, "--no-flip")
    assert ended.status == 0, ended.err
    assert ended.out.count(SAID) == 1
    assert json.loads((tmp_path / "runs" / "evaluation" / "detections.json").read_text()) == []
    assert list(default.parent.iterdir()) == [default]  # nothing beside the network


def test_python(images, default, capsys):
    estimator = PoseEstimator()
    assert capsys.readouterr() == (SAID, "")
    assert estimator.config == config_for(default)
    keypoints, scores = estimator(read_image(min(images.iterdir())))
    assert (keypoints.shape, len(scores)) == ((0, 18, 3), 0)


def test_a_named_checkpoint_brings_its_own_configuration(trained, capsys):
    estimator = PoseEstimator(checkpoint=trained / "best.pth")
    assert capsys.readouterr().out == ""
    assert estimator.config == config_for(trained / "best.pth")


def test_a_configuration_alone_gives_drawn_weights_as_ever(tiny, capsys):
    config = config_for(bundled_checkpoint())
    one, other = (PoseEstimator(config).network.front.stem.conv.weight.detach().numpy() for _ in range(2))
    assert capsys.readouterr().out == ""
    assert not np.array_equal(one, other)


def test_a_configuration_without_its_checkpoint_is_refused(fails, annotations, images, tiny):
    """What a run has learned is used only when it is named."""
    for script in (("demo_image.py", "--input", images), ("evaluate.py", "--annotations", annotations, "--images", images)):
        said = fails(*script, "--config", tiny)
        assert "Name its weights, such as --checkpoint runs/tiny/best.pth" in said


def test_keys_that_make_another_network_are_refused(fails, images):
    assert "does not fit the configured network" in fails("demo_image.py", "--input", images, "model.depth=1", "loss.scale_weights=[1, 1]")


@pytest.mark.parametrize("left", ["nothing", "half"])
def test_a_package_without_the_network(fails, annotations, images, default, left):
    if left == "nothing":
        default.unlink()
    else:
        default.write_bytes(default.read_bytes()[:5000])
    words = {"nothing": "not found; name another checkpoint", "half": "cut short"}[left]
    messages = [
        fails("demo_image.py", "--input", images),
        fails("evaluate.py", "--annotations", annotations, "--images", images),
    ]
    with pytest.raises(UserError) as error:
        PoseEstimator()
    for message in (*messages, str(error.value)):
        assert words in message
        assert str(default) in message
