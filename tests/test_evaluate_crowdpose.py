"""CrowdPose from the annotation file to the figures: a people file, a network, evaluate.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from people import crowd_file

from config.load import load_skeleton
from config.skeleton import UNLABELLED
from data.people_file import PeopleFile
from utils.evaluation.crowdpose import FIGURES
from utils.inference import PoseEstimator

SKELETON = load_skeleton("crowdpose")


@pytest.fixture
def crowded(annotations, tmp_path) -> Path:
    return crowd_file(annotations, tmp_path / "crowded.json")


@pytest.fixture
def checkpoint(run, tiny, crowded, images, tmp_path) -> Path:
    """A network that was trained on them for an epoch; the people file is crowded.h5."""
    people = tmp_path / "crowded.h5"
    command = ("data/coco_masks_hdf5.py", "--annotations", crowded, "--images", images, "--output", people, "--workers", 1)
    assert run(*command, "--skeleton", "crowdpose").status == 0
    data = (f"data.train={people}", f"data.val={people}", "train.epochs=1", "skeleton=crowdpose")
    trained = run("train.py", "--config", tiny, "--output", tmp_path / "run", *data)
    assert trained.status == 0, trained.err
    return tmp_path / "run" / "best.pth"


def test_the_figures_are_crowdposes(run, checkpoint, crowded, images, monkeypatch, tmp_path):
    """And those of somebody who finds everybody: all one."""
    known = PeopleFile(tmp_path / "crowded.h5", SKELETON)
    answers = []
    for number in range(len(known)):
        keypoints = known.joints(np.arange(*known.first[number : number + 2]))
        keypoints[..., 2] = keypoints[..., 2] != UNLABELLED
        answers.append((keypoints, np.linspace(0.9, 0.8, len(keypoints))))
    waiting = iter(answers)
    monkeypatch.setattr(PoseEstimator, "batch", lambda self, pictures: [next(waiting) for _ in pictures])
    command = ("evaluate.py", "--checkpoint", checkpoint, "--annotations", crowded, "--images", images, "--output", tmp_path / "out")
    status, out, err = run(*command)
    assert status == 0, err
    names, values, *_ = out.splitlines()
    assert names.split() == list(FIGURES)
    assert values.split() == ["1.000"] * 9
    one_below_the_other = [[word.end() for word in re.finditer(r"\S+", line)] for line in (names, values)]
    assert one_below_the_other[0] == one_below_the_other[1]
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == pytest.approx(dict.fromkeys(FIGURES, 1.0))
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"detections.json", "figures.json"}


def test_without_annotations_there_is_no_archive_for_cocos_server(run, fails, checkpoint, trained, crowded, images, tmp_path):
    """But the people, in the file's own order; the keypoints must be the skeleton's here too."""
    content = json.loads(crowded.read_text())
    names = content["categories"][0]["keypoints"][::-1]
    crowded.write_text(json.dumps({"images": content["images"], "categories": [{"id": 3, "name": "person", "keypoints": names}]}))
    named = ("--annotations", crowded, "--images", images, "--limit", 2, "--output", tmp_path / "out")
    assert "overlap only in part" in fails("evaluate.py", "--checkpoint", trained / "last.pth", *named)
    faint = ("assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=2")
    status, out, err = run("evaluate.py", "--checkpoint", checkpoint, *named, *faint)
    assert status == 0, err
    assert out.splitlines()[0] == "no annotations to compare with"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["detections.json"]
    detections = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert detections
    assert all(len(d["keypoints"]) == 42 and d["category_id"] == 3 for d in detections)
