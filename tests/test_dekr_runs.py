"""DEKR through the scripts: training, evaluation, the demo, and configurations that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dekr_networks import SMALL, published_weights, random_network, saved
from people import crowd_file
from places import ROOT
from runs import losses, parameters_of, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from config import load_config
from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.images import read_image
from models.dekr_rescoring import RescoringNet
from utils.distributed import DistributedContext
from utils.evaluation.crowdpose import METRICS
from utils.inference import PoseEstimator
from utils.systems.dekr import save_rescoring
from utils.training.trainer import train as train_network

TINY = """
system: dekr
skeleton: coco17
model: {{width: 4, stem_width: 8, modules: [1, 1, 1], blocks: 1, heat_channels: 5, offset_channels: 3}}
data: {{train: {hdf5!r}, val: {hdf5!r}, input_size: [64, 64], workers: 0}}
targets: {{min_area: 0}}
train: {{epochs: 2, batch_size: 2, learning_rate: 3.0e-3, milestones: [1], log_every: 2, precision: bfloat16, channels_last: true}}
inference: {{pad_multiple: 32, centre_threshold: 0}}
"""
LIMIT = 3  # images of an evaluation


@pytest.fixture(scope="module")
def recipe(hdf5, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("dekr") / "dekr.yaml"
    path.write_text(TINY.format(hdf5=str(hdf5)))
    return path


@pytest.fixture(scope="module")
def dekr(recipe) -> Path:
    """The folder of a run of two epochs. Not to be written to."""
    folder = recipe.parent / "trained"
    train_network(load_config(recipe), folder, DistributedContext("none", torch.device("cpu")))
    return folder


@pytest.fixture(scope="module")
def crowded(annotations, images, tmp_path_factory) -> tuple[Path, Path]:
    """The synthetic people as CrowdPose's annotation file and as a training HDF5."""
    folder = tmp_path_factory.mktemp("crowded")
    file, people = crowd_file(annotations, folder / "crowded.json"), folder / "crowded.h5"
    build_hdf5(file, images, people, load_skeleton("crowdpose"), workers=1)
    return file, people


# Training


def test_the_loss_falls_and_its_terms_are_logged(dekr):
    first, last = losses((dekr / "train.log").read_text())
    assert last < 0.95 * first
    events = EventAccumulator(str(dekr)).Reload()
    assert "validation/0" in events.Tags()["images"]
    parts = [events.Scalars(f"loss/{name}")[0].value for name in ("heatmaps", "offsets")]
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(events.Scalars("train/loss")[0].value, rel=1e-5)
    rates = [event.value for event in events.Scalars("train/lr")]
    assert (rates[0], rates[-1]) == pytest.approx((3e-3, 3e-4))


# Evaluation and demo


def evaluated(run, checkpoint: Path, file: Path, images: Path, output: Path, *more: object) -> tuple[dict, list[dict]]:
    """Run evaluate.py; return metrics and detections."""
    options = ("--annotations", file, "--images", images, "--output", output, "--limit", LIMIT, "--batch-size", 2)
    ended = run("evaluate.py", "--checkpoint", checkpoint, *options, *more)
    assert ended.status == 0, ended.err
    return tuple(json.loads((output / f"{name}.json").read_text()) for name in ("metrics", "detections"))


def test_detections_are_those_of_the_estimator(run, recipe, dekr, annotations, images, tmp_path):
    more = ("--scales", "0.5", "1", "--no-flip", "inference.match=true")
    metrics, detections = evaluated(run, dekr / "best.pth", annotations, images, tmp_path / "out", *more)
    assert {"AP", "AP50"} <= set(metrics) and "AP_easy" not in metrics
    overrides = ["inference.scales=[0.5, 1]", "inference.flip=false", "inference.match=true"]
    estimator, count = PoseEstimator(load_config(recipe, overrides), dekr / "best.pth"), 0
    for image in sorted(json.loads(annotations.read_text())["images"], key=lambda image: image["id"])[:LIMIT]:
        keypoints, scores = estimator(read_image(images / image["file_name"]))
        of_image = sorted((d for d in detections if d["image_id"] == image["id"]), key=lambda d: -d["score"])
        predicted = np.reshape([d["keypoints"] for d in of_image], (-1, 17, 3))
        np.testing.assert_allclose([d["score"] for d in of_image], scores, atol=1e-3)
        np.testing.assert_allclose(np.sort(predicted[:, 0, 0]), np.sort(keypoints[:, 0, 0]), atol=0.1)
        count += len(scores)
    assert count == len(detections) > LIMIT


