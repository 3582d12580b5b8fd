"""Networks as .safetensors: written by the export, the same bytes each time, and read wherever a checkpoint is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from random_weights import randomize_weights
from safetensors import safe_open
from safetensors.torch import save_file

from config import Config, UserError, load_config
from config.load import parse_config
from config.version import VERSION
from data.images import read_image
from models import build_model
from utils.checkpoint import config_for, init_weights, load_network, read_checkpoint, save_checkpoint
from utils.export import export
from utils.inference import PoseEstimator

VALUES = {
    "model": {"stages": 1, "channels": 16, "channels_increase": 0, "depth": 1},
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
    """Write a network in which every weight matters, and one variance is too large for float16."""
    path, weights = tmp_path_factory.mktemp("lively") / "model.pth", build_model(config).state_dict()
    randomize_weights(weights, seed=1)
    weights["stages.0.features.1.conv1.bn.running_var"][0] = 1e6
    save_checkpoint(path, weights=weights, config=config.model_dump(mode="json"))
    return path


@pytest.fixture(scope="module")
def exported(config, checkpoint, tmp_path_factory) -> Callable[[bool], Path]:
    """Return a function half -> path of the exported network."""
    folder = tmp_path_factory.mktemp("exported")
    for half in (False, True):
        export(config, checkpoint, folder / f"half_{half}" / "mine.safetensors", half)
    return lambda half: folder / f"half_{half}" / "mine.safetensors"


@pytest.mark.parametrize("half", [False, True])
def test_weights_and_configuration_come_back_as_float32(exported, checkpoint, config, images, half):
    path, weights = exported(half), read_checkpoint(checkpoint)["weights"]
    content = read_checkpoint(path)
    assert (content["name"], content["version"], config_for(path)) == ("mine", VERSION, config)
    assert config_for(path, overrides=["inference.flip=false"]).inference.flip is False
    assert content["weights"].keys() == weights.keys()
    for name, tensor in content["weights"].items():
        assert tensor.dtype == weights[name].dtype
        assert torch.equal(tensor, weights[name].half().float() if half and tensor.ndim > 1 else weights[name])
    network = build_model(config)
    assert init_weights(network, path)[1] == []
    assert torch.equal(network.front.stem.conv.weight, content["weights"]["front.stem.conv.weight"])
    image = read_image(min(images.iterdir()))
    (keypoints, scores), (expected, expected_scores) = (PoseEstimator(checkpoint=file, device="cpu")(image) for file in (path, checkpoint))
    assert len(scores) == len(expected_scores) > 0
    assert np.median(np.abs(keypoints - expected)) <= (0.5 if half else 1e-9)


def test_the_same_network_gives_the_same_bytes_and_half_of_them_as_float16(exported, config, checkpoint, tmp_path):
    export(config, checkpoint, tmp_path / "mine.safetensors", half=True)
    assert (tmp_path / "mine.safetensors").read_bytes() == exported(True).read_bytes()
    assert exported(True).stat().st_size < 0.8 * exported(False).stat().st_size
    with safe_open(exported(True), framework="pt") as file:
        assert file.get_tensor("front.stem.conv.weight").dtype == torch.float16
        assert list(file.metadata()) == ["simplepose"]  # the order of several entries would vary between processes


# Errors


def test_a_damaged_file_is_an_error_of_one_line(exported, tmp_path):
    whole, bad = exported(False).read_bytes(), tmp_path / "bad.safetensors"

    def refused() -> str:
        with pytest.raises(UserError) as error:
            config_for(bad)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "bad.safetensors: not found" in refused()
    for content in (b"", whole[:5], whole[:500], whole[: len(whole) // 2], whole[:-1], whole + b"\0", b"no tensors " * 9, b"\xff" * 99):
        bad.write_bytes(content)
        assert "bad.safetensors: cannot be read, cut short, damaged" in refused()
    for metadata in ("[1", "[1]"):
        save_file({"a": torch.zeros(1)}, bad, {"simplepose": metadata})
        assert "bad.safetensors: cannot be read" in refused()


def test_a_file_of_another_network_is_refused(config, exported, tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"some.weight": torch.zeros(3)}, foreign, {"format": "pt"})
    with pytest.raises(UserError, match=r"foreign\.safetensors: holds no configuration"):
        config_for(foreign)
    with pytest.raises(UserError, match=r"foreign.*does not fit the configured network: \d+ tensors missing"):
        load_network(config, foreign, "cpu")
    with pytest.raises(UserError, match="does not fit the configured network"):
        load_network(config_for(exported(False), overrides=["model.channels=32"]), exported(False), "cpu")


def test_training_does_not_resume_from_it(fails, tiny, tmp_path):
    path = tmp_path / "mine.safetensors"
    export(load_config(tiny), None, path)
    assert "start from it with --init" in fails("train.py", "--config", tiny, "--output", tmp_path / "out", "--resume", path)


@pytest.mark.parametrize("name", ["front.stem.conv.weight", "stages.0.predictions.1.weight"])  # also a coarse scale, for training only
def test_weights_too_large_for_float16_are_not_written(config, checkpoint, tmp_path, name):
    content = read_checkpoint(checkpoint)
    content["weights"][name] = content["weights"][name] + 1e5
    save_checkpoint(tmp_path / "large.pth", **content)
    with pytest.raises(UserError, match=f"nothing was written: {name}"):
        export(config, tmp_path / "large.pth", tmp_path / "large.safetensors", half=True)
    assert not (tmp_path / "large.safetensors").exists()


def test_only_safetensors_hold_float16(config):
    with pytest.raises(UserError, match=r"--half: not for \.onnx"):
        export(config, None, Path("model.onnx"), half=True)
