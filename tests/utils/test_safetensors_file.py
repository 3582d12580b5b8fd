"""Networks as .safetensors: written by the export, the same bytes each time, and read wherever a checkpoint is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lively import make_lively
from safetensors import safe_open
from safetensors.torch import save_file

from config import Config, UserError
from config.load import parse_config
from config.version import VERSION
from data.images import read_image
from models import build_model
from utils.checkpoint import config_for, init_weights, load_weights, read_checkpoint, save_checkpoint
from utils.inference import PoseEstimator

EXPORT = "utils/export.py"
VALUES = {
    "model": {"stages": 2, "channels": 16, "channels_increase": 0, "depth": 1},
    "data": {"input_size": [64, 64]},
    "loss": {"scale_weights": [1, 1]},
    "inference": {"pad_multiple": 8},
    "assignment": {"keypoint_threshold": 1e-4, "lone_threshold": 0, "max_peaks": 2},
}


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(VALUES, "test")


@pytest.fixture(scope="module")
def checkpoint(config, tmp_path_factory) -> Path:
    """Of a network in which everything matters, and one variance is too large for float16."""
    path, weights = tmp_path_factory.mktemp("lively") / "model.pth", build_model(config).state_dict()
    make_lively(weights, seed=1)
    weights["stages.0.features.1.conv1.bn.running_var"][0] = 1e6
    save_checkpoint(path, weights=weights, config=config.model_dump(mode="json"))
    return path


@pytest.fixture
def exported(run, checkpoint, tmp_path):
    """Writes the checkpoint's network to a file below tmp_path, as the command does."""

    def write(name: str, *more: object) -> Path:
        ended = run(EXPORT, "--checkpoint", checkpoint, "--output", tmp_path / name, *more)
        assert ended.status == 0, ended.err
        return tmp_path / name

    return write


def test_everything_comes_back(exported, checkpoint, config):
    path, weights = exported("mine.safetensors"), read_checkpoint(checkpoint)["weights"]
    content = read_checkpoint(path)
    assert (content["name"], content["version"]) == ("mine", VERSION)
    assert config_for(path) == config
    assert config_for(path, overrides=["inference.flip=false"]).inference.flip is False
    assert content["weights"].keys() == weights.keys()
    assert all(torch.equal(content["weights"][name], weights[name]) for name in weights)


def test_half_of_the_bytes_are_read_as_float32(exported, checkpoint):
    path, weights = exported("mine.safetensors", "--half"), read_checkpoint(checkpoint)["weights"]
    assert path.stat().st_size < 0.7 * exported("whole.safetensors").stat().st_size
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("front.stem.conv.weight").dtype == torch.float16
    for name, tensor in read_checkpoint(path)["weights"].items():
        assert tensor.dtype == weights[name].dtype
        assert torch.equal(tensor, weights[name].half().float() if tensor.ndim > 1 else weights[name])


def test_the_same_network_is_the_same_bytes(exported):
    first, second = (exported(f"{folder}/mine.safetensors", "--half").read_bytes() for folder in "ab")
    assert first == second
    with safe_open(exported("mine.safetensors"), framework="pt") as file:
        assert list(file.metadata()) == ["simplepose"]  # of several entries each process would draw the order anew


def test_the_same_people_are_found(exported, checkpoint, images):
    image = read_image(min(images.iterdir()))
    keypoints, scores = PoseEstimator(config_for(checkpoint), checkpoint, "cpu")(image)
    for path, distance in ((exported("whole.safetensors"), 1e-9), (exported("half.safetensors", "--half"), 0.5)):
        its_keypoints, its_scores = PoseEstimator(config_for(path), path, "cpu")(image)
        assert len(scores) == len(its_scores) > 0
        assert np.median(np.abs(keypoints - its_keypoints)) <= distance


def test_scripts_take_it(run, exported, tiny, trained, annotations, images, tmp_path):
    path, image = exported("mine.safetensors", "--half"), min(images.iterdir())
    ended = run("demo_image.py", "--checkpoint", path, "--input", image, "--output", tmp_path / "demo")
    assert ended.status == 0, ended.err
    assert json.loads((tmp_path / "demo" / f"{image.name}.json").read_text())["people"]
    where = ("--annotations", annotations, "--images", images, "--output", tmp_path / "out", "--limit", 2)
    ended = run("evaluate.py", "--checkpoint", path, *where)
    assert ended.status == 0, ended.err


def test_fine_tuning_starts_from_it(exported, config, checkpoint):
    network, weights = build_model(config), read_checkpoint(checkpoint)["weights"]
    taken, fresh = init_weights(network, exported("mine.safetensors"))
    assert (len(taken), fresh) == (len(weights), [])
    assert torch.equal(network.state_dict()["front.stem.conv.weight"], weights["front.stem.conv.weight"])


# What is refused


def test_a_file_cut_short_or_of_another_kind(fails, exported, images, tmp_path):
    whole = exported("mine.safetensors").read_bytes()
    bad = tmp_path / "bad.safetensors"
    bad.touch()
    usual = ("--input", images, "--output", tmp_path / "demo", "--checkpoint", bad)
    for content in (b"", whole[:5], whole[:500], whole[: len(whole) // 2], whole[:-1], whole + b"\0", b"no tensors " * 9, b"\xff" * 99):
        bad.write_bytes(content)
        assert "bad.safetensors: cannot be read, cut short, damaged" in fails("demo_image.py", *usual)
    save_file({"a": torch.zeros(1)}, bad, {"simplepose": "[1"})
    assert "bad.safetensors: cannot be read" in fails("demo_image.py", *usual)
    save_file({"a": torch.zeros(1)}, bad, {"simplepose": "[1]"})
    assert "bad.safetensors: what it says of itself is a list" in fails("demo_image.py", *usual)
    bad.unlink()
    assert "bad.safetensors: not found" in fails("demo_image.py", *usual)


def test_a_file_of_another_network(fails, exported, images, tmp_path):
    usual = ("--input", images, "--output", tmp_path / "demo", "--checkpoint")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"some.weight": torch.zeros(3)}, foreign, {"format": "pt"})
    assert "foreign.safetensors: holds no configuration" in fails("demo_image.py", *usual, foreign)
    path = exported("mine.safetensors")
    assert "does not fit the configured network: " in fails("demo_image.py", *usual, path, "model.stages=1")
    with pytest.raises(UserError, match=r"foreign.*does not fit the configured network: \d+ tensors missing"):
        load_weights(build_model(config_for(path)), foreign)


def test_a_training_does_not_go_on_from_it(fails, run, trained, tiny, tmp_path):
    path = tmp_path / "mine.safetensors"
    assert run(EXPORT, "--checkpoint", trained / "best.pth", "--output", path).status == 0
    said = fails("train.py", "--config", tiny, "--output", tmp_path / "out", "--resume", path)
    assert "start from it with --init" in said


def test_nothing_is_written_where_float16_says_something_else(fails, checkpoint, tmp_path):
    for name in ("front.stem.conv.weight", "stages.0.predictions.1.weight"):  # of a coarse scale, too, which only training needs
        content = read_checkpoint(checkpoint)
        content["weights"][name] = content["weights"][name] + 1e5
        save_checkpoint(tmp_path / "large.pth", **content)
        said = fails(EXPORT, "--checkpoint", tmp_path / "large.pth", "--output", tmp_path / "large.safetensors", "--half")
        assert "nothing was written" in said and name in said
        assert not (tmp_path / "large.safetensors").exists()
    assert "--half: not for .onnx" in fails(EXPORT, "--checkpoint", checkpoint, "--output", tmp_path / "model.onnx", "--half")
