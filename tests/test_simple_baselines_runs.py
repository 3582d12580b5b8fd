"""Simple Baselines through the scripts: training, evaluation in annotated, MPII and detected boxes, and the demo."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mpii_files import mpii_files, write_list, write_truth
from people import crowd_file
from runs import losses, parameters_of, weights
from scipy.io import loadmat
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from config import load_config
from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.images import read_image
from utils.distributed import DistributedContext
from utils.inference import PoseEstimator
from utils.training.trainer import train as train_network

TINY = """
system: simple_baselines
skeleton: coco17
model: {{depth: 10, deconv_channels: 8}}
data: {{train: {hdf5!r}, val: {hdf5!r}, input_size: [64, 64], workers: 0}}
train: {{epochs: 2, batch_size: 4, learning_rate: 1.0e-3, milestones: [1], log_every: 2}}
"""


@pytest.fixture(scope="module")
def recipe(hdf5, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("simple_baselines") / "simple_baselines.yaml"
    path.write_text(TINY.format(hdf5=str(hdf5)))
    return path


@pytest.fixture(scope="module")
def top_down(recipe) -> Path:
    """The folder of a run of two epochs. Not to be written to."""
    folder = recipe.parent / "trained"
    train_network(load_config(recipe), folder, DistributedContext("none", torch.device("cpu")))
    return folder


@pytest.fixture
def boxes(annotations, tmp_path) -> Path:
    """A detector's boxes: those of the annotated people with noise, and three invalid ones."""
    rng, found = np.random.default_rng(0), []
    for person in json.loads(annotations.read_text())["annotations"]:
        box = np.array(person["bbox"]) + rng.normal(0, 2, 4)
        found.append({"image_id": person["image_id"], "category_id": 1, "bbox": box.tolist(), "score": float(rng.uniform(0.3, 1))})
    found += [{**found[0], "bbox": [-500, 0, 20, 20]}, {**found[0], "image_id": 12345678}, {**found[0], "category_id": 3}]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(found))
    return path


def test_the_loss_falls_and_its_terms_are_logged(recipe, top_down):
    first, last = losses((top_down / "train.log").read_text())
    assert last < 0.95 * first
    events = EventAccumulator(str(top_down)).Reload()
    assert "validation/0" in events.Tags()["images"]
    parts = [events.Scalars(f"loss/{name}")[0].value for name in load_config(recipe).skeleton.keypoints]
    assert sum(parts) == pytest.approx(events.Scalars("train/loss")[0].value, rel=1e-5)
    rates = [event.value for event in events.Scalars("train/lr")]
    assert (rates[0], rates[-1]) == pytest.approx((1e-3, 1e-4))


def test_init_from_another_skeleton_keeps_all_but_the_last_layer(run, recipe, top_down, annotations, images, tmp_path):
    file = crowd_file(annotations, tmp_path / "crowded.json")
    build_hdf5(file, images, tmp_path / "crowded.h5", load_skeleton("crowdpose"), workers=1)
    data = (f"data.train={tmp_path / 'crowded.h5'}", f"data.val={tmp_path / 'crowded.h5'}", "skeleton=crowdpose")
    start = ("--init", top_down / "last.pth", "train.epochs=1", "train.learning_rate=1e-12")
    ended = run("train.py", "--config", recipe, "--output", tmp_path / "run", *data, *start)
    assert ended.status == 0, ended.err
    assert "newly initialized: final_layer.weight, final_layer.bias\n" in ended.out
    before, after = weights(top_down), weights(tmp_path / "run")
    kept = [name for name in parameters_of(before) if not name.startswith("final_layer.")]
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in kept)
    assert after["final_layer.weight"].shape[0] == 14


@pytest.fixture
def evaluated(run, top_down, annotations, images, tmp_path) -> Callable[..., tuple[dict, list[dict], str]]:
    """Runs evaluate.py; metrics, detections and the output."""

    def start(*more: object) -> tuple[dict, list[dict], str]:
        output = tmp_path / "evaluation"
        checkpoint = ("--checkpoint", top_down / "last.pth")
        ended = run("evaluate.py", *checkpoint, "--annotations", annotations, "--images", images, "--output", output, *more)
        assert ended.status == 0, ended.err
        metrics, detections = (json.loads((output / name).read_text()) for name in ("metrics.json", "detections.json"))
        return metrics, detections, ended.out + ended.err

    return start


