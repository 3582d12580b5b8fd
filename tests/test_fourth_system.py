"""A fourth pose system needs files of its own and one registry entry: tiny_system.py trains, resumes, evaluates and predicts."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from people import UPPER_BODY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_system import ENTRY

from config import UserError, load_config
from config.systems import SYSTEMS
from data.images import read_image
from utils.checkpoint import read_checkpoint
from utils.inference import PoseEstimator


@pytest.fixture(scope="module", autouse=True)
def registered():
    """Register the system by one entry, as the project's own ones."""
    SYSTEMS["tiny"] = ENTRY
    yield
    del SYSTEMS["tiny"]


@pytest.fixture(scope="module")
def recipe(hdf5, tmp_path_factory) -> Path:
    """Write a recipe of three keypoints for a training file of seventeen."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "upper_body.yaml").write_text(yaml.safe_dump(UPPER_BODY))
    train = {"epochs": 1, "batch_size": 2, "optimizer": "adamw", "learning_rate": 0.02, "warmup_epochs": 0, "log_every": 2}
    data = {"train": str(hdf5), "val": str(hdf5), "input_size": [64, 80], "workers": 0}
    values = {"system": "tiny", "skeleton": str(folder / "upper_body.yaml"), "data": data, "train": train}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values))
    return folder / "tiny.yaml"


@pytest.fixture
def trained(run, recipe, tmp_path) -> Path:
    """Train one epoch and return the run directory."""
    ended = run("train.py", "--config", recipe, "--output", tmp_path / "run")
    assert ended.status == 0, ended.err
    return tmp_path / "run"


def test_it_trains_logs_and_resumes(run, recipe, trained, tmp_path):
    logged = EventAccumulator(str(trained)).Reload().Tags()
    assert {"loss/head", "loss/left", "loss/right", "train/loss"} <= set(logged["scalars"])
    assert "validation/0" in logged["images"]
    first = read_checkpoint(trained / "last.pth")
    assert (first["epoch"], first["config"]["system"]) == (1, "tiny")
    ended = run("train.py", "--config", recipe, "--output", trained, "--resume", "auto", "train.epochs=3")
    assert ended.status == 0, ended.err
    assert read_checkpoint(trained / "best.pth")["best"] < first["best"]
    straight = run("train_parallel.py", "--config", recipe, "--output", tmp_path / "straight", "train.epochs=3")
    assert straight.status == 0, straight.err
    one, other = (read_checkpoint(folder / "last.pth")["weights"] for folder in (trained, tmp_path / "straight"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_its_checkpoint_is_fine_tuned_evaluated_and_shown(run, recipe, trained, annotations, images, tmp_path):
    weights = {f"theirs.{name}": tensor for name, tensor in read_checkpoint(trained / "last.pth")["weights"].items()}
    torch.save({"weights": weights}, tmp_path / "theirs.pth")
    ended = run("train.py", "--config", recipe, "--output", tmp_path / "tuned", "--init", tmp_path / "theirs.pth")
    assert (ended.status, "0 newly initialized" in ended.out) == (0, True), ended.err

    options = ("--annotations", annotations, "--images", images, "--output", tmp_path / "out", "--limit", 4)
    ended = run("evaluate.py", "--checkpoint", trained / "best.pth", *options)
    assert ended.status == 0, ended.err
    detections = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert len(detections) == 4
    assert all(len(detection["keypoints"]) == 51 and sum(map(bool, detection["keypoints"][2::3])) == 3 for detection in detections)

    image, output = min(images.iterdir()), tmp_path / "demo"
    ended = run("demo_image.py", "--checkpoint", trained / "best.pth", "--input", image, "--output", output, "--min-score", 0)
    assert ended.status == 0, ended.err
    written = json.loads((output / f"{image.name}.json").read_text())
    assert (written["keypoints"], np.shape(written["people"][0]["keypoints"])) == (["head", "left", "right"], (3, 3))
    assert (cv2.imread(str(output / image.name)) != read_image(image)).any()


def test_its_boxes_limit_where_people_are_predicted(recipe, trained, images):
    image = read_image(min(images.iterdir()))
    plain = PoseEstimator(load_config(recipe), trained / "best.pth")
    with_boxes = PoseEstimator(load_config(recipe, ["inference.boxes=true"]), trained / "best.pth")
    keypoints, _ = with_boxes(image, np.array([[0, 0, *image.shape[1::-1]], [40, 30, 60, 80]]))
    assert keypoints.shape == (2, 3, 3)
    inside = ((keypoints[..., :2] >= [39, 29]) & (keypoints[..., :2] <= [101, 111])).all((1, 2))
    whole = np.isclose(keypoints, plain(image)[0][0]).all((1, 2))
    assert whole.sum() == 1 and inside[~whole].all()


def test_its_keys_are_checked(recipe):
    for override, known in (("targets.spred=2", "targets.spread"), ("system=tyni", "tiny")):
        with pytest.raises(UserError, match=f"did you mean '{known}'"):
            load_config(recipe, [override])
