"""A fourth pose system needs files of its own and one registry entry: tiny_system.py trains, resumes, evaluates and predicts."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import top_down_system
import torch
import yaml
from people import UPPER_BODY
from runs import ALONE, same, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from config import load_config
from data.images import read_image
from utils.checkpoint import read_checkpoint
from utils.training.trainer import train


@pytest.fixture(scope="module", autouse=True)
def registered():
    with top_down_system.registered():
        yield


@pytest.fixture(scope="module")
def recipe(hdf5, tmp_path_factory) -> Path:
    """Write a recipe of three keypoints for a training file of seventeen."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "upper_body.yaml").write_text(yaml.safe_dump(UPPER_BODY))
    settings = {"epochs": 1, "batch_size": 2, "optimizer": "adamw", "learning_rate": 0.02, "warmup_epochs": 0, "log_every": 2}
    data = {"train": str(hdf5), "val": str(hdf5), "input_size": [64, 80], "workers": 0}
    values = {"system": "tiny", "skeleton": str(folder / "upper_body.yaml"), "data": data, "train": settings}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def trained(recipe) -> Path:
    """Train one epoch and return the run directory. Tests write to a copy."""
    train(load_config(recipe), recipe.parent / "run", ALONE)
    return recipe.parent / "run"


def test_it_trains_logs_and_resumes(recipe, trained, copy_of, tmp_path):
    logged = EventAccumulator(str(trained)).Reload().Tags()
    assert {"loss/head", "loss/left", "loss/right", "train/loss"} <= set(logged["scalars"])
    assert "validation/0" in logged["images"]
    first, resumed, longer = read_checkpoint(trained / "last.pth"), copy_of(trained), load_config(recipe, ["train.epochs=3"])
    assert (first["epoch"], first["config"]["system"]) == (1, "tiny")
    train(longer, resumed, ALONE, "auto")
    train(longer, tmp_path / "straight", ALONE)
    assert read_checkpoint(resumed / "best.pth")["best"] < first["best"]
    assert same(weights(resumed), weights(tmp_path / "straight"))


def test_its_checkpoint_is_fine_tuned_evaluated_and_shown(run, recipe, trained, annotations, images, tmp_path):
    torch.save({"weights": {f"theirs.{name}": tensor for name, tensor in weights(trained).items()}}, tmp_path / "theirs.pth")
    image, network = min(images.iterdir()), ("--checkpoint", trained / "best.pth")
    for script, *options in (
        ("train.py", "--config", recipe, "--init", tmp_path / "theirs.pth"),
        ("evaluate.py", *network, "--annotations", annotations, "--images", images, "--limit", 4),
        ("demo_image.py", *network, "--input", image, "--min-score", 0),
    ):
        ended = run(script, *options, "--output", tmp_path / script)
        assert (ended.status, script != "train.py" or "0 newly initialized" in ended.out) == (0, True), ended.err
    detections = json.loads((tmp_path / "evaluate.py" / "detections.json").read_text())
    assert len(detections) == 4
    assert all(len(detection["keypoints"]) == 51 and sum(map(bool, detection["keypoints"][2::3])) == 3 for detection in detections)
    written = json.loads((tmp_path / "demo_image.py" / f"{image.name}.json").read_text())
    assert (written["keypoints"], np.shape(written["people"][0]["keypoints"])) == (["head", "left", "right"], (3, 3))
    assert (cv2.imread(str(tmp_path / "demo_image.py" / image.name)) != read_image(image)).any()
