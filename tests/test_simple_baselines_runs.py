"""Simple Baselines by its command lines: trained in every way, resumed, evaluated in boxes of every origin, drawn; refused in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from places import ROOT
from runs import losses, same, weights

from config import load_config
from data.samples.simple_baselines import SimpleBaselinesSamples
from utils.checkpoint import read_checkpoint
from utils.training.distributed import World
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
    train_network(load_config(recipe), folder, World("none", torch.device("cpu")))
    return folder


@pytest.fixture
def boxes(annotations, tmp_path) -> Path:
    """A detector's answer: the annotated people's boxes, a little off, and some that make no sense."""
    rng, found = np.random.default_rng(0), []
    for person in json.loads(annotations.read_text())["annotations"]:
        box = np.array(person["bbox"]) + rng.normal(0, 2, 4)
        found.append({"image_id": person["image_id"], "category_id": 1, "bbox": box.tolist(), "score": float(rng.uniform(0.3, 1))})
    found += [{**found[0], "bbox": [-500, 0, 20, 20]}, {**found[0], "image_id": 12345678}, {**found[0], "category_id": 3}]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(found))
    return path


def test_loss_falls(top_down):
    first, last = losses((top_down / "train.log").read_text())
    assert last < first


def test_what_was_interrupted_goes_on_as_if_nothing_had_been(run, recipe, top_down, tmp_path, monkeypatch):
    taken, sample = [], SimpleBaselinesSamples.sample

    def interrupted(self: SimpleBaselinesSamples, index: int, rng: np.random.Generator | None) -> tuple:
        taken.append(rng)
        if rng is None:
            raise KeyboardInterrupt
        return sample(self, index, rng)

    command = ("train.py", "--config", recipe, "--output", tmp_path / "run", "--resume", "auto")
    with monkeypatch.context() as patched:
        patched.setattr(SimpleBaselinesSamples, "sample", interrupted)
        assert run(*command).status == 130
    assert run(*command).status == 0
    assert same(weights(tmp_path / "run"), weights(top_down))


def test_data_parallel(run, recipe, top_down, tmp_path):
    ended = run("train_parallel.py", "--config", recipe, "--output", tmp_path / "run", "data.workers=2")
    assert ended.status == 0, ended.err
    assert same(weights(tmp_path / "run"), weights(top_down))


@pytest.mark.slow
def test_two_processes(recipe, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train_distributed.py"]
    command += ["--config", recipe, "--output", tmp_path / "run", "train.batch_size=2"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert len(losses(ended.stdout)) == 2
    assert all(tensor.isfinite().all() for tensor in read_checkpoint(tmp_path / "run" / "last.pth")["weights"].values())


@pytest.fixture
def evaluated(run, top_down, annotations, images, tmp_path) -> Callable[..., tuple[dict, list[dict], str]]:
    """Runs evaluate.py; figures, detections and what was said."""

    def start(*more: object) -> tuple[dict, list[dict], str]:
        output = tmp_path / "evaluation"
        checkpoint = ("--checkpoint", top_down / "last.pth")
        ended = run("evaluate.py", *checkpoint, "--annotations", annotations, "--images", images, "--output", output, *more)
        assert ended.status == 0, ended.err
        figures, found = (json.loads((output / name).read_text()) for name in ("figures.json", "detections.json"))
        return figures, found, ended.out + ended.err

    return start


def test_it_is_evaluated_in_the_annotated_boxes(evaluated, annotations):
    figures, found, _ = evaluated()
    people = json.loads(annotations.read_text())["annotations"]
    assert 0 <= figures["AP"] <= 1
    labelled = [person for person in people if person["num_keypoints"] and not person.get("iscrowd")]
    assert 0 < len(found) <= len(labelled)
    assert {one["image_id"] for one in found} == {person["image_id"] for person in labelled}


def test_it_is_evaluated_in_a_detectors_boxes(evaluated, boxes):
    """Boxes that make no sense are told; the scores are the detector's too."""
    _, of_truth, _ = evaluated("inference.keypoint_threshold=0")
    _, found, said = evaluated("--boxes", boxes, "inference.keypoint_threshold=0")
    assert found and said.count("left out") >= 1
    assert max(one["score"] for one in found) < max(one["score"] for one in of_truth)


def test_the_demo_takes_a_bottom_up_system_as_detector(run, top_down, trained, images, tmp_path):
    command = ("demo_image.py", "--input", images, "--limit", "2", "--output", tmp_path / "pictures", "--checkpoint", top_down / "last.pth")
    ended = run(*command, "--detector", trained / "last.pth", "--detector-score", "0")
    assert ended.status == 0, ended.err
    assert len(list((tmp_path / "pictures").glob("*.json"))) == 2


def test_without_boxes_a_line_says_what_to_give(fails, top_down, annotations, images, tmp_path):
    checkpoint = ("--checkpoint", top_down / "last.pth")
    assert "--detector" in fails("demo_image.py", "--input", images, *checkpoint)
    content = json.loads(annotations.read_text())
    held_out = tmp_path / "test-dev.json"
    held_out.write_text(json.dumps({**content, "annotations": []}))
    assert "--boxes" in fails("evaluate.py", *checkpoint, "--annotations", held_out, "--images", images)


def test_boxes_of_other_pictures_are_refused(fails, top_down, annotations, images, boxes):
    found = json.loads(boxes.read_text())
    boxes.write_text(json.dumps([{**one, "image_id": one["image_id"] + 10**6} for one in found]))
    said = fails("evaluate.py", "--checkpoint", top_down / "last.pth", "--annotations", annotations, "--images", images, "--boxes", boxes)
    assert "boxes.json" in said


def test_an_input_that_does_not_fit(fails, recipe):
    assert "multiples of 32" in fails("train.py", "--config", recipe, "data.input_size=[100, 64]")