def test_a_network_of_coco_starts_one_of_crowdpose_which_is_evaluated(run, recipe, dekr, crowded, images, tmp_path):
    """The backbone is kept, both heads are initialized anew."""
    file, people = crowded
    data = (f"data.train={people}", f"data.val={people}", "skeleton=crowdpose", "train.epochs=1", "train.learning_rate=1e-12")
    ended = run("train.py", "--config", recipe, "--output", tmp_path / "run", "--init", dekr / "last.pth", *data)
    assert "newly initialized: heat_out.weight, heat_out.bias, offset_in.0.weight" in ended.out, ended.err
    before, after = weights(dekr), weights(tmp_path / "run")
    kept = [name for name in parameters_of(before) if name.startswith(("trunk.", "heat_in.", "heat_block."))]
    assert len(kept) > 100
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in kept)
    assert after["heat_out.weight"].shape[0] == 15
    metrics, detections = evaluated(run, tmp_path / "run" / "best.pth", file, images, tmp_path / "out")
    assert list(metrics) == list(METRICS)
    assert detections and all(len(detection["keypoints"]) == 42 for detection in detections)


def test_a_published_file_is_evaluated(run, annotations, images, tmp_path):
    network = random_network()
    network.heat_out.bias.data += 5  # a person everywhere
    path = saved(tmp_path / "pose_dekr.pth", {f"module.{name}": tensor for name, tensor in published_weights(network).items()})
    small = ("--config", ROOT / "config" / "dekr_w32_coco.yaml", "data.input_size=[64, 64]", *SMALL)
    assert evaluated(run, path, annotations, images, tmp_path / "out", *small)[1]


def test_rescoring_changes_the_scores_of_the_same_people(run, dekr, annotations, images, tmp_path):
    skeleton = load_skeleton("coco17")
    save_rescoring(tmp_path / "rescore.pth", RescoringNet(skeleton), skeleton)
    _, plain = evaluated(run, dekr / "best.pth", annotations, images, tmp_path / "plain")
    _, rescored = evaluated(run, dekr / "best.pth", annotations, images, tmp_path / "out", f"inference.rescore={tmp_path / 'rescore.pth'}")
    assert len(plain) == len(rescored)
    assert sorted(d["score"] for d in plain) != sorted(d["score"] for d in rescored)


def test_it_runs_in_the_demo(run, dekr, images, tmp_path):
    image = min(images.iterdir())
    ended = run("demo_image.py", "--checkpoint", dekr / "best.pth", "--input", image, "--output", tmp_path / "demo", "--min-score", 0)
    assert ended.status == 0, ended.err
    written = json.loads((tmp_path / "demo" / f"{image.name}.json").read_text())
    assert written["keypoints"] == list(load_skeleton("coco17").keypoints)
    assert np.shape([person["keypoints"] for person in written["people"]])[1:] == (17, 3)
    assert (read_image(tmp_path / "demo" / image.name) != read_image(image)).any()


# Configurations


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("w32_coco", (32, 32, 512, 10, 140, (90, 120), 1024, 0.9)),
        ("w48_coco", (48, 48, 640, 5, 140, (90, 120), 1024, 0.9)),
        ("w32_crowdpose", (32, 32, 512, 10, 300, (200, 260), 0, 0.8)),
        ("w48_crowdpose", (48, 48, 640, 5, 300, (200, 260), 0, 0.8)),
    ],
)
def test_published_recipes(name, expected):
    c = load_config(ROOT / "config" / f"dekr_{name}.yaml")
    found = c.model.width, c.model.heat_channels, c.data.input_size[0], c.train.batch_size, c.train.epochs, c.train.milestones
    assert (*found, c.targets.min_area, c.inference.scale_decay) == expected
    assert (c.skeleton.name, c.skeleton.num_keypoints) == (("crowdpose", 14) if "crowdpose" in name else ("coco17", 17))
    assert (c.train.optimizer, c.train.learning_rate, c.train.decay, c.train.weight_decay) == ("adam", 1e-3, 0.1, 0)
    assert (c.loss.heatmap_weight, c.loss.offset_weight, c.loss.beta) == (1, 0.03, pytest.approx(1 / 9))
    assert (c.augmentation.rotation, c.augmentation.scale, c.augmentation.shift) == (30, (0.75, 1.5), 40)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.input_size=[64, 96]", "data.input_size: 64 x 96 must be square"),
        ("data.input_size=[80, 80]", "data.input_size: 80 x 80 must be a multiple of 32"),
        ("inference.pad_multiple=48", "inference.pad_multiple: 48 must be a multiple of 32"),
        ("inference.scales=[0.5, 2]", "inference.scales: [0.5, 2.0] must hold 1"),
    ],
)
def test_invalid_overrides_are_refused(fails, recipe, tmp_path, override, message):
    assert message in fails("train.py", "--config", recipe, "--output", tmp_path / "run", override)


def test_weights_of_another_system_are_refused(fails, recipe, dekr, trained, tiny, tmp_path):
    for config, start in ((recipe, trained), (tiny, dekr)):
        message = fails("train.py", "--config", config, "--output", tmp_path / "run", "--init", start / "best.pth")
        assert "best.pth: does not fit the configured network" in message
