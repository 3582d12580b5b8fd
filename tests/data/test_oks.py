"""Object keypoint similarity against pycocotools' own."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config.load import load_skeleton
from data.oks import object_keypoint_similarity

SIGMAS = load_skeleton("coco17").oks_sigmas


def pycocotools_oks(poses: np.ndarray, joints: np.ndarray, areas: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    category = {"id": 1, "name": "person", "keypoints": ["?"] * 17}
    people = [
        {"id": n, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": area, "bbox": box.tolist(), "keypoints": person.ravel().tolist(),
         "num_keypoints": int((person[:, 2] > 0).sum())}
        for n, (person, area, box) in enumerate(zip(joints, areas.tolist(), boxes), start=1)
    ]  # fmt: skip
    found = [{"image_id": 1, "category_id": 1, "keypoints": pose.ravel().tolist(), "score": 1 - n / 100} for n, pose in enumerate(poses)]
    truth = COCO()
    truth.dataset = {"info": {}, "images": [{"id": 1}], "annotations": people, "categories": [category]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "keypoints")
        evaluation._prepare()
        return evaluation.computeOks(1, 1)


@pytest.fixture
def crowd() -> tuple[np.ndarray, ...]:
    """Poses (12, 17, 3) and six people: two whole, two with some keypoints, two with none; their areas and boxes."""
    rng = np.random.default_rng(3)
    joints = np.concatenate([rng.uniform(0, 200, (6, 17, 2)), rng.integers(1, 3, (6, 17, 1))], 2)
    joints[2:4, rng.random(17) < 0.5] = 0
    joints[4:] = 0
    near = joints[rng.integers(0, 4, 12)] + rng.normal(0, 12, (12, 17, 3))
    return near, joints, rng.uniform(500, 9000, 6), rng.uniform(20, 90, (6, 4))


def test_it_is_pycocotools_own(crowd):
    poses, joints, areas, boxes = crowd
    ours = object_keypoint_similarity(poses, joints, areas, boxes, SIGMAS)
    np.testing.assert_allclose(ours, pycocotools_oks(poses, joints, areas, boxes), atol=1e-12)
    assert ours[:, 4:].max() > 0.3 and ours[:, :4].max() > 0.3


def test_the_annotated_pose_itself_is_one(crowd):
    _, joints, areas, boxes = crowd
    assert np.diag(object_keypoint_similarity(joints, joints, areas, boxes, SIGMAS)[:4]).tolist() == [1] * 4


def test_nobody_found_and_nobody_annotated(crowd):
    poses, joints, areas, boxes = crowd
    assert object_keypoint_similarity(poses[:0], joints, areas, boxes, SIGMAS).shape == (0, 6)
    assert object_keypoint_similarity(poses, joints[:0], areas[:0], boxes[:0], SIGMAS).shape == (12, 0)