def test_detections_are_those_of_the_estimator_in_the_annotated_boxes(recipe, top_down, evaluated, annotations, images):
    metrics, detections, _ = evaluated("--no-flip", "--batch-size", "3", "inference.subpixel=quarter")
    overrides = ["inference.flip=false", "inference.subpixel=quarter"]
    assert 0 <= metrics["AP"] <= 1 and detections
    estimator, content = PoseEstimator(load_config(recipe, overrides), top_down / "last.pth"), json.loads(annotations.read_text())
    for image in content["images"]:
        people = [person for person in content["annotations"] if person["image_id"] == image["id"]]
        boxes = [person["bbox"] for person in people if person["num_keypoints"] and not person["iscrowd"]]
        keypoints, scores = estimator(read_image(images / image["file_name"]), np.reshape(boxes, (-1, 4)))
        of_image = [one for one in detections if one["image_id"] == image["id"]]
        np.testing.assert_allclose([one["score"] for one in of_image], scores, atol=1e-4)
        found = np.reshape([one["keypoints"] for one in of_image], (-1, 17, 3))
        np.testing.assert_allclose(found[..., :2], keypoints[..., :2], atol=0.05)


def test_detected_boxes_weight_the_scores_and_invalid_ones_are_named(evaluated, boxes):
    _, annotated, _ = evaluated("inference.keypoint_threshold=0")
    _, detected, out = evaluated("--boxes", boxes, "inference.keypoint_threshold=0")
    assert detected and "skipped" in out
    assert max(one["score"] for one in detected) < max(one["score"] for one in annotated)


def test_mpii_has_a_prediction_in_the_box_of_each_person(run, recipe, images, tmp_path):
    """Trained on them, and evaluated: a prediction for every annotated person, in the file's order and its box, and PCKh."""
    people = mpii_files(sorted(path.name for path in images.iterdir()))
    file, built = write_list(tmp_path / "valid.json", people), tmp_path / "people.h5"
    write_truth(tmp_path / "gt_valid.mat", people)
    build = ("data/coco_masks_hdf5.py", "--annotations", file, "--images", images, "--output", built, "--workers", 1, "--skeleton", "mpii")
    assert run(*build).status == 0
    keys = (f"data.train={built}", f"data.val={built}", "skeleton=mpii", "data.clean_boxes=false", "train.epochs=1")
    assert run("train.py", "--config", recipe, "--output", tmp_path / "run", *keys).status == 0
    options = ("--annotations", file, "--images", images, "--output", tmp_path / "out", "--batch-size", 3)
    ended = run("evaluate.py", "--checkpoint", tmp_path / "run" / "last.pth", *options)
    assert ended.status == 0, ended.err
    assert "PCKh in percent" in ended.out
    assert 0 <= json.loads((tmp_path / "out" / "metrics.json").read_text())["Mean"] <= 100
    predictions = loadmat(tmp_path / "out" / "pred.mat")["preds"] - 1
    assert predictions.shape == (len(people), 16, 2)
    for person, points in zip(people, predictions):
        away = points - (np.array(person["center"]) - 1 + (0, 15 * person["scale"]))
        assert (np.abs(away) <= 1.25 * 100 * person["scale"] + 3).all()


def test_the_demo_takes_a_bottom_up_system_as_detector(run, top_down, trained, images, tmp_path, monkeypatch):
    box = np.array([[10.0, 20, 60, 70, 0.5]])  # a hardly trained detector predicts people by chance
    monkeypatch.setattr("utils.detectors.boxes_around", lambda keypoints, scores, least: box)
    command = ("demo_image.py", "--input", images, "--limit", "2", "--output", tmp_path / "images", "--checkpoint", top_down / "last.pth")
    ended = run(*command, "--detector", trained / "last.pth", "--min-score", "0")
    assert ended.status == 0, ended.err
    written = sorted((tmp_path / "images").glob("*.json"))
    assert len(written) == 2
    for path in written:
        (person,) = json.loads(path.read_text())["people"]
        places = np.array([place for place in person["keypoints"] if any(place)])[:, :2]
        assert ((places >= box[0, :2] - 20) & (places <= box[0, :2] + 90)).all()
