"""Another pose system joins by files of its own and an entry in the registry: the one in tiny_system.py goes every way there is."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from people import UPPER_BODY
from places import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_system import ENTRY

from config import UserError, load_config
from config.systems import SYSTEMS
from data.images import read_image
from utils.checkpoint import read_checkpoint
from utils.inference import PoseEstimator


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The one entry that the project has for each system."""
    SYSTEMS["tiny"] = ENTRY
    yield
    del SYSTEMS["tiny"]


@pytest.fixture(scope="module")
def recipe(hdf5, tmp_path_factory) -> Path:
    """Three keypoints, from a file that was built for seventeen."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "upper_body.yaml").write_text(yaml.safe_dump(UPPER_BODY))
    train = {"epochs": 1, "batch_size": 2, "optimizer": "adamw", "learning_rate": 0.02, "warmup_epochs": 0, "log_every": 2}
    data = {"train": str(hdf5), "val": str(hdf5), "input_size": [64, 80], "workers": 0}
    values = {"system": "tiny", "skeleton": str(folder / "upper_body.yaml"), "data": data, "train": train}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values))
    return folder / "tiny.yaml"


@pytest.fixture
def trained(run, recipe, tmp_path) -> Path:
    """The folder of a run of one epoch."""
    ended = run("train.py", "--config", recipe, "--output", tmp_path / "run")
    assert ended.status == 0, ended.err
    return tmp_path / "run"


def test_it_trains_and_resumes(run, recipe, trained, tmp_path):
    first = read_checkpoint(trained / "last.pth")
    assert (first["epoch"], first["config"]["system"]) == (1, "tiny")
    ended = run("train.py", "--config", recipe, "--output", trained, "--resume", "auto", "train.epochs=4")
    assert (ended.status, "resuming after epoch 1" in ended.out) == (0, True), ended.err
    assert read_checkpoint(trained / "best.pth")["best"] < first["best"]
    straight = run("train_parallel.py", "--config", recipe, "--output", tmp_path / "straight", "train.epochs=4")
    assert straight.status == 0, straight.err
    one, other = (read_checkpoint(folder / "last.pth")["weights"] for folder in (trained, tmp_path / "straight"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_watched_and_drawn_in_training(trained):
    shown = EventAccumulator(str(trained)).Reload().Tags()
    assert {"loss/head", "loss/left", "loss/right", "train/loss"} <= set(shown["scalars"])
    assert "validation/0" in shown["images"]


def test_foreign_checkpoints_are_read_by_its_own_names(run, recipe, trained, tmp_path):
    weights = {f"theirs.{name}": tensor for name, tensor in read_checkpoint(trained / "last.pth")["weights"].items()}
    torch.save({"weights": weights}, tmp_path / "theirs.pth")
    ended = run("train.py", "--config", recipe, "--output", tmp_path / "tuned", "--init", tmp_path / "theirs.pth")
    assert (ended.status, "0 newly initialized" in ended.out) == (0, True), ended.err


def test_it_is_evaluated(run, trained, annotations, images, tmp_path):
    """On a file of seventeen keypoints, by the three that it knows, which is pycocotools' affair."""
    options = ("--annotations", annotations, "--images", images, "--output", tmp_path / "out", "--limit", 4)
    ended = run("evaluate.py", "--checkpoint", trained / "best.pth", *options)
    assert ended.status == 0, ended.err
    detections = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert len(detections) == 4
    assert all(len(detection["keypoints"]) == 51 and sum(map(bool, detection["keypoints"][2::3])) == 3 for detection in detections)


def test_it_runs_in_the_demo(run, trained, images, tmp_path):
    image = min(images.iterdir())
    ended = run("demo_image.py", "--checkpoint", trained / "best.pth", "--input", image, "--output", tmp_path / "demo", "--min-score", 0)
    assert ended.status == 0, ended.err
    written = json.loads((tmp_path / "demo" / f"{image.name}.json").read_text())
    assert written["keypoints"] == ["head", "left", "right"]
    assert np.shape(written["people"][0]["keypoints"]) == (3, 3)
    assert (cv2.imread(str(tmp_path / "demo" / image.name)) != read_image(image)).any()


def test_boxes_are_handed_to_a_system_that_asks_for_them(recipe, trained, images):
    image = read_image(min(images.iterdir()))
    plain = PoseEstimator(load_config(recipe), trained / "best.pth")
    with_boxes = PoseEstimator(load_config(recipe, ["inference.boxes=true"]), trained / "best.pth")
    whole, part = [0, 0, *image.shape[1::-1]], [40, 30, 60, 80]
    keypoints, scores = with_boxes(image, np.array([whole, part]))
    assert keypoints.shape == (2, 3, 3)
    inside = ((keypoints[..., :2] >= [39, 29]) & (keypoints[..., :2] <= [101, 111])).all((1, 2))
    of_whole = np.isclose(keypoints, plain(image)[0][0]).all((1, 2))
    assert of_whole.sum() == 1 and inside[~of_whole].all()
    together = with_boxes.batch([image, image], [np.array([part]), np.zeros((0, 4))])
    np.testing.assert_allclose(together[0][0], keypoints[~of_whole], rtol=1e-5)
    assert len(together[1][0]) == 0
    with pytest.raises(UserError, match="system 'tiny' looks at one person at a time .* give boxes"):
        with_boxes(image)
    with pytest.raises(UserError, match="boxes for 1 of 2 images"):
        with_boxes.batch([image, image], [np.array([part])])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("targets.spred=2", "unknown key 'targets.spred'; did you mean 'targets.spread'?"),
        ("augmentation.rotation=2", "unknown key 'augmentation'"),
        ("model.width=0", "model.width: input should be greater than or equal to 1, got 0"),
        ("system=tyni", "unknown system 'tyni'; did you mean 'tiny'?"),
    ],
)
def test_its_keys_are_checked_like_any(recipe, override, said):
    with pytest.raises(UserError) as error:
        load_config(recipe, [override])
    assert said in str(error.value)


def test_no_other_file_knows_of_it():
    for folder in ("config", "data", "models", "losses", "utils"):
        assert not [path for path in (ROOT / folder).rglob("*.py") if "tiny_system" in path.read_text()]
