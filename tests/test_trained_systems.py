"""DEKR and Simple Baselines through the scripts: training, evaluation and fine-tuning."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from people import crowd_file
from runs import ALONE, losses, parameters_of, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from config import load_config
from config.load import load_skeleton, parse_config
from data.coco_masks_hdf5 import build_hdf5
from data.images import read_image
from utils.evaluation.crowdpose import METRICS
from utils.inference import PoseEstimator
from utils.training.trainer import train

HRNET = {"width": 4, "stem_width": 8, "modules": [1, 1, 1], "blocks": 1, "heat_channels": 5, "offset_channels": 3}
VALUES = {
    "dekr": {
        "model": HRNET,
        "targets": {"min_area": 0},
        "train": {"batch_size": 2, "learning_rate": 3e-3, "precision": "bfloat16", "channels_last": True},
        "inference": {"pad_multiple": 32, "centre_threshold": 0},
    },
    "simple_baselines": {"model": {"depth": 10, "deconv_channels": 8}, "train": {"batch_size": 4, "learning_rate": 1e-3}},
}
OVERRIDES = {"dekr": ("inference.scales=[0.5, 1]", "inference.match=true"), "simple_baselines": ("inference.subpixel=quarter",)}
LIMIT = 3  # images of an evaluation


@pytest.fixture(scope="module", params=VALUES)
def trained(request, hdf5, tmp_path_factory) -> Path:
    """The folder of a run of two epochs, named after its system. Not to be written to."""
    folder, values = tmp_path_factory.mktemp("trained") / request.param, VALUES[request.param]
    data = {"train": str(hdf5), "val": str(hdf5), "input_size": [64, 64], "workers": 0}
    settings = {**values["train"], "epochs": 2, "milestones": [1], "log_every": 2}
    config = {**values, "system": request.param, "skeleton": "coco17", "data": data, "train": settings}
    train(parse_config(config, "test"), folder, ALONE)
    return folder


@pytest.fixture
def evaluated(run, images, tmp_path) -> Callable[..., tuple[dict, list[dict]]]:
    """A function that runs evaluate.py and returns metrics and detections."""

    def start(checkpoint: Path, file: Path, *more: object) -> tuple[dict, list[dict]]:
        options = ("--annotations", file, "--images", images, "--output", tmp_path / "out", "--limit", LIMIT, "--batch-size", 2)
        ended = run("evaluate.py", "--checkpoint", checkpoint, *options, *more)
        assert ended.status == 0, ended.err
        return tuple(json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("metrics", "detections"))

    return start


def test_the_loss_falls_and_its_terms_are_logged(trained):
    first, last = losses((trained / "train.log").read_text())
    assert last < 0.95 * first
    events, rate = EventAccumulator(str(trained)).Reload(), VALUES[trained.name]["train"]["learning_rate"]
    assert "validation/0" in events.Tags()["images"]
    terms = [events.Scalars(name)[0].value for name in events.Tags()["scalars"] if name.startswith("loss/")]
    assert len(terms) == {"dekr": 2, "simple_baselines": 17}[trained.name] and min(terms) > 0
    assert sum(terms) == pytest.approx(events.Scalars("train/loss")[0].value, rel=1e-5)
    assert [events.Scalars("train/lr")[n].value for n in (0, -1)] == pytest.approx([rate, rate / 10])


def test_detections_are_those_of_the_estimator(trained, evaluated, annotations, images):
    """A top-down system's in the annotated boxes."""
    metrics, detections = evaluated(trained / "best.pth", annotations, "--no-flip", *OVERRIDES[trained.name])
    assert {"AP", "AP50"} <= set(metrics) and "AP_easy" not in metrics
    config = load_config(trained / "config.yaml", ["inference.flip=false", *OVERRIDES[trained.name]])
    estimator, content, count = PoseEstimator(config, trained / "best.pth", min_score=0), json.loads(annotations.read_text()), 0
    for image in sorted(content["images"], key=lambda image: image["id"])[:LIMIT]:
        people = [person for person in content["annotations"] if person["image_id"] == image["id"]]
        boxes = np.reshape([person["bbox"] for person in people if person["num_keypoints"] and not person["iscrowd"]], (-1, 4))
        keypoints, scores = estimator(read_image(images / image["file_name"]), boxes if trained.name == "simple_baselines" else None)
        of_image = [detection for detection in detections if detection["image_id"] == image["id"]]
        found = np.reshape([detection["keypoints"] for detection in of_image], (-1, 17, 3))
        np.testing.assert_allclose(np.sort([detection["score"] for detection in of_image]), np.sort(scores), atol=1e-3)
        np.testing.assert_allclose(np.sort(found[..., :2], 0), np.sort(keypoints[..., :2], 0), atol=0.1)
        count += len(scores)
    assert count == len(detections) > LIMIT


@pytest.mark.parametrize("trained", ["dekr"], indirect=True)
def test_a_network_of_coco_starts_one_of_crowdpose_which_is_evaluated(run, trained, evaluated, annotations, images, tmp_path):
    """The backbone is kept, both heads are initialized anew."""
    file, people = crowd_file(annotations, tmp_path / "crowded.json"), tmp_path / "crowded.h5"
    build_hdf5(file, images, people, load_skeleton("crowdpose"), workers=1)
    data = (f"data.train={people}", f"data.val={people}", "skeleton=crowdpose", "train.epochs=1", "train.learning_rate=1e-12")
    start = ("--config", trained / "config.yaml", "--init", trained / "last.pth", "--output", tmp_path / "run")
    ended = run("train.py", *start, *data)
    assert "newly initialized: heat_out.weight, heat_out.bias, offset_in.0.weight" in ended.out, ended.err
    before, after = weights(trained), weights(tmp_path / "run")
    kept = [name for name in parameters_of(before) if name.startswith(("trunk.", "heat_in.", "heat_block."))]
    assert len(kept) > 100
    assert all(np.allclose(before[name], after[name], atol=1e-6) for name in kept)
    assert after["heat_out.weight"].shape[0] == 15
    metrics, detections = evaluated(tmp_path / "run" / "best.pth", file)
    assert list(metrics) == list(METRICS)
    assert detections and all(len(detection["keypoints"]) == 42 for detection in detections)
