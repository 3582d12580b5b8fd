"""The rescoring network's training data: the OKS of predicted poses, and the file of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from people import SKELETON, person, write_coco

from config import UserError
from config.load import load_skeleton
from utils.systems.dekr_rescoring.poses import AnnotatedSet, PredictedPoses, read_poses, write_poses

COCO17 = load_skeleton("coco17")


def annotation(x: float, y: float, visible: int = 17) -> dict:
    """An annotation whose keypoints are spread over a square of 60 pixels."""
    spread = np.random.default_rng(1).integers(0, 60, (17, 2)) + (x, y)
    keypoints = [v for k in range(17) for v in ([*spread[k].tolist(), 2] if k < visible else [0, 0, 0])]
    return person(x, y, keypoints=keypoints, num_keypoints=visible)


def pose_of(person: dict) -> np.ndarray:
    return np.reshape(person["keypoints"], (17, 3)).astype(np.float32)


def annotated_set(folder: Path, *people: list[dict]) -> AnnotatedSet:
    return AnnotatedSet(*write_coco(folder, *people), COCO17)


def test_a_pose_has_its_best_oks_of_the_image(tmp_path):
    left, right, other = annotation(0, 50), annotation(120, 50), annotation(60, 20)
    annotated = annotated_set(tmp_path, [left, right], [other], [])
    beside = pose_of(right) + (6, 0, 0)
    oks, known = annotated.best_oks(0, np.array([pose_of(right), beside, pose_of(other)]))
    assert known.all()
    assert oks[0] == 1 and 0.3 < oks[1] < 0.95 and oks[2] < 0.1
    assert annotated.best_oks(1, np.array([pose_of(other)]))[0].tolist() == [1]
    assert [values.tolist() for values in annotated.best_oks(2, np.array([pose_of(other)]))] == [[0], [True]]  # no person: a false positive
    assert [values.tolist() for values in annotated.best_oks(0, np.zeros((0, 17, 3)))] == [[], []]


def test_unlabeled_keypoints_do_not_count(tmp_path):
    some = annotation(50, 50, visible=5)
    pose = pose_of(annotation(50, 50))
    pose[5:, :2] += 70
    assert annotated_set(tmp_path, [some]).best_oks(0, pose[None])[0].tolist() == [1]


@pytest.mark.parametrize("kind", [{"iscrowd": 1, "keypoints": [0] * 51, "num_keypoints": 0}, {"keypoints": [0] * 51}, {"num_keypoints": 0}])
def test_crowd_regions_and_people_without_keypoints_are_ignored(tmp_path, kind):
    """The OKS of a pose on one of them is unknown, unless it also matches a person with keypoints."""
    present, ignored = annotation(0, 90), {**annotation(125, 0), **kind}
    between = {**annotation(0, 90), **kind}
    annotated = annotated_set(tmp_path, [present, ignored, between])
    elsewhere = np.ones((17, 3)) * (190, 158, 1)
    oks, known = annotated.best_oks(0, np.array([pose_of(annotation(125, 0)), pose_of(present), elsewhere]))
    assert known.tolist() == [False, True, True]
    assert oks[1] == 1 and oks[2] < 0.1


def test_other_skeletons_and_files_of_fewer_keypoints(tmp_path):
    """SimplePose's skeleton has a neck and an order of its own; the file labels six keypoints in yet another."""
    keep = [16, 5, 6, 11, 12, 0]
    whole = pose_of(annotation(50, 50))
    names = [list(COCO17.dataset)[k] for k in keep]
    person = {**annotation(50, 50), "keypoints": whole[keep].ravel().tolist(), "num_keypoints": 6}
    annotated = AnnotatedSet(*write_coco(tmp_path, [person], names=names), SKELETON)
    pose = SKELETON.from_dataset(whole[None])
    away = pose.copy()
    away[:, SKELETON.index(SKELETON.dataset["left_knee"]), :2] += 50  # which the file does not label
    assert annotated.best_oks(0, np.concatenate([pose, away]))[0].tolist() == [1, 1]


def test_unusable_annotations_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"annotations.json: no person has a keypoint of the skeleton 'coco17'"):
        annotated_set(tmp_path, [{**annotation(0, 0), "keypoints": [0] * 51}])
    with pytest.raises(UserError, match=r"annotations.json: annotation 1: its 'area'"):
        annotated_set(tmp_path, [{**annotation(0, 0), "area": "large"}])
    file, images = write_coco(tmp_path, [annotation(0, 0)])
    (images / "0.jpg").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of the 1 images listed, such as 0.jpg"):
        AnnotatedSet(file, images, COCO17)


# The file


@pytest.fixture
def poses() -> PredictedPoses:
    rng = np.random.default_rng(0)
    keypoints, scores, oks = (rng.random(shape).astype(np.float32) for shape in ((6, 17, 3), 6, 6))
    return PredictedPoses(COCO17, keypoints, scores, oks, np.array([1, 1, 2, 2, 3, 3]))


def test_a_written_file_is_read_back(poses, tmp_path):
    write_poses(tmp_path / "poses", poses)  # no ending is added
    read = read_poses(tmp_path / "poses")
    assert read.skeleton == COCO17
    for name in ("keypoints", "scores", "oks", "images"):
        np.testing.assert_array_equal(getattr(read, name), getattr(poses, name))


class Malicious:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_corrupt_and_other_files_are_refused_and_run_no_code(poses, tmp_path):
    path, made = tmp_path / "poses.npz", tmp_path / "made by the pickle"
    write_poses(path, poses)
    whole = path.read_bytes()
    write_poses(path, replace(poses, scores=np.array([Malicious(made)] * 6, object)))
    for content in (path.read_bytes(), whole[: len(whole) // 2], b"no archive"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"poses.npz: cut short, or not a file of poses"):
            read_poses(path)
    assert not made.exists()


def test_poses_of_one_image_are_refused(poses, tmp_path):
    write_poses(tmp_path / "poses.npz", replace(poses, images=np.ones(6)))
    with pytest.raises(UserError, match="all its poses are of one image"):
        read_poses(tmp_path / "poses.npz")
